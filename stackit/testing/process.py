"""The process of a stackit: where it is, its start and its end, and requests to it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.error import ConnectError
from twisted.web.client import RequestTransmissionFailed, ResponseFailed

from stackit.api.reactor import Reactor, sleep
from stackit.testing.daemon import Daemon
from stackit.testing.http_client import Answer, Client
from stackit.testing.ports import free_ports
from stackit.testing.toml import toml
from stackit.text.units import seconds

SECRET = "a-secret-of-the-test-kit"  # noqa: S105 - the default of a server that only tests talk to
PATIENCE = 60.0
"""Seconds that a step may take before a test fails: many more than it takes on a busy machine."""

_POLL = 0.05
_AGAIN = 1.0
"""Seconds between two starts on a port that somebody has."""
_PASSES = (b"in use", b"timeout expired", b"has not answered for", b"server closed the connection unexpectedly")
"""What a start says that may go better soon: of a port, and of a fleet's database, which has some seconds to answer."""
_TWISTD = "import sys; from twisted.scripts.twistd import run; sys.exit(run())"

Found = TypeVar("Found")


class StackitFailed(AssertionError):
    """stackit did not reach the expected state; the text has the end of its log."""


class WaitedInVain(StackitFailed):
    """The time was over."""


class StackitProcess:
    """A stackit. ``start`` after ``stop`` or ``kill`` starts it again with the same state and the same ports.

    ``config`` is the configuration file, as text or as the tables it has: ``{"repos": [{"name": …}]}``. ``plugins``
    is a directory whose modules a ``[plugins.NAME]`` table may then name: ``module = "mine:Mine"``. ``environment``
    adds to the child's environment, which is otherwise made from nothing. ``python`` is the interpreter, or a program
    that runs it.
    """

    def __init__(
        self,
        reactor: Reactor,
        directory: Path,
        *,
        config: Mapping[str, Any] | str = "",
        secret: str | None = SECRET,
        plugins: Path | None = None,
        environment: Mapping[str, str] | None = None,
        python: str | Path = sys.executable,
    ) -> None:
        self.state_dir = directory / "state"
        self.prefix = "/api/v1"
        self.secret = secret
        self._reactor = reactor
        self._directory = directory
        self._config = config if isinstance(config, str) else toml(config)
        self._plugins = plugins
        self._environment = dict(environment or {})
        self._python = str(python)
        self._ports: tuple[int, ...] | None = None
        self._daemons: list[Daemon] = []
        self._client = Client(reactor, PATIENCE)

    # Where it is

    @property
    def url(self) -> str:
        """The URL of the public side, without a path."""
        return f"http://127.0.0.1:{self._port(0)}"

    @property
    def admin_url(self) -> str:
        """The URL of the admin side, without a path."""
        return f"http://127.0.0.1:{self._port(1)}"

    @property
    def webhook_url(self) -> str:
        """The URL that deliveries are sent to."""
        return f"{self.url}{self.prefix}/webhooks/github"

    @property
    def log(self) -> str:
        """The output on stdout and stderr, over all starts; of a stackit that runs, the lines that are whole."""
        text = "".join(daemon.output.decode(errors="replace") for daemon in self._daemons)
        is_running = bool(self._daemons) and self._daemons[-1].status is None
        return text[: text.rfind("\n") + 1] if is_running else text

    @property
    def pid(self) -> int | None:
        """The process id while stackit runs."""
        return self._daemons[-1].pid if self._daemons else None

    # Its life

    async def start(self) -> None:
        """Start stackit, and wait until it answers. Raises StackitFailed."""
        again = self._ports is not None
        deadline = self._reactor.seconds() + PATIENCE
        while True:
            self._ports = self._ports or free_ports(2)
            daemon = self._spawn()
            try:
                await self.until(self._answers, "stackit to answer")
                return
            except StackitFailed:
                # Another process may have taken a port between the choice and the start, or between two starts, and a
                # machine may stand still for longer than a node waits for its database: its supervisor starts it again.
                passes = any(each in daemon.output for each in _PASSES)
                if not passes or self._reactor.seconds() > deadline:
                    await self.kill()
                    raise
            if again:  # others know the ports: whoever has one now is a test's, and ends with it
                await sleep(self._reactor, _AGAIN)
            else:
                self._ports = None

    async def stop(self) -> int | None:
        """Ask stackit to end (SIGTERM) and wait. Return its exit status, None if it never ran.

        Raises StackitFailed where it does not end, and kills it.
        """
        return await self._end(signal.SIGTERM)

    async def reload(self, config: Mapping[str, Any] | str | None = None) -> str:
        """Ask stackit to read its configuration again (SIGHUP), and return the line of its log that tells the outcome.

        ``config`` is written to the file before. Raises StackitFailed where no such line comes.
        """
        if config is not None:
            self._config = config if isinstance(config, str) else toml(config)
            self._write_config()
        known = len(self._reloads())
        self._daemons[-1].signal(signal.SIGHUP)

        async def told() -> list[str]:
            return self._reloads()[known:]

        return (await self.until(told, "the outcome of a reload"))[0]

    async def kill(self) -> int | None:
        """End stackit at once (SIGKILL), as a crash would."""
        return await self._end(signal.SIGKILL)

    async def ended(self) -> int:
        """Wait until stackit ends by itself, and return its exit status."""
        return await self._daemons[-1].ended()

    # Requests

    async def ask(
        self, method: str, url: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send any request. Raises the exceptions of treq if there is no response."""
        return await self._client.ask(method, url, body=body, headers=headers)

    async def until(
        self, found: Callable[[], Awaitable[Found | None]], what: str, within: float | str = PATIENCE
    ) -> Found:
        """Ask again and again until the result is true, and return it. Raises StackitFailed after ``within``."""
        patience = seconds(within)
        deadline = self._reactor.seconds() + patience
        while not (result := await found()):
            status = self._daemons[-1].status
            if status is not None:
                raise StackitFailed(f"stackit ended with status {status} before {what}:\n{self.log[-4000:]}")
            if self._reactor.seconds() > deadline:
                raise WaitedInVain(f"waited {patience:g} s in vain for {what}:\n{self.log[-4000:]}")
            await sleep(self._reactor, _POLL)
        return result

    # Inside

    def _spawn(self) -> Daemon:
        argv, environment = self._command()
        daemon = Daemon.spawn(self._reactor, argv, environment)
        self._daemons.append(daemon)
        return daemon

    def _command(self) -> tuple[list[str], dict[str, str]]:
        """Write the configuration, and return the command line and the environment."""
        home = self._directory / "home"
        home.mkdir(parents=True, exist_ok=True)
        self.state_dir.mkdir(mode=0o700, exist_ok=True)
        config = self._write_config()
        public, admin = (f"tcp:{self._port(side)}:interface=127.0.0.1" for side in (0, 1))
        argv = [self._python, "-P", "-c", _TWISTD, "--nodaemon", "--pidfile=", f"--rundir={home}", "stackit"]
        argv += ["--config", str(config), "--state-dir", str(self.state_dir)]
        argv += ["--listen", public, "--admin-listen", admin]
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8"}
        if self._plugins is not None:
            environment["PYTHONPATH"] = str(self._plugins)
        if self.secret is not None:
            environment["STACKIT_GITHUB_WEBHOOK_SECRET"] = self.secret
        # Lets coverage.py measure the process where it measures the tests.
        environment |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
        return argv, environment | self._environment

    def _write_config(self) -> Path:
        config = self._directory / "stackit.toml"
        config.write_text(self._config, "utf-8")
        return config

    def _reloads(self) -> list[str]:
        """Return the whole lines of the log that tell of a reload."""
        whole = self.log.rpartition("\n")[0]
        return [line for line in whole.splitlines() if "reload of the configuration" in line]

    async def _answers(self) -> bool:
        try:
            return (await self.ask("GET", f"{self.url}/healthz")).status == 200
        except (ConnectError, RequestTransmissionFailed, ResponseFailed):
            return False

    async def _end(self, number: signal.Signals) -> int | None:
        status, late = None, False

        def kill() -> None:
            nonlocal late
            late = True
            daemon.signal(signal.SIGKILL)

        if self._daemons:
            daemon = self._daemons[-1]
            await self._client.close()  # a stop waits for one that was just in use
            daemon.signal(number)
            patience = self._reactor.callLater(PATIENCE, kill)
            status = await daemon.ended()
            if patience.active():
                patience.cancel()
        await self._client.close()
        if late:
            raise StackitFailed(f"stackit did not end within {PATIENCE:g} s of {number.name}:\n{self.log[-4000:]}")
        return status

    def _port(self, side: int) -> int:
        if self._ports is None:
            raise RuntimeError("stackit was not started yet")
        return self._ports[side]
