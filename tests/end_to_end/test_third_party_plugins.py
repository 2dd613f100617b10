"""Plugins that others wrote: installed, in a file, and broken in every way."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from outside import Notebook, check_log, twistd

from stackit.testing import RunningStackit

TEN_LINES = """
from pathlib import Path
from stackit import on

@on("push")
async def deploy(push):
    if push.ref == "refs/heads/main":
        with Path("deployed").open("a") as deployed:
            deployed.write(f"{push.repo} {push.after}\\n")
"""
RAISES = """
from stackit import on

@on("issues")
def always(event):
    raise RuntimeError("never\\nworks\\x1b[31m")
"""
HANGS = """
from stackit import on
from twisted.internet.defer import Deferred

@on("issues", timeout=0.5)
async def forever(event):
    await Deferred()
"""


def install(directory: Path, name: str, text: str) -> None:
    """What pip would put into site-packages."""
    directory.mkdir(exist_ok=True)
    (directory / f"{name}.py").write_text(text)
    about = directory / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[stackit]\n{name} = {name}\n")


@pytest_twisted.ensureDeferred
async def test_an_installed_plugin_gets_its_events_after_a_restart(running_stackit: Any, tmp_path: Path) -> None:
    site_packages = tmp_path / "site-packages"
    site_packages.mkdir()
    server: RunningStackit = await running_stackit(config={"sync": {"interval": "0"}}, plugins=site_packages)
    await server.deliver("push", guid="before")
    assert await server.stop() == 0

    install(site_packages, "deployer", TEN_LINES)
    await server.start()
    answer = await server.deliver("push", guid="after")
    receipt = await server.wait_for("after")
    assert {each["subscriber"]: each["state"] for each in receipt["handlings"]} == {
        "deployer": "done",
        "mirror": "done",
    }
    deployed = (server.state_dir.parent / "home" / "deployed").read_text().splitlines()
    assert len(deployed) == 1
    assert deployed[0].startswith("octo/widget ")
    assert answer.status == 202
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_what_waits_for_a_plugin_that_is_gone_is_told_and_kept_for_its_return(
    running_stackit: Any, tmp_path: Path
) -> None:
    site_packages = tmp_path / "site-packages"
    install(site_packages, "deployer", RAISES)
    server: RunningStackit = await running_stackit(config={"sync": {"interval": "0"}}, plugins=site_packages)
    assert (await server.deliver("issues", guid="waits")).status == 202
    assert await server.stop() == 0

    shutil.rmtree(site_packages)
    await server.start()

    async def told() -> bool:
        return "1 events wait for deployer:always, which is not loaded" in server.log

    await server.until(told, "the log to tell who is missed")
    assert (await server.receipt("waits") or {})["state"] == "pending"
    assert await server.stop() == 0

    install(site_packages, "deployer", RAISES.replace("raise RuntimeError", "print"))
    await server.start()
    await server.wait_for("waits")
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_plugins_that_raise_hang_or_do_not_import_change_nothing_for_others(
    running_stackit: Any, tmp_path: Path
) -> None:
    site_packages = tmp_path / "site-packages"
    install(site_packages, "raiser", RAISES)
    install(site_packages, "hanger", HANGS)
    install(site_packages, "broken", "import does_not_exist\n")
    install(site_packages, "wrong_hook", "from stackit import hookimpl\n@hookimpl\ndef stackit_nothing(): pass\n")
    install(site_packages, "leaver", "raise SystemExit('I quit')\n")
    notebook = Notebook(tmp_path / "notebook")
    server: RunningStackit = await running_stackit(
        config={
            "sync": {"interval": "0"},
            "handlers": {"retry_for": "1s"},
            "plugins": {"notebook": notebook.table},
        },
        plugins=site_packages,
        environment=notebook.environment,
    )
    guids = [f"issue-{number}" for number in range(3)]
    for number, guid in enumerate(guids):
        assert (await server.deliver("issues", guid=guid, action=("opened", "closed")[number % 2])).status == 202

    async def noted() -> bool:
        return len(notebook.read()) >= len(guids)

    await server.until(noted, "the good plugin to see every event")
    # The good one is through, in order, while the others have given up on nothing yet.
    assert [note["guid"] for note in notebook.read()] == guids
    for guid in guids:
        receipt = await server.wait_for(guid, "dead")
        handlings = {each["subscriber"]: each for each in receipt["handlings"]}
        assert {name: each["state"] for name, each in handlings.items()} == {
            "notebook:events": "done",
            "raiser": "dead",
            "hanger": "dead",
        }
        assert handlings["raiser"]["attempts"] == handlings["hanger"]["attempts"] == 2
        assert "never" in handlings["raiser"]["error"]
        assert "0.5 s" in handlings["hanger"]["error"]
    assert notebook.seen() == dict.fromkeys(guids, 1)
    for name, reason in (("broken", "does_not_exist"), ("wrong_hook", "stackit_nothing"), ("leaver", "I quit")):
        assert len([line for line in server.log.splitlines() if name in line and reason in line]) == 1
    for name in ("broken", "leaver"):  # what was raised at import is below the notice, with the place
        assert f'[stackit] |   File "{site_packages}/{name}.py", line 1, in <module>\n' in server.log

    dead = (await server.admin("GET", "{prefix}/deliveries", state="dead", subscriber="raiser")).json()["deliveries"]
    assert [each["delivery"] for each in dead] == guids[::-1]
    again = await server.admin("POST", "{prefix}/deliveries/replay", subscriber="raiser", state="dead")
    assert again.json() == {"replayed": 3}
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("text", "reason", "place"),
    [
        ("import does_not_exist\n", "does_not_exist' (in <module>, mine.py:1)", True),
        ("def f(:\n", "SyntaxError: invalid syntax (mine.py, line 1)", True),
        ("raise SystemExit(3)\n", "3 (in <module>, mine.py:1)", True),
        ("from stackit import hookimpl\n@hookimpl\ndef stackit_nothing(): pass\n", "stackit_nothing", False),
        (
            "from stackit import hookimpl\n@hookimpl\ndef stackit_service(app): raise OSError('no room')\n",
            "no room (in stackit_service, mine.py:3)",
            True,
        ),
        ("from stackit import hookimpl\n@hookimpl\ndef stackit_routes(app): return 7\n", "list of Route", False),
    ],
    ids=["import", "syntax", "exit", "hook", "service", "routes"],
)
async def test_a_broken_plugin_that_the_configuration_names_stops_the_start_with_one_line(
    tmp_path: Path, text: str, reason: str, place: bool
) -> None:
    (tmp_path / "mine.py").write_text(text)
    config = tmp_path / "stackit.toml"
    config.write_text('listen = "tcp:0:interface=127.0.0.1"\n[plugins.mine]\nfile = "mine.py"\n')
    (tmp_path / "state").mkdir(mode=0o700)
    ended = await twistd(
        "--config", str(config), "--state-dir", str(tmp_path / "state"), "--admin-listen", "tcp:0:interface=127.0.0.1"
    )
    lines = (ended.stdout + ended.stderr).decode().splitlines()
    said = [line for line in lines if "mine" in line and "] stackit starts " not in line]
    assert ended.status == 1
    assert len([line for line in said if "stackit: plugin mine: " in line]) == 1
    assert reason in said[0]
    # Below it is the place in the plugin, where there is one.
    assert ['mine.py"' in line for line in said[1:]] == ([True] if place else [])


@pytest_twisted.ensureDeferred
async def test_a_pattern_that_waits_for_what_never_comes_is_told_at_the_start(
    running_stackit: Any, tmp_path: Path
) -> None:
    handler = 'from stackit import on\n@on("pussh", "issues.openned", "issues.closed")\ndef deploy(event): pass\n'
    (tmp_path / "typo.py").write_text(handler)
    config = {"sync": {"interval": "0"}, "plugins": {"typo": {"module": "typo"}}}
    server: RunningStackit = await running_stackit(config=config, plugins=tmp_path)
    assert (await server.deliver("pussh", {"new": True}, guid="new-event")).status == 202  # it may be new at GitHub
    assert (await server.wait_for("new-event"))["handlings"][0]["subscriber"] == "typo"
    assert await server.stop() == 0
    notices = [line for line in server.log.splitlines() if "may never come" in line]
    assert [("typo: the handler deploy" in line, "did you mean" in line) for line in notices] == [(True, True)] * 2
    assert "'pussh'" in notices[0]
    assert "'issues.openned'" in notices[1]
