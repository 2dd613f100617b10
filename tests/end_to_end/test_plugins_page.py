"""The page of plugins, and the last hour on the overview, as a browser without a script asks for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest_twisted
from outside import check_log

PLUGIN = """
from pathlib import Path
from stackit import Permanent, on

@on("issues")
def deploys(event):
    if not Path("mended").exists():
        raise Permanent("<script>alert('error')</script>\\u202e")
"""


@pytest_twisted.ensureDeferred
async def test_a_handler_is_paused_resumed_and_its_dead_letters_replayed(running_stackit: Any, tmp_path: Path) -> None:
    (tmp_path / "deploy.py").write_text(PLUGIN)
    config = {"sync": {"interval": "0"}, "plugins": {"deploy": {"module": "deploy"}}}
    server = await running_stackit(config=config, plugins=tmp_path)
    own = {"Content-Type": "application/x-www-form-urlencoded", "Origin": server.admin_url}

    async def page(path: str) -> str:
        answer = await server.ask("GET", server.admin_url + path)
        assert answer.status == 200, server.log[-3000:]
        text: str = answer.body.decode()
        return text

    async def act(name: str, **form: str) -> str:
        body = urlencode({"csrf": "", **form}).encode()
        answer = await server.ask("POST", f"{server.admin_url}/plugins/{name}", body=body, headers=own)
        text: str = answer.body.decode()
        return text

    await server.deliver("issues", guid="one")
    await server.wait_for("one", "dead")
    shown = await page("/plugins")
    assert "&lt;script&gt;alert(&#39;error&#39;)&lt;/script&gt;" in shown
    assert "<script>alert" not in shown
    assert "\u202e" not in shown
    assert ">metrics</td>" in shown

    assert "deploy is paused: its events wait in the journal" in await act("pause", subscriber="deploy")
    assert "badge-wait" in await page("/plugins")
    (server.state_dir.parent / "home" / "mended").touch()
    assert "Replayed: 1 dead letter runs again." in await act("replay", subscriber="deploy")
    assert (await server.receipt("one"))["state"] == "pending"
    assert "deploy is resumed; " in await act("resume", subscriber="deploy")
    await server.wait_for("one")
    assert "there is no subscriber &lt;b&gt;; there is " in await act("pause", subscriber="<b>")
    assert "The form names no handler." in await act("pause")

    assert await server.stop() == 0
    await server.start()
    history = (await server.admin("GET", "{prefix}/history")).json()
    assert (history["deliveries"], len(history["minutes"])) == (1, 60)
    overview = await page("/")
    assert '<svg class="plot"' in overview
    assert "1 delivery in the last hour. No push became visible in a mirror." in overview
    assert await server.stop() == 0
    check_log(server.log)
