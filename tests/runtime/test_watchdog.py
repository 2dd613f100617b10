"""What systemd hears, on a real datagram socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from stackit.runtime.watchdog import Watchdog


class Systemd:
    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.clock = Clock()
        self.stuck: list[str] = []
        self.notices: list[str] = []

    def heard(self) -> list[str]:
        heard = []
        while True:
            try:
                heard.append(self.socket.recv(100).decode())
            except BlockingIOError:
                return heard

    def watchdog(self, **environ: str) -> Watchdog:
        made = Watchdog(
            reactor=self.clock,
            environ={"NOTIFY_SOCKET": self.address, **environ},
            pid=os.getpid(),
            stuck=lambda: self.stuck,
            notice=self.notices.append,
        )
        made.startService()
        return made


@pytest.fixture(params=["path", "abstract"])
def systemd(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Systemd]:
    made = Systemd(str(tmp_path / "notify") if request.param == "path" else f"@stackit-test-{os.getpid()}")
    yield made
    made.socket.close()
    assert made.clock.getDelayedCalls() == []


def test_it_hears_of_the_start_of_life_twice_in_its_interval_and_of_the_stop(systemd: Systemd) -> None:
    watchdog = systemd.watchdog(WATCHDOG_USEC="60000000", WATCHDOG_PID=str(os.getpid()))
    assert systemd.heard() == ["READY=1", "WATCHDOG=1"]
    systemd.clock.advance(29)
    assert systemd.heard() == []
    systemd.clock.pump([1, 29, 1])
    assert systemd.heard() == ["WATCHDOG=1"] * 2
    watchdog.stopping()
    systemd.clock.advance(30)
    assert systemd.heard() == ["STOPPING=1", "WATCHDOG=1"]  # a stop may take longer than its interval
    watchdog.stopService()


def test_it_hears_nothing_while_something_does_not_move_and_people_are_told_once(systemd: Systemd) -> None:
    watchdog = systemd.watchdog(WATCHDOG_USEC="2000000")
    systemd.heard()
    systemd.stuck = ["the journal's writer has ended"]
    systemd.clock.pump([1] * 5)
    assert systemd.heard() == []
    assert systemd.notices == ["systemd's watchdog gets no sign of life: the journal's writer has ended"]
    systemd.stuck = []
    systemd.clock.advance(1)
    assert systemd.heard() == ["WATCHDOG=1"]
    watchdog.stopService()


@pytest.mark.parametrize(
    "environ",
    [{}, {"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "often"}],
)
def test_without_a_watchdog_for_this_process_it_hears_only_of_the_start(
    systemd: Systemd, environ: dict[str, str]
) -> None:
    watchdog = systemd.watchdog(**environ)
    systemd.clock.advance(100)
    assert systemd.heard() == ["READY=1"]
    watchdog.stopService()


def test_without_systemd_nothing_is_said_or_sent(systemd: Systemd) -> None:
    watchdog = systemd.watchdog(NOTIFY_SOCKET="", WATCHDOG_USEC="2000000")
    systemd.clock.advance(100)
    assert (systemd.heard(), systemd.notices) == ([], [])
    watchdog.stopService()


def test_a_systemd_that_does_not_read_holds_nothing_up_and_one_that_is_gone_is_told_of_once(systemd: Systemd) -> None:
    watchdog = systemd.watchdog(WATCHDOG_USEC="2000000")
    systemd.clock.pump([1] * 5000)  # more than the socket holds
    systemd.heard()
    systemd.clock.advance(1)
    assert systemd.heard() == ["WATCHDOG=1"]
    notices = len(systemd.notices)
    systemd.socket.close()
    systemd.clock.pump([1] * 3)
    assert len(systemd.notices) == notices + 1
    assert "Connection refused" in systemd.notices[-1]
    watchdog.stopService()
