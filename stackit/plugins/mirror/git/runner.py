"""git as a child process: every argument, the whole environment, and what its errors mean."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec

from stackit import ManagedRepo, Reactor
from stackit.plugins.mirror.git.access import token_settings, variables, web_host
from stackit.plugins.mirror.git.diagnosis import Answered, heard, kind_of, left_out, no_git, reason
from stackit.plugins.mirror.git.errors import GitError, GitErrorKind
from stackit.plugins.mirror.refs.listing import Listing, is_object_id
from stackit.plugins.mirror.refs.refspecs import for_git
from stackit.secrets.redactor import Redact, Redactor
from stackit.subprocesses.child import COLLECTED, STDERR_LIMIT, Child, Finished, run
from stackit.subprocesses.spawn import NotStarted

# What a network needs is the machine's; everything else would let a variable of somebody's shell
# decide which repository is fetched, and how.
_INHERITED = (
    "PATH",
    "https_proxy",
    "HTTPS_PROXY",
    "http_proxy",
    "no_proxy",
    "NO_PROXY",
)

_SETTINGS = (
    "core.hooksPath=/dev/null",
    "gc.auto=0",  # never beside a fetch: it may delete what the fetch relies on
    "maintenance.auto=false",
    "protocol.version=2",
    "http.followRedirects=false",  # a redirect is news about the repository, and credentials do not travel along
    "credential.helper=",  # forgets every helper named so far
)

BRANCHES = "+refs/heads/*:refs/heads/*"
"""The refspec that every clone has."""
TAGS = "+refs/tags/*:refs/tags/*"
"""The one that it has if it is not told otherwise."""

OLDEST = (2, 31)
"""The first git whose fetch has --atomic."""

TOO_MANY_REFS = "the remote's list of refs is larger than stackit reads"

_LOCAL_TIMEOUT = 300.0
_LISTING_LIMIT = 256 * 1024 * 1024
_NONE: Mapping[str, str] = MappingProxyType({})


class Fetched(msgspec.Struct, frozen=True):
    """How a fetch ended that git calls a success.

    ``warnings``: what git said about refs that it left out, in lines; "" where nothing. ``certain``: the remote
    answered in git's protocol; what does not may be any page, in which git sees no refs.
    """

    warnings: str
    certain: bool


class Git:
    """Runs git with nothing but its own settings. ``home`` is an empty directory for it to call home.

    ``redact`` takes the credentials out of what it says, which may be a remote's words. ``now`` is the wall clock;
    ``most_memory`` is how many bytes of memory each git may have, 0 for as many as there are.
    """

    def __init__(
        self,
        reactor: Reactor,
        home: Path,
        redact: Redact,
        *,
        now: Callable[[], float] = time.time,
        most_memory: int = 0,
    ) -> None:
        self._reactor = reactor
        self._most_memory = most_memory
        self._now = now
        self._home = home
        self._redact = redact

    def waiting(self, directory: Path, *arguments: str | bytes, variables: Mapping[str, str] = _NONE) -> Waiting:
        """Start git in the repository at ``directory``, before there is anything for it to read. Raises GitError.

        ``variables`` are added to its environment.
        """
        try:
            child = Child(
                self._reactor,
                _in(directory, arguments),
                {**environment(self._home, None), **variables},
                timeout=_LOCAL_TIMEOUT,
                limit=_LISTING_LIMIT,
                most_memory=self._most_memory,
            )
        except NotStarted as problem:
            raise GitError(str(problem)) from None
        return Waiting(child, self._looked_at)

    async def local(
        self,
        directory: Path,
        *arguments: str | bytes,
        stdin: bytes = b"",
        ok: tuple[int, ...] = (0,),
        timeout: float = _LOCAL_TIMEOUT,  # noqa: ASYNC109 - it must end a process group, not a coroutine
        variables: Mapping[str, str] = _NONE,
    ) -> Finished:
        """Run git in the repository at ``directory``. Raises GitError for a status that is not ``ok``.

        ``variables`` are added to its environment.
        """
        finished = await run(
            self._reactor,
            _in(directory, arguments),
            env={**environment(self._home, None), **variables},
            stdin=stdin,
            timeout=timeout,
            limit=_LISTING_LIMIT,
            most_memory=self._most_memory,
        )
        return self._looked_at(finished, ok)

    async def fetch(
        self,
        directory: Path,
        managed: ManagedRepo,
        *,
        timeout: float,  # noqa: ASYNC109 - it must end a process group, not a coroutine
        stall: float,
        on_progress: Callable[[bytes], None],
        only: Sequence[str] = (),
        tips: Sequence[str] = (),
    ) -> Fetched:
        """Create and move refs at ``directory`` as the remote has them, within the refspecs; delete none.

        ``only`` these refspecs, if any. git tells the remote that it has ``tips``, or if there are none, all its
        refs. Objects come first, then all refs in one step, or none. Raises GitError; refs may have moved all the same.
        """
        arguments = (
            f"--git-dir={directory}",
            "fetch",
            "--atomic",
            "--no-auto-maintenance",
            "--no-write-fetch-head",
            "--no-tags",  # they are in the refspecs; following them would ask for refs/tags/ a second time
            "--no-recurse-submodules",
            "--progress",
            *(f"--negotiation-tip={tip}" for tip in tips),
            "--",
            managed.url,
            *(only or for_git(managed.refspecs)),
        )
        _, said, answered = await self._remote(managed, arguments, timeout=timeout, stall=stall, on_stderr=on_progress)
        return Fetched(left_out(said), answered.page is None or answered.page.smart)

    async def clone(
        self,
        directory: Path,
        managed: ManagedRepo,
        *,
        timeout: float,  # noqa: ASYNC109 - as above
        stall: float,
        on_progress: Callable[[bytes], None],
    ) -> None:
        """Make a mirror where nothing is, by refspecs that ``BRANCHES`` is one of; HEAD is as the remote has it.

        A clone writes all refs into one file, where a fetch makes a file for each. Raises GitError.
        """
        # It brings branches and tags by itself, and sorted: what comes unsorted takes it n² steps.
        others = (refspec for refspec in managed.refspecs if refspec not in (BRANCHES, TAGS))
        arguments = (
            # With clone's own --config, they would stay in the settings.
            *_configured(*(f"remote.origin.fetch={refspec}" for refspec in others)),
            "clone",
            "--bare",
            "--template=",
            "--no-local",  # never share files with a repository on this machine
            "--tags" if TAGS in managed.refspecs else "--no-tags",
            "--progress",
            "--",
            managed.url,
            str(directory),
        )
        await self._remote(managed, arguments, timeout=timeout, stall=stall, on_stderr=on_progress, otherwise="mirror")
        await self.local(directory, "config", "--remove-section", "remote.origin")

    async def listing(self, managed: ManagedRepo, *, timeout: float) -> Listing:  # noqa: ASYNC109 - as above
        """Every ref of the remote, and the one that its HEAD names. Raises GitError, also for what is no such list."""
        arguments = ("ls-remote", "--symref", "--", managed.url)
        listed, _, answered = await self._remote(managed, arguments, timeout=timeout)
        if listed.truncated:
            raise GitError(TOO_MANY_REFS, kind="remote")
        refs: dict[bytes, str] = {}
        head = tip = None
        for line in listed.stdout.splitlines():
            oid, _, name = line.partition(b"\t")
            if oid.startswith(b"ref: ") and name == b"HEAD":
                head = oid.removeprefix(b"ref: ")
            elif name == b"HEAD":
                tip = oid.decode("ascii", "replace")
            elif name.startswith(b"refs/") and not name.endswith(b"^{}"):
                refs[name] = oid.decode("ascii", "replace")
        # A dumb server sends a file, and git takes any page for one that has no line with a ref in it.
        page = answered.page
        if page is not None and not page.smart and not (refs and all(map(is_object_id, refs.values()))):
            raise GitError(no_git(page), kind="remote")
        # In protocol v2, git asks for the refs by a second request.
        return Listing(refs, head, None if page is None else page.smart and answered.posted, tip)

    async def _remote(
        self,
        managed: ManagedRepo,
        arguments: tuple[str, ...],
        *,
        timeout: float,  # noqa: ASYNC109 - as above
        stall: float | None = None,
        on_stderr: Callable[[bytes], None] | None = None,
        otherwise: GitErrorKind = "remote",
    ) -> tuple[Finished, str, Answered]:
        """Run git; returns how it ended, what it said, and what the remote answered. Raises GitError.

        ``otherwise`` is the kind of trouble that it is where git's words do not tell.
        """
        token = managed.token()
        settings, secret = token_settings(managed, token)
        finished = await run(
            self._reactor,
            ["git", *_configured(*_SETTINGS, *settings), *arguments],
            env=environment(self._home, managed.url) | variables(managed, self._home, os.environ),
            secret=secret,
            timeout=timeout,
            stall=stall,
            limit=_LISTING_LIMIT,
            most_memory=self._most_memory,
            on_stderr=on_stderr,
        )
        # The file of the token may be another one by now than the redactor knows.
        used = Redactor([] if token is None else [token])

        def redact(text: str) -> str:
            return self._redact(used(text))

        if finished.status != 0:
            raise _error(finished, redact, self._now(), managed.url, otherwise)
        said, answered = heard(finished.stderr.decode("utf-8", "replace"), self._now(), redact)
        return finished, said, answered

    def _looked_at(self, finished: Finished, ok: tuple[int, ...]) -> Finished:
        if finished.status not in ok or finished.timed_out or finished.truncated:
            raise _error(finished, self._redact, self._now())
        return finished


class Waiting:
    """A git that runs already, and waits for what it is to read."""

    def __init__(self, child: Child, looked_at: Callable[[Finished, tuple[int, ...]], Finished]) -> None:
        self._child = child
        self._looked_at = looked_at

    async def given(self, stdin: bytes) -> Finished:
        """Let it read this, and wait for its end. Raises GitError for a status that is not 0."""
        return self._looked_at(await self._child.given(stdin), (0,))

    async def dismissed(self) -> None:
        """End it, and wait until it is gone."""
        await self._child.dismissed()


def too_old(program: str) -> str | None:
    """What is wrong with the git at this path; None where it will do. Blocks for some milliseconds."""
    done = subprocess.run([program, "version"], env={"LC_ALL": "C"}, capture_output=True, check=False)
    found = re.match(rb"git version ((\d+)\.(\d+)\S*)", done.stdout)
    if found is None:
        return f"{program} does not say which version of git it is"
    if (int(found[2]), int(found[3])) < OLDEST:
        return f"git {found[1].decode('ascii', 'replace')} is too old: stackit needs {OLDEST[0]}.{OLDEST[1]} or newer"
    return None


def environment(home: Path, url: str | None) -> dict[str, str]:
    """The environment of a git that talks to ``url`` (None: to nobody), but for what is the remote's own."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    # git says nowhere else what headers came, such as Retry-After. It leaves the credentials out.
    trace = {"GIT_TRACE_CURL": "1", "GIT_TRACE_CURL_NO_DATA": "1"} if url is not None and web_host(url) else {}
    return (
        inherited
        | trace
        | {
            "HOME": str(home),
            "LC_ALL": "C",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_NO_REPLACE_OBJECTS": "1",  # a remote may have refs/replace/, and what it says there is not so
            "GIT_ALLOW_PROTOCOL": _scheme(url) if url is not None else "",
        }
    )


