"""``{prefix}/nodes/git/OWNER/NAME/…``: a mirror, for the gits of other nodes alone (smart HTTP, protocol v2)."""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from urllib.parse import unquote

import msgspec
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from stackit.api.errors import describe
from stackit.api.events import Repo
from stackit.api.mirrors import MirrorInfo
from stackit.api.reactor import Reactor
from stackit.http.messages import BodyStream, RequestHead, Response
from stackit.http.server.interfaces import BodySink, RequestHandler, ServerRequest
from stackit.http.server.refusals import Refusal, refusal
from stackit.peers.slots import Slots
from stackit.peers.tickets import Tickets
from stackit.subprocesses import Child, NotStarted, ProcessLimits

PATH = "/nodes/git/"
"""Behind a prefix of the API; the path of a repository follows."""
_ASKED = "application/x-git-upload-pack-request"
_ADVERTISED = "application/x-git-upload-pack-advertisement"
_ANSWERED = "application/x-git-upload-pack-result"
_NO_CACHE = {"Cache-Control": "no-store"}
_LARGEST = 48 * 2**20
"""Bytes that a request of git may have: it names each commit that it wants, 50 bytes for one."""
_BUSY = refusal("busy", 503, "this node serves as many gits of other nodes as it may", **{"Retry-After": "5"})
_NOT_FOUND = refusal("no_mirror", 404, "this node has no such mirror")
_FETCH_ONLY = refusal("method", 403, "a mirror of another node can be fetched, and nothing else")
_log = Logger(namespace="stackit")


class ServeLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much the gits of other nodes may take: ``gits`` of them at once.

    In seconds, ``patience`` is how long another one waits for its turn, ``timeout`` how long one may take, ``stall``
    how long it may be silent. ``memory`` are the bytes that each process of one may have.
    """

    gits: int = 8
    patience: float = 30.0
    timeout: float = 4 * 3600.0
    stall: float = 300.0
    memory: int = 4 * 2**30


class GitService:
    """Serves mirrors, read-only, to who has a ticket.

    ``prefixes`` are those of the API. ``incarnation`` returns that of this process, None while it has none; ``mirror``
    a mirror that is here, None where there is none. ``counts`` are the requests of gits by their result.
    """

    def __init__(
        self,
        tickets: Tickets,
        *,
        reactor: Reactor,
        prefixes: Sequence[str],
        incarnation: Callable[[], int | None],
        mirror: Callable[[Repo], MirrorInfo | None],
        limits: ServeLimits = ServeLimits(),  # noqa: B008 - frozen
    ) -> None:
        self.tickets = tickets
        self.reactor = reactor
        self.limits = limits
        self.incarnation = incarnation
        self.mirror = mirror
        self.counts = Counter(dict.fromkeys(("served", "busy", "failed", "left"), 0))
        self.slots = Slots(reactor, limits.gits, limits.patience)
        self._paths = tuple(f"{each}{PATH}" for each in prefixes)
        self._serving: set[Deferred[None]] = set()

    def find(self, path: bytes) -> RequestHandler | None:
        """Return the handler of a path; None for one that is not git's."""
        text = path.decode("latin-1")
        found = next((each for each in self._paths if text.startswith(each)), None)
        return None if found is None else _Handler(self, text.removeprefix(found))

    def serve(self, repo: MirrorInfo, stream: BodyStream, body: bytes, *, listing: bool) -> None:
        """Have a git write the answer to one request into a stream, which takes a slot until it ends.

        ``body`` is the request's. With ``listing`` git tells which refs there are, else it answers ``body``.
        """
        self.slots.enter()
        stream.when_ended(lambda _: self.slots.leave())
        serving = Deferred.fromCoroutine(self._serve(repo, stream, body, listing=listing))
        self._serving.add(serving)
        stream.when_ended(lambda _: serving.cancel())
        serving.addErrback(lambda _: self._left(stream)).addBoth(lambda _: self._serving.discard(serving))

    def _left(self, stream: BodyStream) -> None:
        """Count one who hung up, or whose stream ended by the stop."""
        self.counts["left"] += 1
        stream.break_off()

    async def stop(self) -> None:
        """End every git that works for another node, and let none begin."""
        self.slots.close()
        for serving in list(self._serving):
            serving.cancel()
        await gatherResults(list(self._serving))

    async def _serve(self, mirror: MirrorInfo, stream: BodyStream, body: bytes, *, listing: bool) -> None:
        how = ["--strict", "--stateless-rpc", *(["--advertise-refs"] if listing else [])]
        settings = ["-c", "core.hooksPath=/dev/null", "-c", "pack.threads=1"]
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": "/nonexistent",
            "LC_ALL": "C",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_PROTOCOL": "version=2",
        }
        limits = self.limits
        try:
            child = Child(
                self.reactor,
                ["git", *settings, "upload-pack", *how, os.fsencode(mirror.path)],
                environment,
                limits=ProcessLimits(timeout=limits.timeout, stall=limits.stall, memory=limits.memory),
                on_stdout=stream.write,
            )
        except (NotStarted, OSError) as problem:
            _log.error("{repo}: not served to another node: {problem}", repo=mirror.repo, problem=describe(problem))
            self.counts["failed"] += 1
            stream.break_off()
            return
        stream.pace(child.pause, child.resume)
        done = await child.communicate(body)
        if done.status == 0 and not done.timed_out:
            self.counts["served"] += 1
            stream.finish()
            return
        self.counts["failed"] += 1
        stream.break_off()
        said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        why = "it took too long" if done.timed_out else said or f"status {done.status}"
        _log.warn("{repo}: git upload-pack for another node failed: {why}", repo=mirror.repo, why=why)


