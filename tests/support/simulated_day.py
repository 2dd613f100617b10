"""A whole stackit that lives a day in a minute: everything real but the time, and a load for it."""

from __future__ import annotations

import gc
import sqlite3
import threading
from collections import Counter, deque
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from stackit import Event, Permanent, RefsChanged, hookimpl, on, sleep
from stackit.api.events import Repo
from stackit.api.repos import ManagedRepo
from stackit.config.model import AdminConfig, Config, HandlersConfig, JournalConfig, SyncConfig
from stackit.config.secret import Secret
from stackit.plugins.logger import Logger
from stackit.plugins.mirror.repository.tamper import ref_stamps
from stackit.plugins.ratelimit import RateLimit
from stackit.service import Stackit
from stackit.testing import PretendGitHub, delivery, payload_for, push_payload
from stackit.testing.smarthttp import SmartHttp
from stackit.testing.timelapse import Timelapse
from stackit.text.units import Duration

SECRET = "a secret of the day"
HOUR = 3600.0
INTERVAL = TURN = 300.0
TURNS_AN_HOUR = 12
FORGERIES = 100
"""Refused requests in each turn, each from an address of its own."""
CONNECTIONS = 8
KEPT = HOUR
"""Seconds for which the journal keeps what is done: a warm-up is over when it begins to forget."""
RETRIED = 600.0


class Handlers:
    """A plugin whose handlers end in every way that there is."""

    def __init__(self, clock: Timelapse) -> None:
        self._clock = clock
        self._failed: set[str] = set()
        self.changes = 0

    @on("issues")
    async def slow(self, event: Event) -> None:
        await sleep(self._clock, 3)

    @on("issues")
    def wobbly(self, event: Event) -> None:
        if event.delivery not in self._failed:
            self._failed.add(event.delivery)
            raise OSError("not at the first time")
        self._failed.remove(event.delivery)

    @on("issues", thread=True)
    def blocking(self, event: Event) -> None:
        Path("/").stat()

    @on("label")
    def hopeless(self, event: Event) -> None:
        raise OSError("never")

    @on("label")
    def permanent(self, event: Event) -> None:
        raise Permanent("not this one")

    @on("watch")
    async def stuck(self, event: Event) -> None:
        await Deferred()

    @hookimpl
    async def stackit_refs_changed(self, change: RefsChanged) -> None:
        self.changes += len(change.changes)


