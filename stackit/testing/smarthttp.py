"""Git's smart HTTP protocol on a loopback port, with a real ``git upload-pack`` for each request, as hosts have it.

The protocol is the one of git's gitprotocol-http and gitprotocol-v2; who gets which status is as GitHub has it:
``401`` asks whoever is nobody, also for what is not there; ``404`` is for who may not know. ``git http-backend`` would
say the same, and start three programs for each request instead of one.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import zlib
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request as HttpRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from stackit.api.events import Repo
from stackit.api.reactor import Reactor
from stackit.subprocesses import ProcessLimits, run
from stackit.testing.bare import GIT_ENVIRONMENT
from stackit.testing.faults import Faults, send

_BIGGEST_PACK = 2**31
_ASKED = "application/x-git-upload-pack-request"
_ADVERTISED = "application/x-git-upload-pack-advertisement"
_ANSWERED = "application/x-git-upload-pack-result"
_NO_CACHE = {
    "Expires": "Fri, 01 Jan 1980 00:00:00 GMT",
    "Pragma": "no-cache",
    "Cache-Control": "no-cache, max-age=0, must-revalidate",
}
_ADVERTISEMENT = b"001e# service=git-upload-pack\n0000"
"""The line before the refs in protocol versions 0 and 1."""


class GitRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request of a git client.

    ``command`` is ``capabilities``, ``ls-refs`` or ``fetch``. ``host`` is the Host header; ``authorized`` tells
    whether credentials came with the request, right or wrong. ``caller`` is as in the API's calls, ``other`` where
    another password came. ``status`` is that of a refusal, or 200 for what git was let in to, whatever the fault.
    ``protocol`` is the Git-Protocol header, and ``compressed`` whether the body was.
    """

    repo: str
    command: str
    host: str
    authorized: bool
    caller: str
    status: int
    protocol: str
    compressed: bool


class Served(msgspec.Struct, eq=False):
    """A served repository: its path and its current fault."""

    path: Path
    faults: Faults


class GitRefused(msgspec.Struct, frozen=True):
    """A refusal, or with ``moved_to`` the way to the name that a repository has now."""

    status: int
    text: bytes
    headers: dict[str, str] = {}
    moved_to: Repo | None = None


Admit = Callable[[Repo, str | None], tuple[str, Served | GitRefused]]


