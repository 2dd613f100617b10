"""A bare repository on disk: read and change its refs and HEAD, maintain and verify its objects."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from stackit import RefChange, ref_bytes
from stackit.plugins.mirror.git.errors import GitError
from stackit.plugins.mirror.git.runner import Git
from stackit.plugins.mirror.refs.refspecs import KEPT
from stackit.plugins.mirror.refs.snapshot import Snapshot

_FORMAT = re.compile(rb"^\s*objectformat\s*=\s*sha256\s*$", re.MULTILINE | re.IGNORECASE)
# Messages of fsck about old commits in an odd format: these objects are complete, and will not change.
_HARMLESS = re.compile(
    rb"(?:error|warning) in (?:commit|tree|tag|blob) |warning: |notice: |dangling |unreachable |Checking "
)
_FSCK_TIMEOUT = 3600.0


class Repository:
    """The repository at ``directory``. Methods raise GitError."""

    def __init__(self, git: Git, directory: Path) -> None:
        self.directory = directory
        self._git = git

    async def make(self, object_format: str) -> None:
        """Create it, empty, with ``object_format`` ``sha1`` or ``sha256``."""
        await self._git.local(
            self.directory, "init", "--quiet", "--bare", "--template=", f"--object-format={object_format}"
        )

    async def refs(self, only: Sequence[str] = ()) -> Snapshot:
        """Read all refs but those below ``KEPT``, or ``only`` the given ones."""
        # Sorted by name, so that equal refs are equal bytes.
        listed = await self._git.local(
            self.directory, "for-each-ref", "--format=%(refname) %(objectname)", "--", *map(ref_bytes, only)
        )
        if b"broken ref" in listed.stderr:
            # git leaves it out with status 0; but the remote did not delete it, so it must not be announced as deleted.
            raise GitError("the mirror has a broken ref", stderr=listed.stderr.decode("utf-8", "replace"))
        if only:  # git also lists the refs below a ref that is a folder
            wanted = {ref_bytes(ref) for ref in only}
            return Snapshot(
                b"".join(each for each in listed.stdout.splitlines(keepends=True) if each.split()[0] in wanted)
            )
        if KEPT not in listed.stdout:
            return Snapshot(listed.stdout)
        return Snapshot(b"".join(line for line in listed.stdout.splitlines(keepends=True) if not line.startswith(KEPT)))

    @property
    def object_format(self) -> str:
        """``sha1`` or ``sha256``."""
        try:
            return "sha256" if _FORMAT.search((self.directory / "config").read_bytes()) else "sha1"
        except OSError:
            return "sha1"

    @property
    def head(self) -> str | None:
        """The ref that HEAD names; None for a detached HEAD, or without one."""
        try:
            text = (self.directory / "HEAD").read_bytes()
        except OSError:
            return None
        return os.fsdecode(text.removeprefix(b"ref: ").rstrip(b"\n")) if text.startswith(b"ref: ") else None

    async def set_head(self, target: str) -> None:
        """Let HEAD name a ref."""
        await self._git.local(self.directory, "symbolic-ref", "HEAD", ref_bytes(target))

    async def delete(self, refs: Mapping[str, str]) -> None:
        """Delete refs in one transaction, each only if it is at its given object id."""
        await self._transact(b"delete %b\0%b\0" % (ref_bytes(ref), oid.encode()) for ref, oid in refs.items())

    async def keep(self, changes: Iterable[RefChange]) -> None:
        """Keep the old tips of forced updates, as ``refs/stackit-kept/<the ref's path>/<object id>``."""
        await self._transact(
            b"update %b%b/%b\0%b\0\0" % (KEPT, ref_bytes(each.ref).removeprefix(b"refs/"), old, old)
            for each in changes
            if each.forced and (old := each.old.encode())
        )

    async def pack_refs(self) -> None:
        """Pack the loose refs that fetches left: each later fetch would read all of their files."""
        await self._git.local(self.directory, "pack-refs", "--all")

    async def maintain(self) -> None:
        """Run git's maintenance as far as it is due: a commit-graph, a repack, old unreachable objects pruned."""
        # With cruftPacks, objects that no ref needs any more stay in a pack, and do not become a file each.
        settings = (
            "gc.auto=6700",
            "gc.autoPackLimit=50",
            "gc.autoDetach=false",
            "gc.cruftPacks=true",
            "maintenance.commit-graph.auto=100",
        )
        options = [part for setting in settings for part in ("-c", setting)]
        await self._git.local(
            self.directory,
            *(*options, "maintenance", "run", "--auto", "--quiet", "--task=commit-graph", "--task=gc"),
            timeout=_FSCK_TIMEOUT,
        )

    async def repack(self) -> None:
        """Put loose objects and small packs together into one pack, with deltas between versions of a file."""
        try:
            await self._git.local(self.directory, "repack", "-d", "-l", "-q", "--geometric=2", timeout=_FSCK_TIMEOUT)
        except GitError as problem:
            if "unknown option" not in problem.stderr:  # git before 2.32
                raise
            await self._git.local(self.directory, "repack", "-a", "-d", "-l", "-q", timeout=_FSCK_TIMEOUT)

    async def is_sound(self) -> bool:
        """Return True if every object that a ref needs is here and valid: git reads them all.

        Raises GitError if git was killed, or had too little memory or room on the disk.
        """
        try:
            done = await self._git.local(
                self.directory, "fsck", "--no-dangling", "--no-progress", ok=tuple(range(64)), timeout=_FSCK_TIMEOUT
            )
        except GitError as problem:
            if problem.killed or problem.kind in ("memory", "disk"):
                raise
            return False
        lines = (done.stdout + done.stderr).splitlines()
        return done.status == 0 or all(_HARMLESS.match(line) for line in lines)

    async def _transact(self, commands: Iterable[bytes]) -> None:
        said = b"".join(commands)
        if said:
            await self._git.local(self.directory, "update-ref", "--stdin", "-z", stdin=said)


def has_kept(directory: Path) -> bool:
    """Return whether a repository has old tips that were kept."""
    try:
        packed = (directory / "packed-refs").read_bytes()
    except OSError:
        packed = b""
    return b" " + KEPT in packed or (directory / os.fsdecode(KEPT)).is_dir()
