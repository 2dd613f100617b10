"""A harness for the mirror plugin in tests: a pretend stackit around it, real git behind it."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet import protocol
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.web.http import Request as HttpRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from stackit import AdminRequest, App, ManagedRepo, Occurrence, Push, RefChange, Repo, Repos, Response
from stackit.bus.timeouts import call
from stackit.plugins.mirror import Mirror, MirrorSettings
from stackit.plugins.mirror.repository.disk_space import free_bytes
from stackit.plugins.mirror.sync.tunables import Tunables
from stackit.subprocesses import run

ZERO = "0" * 40
ENV = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}


def git(directory: Path, *arguments: str | bytes | Path, stdin: bytes = b"") -> str:
    """Run git in the repository at ``directory``; its output, stripped."""
    done = subprocess.run(
        ["/usr/bin/git", "-C", directory, *arguments], input=stdin, env=ENV, capture_output=True, check=True
    )
    return os.fsdecode(done.stdout).strip()


def end_git(mirror: Path) -> None:
    """End every git at work for a mirror, as the kernel does when memory is short. Readers are left alone."""
    directory = os.fsencode(mirror)
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            arguments = (process / "cmdline").read_bytes().split(b"\0")
            variables = (process / "environ").read_bytes().split(b"\0")
            if b"--git-dir=" + directory in arguments or b"GIT_DIR=" + directory in variables:
                os.kill(int(process.name), 9)


class Upstream:
    """A bare repository to mirror."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        git(directory, "init", "--quiet", "--bare", "--initial-branch=main")
        git(directory, "config", "http.receivepack", "true")
        self._tree = git(directory, "hash-object", "-t", "tree", "-w", "--stdin")
        self._count = 0

    @property
    def url(self) -> str:
        return f"file://{self.directory}"

    def commit(self, *parents: str) -> str:
        """A new commit, on no branch yet."""
        self._count += 1
        listed = [part for parent in parents for part in ("-p", parent)]
        return git(self.directory, "commit-tree", self._tree, "-m", f"commit {self._count}", *listed)

    def set(self, ref: str, oid: str) -> None:
        git(self.directory, "update-ref", os.fsencode(ref), oid)

    def delete(self, ref: str) -> None:
        git(self.directory, "update-ref", "-d", os.fsencode(ref))

    def advance(self, ref: str = "refs/heads/main") -> str:
        """A new commit on a branch; returns it."""
        there = self.refs().get(ref)
        oid = self.commit(*([there] if there else []))
        self.set(ref, oid)
        return oid

    def refs(self) -> dict[str, str]:
        return refs(self.directory)


def refs(directory: Path) -> dict[str, str]:
    """All refs of a repository, asked of git."""
    listed = git(directory, "for-each-ref", "--format=%(objectname) %(refname)")
    return {line.split(" ", 1)[1]: line.split(" ", 1)[0] for line in listed.splitlines()}


def versions(directory: Path, size: int, count: int) -> list[str]:
    """Commits of a large file that does not compress, each with another line in it, kept as deltas of the one before.

    The first is where main is, and the others are on no branch yet.
    """
    content = bytearray(random.Random(1).randbytes(size))
    stream = []
    for number in range(count):
        content[100 * number : 100 * number + 10] = b"%010d" % number
        stream.append(
            b"commit refs/heads/made\nmark :%d\ncommitter a <a@example.org> 1700000000 +0000\n" % (number + 1)
        )
        stream.append(b"data 1\nxM 100644 inline large\ndata %d\n%b\n" % (size, bytes(content)))
    marks = directory / "marks"
    settings = ("-c", "fastimport.unpackLimit=0")
    git(
        directory, *settings, "fast-import", "--quiet", "--depth=250", f"--export-marks={marks}", stdin=b"".join(stream)
    )
    made = dict(line.split() for line in marks.read_text().splitlines())
    git(directory, "update-ref", "-d", "refs/heads/made")
    git(directory, "update-ref", "refs/heads/main", made[":1"])
    return [made[f":{number + 1}"] for number in range(count)]