def _in(directory: Path, arguments: Sequence[str | bytes]) -> list[str | bytes]:
    # --git-dir, because without it git would look for a repository in the parents of a broken one.
    return ["git", *_configured(*_SETTINGS), b"--git-dir=" + os.fsencode(directory), *arguments]


def _configured(*settings: str) -> list[str]:
    return [part for setting in settings for part in ("-c", setting)]


def _scheme(url: str) -> str:
    scheme, separator, _ = url.partition("://")
    if separator:
        return scheme
    # "host:path" is ssh, unless a slash before the colon makes it a path.
    return "ssh" if ":" in url.partition("/")[0] else "file"


def _error(
    finished: Finished, redact: Redact, now: float, url: str | None = None, otherwise: GitErrorKind = "mirror"
) -> GitError:
    """``url`` is that of the remote which was asked, if any was."""
    stderr = finished.stderr
    if len(stderr) >= STDERR_LIMIT:
        stderr = stderr.partition(b"\n")[2]  # of its first line, the beginning is not here
    said, answered = heard(stderr.decode("utf-8", "replace"), now, redact)
    if finished.timed_out:
        return GitError("no progress in time, or far too slow: git was ended", stderr=said, kind="stalled", killed=True)
    if finished.truncated:
        large: GitErrorKind = "mirror" if url is None else "remote"
        return GitError("git's answer is larger than stackit reads", stderr=said, kind=large)
    if finished.status is None:
        # Perhaps it was killed; of the remote's trouble or the mirror's, nothing is known.
        return GitError(f"git ended, but {COLLECTED}", stderr=said, kind="remote", killed=True)
    if finished.status < 0:
        return GitError(f"git was killed by signal {-finished.status}", stderr=said, kind="remote", killed=True)
    kind = kind_of(said, answered, otherwise)
    retry_after = answered.retry_after if kind == "throttled" else None
    scheme = "" if url is None else _scheme(url)
    text = reason(kind, said, answered, finished.status, scheme)
    return GitError(text, stderr=said, kind=kind, retry_after=retry_after)
