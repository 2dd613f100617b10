"""One node of a fleet under test: a stackit that reaches the database through a relay, which can be cut."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.error import ConnectError
from twisted.web.client import RequestTransmissionFailed, ResponseFailed

from stackit.api.reactor import Reactor
from stackit.testing.relay import Relay
from stackit.testing.server import RunningStackit
from stackit.testing.toml import toml


class FleetNode(RunningStackit):
    """A node. ``fleet`` is its table ``[fleet]`` without its name and its address.

    ``relays`` are its ways to the servers of the database. The other arguments are those of ``RunningStackit``.
    """

    def __init__(
        self,
        reactor: Reactor,
        directory: Path,
        *,
        name: str,
        relays: Sequence[Relay],
        fleet: Mapping[str, Any],
        **settings: Any,
    ) -> None:
        super().__init__(reactor, directory, **settings)
        self.name = name
        self.is_frozen = False
        self._relays = relays
        self._fleet = dict(fleet)

    @property
    def is_running(self) -> bool:
        """Return whether its process is there, frozen or not."""
        return bool(self._daemons) and self._daemons[-1].status is None

    def pause(self) -> None:
        """Freeze its process and those below it (SIGSTOP), as a host that is suspended."""
        self.is_frozen = True
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen node go on."""
        self._signal_all(signal.SIGCONT)
        self.is_frozen = False

    def cut(self) -> None:
        """Cut it off from the database: its connections stay open, and nothing comes through."""
        for relay in self._relays:
            relay.cut()

    def heal(self) -> None:
        """Let it reach the database again."""
        for relay in self._relays:
            relay.heal()

    def reset(self) -> None:
        """Abort its connections to the database, as a firewall that forgets them."""
        for relay in self._relays:
            relay.reset()

    def _write_config(self) -> Path:
        table = {**self._fleet, "node": self.name, "address": self.admin_url}
        config = self._directory / "stackit.toml"
        config.write_text(toml({"fleet": table}) + self._config, "utf-8")
        return config

    async def _answers(self) -> bool:
        try:
            status = (await self.ask("GET", f"{self.url}/healthz")).status
        except (ConnectError, RequestTransmissionFailed, ResponseFailed):
            return False
        # A node that takes no deliveries says so to the load balancer.
        return status == 200 or (status == 503 and "receive" not in self._fleet.get("roles", ["receive"]))

    def _signal_all(self, number: signal.Signals) -> None:
        if self.is_running and self.pid is not None:
            for pid in [self.pid, *_below(self.pid)]:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)


def _below(pid: int) -> list[int]:
    """Return the processes below a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            for child in map(int, task.read_text().split()):
                found += [child, *_below(child)]
    return found
