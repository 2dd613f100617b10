"""The two loads of a soak: GitHub's, and that of strangers."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable
from random import Random
from typing import Any
from urllib.parse import urlsplit

from outside import WEBHOOK, together
from rawhttp import request
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TooSlow
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import RequestTransmissionFailed, ResponseFailed

from stackit.testing import PretendGitHub, RunningStackit, delivery

UNANSWERED = (
    ConnectError,
    ConnectingCancelledError,
    RequestTransmissionFailed,
    ResponseFailed,
    CancelledError,
    TooSlow,
)


class GoodLoad:
    """Pushes and issues, signed as GitHub signs them, and branches that change without a word.

    ``accepted_now`` are the ids that were answered 202 since ``forget_what_was_seen``, ``accepted`` all of them.
    """

    def __init__(
        self, reactor: Any, server: RunningStackit, github: PretendGitHub, repos: Iterable[str], random: Random
    ) -> None:
        self.accepted = Counter[str]()
        self.accepted_now: set[str] = set()
        self.refused = 0
        self._reactor = reactor
        self._server = server
        self._github = github
        self._repos = tuple(repos)
        self._random = random
        self._until = 0.0
        self._made = 0

    async def run(self, seconds: float) -> None:
        """Send for so long."""
        self._until = self._reactor.seconds() + seconds
        await together(*(self._push() for _ in range(3)), *(self._issues() for _ in range(3)), self._silently())

    def forget_what_was_seen(self, seen: Iterable[str]) -> None:
        """Begin to count anew: these have arrived."""
        self.accepted_now -= set(seen)

    async def rewind(self) -> None:
        """Put every branch back to where it began, so that no history grows with the time of the soak."""
        for repo in self._repos:
            for ref in await self._github.refs(repo):
                await self._github.set_ref(repo, ref, "refs/heads/main")

    async def _push(self) -> None:
        while self._reactor.seconds() < self._until:
            repo = self._random.choice(self._repos)
            sent = await self._github.push(repo, f"refs/heads/{self._random.choice('abcd')}")
            self._count(sent.guid, sent.status)
            await self._pause(0.2)

    async def _issues(self) -> None:
        while self._reactor.seconds() < self._until:
            self._made += 1
            guid = f"issue-{self._random.getrandbits(32):08x}-{self._made}"
            signed = delivery("issues", secret=self._server.secret or "", guid=guid, form=self._random.random() < 0.3)
            for _ in range(self._random.choice((1, 1, 1, 2))):  # now and then it comes twice
                try:
                    answer = await self._server.post(signed)
                except UNANSWERED:
                    self.refused += 1
                else:
                    self._count(guid, answer.status)
            await self._pause(0.1)

    async def _silently(self) -> None:
        while self._reactor.seconds() < self._until:
            repo, ref = self._random.choice(self._repos), f"refs/heads/silent-{self._random.choice('ab')}"
            if ref not in await self._github.refs(repo):
                await self._github.commit(repo, ref)
            elif self._random.random() < 0.5:
                await self._github.force(repo, ref)
            else:
                await self._github.delete_ref(repo, ref)
            await self._pause(0.5)

    def _count(self, guid: str, status: int | None) -> None:
        if status == 202:
            self.accepted[guid] += 1
            self.accepted_now.add(guid)
        else:
            self.refused += 1

    async def _pause(self, most: float) -> None:
        await deferLater(self._reactor, self._random.uniform(0, most))


class Stranger(Protocol):
    """A connection that says what it has to say, piece by piece, and listens to nothing."""

    def __init__(self) -> None:
        self.gone = False
        self.closed: Deferred[None] = Deferred()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone = True
        self.closed.callback(None)


class HostileLoad:
    """Forged, malformed, endless, slow and silent requests, some twenty connections at a time."""

    def __init__(self, reactor: Any, server: RunningStackit, random: Random) -> None:
        self.sent = 0
        self._reactor = reactor
        self._server = server
        self._random = random
        self._until = 0.0
        self._kinds: tuple[Callable[[], list[bytes]], ...] = (
            self._forged,
            self._silent,
            self._garbage,
            self._unsigned_and_large,
            self._one_byte_chunks,
            self._half_a_head,
            self._form,
            self._no_host,
        )

    async def run(self, seconds: float) -> None:
        """Send for so long."""
        self._until = self._reactor.seconds() + seconds
        await together(*(self._one_after_the_other() for _ in range(20)), self._admin_side())

    async def _one_after_the_other(self) -> None:
        while self._reactor.seconds() < self._until:
            await self._connection(self._random.choice(self._kinds)())
            await deferLater(self._reactor, self._random.uniform(0, 0.3))

    async def _connection(self, pieces: list[bytes]) -> None:
        endpoint = HostnameEndpoint(self._reactor, "127.0.0.1", urlsplit(self._server.url).port or 0)
        try:
            stranger = await connectProtocol(endpoint, Stranger())
        except (ConnectError, ConnectingCancelledError):
            return
        self.sent += 1
        for piece in pieces:
            if stranger.gone:
                return
            stranger.transport.write(piece)
            await deferLater(self._reactor, self._random.uniform(0, 0.05))
        await deferLater(self._reactor, self._random.choice((0, 0, 0.1, 2)))
        if not stranger.gone:
            stranger.transport.abortConnection()
            await stranger.closed

    async def _admin_side(self) -> None:
        """Odd questions where only friends ask."""
        paths = ("/metrics", "/readyz", "{prefix}/deliveries", "{prefix}/repos", "{prefix}/repos/a/b", "/%00", "/x")
        while self._reactor.seconds() < self._until:
            with contextlib.suppress(*UNANSWERED):  # it may be killed, stopped or out of descriptors
                await self._server.admin(self._random.choice(("GET", "POST")), self._random.choice(paths), b"x")
            await deferLater(self._reactor, 0.2)

    def _forged(self) -> list[bytes]:
        signed = delivery("push", secret="another secret")
        return [request(WEBHOOK, "POST", {**signed.headers, "Content-Length": str(len(signed.body))}) + signed.body]

    def _silent(self) -> list[bytes]:
        return [b"", b""]

    def _garbage(self) -> list[bytes]:
        return [self._random.randbytes(self._random.randrange(1, 3000)) + b"\r\n\r\n"]

    def _unsigned_and_large(self) -> list[bytes]:
        return [request(WEBHOOK, "POST", {"Content-Length": str(20 * 2**20)}), *[bytes(2**18)] * 8]

    def _one_byte_chunks(self) -> list[bytes]:
        head = request(WEBHOOK, "POST", {"Transfer-Encoding": "chunked", "X-Hub-Signature-256": f"sha256={'0' * 64}"})
        return [head, *[b"1\r\n{\r\n" * 2000] * 4]

    def _half_a_head(self) -> list[bytes]:
        return [b"POST ", WEBHOOK.encode(), b" HTTP/1.1\r\n", b"Host: x\r\n", b"X-A: "]

    def _form(self) -> list[bytes]:
        body = b"payload=" + b"%41" * 30_000
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))}
        return [request(WEBHOOK, "POST", {**headers, "X-Hub-Signature-256": f"sha256={'0' * 64}"}) + body]

    def _no_host(self) -> list[bytes]:
        return [b"GET /healthz HTTP/1.1\r\n\r\n", b"GET http://x/healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"]