class _Body(BodySink):
    """The request of a git, as it was before git compressed it. ``broken`` where it is not what it should be."""

    limit = _LARGEST
    keep = False
    throttled = False

    def __init__(self, *, compressed: bool) -> None:
        self.content = bytearray()
        self.broken = False
        self._unzip = zlib.decompressobj(16 + zlib.MAX_WBITS) if compressed else None

    def update(self, chunk: bytes) -> None:
        """Take the next piece."""
        if self.broken:
            return
        try:
            room = _LARGEST - len(self.content) + 1
            self.content += chunk if self._unzip is None else self._unzip.decompress(chunk, room)
        except zlib.error:
            self.broken = True
        self.broken = self.broken or len(self.content) > _LARGEST

    @property
    def is_whole(self) -> bool:
        """Whether it came to its end."""
        return not self.broken and (self._unzip is None or self._unzip.eof)


class _Handler:
    """The handler of one request of a git. ``path`` is that behind the prefix."""

    def __init__(self, service: GitService, path: str) -> None:
        self._service = service
        self._path, _, self._verb = path.rpartition("/")
        if self._path.endswith("/info"):
            self._path, self._verb = self._path.removesuffix("/info"), f"info/{self._verb}"
        self._mirror: MirrorInfo | None = None

    def handle_head(self, head: RequestHead, length: int | None) -> BodySink | Refusal:  # noqa: ARG002 - the interface's
        """Look at the ticket first: to others nothing is told."""
        service = self._service
        try:
            repo = Repo.parse(unquote(self._path, errors="strict"))
        except ValueError:
            return _NOT_FOUND
        scheme, _, ticket = _only(head, b"authorization").partition(" ")
        if scheme.lower() != "bearer" or not service.tickets.is_valid(ticket, repo.key, service.incarnation()):
            return refusal("not_known", 401, "this is for the gits of other nodes", **{"WWW-Authenticate": "Bearer"})
        if (head.method, self._verb) not in ((b"GET", "info/refs"), (b"POST", "git-upload-pack")):
            return _FETCH_ONLY
        # Before a large request git sends an empty one, without this header.
        if head.method == b"GET" and "version=2" not in _only(head, b"git-protocol").split(":"):
            return refusal("protocol", 400, "git's protocol version 2 is spoken here, and no other")
        if head.method == b"POST" and _only(head, b"content-type") != _ASKED:
            return refusal("content_type", 415, f"expected {_ASKED}")
        self._mirror = service.mirror(repo)
        if self._mirror is None or not self._mirror.exists:
            return _NOT_FOUND
        if service.slots.is_full:
            service.counts["busy"] += 1
            return _BUSY
        return _Body(compressed=_only(head, b"content-encoding") in ("gzip", "x-gzip"))

    def handle_request(self, request: ServerRequest) -> None:
        """Answer with what git says."""
        service, sink, mirror = self._service, request.body_sink, self._mirror
        if mirror is None:
            request.answer(_NOT_FOUND.response)
            return
        listing = self._verb == "info/refs"
        if not listing and not sink.is_whole:
            request.answer(refusal("body", 400, "the request of git cannot be read").response)
            return
        if listing and request.target.partition(b"?")[2] != b"service=git-upload-pack":
            request.answer(_FETCH_ONLY.response)
            return

        def write(stream: BodyStream) -> None:
            service.serve(mirror, stream, b"" if listing else bytes(sink.content), listing=listing)

        kind = _ADVERTISED if listing else _ANSWERED
        answer = Response(content_type=kind, headers=_NO_CACHE, stream=write)
        service.slots.ask(lambda: request.answer(answer), lambda: self._give_up(request))

    def _give_up(self, request: ServerRequest) -> None:
        self._service.counts["busy"] += 1
        request.answer(_BUSY.response)


def _only(head: RequestHead, name: bytes) -> str:
    values = head.headers.get(name, ())
    return values[0].decode("latin-1").strip() if len(values) == 1 else ""
