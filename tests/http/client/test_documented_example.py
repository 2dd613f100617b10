"""The example of docs/plugins.md that asks another server."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from byte_server import ByteServer
from twisted.internet import reactor

from stackit import Permanent
from stackit.http import client
from stackit.testing import push_event

PAGE = (Path(__file__).parents[3] / "docs" / "plugins.md").read_text("utf-8")
SECTION = PAGE.partition("\n## Ask other servers\n")[2].partition("\n## ")[0]


def answer(status: int) -> bytes:
    return b"HTTP/1.1 %d Oh\r\nContent-Length: 0\r\n\r\n" % status


@pytest_twisted.ensureDeferred
async def test_the_example_tells_a_chat_of_each_push() -> None:
    (source,) = re.findall(r"^```python\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
    module: Any = ModuleType("chat")
    exec(compile(source, "docs/plugins.md", "exec"), vars(module))  # noqa: S102 - our own page
    server = ByteServer(reactor, answer(200))
    server.answers = [answer(200), answer(403), answer(503)]
    plugin = module.Chat(module.Chat.Settings(url=f"http://127.0.0.1:{server.port}/hook"))
    service = plugin.stackit_service(SimpleNamespace(reactor=reactor))
    service.startService()
    push = push_event("octo/widget", after="a" * 40)
    await plugin.tell(push)
    with pytest.raises(Permanent, match="403"):
        await plugin.tell(push)
    with pytest.raises(RuntimeError, match="503"):
        await plugin.tell(push)
    await service.stopService()
    await server.stop()
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /hook HTTP/1.1\r\n")
    assert json.loads(body) == {"text": f"octo/widget: refs/heads/main is at {'a' * 40}"}


def test_every_name_of_the_client_is_documented_or_the_mirrors_own() -> None:
    documented = {name for name in client.__all__ if re.search(rf"`(?:await )?{name}\b|`{name.lower()}\b", SECTION)}
    assert set(client.__all__) - documented == {"Address", "ConnectionPool", "parse_url"}
