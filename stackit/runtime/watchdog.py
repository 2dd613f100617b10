"""Notifications to systemd: stackit is ready, it moves, it reloads, it stops.

The protocol is that of sd_notify: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence

from twisted.application.service import Service

from stackit.api.reactor import Timers, looping_call


class Watchdog(Service):
    """Notifies systemd, where the environment names its socket; else does nothing.

    With a watchdog (``WATCHDOG_USEC``) a sign of life is sent twice in its interval, as long as ``stuck`` returns
    nothing. ``notice`` is called with the reason when the signs end.
    """

    def __init__(
        self,
        *,
        reactor: Timers,
        environ: Mapping[str, str],
        pid: int,
        stuck: Callable[[], Sequence[str]],
        notice: Callable[[str], None],
    ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._interval = _interval(environ, pid) if self._address else 0.0
        self._stuck = stuck
        self._notice = notice
        self._said: dict[str, bool] = {}
        self._loop = looping_call(reactor, self._bark)

    def startService(self) -> None:
        """Tell systemd that stackit is ready, and begin the signs of life."""
        Service.startService(self)
        self._tell("READY=1")
        if self._interval:
            self._loop.start(self._interval, now=True)

    def reloading(self) -> None:
        """Tell systemd that a reload has begun; ``reloaded`` has to follow."""
        # Not the reactor's clock, which a test may make up: systemd compares it with its own.
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self, status: str) -> None:
        """Tell systemd that the reload is over, and in one line how it ended, which ``systemctl status`` shows."""
        self._tell(f"READY=1\nSTATUS={' '.join(status.split())}")

    def stopping(self) -> None:
        """Tell systemd that the stop has begun; signs of life go on until it is through."""
        self._tell("STOPPING=1")

    def stopService(self) -> None:
        Service.stopService(self)
        if self._loop.running:
            self._loop.stop()

    def _bark(self) -> None:
        problems = "; ".join(self._stuck())
        if not problems:
            self._tell("WATCHDOG=1")
        self._say("stuck", problems and f"systemd's watchdog gets no sign of life: {problems}")

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        failed = ""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.setblocking(False)  # nobody may be reading
                channel.sendto(message.encode("utf-8", "replace"), address)
        except OSError as problem:
            failed = f"systemd cannot be told that stackit lives: NOTIFY_SOCKET {self._address}: {problem.strerror}"
        self._say("unheard", failed)

    def _say(self, kind: str, reason: str) -> None:
        """Give notice when a problem of this kind begins; an empty reason ends it."""
        if reason and not self._said.get(kind):
            self._notice(reason)
        self._said[kind] = bool(reason)


def _interval(environ: Mapping[str, str], pid: int) -> float:
    """Return the seconds between two signs of life; 0 where systemd expects none from this process."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not microseconds.isascii() or not microseconds.isdigit() or environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return 0.0
    return int(microseconds) / 2e6
