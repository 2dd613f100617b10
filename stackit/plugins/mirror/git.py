"""git as a child process: every argument, the whole environment, and what its errors mean."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from stackit import ManagedRepo, Reactor, StackitError
from stackit.processes import Finished, run

# What a network needs is the machine's; everything else would let a variable of somebody's shell
# decide which repository is fetched, and how.
_INHERITED = (
    "PATH",
    "https_proxy",
    "HTTPS_PROXY",
    "http_proxy",
    "no_proxy",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)

_SETTINGS = (
    "core.hooksPath=/dev/null",
    "gc.auto=0",  # never beside a fetch: it may delete what the fetch relies on
    "maintenance.auto=false",
    "protocol.version=2",
    "http.followRedirects=false",  # a redirect is news about the repository, and credentials do not travel along
    "credential.helper=",  # forgets every helper named so far
)

# Reads the answer from a pipe that only this fetch holds: the token is on no command line, in no
# environment and on no disk. git asks the same helper to store and to erase, which it ignores.
_CREDENTIAL_HELPER = '!f() { test "$1" = get && cat <&3; }; f'

_LOCAL_TIMEOUT = 300.0
_LISTING_LIMIT = 256 * 1024 * 1024

_MEANINGS = (
    (
        re.compile(r"could not read Username|Authentication failed|terminal prompts disabled|error: 40[13]"),
        "the remote refuses access: give it a token_file (or a new token) that may read this repository",
    ),
    (
        re.compile(r"error: 30\d|unable to update url base from redirection"),
        "the remote redirects elsewhere: the repository was renamed or moved, so set its url",
    ),
    (
        re.compile(r"[Rr]epository .*not found|error: 404|does not appear to be a git repository"),
        "the remote has no such repository, or its token may not see it",
    ),
)
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
_ADVICE = re.compile(r"^(?:fatal|error): (?!the remote end hung up|could not fetch|early EOF)(.*)$", re.MULTILINE)


class GitError(StackitError):
    """git could not do it; the text is the reason, in one line, without secrets.

    ``stderr`` is what git said; ``timed_out`` that it took too long or stalled; ``killed`` that it could
    not tidy up after itself.
    """

    def __init__(self, reason: str, *, stderr: str = "", timed_out: bool = False, killed: bool = False) -> None:
        super().__init__(reason)
        self.stderr = stderr
        self.timed_out = timed_out
        self.killed = killed


class Git:
    """Runs git with nothing but its own settings. ``home`` is an empty directory for it to call home."""

    def __init__(self, reactor: Reactor, home: Path) -> None:
        self._reactor = reactor
        self._home = home

    async def local(
        self, directory: Path, *arguments: str | bytes, stdin: bytes = b"", ok: tuple[int, ...] = (0,)
    ) -> Finished:
        """Run git in the repository at ``directory``. Raises GitError for a status that is not ``ok``."""
        finished = await run(
            self._reactor,
            # --git-dir, because without it git would look for a repository in the parents of a broken one.
            ["git", *_configured(*_SETTINGS), b"--git-dir=" + os.fsencode(directory), *arguments],
            env=environment(self._home, None),
            stdin=stdin,
            timeout=_LOCAL_TIMEOUT,
            limit=_LISTING_LIMIT,
        )
        if finished.status not in ok or finished.timed_out or finished.truncated:
            raise _error(finished, None)
        return finished

    async def fetch(
        self,
        directory: Path,
        managed: ManagedRepo,
        *,
        atomic: bool,
        timeout: float,  # noqa: ASYNC109 - it must end a process group, not a coroutine
        stall: float,
        on_progress: Callable[[bytes], None],
    ) -> None:
        """Make the refs at ``directory`` what the remote has, within the refspecs.

        ``atomic``: objects first, then all refs in one step, or none. Raises GitError; refs may have moved
        all the same.
        """
        arguments = (
            f"--git-dir={directory}",
            "fetch",
            "--prune",
            "--no-auto-maintenance",
            "--no-write-fetch-head",
            "--no-tags",  # they are in the refspecs; following them would ask for refs/tags/ a second time
            "--no-recurse-submodules",
            "--progress",
            *(("--atomic",) if atomic else ()),
            "--",
            managed.url,
            *managed.refspecs,
        )
        await self._remote(managed, arguments, timeout=timeout, stall=stall, on_stderr=on_progress)

    async def remote_head(self, managed: ManagedRepo, *, timeout: float) -> str | None:  # noqa: ASYNC109 - as above
        """The ref that the remote's HEAD points to: its default branch. None where it does not say."""
        listed = await self._remote(managed, ("ls-remote", "--symref", "--", managed.url, "HEAD"), timeout=timeout)
        match = re.search(rb"^ref: (refs/\S+)\tHEAD$", listed.stdout, re.MULTILINE)
        return os.fsdecode(match[1]) if match else None

    async def _remote(
        self,
        managed: ManagedRepo,
        arguments: tuple[str, ...],
        *,
        timeout: float,  # noqa: ASYNC109 - as above
        stall: float | None = None,
        on_stderr: Callable[[bytes], None] | None = None,
    ) -> Finished:
        token = managed.token()
        host = _web_host(managed.url)
        secret = None
        settings: tuple[str, ...] = _SETTINGS
        if token is not None and host is not None:
            settings = (*_SETTINGS, f"credential.{host}.helper={_CREDENTIAL_HELPER}")
            secret = f"username=x-access-token\npassword={token}\n".encode()
        finished = await run(
            self._reactor,
            ["git", *_configured(*settings), *arguments],
            env=environment(self._home, managed.url),
            secret=secret,
            timeout=timeout,
            stall=stall,
            on_stderr=on_stderr,
        )
        if finished.status != 0:
            raise _error(finished, token)
        return finished


