"""``--demo`` shows stackit at work without account, network or configuration, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from stackit.testing.daemon import Daemon

PATIENCE = 300.0


@pytest_twisted.ensureDeferred
async def test_the_demo_shows_what_stackit_does_beside_github_and_cleans_up(tmp_path: Path) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    run: Any = reactor
    code = "import sys; from twisted.scripts.twistd import run; run()"
    argv = [sys.executable, "-P", "-c", code, "--nodaemon", "--pidfile=", f"--rundir={tmp_path}", "stackit", "--demo"]
    argv += ["--listen", "tcp:0:interface=127.0.0.1", "--admin-listen", "tcp:0:interface=127.0.0.1"]
    (tmp_path / "tmp").mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "TMPDIR": str(tmp_path / "tmp"),
    }
    environment |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    demo = Daemon.spawn(run, argv, environment)

    def shown() -> str:
        return demo.output.decode()

    until = run.seconds() + PATIENCE
    parts = ["delivery answered 202", "401 (signature)", "visible", "found by: backstop"]
    parts += ["found its 3 private repositories", "it has a mirror", "with 0 fetches"]
    parts += ["recovered     all 3, and the one that was lost before, from GitHub's list"]
    while not all(each in shown() for each in parts) and demo.status is None and run.seconds() < until:
        await deferLater(run, 0.1)
    metrics = re.search("curl (http.*/metrics)", shown())
    assert metrics is not None
    answer = await deferToThread(urllib.request.urlopen, metrics[1], timeout=60)  # also after the restart
    assert b"stackit_repos" in answer.read()
    demo.signal(signal.SIGHUP)  # its terminal is closed
    status = await demo.ended()
    assert [each for each in parts if each not in shown()] == [], shown()
    assert "Traceback" not in shown()
    assert status == 0, shown()
    assert list((tmp_path / "tmp").iterdir()) == []