class Harness:
    """A mirror plugin that runs, and all that it said."""

    def __init__(
        self,
        state: Path,
        *managed: ManagedRepo,
        grace: float = 0,
        interval: float = 300,
        tunables: Tunables = Tunables(),  # noqa: B008 - frozen
        free: Callable[[Path], int] = free_bytes,
        **settings: Any,
    ) -> None:
        from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

        self.reactor: Any = reactor
        self.ahead = 0.0  # seconds by which somebody set the wall clock
        self.state = state
        self.told: dict[str, dict[str, str]] = {}
        self.announcements: list[tuple[str, tuple[RefChange, ...], str, str | None]] = []
        self.occurrences: list[Occurrence] = []
        self.seen: dict[str, float] = {}
        self.unannounced: list[Exception] = []  # raised instead of what is announced next
        self.app = App(
            reactor=reactor,
            version="0",
            state_dir=state,
            repos=Repos(managed),
            sync_interval=interval,
            grace=grace,
            observe=self.occurrences.append,
            announced=self._announced,
            announce=self._announce,
            visible=self._visible,
            pending=dict,
            now=lambda: time.time() + self.ahead,
        )
        self.adapt()
        self.mirror = Mirror(MirrorSettings(**settings), tunables=tunables, free=free)
        service: Any = self.mirror.stackit_service(self.app)
        self.service = service
        self.service.startService()

    def adapt(self) -> None:
        """Change the app before the plugin gets it, in a harness of a special kind."""

    async def _announced(self, repo: Repo) -> Mapping[str, str]:
        return dict(self.told.get(repo.key, {}))

    async def _announce(self, repo: Repo, changes: tuple[RefChange, ...], cause: str, delivery: str | None) -> None:
        if self.unannounced:
            raise self.unannounced.pop()
        self.announcements.append((repo.key, changes, cause, delivery))
        held = self.told.setdefault(repo.key, {})
        for change in changes:
            assert held.get(change.ref, ZERO).strip("0") == change.old.strip("0")
            if change.kind == "deleted":
                del held[change.ref]
            else:
                held[change.ref] = change.new

    async def _visible(self, event_id: str, moment: float) -> bool:
        return self.seen.setdefault(event_id, moment) == moment

    def path(self, name: str = "octo/widget") -> Path:
        return self.state / "mirrors" / f"{name}.git"

    def named(self, name: str) -> list[Occurrence]:
        return [each for each in self.occurrences if each.name == name]

    def fetches(self, name: str = "octo/widget") -> list[Occurrence]:
        return [each for each in self.named("synced") if str(each.repo) == name]

    def push(self, event: Push) -> Deferred[None]:
        done: Deferred[None] = call(self.mirror.push, event)
        return done

    def reactor_turn(self) -> Deferred[None]:
        """Fires when the reactor has been round once."""
        turned: Deferred[None] = Deferred()
        self.reactor.callLater(0, turned.callback, None)
        return turned

    async def backstop(self) -> None:
        await self.mirror.stackit_backstop()

    def worker(self, name: str = "octo/widget") -> Any:
        assert self.mirror._mirrors is not None
        return self.mirror._mirrors.worker(name.lower())

    def give_up_after(self, seconds: float, name: str = "octo/widget") -> None:
        """Give each further git of a repository so many seconds: on a busy machine, few for one that is well."""
        self.worker(name)._refresher._supervised_git.timeout = seconds

    def stop(self) -> Deferred[None]:
        stopped: Deferred[None] = self.service.stopService()
        return stopped


def managed(upstream: Upstream | str, name: str = "octo/widget", **more: Any) -> ManagedRepo:
    url = upstream if isinstance(upstream, str) else upstream.url
    return ManagedRepo(repo=Repo.parse(name), url=url, **more)


async def ask(harness: Harness, method: str, path: str, accept: str | None = None, **args: str) -> Response:
    """Ask an admin route of the mirrors."""
    for route in harness.mirror.stackit_routes(harness.app):
        if (route.method, route.path) == (method, path):
            query = {} if accept is None else {"accept": accept}
            request = AdminRequest(method=method, path=path, args=args, query=query, body=b"")
            answer: Response = await call(route.handler, request)
            return msgspec.structs.replace(answer, body=msgspec.to_builtins(answer.body))
    raise AssertionError(f"no route {method} {path}")


_numbers = itertools.count(1)


def pushed(
    harness: Harness,
    before: str | None,
    after: str | None,
    ref: str | None = "refs/heads/main",
    name: str = "octo/widget",
) -> Push:
    """The event of a push that stackit received just now."""
    number = next(_numbers)
    return Push(
        name="push",
        id=f"id-{number}",
        delivery=f"delivery-{number}",
        received_at=harness.app.now(),
        body=b"{}",
        repo=Repo.parse(name),
        ref=ref,
        before=before,
        after=after,
    )


def body_of(request: HttpRequest) -> bytes:
    """The body of a request, which can be read again."""
    content: Any = request.content
    body: bytes = content.read()
    content.seek(0)
    return body