def environment(home: Path, url: str | None) -> dict[str, str]:
    """The whole environment of a git that talks to ``url`` (None: to nobody)."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return inherited | {
        "HOME": str(home),
        "LC_ALL": "C",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
        "GIT_ALLOW_PROTOCOL": _scheme(url) if url is not None else "",
    }


def redacted(text: str) -> str:
    """The text without the user and password that a URL in it may carry."""
    return _USERINFO.sub("", text)


def _configured(*settings: str) -> list[str]:
    return [part for setting in settings for part in ("-c", setting)]


def _scheme(url: str) -> str:
    scheme, separator, _ = url.partition("://")
    if separator:
        return scheme
    # "host:path" is ssh, unless a slash before the colon makes it a path.
    return "ssh" if ":" in url.partition("/")[0] else "file"


def _web_host(url: str) -> str | None:
    """``scheme://host:port`` of a URL to which git can send credentials, else None."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        return None
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _error(finished: Finished, token: str | None) -> GitError:
    said = finished.stderr.decode("utf-8", "replace")
    if token is not None:
        said = said.replace(token, "…")
    said = redacted(said)
    killed = finished.timed_out or finished.status < 0
    return GitError(_reason(finished, said), stderr=said, timed_out=finished.timed_out, killed=killed)


def _reason(finished: Finished, said: str) -> str:
    if finished.timed_out:
        return "no progress in time, or far too slow: git was ended"
    if finished.truncated:
        return "git's answer is larger than stackit reads"
    if finished.status < 0:
        return f"git was killed by signal {-finished.status}"
    lines = [line for line in said.replace("\r", "\n").splitlines() if line.strip()]
    details = _ADVICE.findall("\n".join(lines)) or lines[-1:]
    detail = " ".join(details[-1].split())[:300] if details else f"git ended with status {finished.status}"
    for pattern, meaning in _MEANINGS:
        if pattern.search(said):
            return f"{meaning} (git: {detail})"
    return f"git: {detail}"
