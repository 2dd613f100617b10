"""The page of plugins, and the last hour on the overview, as a browser without a script asks for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest_twisted
from outside import check_log, command

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

    # A handler that is paused and no longer loaded is shown, and may be resumed.
    assert "deploy is paused" in await act("pause", subscriber="deploy")
    assert "outcome=done" in await server.reload({"sync": {"interval": "0"}})
    assert await server.stop() == 0
    await server.start()
    answer = (await server.admin("GET", "{prefix}/plugins")).json()
    names = [each["name"] for each in answer["plugins"]]
    assert names == ["github-hooks", "logger", "metrics", "mirror", "ratelimit"]  # and no observers of stackit's own
    (unloaded,) = answer["unloaded"]
    assert unloaded["subscriber"] == "deploy:deploys"
    assert unloaded["paused"] is True
    status = (await server.admin("GET", "{prefix}/status")).json()
    assert "deploy:deploys" in {each["subscriber"] for each in status["subscribers"]}
    assert "Handlers that are not loaded" in await page("/plugins")
    assert "paused, not loaded" in (await command(server, "plugins")).stdout.decode()
    assert "deploy:deploys is resumed; 0 pending." in await act("resume", subscriber="deploy:deploys")
    assert "Handlers that are not loaded" not in await page("/plugins")
    assert await server.stop() == 0
    check_log(server.log)