class GitHttp(Resource):
    """git's own smart HTTP server, with the faults a test asks for."""

    isLeaf = True

    def __init__(self, reactor: Any, root: Path, tls: Any = None) -> None:
        """``tls`` are Twisted's options of a server."""
        Resource.__init__(self)
        self._reactor = reactor
        self._root = root
        self.token: str | None = None
        self.bearer: str | None = None
        self.status: int | None = None
        self.redirect: str | None = None
        self.hang_on: bytes | None = None
        self.cut: int | None = None
        self.said_too = b""
        self._hanging: list[HttpRequest] = []
        self._serving: set[Deferred[None]] = set()
        self.asked: list[tuple[str, str | None]] = []
        self.authorizations: list[str | None] = []
        site = Site(self, parsePOSTFormSubmission=False)
        self._scheme = "http" if tls is None else "https"
        if tls is None:
            self._port = reactor.listenTCP(0, site, interface="127.0.0.1")
        else:
            self._port = reactor.listenSSL(0, site, tls, interface="127.0.0.1")

    def url(self, name: str) -> str:
        return f"{self._scheme}://127.0.0.1:{self._port.getHost().port}/{name}"

    def render(self, request: HttpRequest) -> int | bytes:
        password = request.getPassword().decode() if request.getPassword() else None
        self.asked.append((request.path.decode(), password))
        self.authorizations.append(request.getHeader("authorization"))
        request.setHeader("connection", "close")
        if self.redirect is not None:
            request.redirect(self.redirect.encode() + request.uri)
            return b""
        if self.status is not None:
            request.setResponseCode(self.status)
            return b""
        if (self.token is not None and password != self.token) or (
            self.bearer is not None and self.authorizations[-1] != f"Bearer {self.bearer}"
        ):
            request.setResponseCode(401)
            request.setHeader("www-authenticate", 'Basic realm="git"')
            return b""
        asked_for = body_of(request)
        if self.hang_on is not None and self.hang_on in asked_for:
            self._hanging.append(request)
            return NOT_DONE_YET
        serving = Deferred.fromCoroutine(self._serve(request, asked_for))
        self._serving.add(serving)

        def ended(outcome: Any) -> Any:
            self._serving.discard(serving)
            return outcome

        serving.addBoth(ended)
        return NOT_DONE_YET

    async def _serve(self, request: HttpRequest, asked_for: bytes) -> None:
        path, _, query = request.uri.decode().partition("?")
        env = ENV | {
            "GIT_PROJECT_ROOT": str(self._root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": request.method.decode(),
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": request.getHeader("content-type") or "",
            "HTTP_CONTENT_ENCODING": request.getHeader("content-encoding") or "",
            "GIT_PROTOCOL": request.getHeader("git-protocol") or "",
        }
        left: list[object] = []
        request.notifyFinish().addErrback(left.append)
        done = await run(self._reactor, ["git", "http-backend"], env=env, stdin=asked_for)
        if left:
            return
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        if not head:  # the repository went away meanwhile
            request.setResponseCode(500)
        for line in head.split(b"\r\n") if head else ():
            name, _, value = line.partition(b": ")
            if name == b"Status":
                request.setResponseCode(int(value.split()[0]))
            else:
                request.setHeader(name, value)
        if self.said_too and b"command=ls-refs" in asked_for:
            body = body.removesuffix(b"0000") + self.said_too + b"0000"
        if self.cut is not None and len(body) > self.cut:
            request.setHeader("content-length", str(len(body)))
            request.write(body[: self.cut])
            transport: Any = request.transport
            transport.loseConnection()
            return
        request.write(body)
        request.finish()

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        """Listen no more, and wait for the gits that still answer."""
        await maybeDeferred(self._port.stopListening)
        await DeferredList(list(self._serving))


class Silent(protocol.Protocol):
    """A remote that accepts the connection and then says nothing."""

    transport: Any  # a zope interface, which mypy does not know

    def connectionMade(self) -> None:
        self.factory.peers.append(self)


class SilentRemote(protocol.Factory):
    protocol = Silent

    def __init__(self, reactor: Any) -> None:
        self.peers: list[Any] = []
        self._port = reactor.listenTCP(0, self, interface="127.0.0.1")
        self.url = f"http://127.0.0.1:{self._port.getHost().port}/octo/hung.git"

    def stop(self) -> Deferred[None]:
        for peer in self.peers:
            peer.transport.abortConnection()
        return maybeDeferred(self._port.stopListening)