class QuickGit(SmartHttp):
    """git's own answers; what it says of refs that nobody touched since is not asked again."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.requests = deque(maxlen=100)
        self._said: dict[tuple[Path, bytes], tuple[Any, Any]] = {}

    async def _backend(self, request: Any, path: Path, service_path: str, body: bytes) -> Any:
        if not body[4:].startswith(b"command=ls-refs"):
            return await super()._backend(request, path, service_path, body)
        touched, said = self._said.get((path, body), (None, None))
        now = ref_stamps(path)
        if touched != now:
            said = await super()._backend(request, path, service_path, body)
            self._said[path, body] = now, said
        return said


class QuickGitHub(PretendGitHub):
    """A pretend GitHub that tens of thousands of looks do not keep busy."""

    _git_server = QuickGit


class Client(Protocol):
    """One connection that is kept: a request, its answer, the next."""

    transport: Any  # a zope interface, which mypy does not know

    def __init__(self) -> None:
        self.lost = False
        self._answer = b""
        self._waiting: Deferred[int] | None = None

    def send(self, request: bytes) -> Deferred[int]:
        """The status of the answer; 0 where the connection went instead."""
        self._answer = b""
        self._waiting = Deferred()
        self.transport.write(request)
        return self._waiting

    def dataReceived(self, data: bytes) -> None:
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if found and len(body) >= int(length or 0):
            self._ended(int(head[9:12]))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True
        self._ended(0)

    def _ended(self, status: int) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(status)


class Day:
    """stackit with ``repositories`` mirrors beside a pretend GitHub; ``pass_hour`` gives both something to do.

    ``statuses`` are the answers so far, ``clock`` is whose time passes.
    """

    def __init__(self, reactor: Any, directory: Path, repositories: int) -> None:
        self.clock = Timelapse(reactor)
        self.github = QuickGitHub()
        self.names = [f"day/repository-{number}" for number in range(repositories)]
        self.statuses: Counter[int] = Counter()
        self.handlers = Handlers(self.clock)
        self._reactor = reactor
        self._directory = directory
        self._hours = 0
        self._strangers: list[Client] = []

    # -- life ---------------------------------------------------------------------

    async def start(self) -> None:
        """Make the repositories and the first clones of them, and push to each."""
        await self.github.start(self._reactor, self._directory / "github")
        urls = {}
        for name in self.names:
            urls[name] = await self.github.create(name)
            await self.github.commit(name)
        self.limiter = RateLimit(RateLimit.Settings(trusted_proxies=("127.0.0.1/32",)), clock=self.clock.seconds)
        self.stackit = Stackit(
            Config(
                state_dir=self._directory / "state",
                listen="tcp:0:interface=127.0.0.1",
                admin=AdminConfig(listen="tcp:0:interface=127.0.0.1"),
                webhook_secret=Secret(SECRET),
                sync=SyncConfig(interval=Duration(INTERVAL)),
                journal=JournalConfig(keep_for=Duration(KEPT)),
                handlers=HandlersConfig(retry_for=Duration(RETRIED)),
                # The same, but with this clock.
                plugins={"logger": {"enabled": False}, "ratelimit": {"enabled": False}},
                repos=tuple(ManagedRepo(repo=Repo.parse(name), url=url) for name, url in urls.items()),
            ),
            self.clock,
            now=self.clock.now,
            plugins={
                "logger": Logger(clock=self.clock.seconds),
                "ratelimit": self.limiter,
                "handlers": self.handlers,
            },
        )
        (self._directory / "state").mkdir(mode=0o700)
        self.stackit.startService()
        self.clock.watch(self.stackit.journal)
        await self.clock.rest()
        for name in self.names:  # what is remembered of a repository is there from now on
            await self._push(name)
            await self.clock.rest()

    async def stop(self) -> None:
        for client in self._strangers:
            client.transport.abortConnection()
        """Stop as a SIGTERM does, with whatever time that takes."""
        stopping = self.stackit.stopService()
        while not stopping.called:
            await self.clock.pass_time(1)
        await stopping
        await self.github.stop()

    # -- what happens -----------------------------------------------------------------

    async def pass_hour(self) -> None:
        """An hour of deliveries, forgeries, pushes, faults and visits."""
        for turn in range(TURNS_AN_HOUR):
            await self._happens(self._hours * TURNS_AN_HOUR + turn)
            await self.clock.pass_time(TURN)
        self._hours += 1

    async def _happens(self, turn: int) -> None:
        repo, other = (self.names[number % len(self.names)] for number in (turn, 7 * turn + 3))
        made = [
            delivery(event, payload_for(event, repo=about) | {"mark": turn}, secret=SECRET)
            for event, about in (
                *((event, repo) for event in ("issues", "label", "watch", "ping", "star")),
                ("push", "day/unknown"),
            )
        ]
        # The last one was here before.
        await self._deliver([*((each.headers, each.body) for each in (*made, made[0]))])
        await self._deliver([_forged(turn * FORGERIES + number) for number in range(FORGERIES)])
        await self._push(repo)
        match turn % TURNS_AN_HOUR:
            case 1 | 6:
                await self.github.commit(other)  # nobody tells of it
            case 2:
                self.github.fault(other, 404, times=8)
            case 4:
                self.github.fault(other, 500, times=8)
            case 8:
                self.github.fault(other, 429, times=2)
            case 0:
                for path in ("/metrics", "/readyz", "/api/v1/repos", "/api/v1/deliveries"):
                    await self._visit(path)
        await self._stranger()

    async def _push(self, repo: str) -> None:
        """Two pushes, of which stackit hears when both are done."""
        moves = [await self.github.commit(repo) for _ in range(2)]
        signed = [
            delivery("push", push_payload(repo, each.ref, each.before, each.after), secret=SECRET) for each in moves
        ]
        await self._deliver([(each.headers, each.body) for each in signed])

    async def _deliver(self, requests: list[tuple[dict[str, str], bytes]]) -> None:
        """Post them over a few connections, in any order."""
        clients = [await self._connected(0) for _ in requests[:CONNECTIONS]]
        await gatherResults(
            [
                Deferred.fromCoroutine(self._post(client, requests[number::CONNECTIONS]))
                for number, client in enumerate(clients)
            ]
        )

    async def _post(self, client: Client, requests: list[tuple[dict[str, str], bytes]]) -> None:
        for headers, body in requests:
            head = [
                "POST /api/v1/webhooks/github HTTP/1.1",
                "Host: localhost",
                *(f"{name}: {value}" for name, value in headers.items()),
                f"Content-Length: {len(body)}",
            ]
            self.statuses[await client.send("\r\n".join(head).encode() + b"\r\n\r\n" + body)] += 1
        client.transport.loseConnection()

    async def equal(self) -> bool:
        """Whether every mirror has what its remote has."""
        mirrors = self._directory / "state" / "mirrors"
        for name in self.names:
            theirs = await self.github.git(name, "for-each-ref")
            if theirs != await self.github.git(name, f"--git-dir={mirrors / name}.git", "for-each-ref"):
                return False
        return True

    async def _visit(self, path: str) -> None:
        client = await self._connected(1)
        answer = client.send(f"GET {path} HTTP/1.1\r\nHost: {self._address(1)}\r\nConnection: close\r\n\r\n".encode())
        while not answer.called:  # a long one is made in pieces, with a turn of the reactor between them
            await self.clock.rest()
        self.statuses[await answer] += 1
        client.transport.abortConnection()

    async def _stranger(self) -> None:
        """Somebody who begins a request and leaves it at that; the deadline ends it."""
        client = await self._connected(0)
        client.send(b"POST /api/v1/webhooks/github HTTP/1.1\r\nHost")
        self._strangers = [each for each in self._strangers if not each.lost]
        self._strangers.append(client)

    async def _connected(self, side: int) -> Client:
        port = int(self._address(side).rpartition(":")[2])
        endpoint = TCP4ClientEndpoint(self._reactor, "127.0.0.1", port)
        client: Client = await connectProtocol(endpoint, Client())
        return client

    def _address(self, side: int) -> str:
        return self.stackit.addresses[side].partition("//")[2]

    # -- what there is ----------------------------------------------------------------

    def figures(self) -> dict[str, float]:
        """What must not grow, counted while nothing happens."""
        gc.collect()
        for each in threading.enumerate():
            if each.name == "stackit storage":  # begun by a timer, and for a moment
                each.join()
        state = self._directory / "state"
        kept = [each for each in state.rglob("*") if state / "mirrors" not in each.parents and each.is_file()]
        return {
            "delayed calls": len(self.clock.getDelayedCalls()),
            "descriptors": len(list(Path("/proc/self/fd").iterdir())),
            "threads": threading.active_count(),
            **self.registries(),
            **_rows(state / "journal.sqlite3"),
            "journal, KiB": sum(each.stat().st_size for each in kept) / 1024,
        }

    def registries(self) -> dict[str, int]:
        """How much is in what stackit keeps in memory."""
        dispatch, bus, public = self.stackit.dispatch, self.stackit.bus, self.stackit.public
        backlog = dispatch._backlog
        mirror: Any = bus._plugins.get_plugin("mirror")
        metrics: Any = bus._plugins.get_plugin("metrics")
        workers = list(mirror._mirrors)
        pushes = list(mirror._mirrors._pushes.values())
        return {
            "queues": sum(
                len(each._groups) + len(each._known) + len(each._ready) + len(each._to_read) + len(each._active)
                for each in dispatch._queues.values()
            ),
            "dispatch": sum(backlog.pending.values()) + len(backlog._tasks) + len(backlog._timers),
            "coalescers": sum(len(each.rounds._next) + len(each.rounds._idle) for each in workers),
            "pushes remembered": sum(len(each._moved_from) + len(each._unconfirmed) for each in pushes),
            "histories remembered": len(pushes[0]._histories),
            "refs covered": sum(len(each.status.covered_refs) for each in workers),
            "looks": len(mirror._mirrors.schedule._checks),
            "rate limiter": len(self.limiter._buckets),
            "connections": len(public._connections) + len(public.limiter),
            "metrics": sum(
                len(family.samples)
                for each in (metrics._registry, *mirror._metrics.collectors())
                for family in each.collect()
            ),
        }


def _forged(number: int) -> tuple[dict[str, str], bytes]:
    """A request that does not verify, from an address that no other has."""
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    wrong = {"X-GitHub-Event": "push", "X-Hub-Signature-256": f"sha256={'0' * 64}", "X-Forwarded-For": address}
    return wrong, b"{}"


def _rows(database: Path) -> dict[str, int]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            f"journal, {table}": connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - fixed names
            for table in tables
        }