class SmartHttp(Resource):
    """The resource of ``/OWNER/NAME.git``, read-only.

    ``admit`` returns who it is that came with a password (None for none), and what to serve to it of a name.
    """

    isLeaf = True

    def __init__(self, reactor: Reactor, admit: Admit) -> None:
        Resource.__init__(self)
        self.requests: deque[GitRequest] = deque(maxlen=10_000)
        self._reactor = reactor
        self._admit = admit
        self._answering: set[Deferred[None]] = set()
        self._log = Logger()

    async def stop(self) -> None:
        """End every response in progress."""
        for answering in list(self._answering):
            answering.cancel()
        await gatherResults(list(self._answering))

    def render(self, request: Request) -> int:
        answering = Deferred.fromCoroutine(self._answer(request))
        self._answering.add(answering)
        # A client that goes away ends the git that works for it.
        request.notifyFinish().addErrback(lambda _: answering.cancel())
        answering.addErrback(self._failed, request).addBoth(lambda _: self._answering.discard(answering))
        return NOT_DONE_YET

    def _failed(self, failure: Failure, request: Request) -> None:
        if failure.check(CancelledError) is None:
            self._log.failure("The pretend GitHub could not answer", failure)
            request.loseConnection()

    async def _answer(self, request: Request) -> None:
        parsed = _parse(request)
        if parsed is None:
            return send(request, 404, b"Not Found")
        repo, service_path = parsed
        body = _body(request)
        credentials = _password(request)
        caller, served = self._admit(repo, credentials)
        status = served.status if isinstance(served, GitRefused) else 200
        self.requests.append(_seen(request, repo, service_path, body, caller, status))
        if isinstance(served, GitRefused):
            headers = dict(served.headers)
            if served.moved_to is not None:
                headers["Location"] = _address(request, served.moved_to, service_path)
            return send(request, served.status, served.text, headers)
        fault = served.faults.next(request)
        if fault is not None and fault.answers_at_once:
            return fault.answer(request)
        path = served.faults.stale_path if fault is not None and fault.kind == "stale" else served.path
        status, headers, output = await self._backend(request, path, service_path, body)
        if fault is not None and fault.kind != "stale":
            return await fault.spoil(self._reactor, request, status, headers, output)
        return send(request, status, output, headers)

    async def _backend(
        self, request: Request, path: Path, service_path: str, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Run git, which reads the one request and writes its response."""
        listing = service_path == "/info/refs"
        if not listing and _header(request, "Content-Type") != _ASKED:
            return 415, {}, b"Unsupported Media Type"
        protocol = _header(request, "Git-Protocol")
        how = ["--strict", "--stateless-rpc", *(["--advertise-refs"] if listing else [])]
        done = await run(
            self._reactor,
            ["git", "upload-pack", *how, str(path)],
            env={**GIT_ENVIRONMENT, **({"GIT_PROTOCOL": protocol} if protocol else {})},
            stdin=body,
            limits=ProcessLimits(timeout=300, stdout=_BIGGEST_PACK),
        )
        first = _ADVERTISEMENT if listing and "version=2" not in protocol.split(":") else b""
        return 200, {"Content-Type": _ADVERTISED if listing else _ANSWERED, **_NO_CACHE}, first + done.stdout


def _parse(request: HttpRequest) -> tuple[Repo, str] | None:
    """Return the repository and git's own part of the path; None for a path that GitHub would not serve to git."""
    parts = request.path.decode("latin-1").split("/")
    if parts[1:2] == ["moved"]:  # where the fault "redirect" leads: the same repository
        del parts[1]
    service_path = "/" + "/".join(parts[3:])
    try:
        repo = Repo.parse(f"{parts[1]}/{parts[2].removesuffix('.git')}")
    except (IndexError, ValueError):
        return None
    listing = request.method == b"GET" and service_path == "/info/refs"
    if listing and request.args.get(b"service") == [b"git-upload-pack"]:
        return repo, service_path
    return (repo, service_path) if request.method == b"POST" and service_path == "/git-upload-pack" else None


def _address(request: Request, repo: Repo, service_path: str) -> str:
    query = request.uri.decode("latin-1").partition("?")[2]
    return f"http://{_header(request, 'Host')}/{repo}.git{service_path}" + (f"?{query}" if query else "")


def _body(request: HttpRequest) -> bytes:
    """Return the body as it was before git compressed it; empty if it is broken."""
    body = request.content.read() if request.content is not None else b""
    try:
        return gzip.decompress(body) if _header(request, "Content-Encoding") in ("gzip", "x-gzip") else body
    except (OSError, EOFError, zlib.error):
        return b""


def _seen(request: HttpRequest, repo: Repo, service_path: str, body: bytes, caller: str, status: int) -> GitRequest:
    command = "capabilities"
    if service_path == "/git-upload-pack":
        # Protocol v2 names its command; versions 0 and 1 post only to fetch.
        command = "ls-refs" if body[4:].startswith(b"command=ls-refs") else "fetch"
    return GitRequest(
        repo=repo.key,
        command=command,
        host=_header(request, "Host"),
        authorized=_password(request) is not None,
        caller=caller,
        status=status,
        protocol=_header(request, "Git-Protocol"),
        compressed=bool(_header(request, "Content-Encoding")),
    )


def _header(request: HttpRequest, name: str) -> str:
    return request.requestHeaders.getRawHeaders(name, [""])[0]


def _password(request: HttpRequest) -> str | None:
    """Return the password of Basic authentication, where GitHub expects the token; None if there is none."""
    scheme, _, encoded = _header(request, "Authorization").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(encoded).decode("utf-8").partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""
