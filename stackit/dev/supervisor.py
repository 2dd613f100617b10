"""Runs a plugin in a stackit of its own beside a pretend GitHub, and starts it again when its files change."""

from __future__ import annotations

import secrets
import shlex
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from stackit.api.errors import StackitError
from stackit.api.reactor import Reactor, overdue, sleep
from stackit.config import checks
from stackit.config.model import FileTable
from stackit.dev.files import WatchedFiles
from stackit.dev.plan import Plan, PluginFile
from stackit.http.client import Client, RemoteError, Timeouts
from stackit.testing import PretendGitHub, delivery
from stackit.testing.daemon import Daemon

REPO = "octo/widget"

_POLL = 0.2
_PORTS = tuple(checks.endpoint(each).port or 0 for each in (FileTable().listen, FileTable().admin.listen))
"""Those of a stackit without configuration, which ``stackit send`` and the others ask."""
_STOP_WITHIN = 2.0
"""Seconds after which a stackit that was asked to stop is killed: nothing of it is kept."""

_IGNORING_INTERRUPTS = ("/bin/sh", "-c", 'trap \'\' INT; exec "$0" "$@"')
"""Ctrl-C goes to every process of the terminal, and finds Python while it imports, which ends in a traceback."""

Say = Callable[[str], None]


class DevServer:
    """One session of ``stackit dev``.

    ``events`` are sent at each start; a push is a commit that the pretend GitHub makes. What was delivered and not
    handled stays for the next start of the session: a handler that is mended gets it again.
    """

    def __init__(
        self, reactor: Reactor, plugin: PluginFile, events: Sequence[str], environ: Mapping[str, str], say: Say
    ) -> None:
        self._reactor = reactor
        self._plugin = plugin
        self._events = events
        self._environ = environ
        self._say = say
        self._github = PretendGitHub()
        self._client = Client(reactor, timeouts=Timeouts(answer=5.0))
        self._public, self._admin = _ports()
        self._daemon: Daemon | None = None

    async def run(self) -> None:
        """Run until this is cancelled. All that it made is removed then."""
        directory = Path(tempfile.mkdtemp(prefix="stackit-dev-"))
        try:
            secret = secrets.token_hex(20)
            self._secret_file = directory / "secret"
            self._secret_file.write_text(secret)
            await self._github.start(self._reactor, directory / "github")
            self._github_url = await self._github.create(REPO)
            await self._github.commit(REPO)
            self._github.webhook(self._webhook_url, secret)
            self._secret = secret
            (directory / "state").mkdir(mode=0o700)
            await self._run(directory)
        finally:
            await self._stop()
            await self._client.close()
            await self._github.stop()
            shutil.rmtree(directory, ignore_errors=True)

    @property
    def _webhook_url(self) -> str:
        return f"http://127.0.0.1:{self._public}/api/v1/webhooks/github"

    async def _run(self, directory: Path) -> None:
        files = WatchedFiles(self._plugin.path, self._plugin.config_to_watch)
        while True:
            files.note()
            try:
                self._start(directory)
            except StackitError as problem:
                self._say(f"stackit: {problem}")
            await self._watch(files)
            await self._stop()

    async def _watch(self, files: WatchedFiles) -> None:
        """Return when a file has changed, and no more are changing."""
        named, answers, ended = files.changed(), False, False
        while named is None:
            if not ended and (self._daemon is None or self._daemon.status is not None):
                ended = True
                self._say("dev: it does not run; the next save tries again")
            if not answers and not ended and await self._is_up():
                answers = True
                self._say(self._hint())
                await self._send()
            await sleep(self._reactor, _POLL)
            named = files.changed()
        self._say(f"dev: {named.name} changed; starting again")
        while files.changed() is not None:
            files.note()
            await sleep(self._reactor, _POLL)

    def _start(self, directory: Path) -> None:
        name, table = self._plugin.table()
        config = self._plugin.config_in_use()
        plan = Plan(
            plugin=name,
            table=table,
            config=None if config is None else str(config),
            state_dir=str(directory / "state"),
            listen=f"tcp:{self._public}:interface=127.0.0.1",
            admin_listen=f"tcp:{self._admin}:interface=127.0.0.1",
            secret_file=str(self._secret_file),
            repo=REPO,
            url=self._github_url,
        )
        file = directory / "plan.json"
        file.write_bytes(msgspec.json.encode(plan))
        # Compiled files are told apart by whole seconds, and two saves may be closer.
        environment = {**self._environ, "PYTHONDONTWRITEBYTECODE": "1"}
        argv = [*_IGNORING_INTERRUPTS, sys.executable, "-P", "-m", "stackit.dev_service", str(file)]
        self._daemon = Daemon.spawn(self._reactor, argv, environment, inherit_output=True)

    async def _stop(self) -> None:
        daemon, self._daemon = self._daemon, None
        if daemon is not None and daemon.status is None:
            daemon.signal(signal.SIGTERM)
            with overdue(self._reactor, _STOP_WITHIN, partial(daemon.signal, signal.SIGKILL)):
                await daemon.ended()

    async def _is_up(self) -> bool:
        try:
            return (await self._client.get(f"http://127.0.0.1:{self._public}/healthz")).status == 200
        except RemoteError:
            return False

    async def _send(self) -> None:
        for event in self._events:
            name, _, action = event.partition(".")
            if name == "push":
                await self._github.push(REPO)
                continue
            made = delivery(name, secret=self._secret, action=action or None)
            try:
                await self._client.post(self._webhook_url, made.body, headers=made.headers)
            except RemoteError as problem:
                self._say(f"dev: {event} could not be sent: {problem}")

    def _hint(self) -> str:
        url = [] if self._public == _PORTS[0] else ["--url", self._webhook_url]
        admin = [] if self._admin == _PORTS[1] else ["--admin-url", f"http://127.0.0.1:{self._admin}"]
        send = shlex.join(["stackit", "send", "push", *url, "--secret-file", str(self._secret_file)])
        deliveries = shlex.join(["stackit", "deliveries", *admin])
        return (
            f"dev: {self._plugin.path.name} is loaded; each save starts it again, Ctrl-C ends it\n"
            f"dev: send it an event:    {send}\n"
            f"dev: see what became of it:    {deliveries}"
        )


def _ports() -> tuple[int, int]:
    """Return ports for the public and the admin side: the usual ones, or others where these are taken."""
    public, admin = (_free(port) for port in _PORTS)
    return public, admin


def _free(port: int) -> int:
    for each in (port, 0):
        try:
            with socket.create_server(("127.0.0.1", each)) as found:
                return int(found.getsockname()[1])
        except OSError:
            continue
    raise StackitError("no port on 127.0.0.1 is free")
