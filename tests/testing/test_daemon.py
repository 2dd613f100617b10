"""The end of a program under test: what it wrote last is read, however late the reactor comes to it."""

from __future__ import annotations

import time

import pytest_twisted

from stackit.testing.daemon import Daemon

LAST = "echo first; head -c 60000 /dev/zero; echo last >&2; exit 3"


def be_busy() -> None:
    """Have the reactor learn of the end and of the output at the same time."""
    time.sleep(0.05)


@pytest_twisted.ensureDeferred
async def test_what_a_program_wrote_before_its_end_is_not_lost() -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    for _ in range(10):
        daemon = Daemon.spawn(reactor, ["/bin/sh", "-c", LAST], {"PATH": "/usr/bin:/bin"})
        be_busy()
        assert await daemon.ended() == 3
        assert daemon.output.count(b"first\n") == daemon.output.count(b"last\n") == 1
        assert daemon.output.count(b"\0") == 60_000
