"""Run git as a child process: in a mirror, or with its remote."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec

from stackit import ManagedRepo, Reactor, Redactor
from stackit.plugins.mirror.git.access import remote_environment, token_settings
from stackit.plugins.mirror.git.command import as_options, command, command_in, environment, url_scheme
from stackit.plugins.mirror.git.diagnosis import classify, explain, find_warnings, is_exhausted, not_git_reason
from stackit.plugins.mirror.git.errors import GitError, GitErrorKind
from stackit.plugins.mirror.git.http_trace import HttpAnswer, parse_stderr
from stackit.plugins.mirror.git.ls_remote import is_plausible, parse_ls_remote
from stackit.plugins.mirror.refs.listing import Listing
from stackit.plugins.mirror.refs.refspecs import for_git
from stackit.subprocesses import COLLECTED, STDERR_LIMIT, Child, Finished, NotStarted, ProcessLimits, run

BRANCHES = "+refs/heads/*:refs/heads/*"
"""The refspec that every ``git clone --bare`` has."""
TAGS = "+refs/tags/*:refs/tags/*"
"""The refspec that ``--no-tags`` takes from it."""

TOO_MANY_REFS = "the remote's list of refs is larger than stackit reads"

Redact = Callable[[str], str]

_LOCAL_TIMEOUT = 300.0
_OUTPUT_LIMIT = 256 * 1024 * 1024
_NONE: Mapping[str, str] = MappingProxyType({})


class Fetched(msgspec.Struct, frozen=True):
    """The result of a successful fetch.

    ``warnings``: git's lines about refs that it left out, "" without any. ``certain``: the remote answered in git's
    protocol; git takes any other page for a remote without refs.
    """

    warnings: str
    certain: bool


class Git:
    """Runs git with our settings only. ``home`` is an empty directory, which git gets as its home.

    ``redact`` removes credentials from git's messages, which may repeat the remote's. ``now`` is the wall clock.
    ``most_memory`` is the limit of each git in bytes, 0 for none.
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
        self.most_memory = most_memory
        self._now = now
        self._home = home
        self._redact = redact

    def prestart(
        self, directory: Path, *arguments: str | bytes, variables: Mapping[str, str] = _NONE
    ) -> PrestartedProcess:
        """Start git in the repository at ``directory`` before its input is there. Raises GitError.

        ``variables`` are added to its environment.
        """
        try:
            child = Child(
                self._reactor,
                command_in(directory, arguments),
                {**environment(self._home, None), **variables},
                limits=self._limits(_LOCAL_TIMEOUT),
            )
        except NotStarted as problem:
            raise GitError(str(problem)) from None
        return PrestartedProcess(child, self._checked)

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

        A failure for want of memory or room on the disk is raised whatever its status: git's answer means nothing then.
        ``variables`` are added to its environment.
        """
        finished = await run(
            self._reactor,
            command_in(directory, arguments),
            env={**environment(self._home, None), **variables},
            stdin=stdin,
            limits=self._limits(timeout),
        )
        return self._checked(finished, ok)

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

        ``only``: the refspecs to fetch in place of all. ``tips``: object ids that git offers to the remote as present,
        in place of all refs. git writes the objects first, then all refs in one step or none. Raises GitError; refs may
        have moved all the same.
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
        _, said, answer = await self._remote(managed, arguments, timeout=timeout, stall=stall, on_stderr=on_progress)
        return Fetched(find_warnings(said), answer.advertisement is None or answer.advertisement.smart)

    async def clone(
        self,
        directory: Path,
        managed: ManagedRepo,
        *,
        timeout: float,  # noqa: ASYNC109 - as above
        stall: float,
        on_progress: Callable[[bytes], None],
    ) -> None:
        """Make a mirror at ``directory``, which must not exist, with refspecs that include ``BRANCHES``.

        HEAD is the remote's. All refs are in one file, where a fetch makes a file for each. Raises GitError.
        """
        # Branches and tags come by themselves, and sorted: git takes n² steps for refs that come unsorted.
        others = (refspec for refspec in managed.refspecs if refspec not in (BRANCHES, TAGS))
        arguments = (
            # With clone's own --config, they would stay in the repository's configuration.
            *as_options(*(f"remote.origin.fetch={refspec}" for refspec in others)),
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
        """List all refs of the remote, and the target of its HEAD. Raises GitError, also for a page that is no list."""
        arguments = ("ls-remote", "--symref", "--", managed.url)
        listed, _, answer = await self._remote(managed, arguments, timeout=timeout)
        if listed.truncated:
            raise GitError(TOO_MANY_REFS, kind="remote")
        listing = parse_ls_remote(listed.stdout)
        page = answer.advertisement
        if page is None:
            return listing
        if not page.smart and not is_plausible(listing):
            raise GitError(not_git_reason(page), kind="remote")
        # In protocol v2, git asks for the refs by a second request.
        return msgspec.structs.replace(listing, by_v2=page.smart and answer.posted)

    async def _remote(
        self,
        managed: ManagedRepo,
        arguments: tuple[str, ...],
        *,
        timeout: float,  # noqa: ASYNC109 - as above
        stall: float | None = None,
        on_stderr: Callable[[bytes], None] | None = None,
        otherwise: GitErrorKind = "remote",
    ) -> tuple[Finished, str, HttpAnswer]:
        """Run git with the remote; return its result, its messages, and the remote's HTTP answer. Raises GitError.

        ``otherwise`` is the kind of an error whose messages do not tell it. Where the remote refuses a token, and its
        source says that another try makes sense, git runs again.
        """
        source = managed.token_source
        while True:
            if source is not None:
                await source.ready()
            token = managed.token()
            try:
                found = await self._with_token(managed, token, arguments, timeout, stall, on_stderr, otherwise)
                if source is not None and token is not None:
                    source.accepted(token)
                return found
            except GitError as problem:
                refused = problem.kind in ("forbidden", "gone") and problem.status in (401, 403, 404)
                if not refused or source is None or token is None:
                    raise
                if not await source.rejected(token, problem.status or 0):
                    raise

    async def _with_token(
        self,
        managed: ManagedRepo,
        token: str | None,
        arguments: tuple[str, ...],
        timeout: float,  # noqa: ASYNC109 - as above
        stall: float | None,
        on_stderr: Callable[[bytes], None] | None,
        otherwise: GitErrorKind,
    ) -> tuple[Finished, str, HttpAnswer]:
        settings, secret = token_settings(managed, token)
        finished = await run(
            self._reactor,
            command(*arguments, settings=settings),
            env=environment(self._home, managed.url) | remote_environment(managed, self._home, os.environ),
            secret=secret,
            limits=self._limits(timeout, stall),
            on_stderr=on_stderr,
        )
        # The token file may have been replaced since, so the redactor of the files may not know this token.
        used = Redactor([] if token is None else [token])

        def redact(text: str) -> str:
            return self._redact(used(text))

        if finished.status != 0:
            raise _error(finished, redact, self._now(), managed, otherwise)
        said, answer = parse_stderr(finished.stderr.decode("utf-8", "replace"), self._now(), redact)
        return finished, said, answer

    def _limits(self, timeout: float, stall: float | None = None) -> ProcessLimits:
        return ProcessLimits(timeout=timeout, stall=stall, stdout=_OUTPUT_LIMIT, memory=self.most_memory)

    def _checked(self, finished: Finished, ok: tuple[int, ...]) -> Finished:
        failed = finished.status not in ok or finished.timed_out or finished.truncated
        if failed or (finished.status != 0 and is_exhausted(finished.stderr.decode("utf-8", "replace"))):
            raise _error(finished, self._redact, self._now())
        return finished


class PrestartedProcess:
    """A git that runs, and waits for its input."""

    def __init__(self, child: Child, checked: Callable[[Finished, tuple[int, ...]], Finished]) -> None:
        self._child = child
        self._checked = checked

    async def finish(self, stdin: bytes) -> Finished:
        """Give it all of its input, and wait for its end. Raises GitError for a status that is not 0."""
        return self._checked(await self._child.communicate(stdin), (0,))

    async def kill(self) -> None:
        """End it without input, and wait for its end."""
        await self._child.close()


def _error(
    finished: Finished,
    redact: Redact,
    now: float,
    managed: ManagedRepo | None = None,
    otherwise: GitErrorKind = "mirror",
) -> GitError:
    """Return the error for a git that failed; ``managed`` is the repository whose remote it talked to, if any."""
    stderr = finished.stderr
    if len(stderr) >= STDERR_LIMIT:
        stderr = stderr.partition(b"\n")[2]  # the beginning of the first line was cut
    said, answer = parse_stderr(stderr.decode("utf-8", "replace"), now, redact)
    if finished.timed_out:
        return GitError("no progress in time, or far too slow: git was ended", stderr=said, kind="stalled", killed=True)
    if finished.truncated:
        large: GitErrorKind = "mirror" if managed is None else "remote"
        return GitError("git's answer is larger than stackit reads", stderr=said, kind=large)
    if finished.status is None:
        # It may have been killed. Its status would tell whether the remote failed or the mirror.
        return GitError(f"git ended, but {COLLECTED}", stderr=said, kind="remote", killed=True)
    if finished.status < 0:
        return GitError(f"git was killed by signal {-finished.status}", stderr=said, kind="remote", killed=True)
    kind = classify(said, answer, otherwise)
    retry_after = answer.retry_after if kind == "throttled" else None
    access = "" if managed is None else url_scheme(managed.url)
    if managed is not None and managed.token_source is not None:
        access = "app"
    text = explain(kind, said, answer, finished.status, access)
    return GitError(text, stderr=said, kind=kind, retry_after=retry_after, status=answer.status)
