"""A bare git repository that grows commits: git does all the work, in few and short processes."""

from __future__ import annotations

from pathlib import Path

import msgspec
from twisted.internet.defer import DeferredLock

from stackit.api.events import Repo
from stackit.api.reactor import Reactor
from stackit.subprocesses import ProcessLimits, run
from stackit.testing.objects import EPOCH, Commit

GIT_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
}
"""The environment of git: without the user's own configuration and any inherited GIT_DIR."""

_AUTHOR = "octocat <octocat@users.noreply.github.com>"


class GitFailed(Exception):
    """A git command of the pretend GitHub failed; the text is git's error."""


class RefMoved(msgspec.Struct, frozen=True, kw_only=True):
    """A move of a ref from ``before`` to ``after`` (full hex object ids, zeros for none), with the new commits."""

    repo: Repo
    ref: str
    before: str
    after: str
    forced: bool = False
    commits: tuple[Commit, ...] = ()


class BareRepository:
    """One repository on disk. Commits are the same on every run of the same steps: no clock is read."""

    def __init__(self, reactor: Reactor, repo: Repo, path: Path, *, object_format: str, default_branch: str) -> None:
        self.repo = repo
        self.path = path
        self.default_branch = default_branch
        self.zeros = "0" * (64 if object_format == "sha256" else 40)
        self._object_format = object_format
        self._reactor = reactor
        self._made = 0
        # A commit reads the tip and then moves it: one change at a time.
        self._changing = DeferredLock()

    async def init(self) -> None:
        """Make the repository on disk, empty."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        await self._run(
            [
                *("git", "init", "--quiet", "--bare", "--template="),
                *(f"--object-format={self._object_format}", f"--initial-branch={self.default_branch}"),
                *("--", str(self.path)),
            ]
        )
        with (self.path / "config").open("a") as config:
            # As GitHub's servers: partial clones, and any commit by its id.
            config.write("[uploadpack]\n\tallowFilter = true\n\tallowAnySHA1InWant = true\n")
            config.write("[gc]\n\tauto = 0\n")

    async def git(self, *arguments: str, stdin: bytes = b"") -> str:
        """Run git in the repository. Return its output without white space at the end. Raises GitFailed."""
        return await self._run(["git", f"--git-dir={self.path}", *arguments], stdin)

    async def refs(self) -> dict[str, str]:
        """Return every ref with its object id."""
        listing = await self.git("for-each-ref", "--format=%(objectname) %(refname)")
        return {ref: found for found, _, ref in (line.partition(" ") for line in listing.splitlines())}

    async def commit(self, ref: str, message: str | None, *, count: int = 1, parent: str | None = None) -> RefMoved:
        """Put ``count`` commits on top of ``ref``; a new one begins at the default branch's tip.

        With ``parent`` they go on top of that, "" for nothing at all, and ``ref`` is forced.
        """
        async with self._changing:
            refs = await self.refs()
            before = refs.get(ref)
            start = before or refs.get(f"refs/heads/{self.default_branch}") if parent is None else parent
            numbers = range(self._made + 1, self._made + count + 1)
            self._made += count
            script = bytearray(b"feature done\n")
            for index, number in enumerate(numbers):
                base = start if index == 0 else f":{index}"
                script += self._commit_script(ref, message, number, mark=index + 1, base=base)
            script += b"done\n"
            # --force moves a ref to a commit that does not descend from its tip.
            output = await self.git("fast-import", "--quiet", "--done", "--force", stdin=bytes(script))
            lines = output.splitlines()
            commits = tuple(
                Commit(
                    id=lines[2 * index],
                    tree=lines[2 * index + 1].split()[2],
                    message=message or f"Change {number}",
                    timestamp=EPOCH + number,
                    added=(f"changes/{number}",),
                )
                for index, number in enumerate(numbers)
            )
            return RefMoved(
                repo=self.repo,
                ref=ref,
                before=before or self.zeros,
                after=commits[-1].id,
                forced=before is not None and start != before,
                commits=commits,
            )

    async def set_ref(self, ref: str, target: str | None) -> RefMoved:
        """Move ``ref`` to ``target`` (anything that git can resolve), or delete it if ``target`` is None."""
        async with self._changing:
            before = (await self.refs()).get(ref)
            after, forced = self.zeros, False
            if target is None:
                if before is None:
                    raise LookupError(f"{self.repo} has no {ref}")
                await self.git("update-ref", "-d", ref)
            else:
                after = await self.git("rev-parse", "--verify", "--end-of-options", target)
                if before is not None:
                    forced = before not in (await self.git("rev-list", after)).split()
                await self.git("update-ref", ref, after)
            return RefMoved(repo=self.repo, ref=ref, before=before or self.zeros, after=after, forced=forced)

    def _commit_script(self, ref: str, message: str | None, number: int, *, mark: int, base: str | None) -> bytes:
        """Return a commit in the language of git fast-import, which prints the ids of the commit and its tree."""
        text = (message or f"Change {number}").encode()
        content = f"{self.repo}: change {number}\n".encode()
        lines = [
            f"commit {ref}".encode(),
            f"mark :{mark}".encode(),
            f"committer {_AUTHOR} {EPOCH + number} +0000".encode(),
            b"data %d\n%s" % (len(text), text),
            *([f"from {base}".encode()] if base else []),
            f"M 100644 inline changes/{number}".encode(),
            b"data %d\n%s" % (len(content), content),
            f"get-mark :{mark}".encode(),
            f'ls :{mark} ""'.encode(),
        ]
        return b"\n".join(lines) + b"\n"

    async def _run(self, argv: list[str], stdin: bytes = b"") -> str:
        done = await run(self._reactor, argv, env=GIT_ENVIRONMENT, stdin=stdin, limits=ProcessLimits(timeout=60))
        if done.status != 0:
            raise GitFailed(f"{' '.join(argv)}: status {done.status}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode("utf-8", "surrogateescape").rstrip()
