"""The shell and the admin side of a stackit with a dead letter, and one that is tried again."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest_twisted
from outside import shell

from stackit.cli.run import run
from stackit.testing import RunningStackit

STUBBORN = """
from stackit import Permanent, on

@on("issues")
def gives_up(event):
    raise Permanent("never")

@on("issues")
def tries_again(event):
    raise OSError("not now")

@on("issues")
def takes(event):
    pass
"""
TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
"""A program that runs another on a terminal of its own."""

ROUTES = (
    "GET /metrics",
    "GET /readyz",
    "GET {prefix}/status",
    "GET {prefix}/repos",
    "GET {prefix}/repos/octo/widget",
    "POST {prefix}/repos/octo/widget/sync",
    "GET {prefix}/deliveries",
    "GET {prefix}/deliveries/1",
    "POST {prefix}/deliveries/1/replay",
    "POST {prefix}/deliveries/replay",
)


class Terminal(io.StringIO):
    """Takes what is written, and says that it is a terminal."""

    def isatty(self) -> bool:
        return True


class Ran(msgspec.Struct):
    """What a command of the shell left behind."""

    status: int
    out: str
    err: str


async def command(server: RunningStackit, *arguments: str, out: io.StringIO | None = None, **environ: str) -> Ran:
    """Run a command of the shell in this process, which takes a fraction of the time of one of its own."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    out, err = out or io.StringIO(), io.StringIO()
    argv = [*arguments, "--admin-url", server.admin_url]
    status = await run(reactor, argv, environ=environ, cwd=Path("/nonexistent"), out=out, err=err)
    return Ran(status, out.getvalue(), err.getvalue())


@pytest_twisted.ensureDeferred
async def test_the_shell_tells_what_is_dead_what_waits_and_what_it_does_not_know(
    running_stackit: Any, tmp_path: Path
) -> None:
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    server: RunningStackit = await running_stackit(
        config={
            "sync": {"interval": "0"},
            "repos": [{"name": "octo/widget", "url": "http://127.0.0.1:1/widget.git"}],
            "plugins": {"stubborn": {"file": str(tmp_path / "stubborn.py")}},
        }
    )

    assert (await server.deliver("issues", action="opened")).status == 202

    async def states() -> dict[str, str]:
        (found,) = (await server.admin("GET", "{prefix}/deliveries")).json()["deliveries"]
        return {each["subscriber"]: each["state"] for each in found["handlings"] if each["attempts"]}

    expected = {"stubborn:gives_up": "dead", "stubborn:tries_again": "pending", "stubborn:takes": "done"}

    async def settled() -> bool:
        return await states() == expected

    await server.until(settled, "every handler to have been tried")

    # The delivery is found by the state of any of its handlings, and the list names these handlers.
    for state in expected.values():
        ran = await command(server, "deliveries", "--state", state)
        assert ran.status == 0
        header, row = ran.out.splitlines()
        assert re.split("  +", header)[-1] == "NOT DONE AT"
        assert re.split("  +", row)[4] == "pending"
        assert re.split("  +", row)[-1] == "stubborn:gives_up (dead), stubborn:tries_again (pending)"
        assert re.search("(just now|second)", row)
    assert (await command(server, "deliveries", "--since", "1h", "--until", "2020-01-01T00:00:00Z")).out == (
        "no deliveries\n"
    )
    assert len((await command(server, "deliveries", "--since", "1h")).out.splitlines()) == 2

    # What is unknown is named, on every route, and so is what there is.
    for route in ROUTES:
        method, path = route.split()
        answer = await server.admin(method, path, foo="x")
        assert (answer.status, "unknown parameter 'foo'" in answer.json()["error"]) == (400, True), route
    for arguments, error in (
        (("deliveries", "--subscriber", "typo"), "subscriber: there is no typo; there is "),
        (("replay", "--dead", "--subscriber", "typo"), "subscriber: there is no typo; there is "),
        (("replay", "1", "--subscriber", "typo"), "subscriber: there is no typo; there is "),
        (("deliveries", "--repo", "octo/wigdet"), "octo/wigdet is not managed, and there is no delivery of it"),
        (("sync", "octo/wigdet"), "octo/wigdet is not managed: "),
    ):
        ran = await command(server, *arguments)
        said = ran.err
        assert (ran.status, ran.out, said.count("\n")) == (1, "", 1)
        assert said.startswith(f"stackit: {error}")
        assert ("octo/widget" if "sync" in arguments else "stubborn:tries_again" if "typo" in arguments else "") in said

    # The status has all of it in one answer.
    status = (await server.admin("GET", "{prefix}/status")).json()
    assert (status["pending"], status["dead"], status["repos"], status["ready"]) == (1, 1, 1, True)
    assert {"subscriber": "stubborn:gives_up", "pending": 0, "dead": 1, "paused": False} in status["subscribers"]
    shown = (await command(server, "status")).out
    assert "\nmirrors:  1 " in shown
    assert re.search(r"^stubborn:tries_again +1 +0$", shown, re.MULTILINE)

    # Colors are for terminals.
    assert "\x1b" not in (await command(server, "deliveries", TERM="xterm")).out
    for given, environ in (
        (["deliveries"], {"NO_COLOR": "1", "TERM": "xterm"}),
        (["deliveries", "--no-color"], {"TERM": "xterm"}),
        (["--no-color", "deliveries"], {"TERM": "xterm"}),
        (["deliveries", "--json"], {"TERM": "xterm"}),
        (["deliveries"], {"TERM": "dumb"}),
        (["deliveries"], {}),
    ):
        assert "\x1b" not in (await command(server, *given, out=Terminal(), **environ)).out
    shown = (await command(server, "deliveries", out=Terminal(), TERM="xterm")).out
    assert "\x1b[33mpending\x1b[0m" in shown
    program = (sys.executable, "-c", TERMINAL, sys.executable, "-m", "stackit")
    there = await shell(*program, "delivery", "1", "--admin-url", server.admin_url, TERM="xterm")
    assert there.status == 0
    assert b"\x1b[31mdead\x1b[0m" in there.stdout
    assert b"\x1b[32mdone\x1b[0m" in there.stdout
