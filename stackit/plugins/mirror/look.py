"""The cheap look at a remote: is the mirror equal to it, asked by one request and no process.

Ten thousand quiet repositories are looked at every few minutes, and hardly any has
changed. Where the remote's words on its refs are the same as last time, and nothing has
touched the mirror's refs since, there is nothing to do.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from stackit import ManagedRepo
from stackit.plugins.mirror import pktline
from stackit.plugins.mirror.pktline import ProtocolError
from stackit.plugins.mirror.reconcile import landing
from stackit.plugins.mirror.refs import Snapshot, destination, ref_bytes, ref_text
from stackit.plugins.mirror.remote import Remote, Unanswered

SETTLED = 1.0
"""Seconds after which a file's time tells of every change: clocks of file systems tick slowly."""

Touched = tuple[tuple[str, int, int, int], ...]


class Seen(msgspec.Struct, frozen=True):
    """What a look found: the digest of the remote's words, the words, and how the mirror's files stood before it."""

    digest: bytes
    words: bytes
    touched: Touched


class Look:
    """Looks at the remote of one repository, and remembers when the mirror was equal to it."""

    def __init__(self, remote: Remote, managed: ManagedRepo) -> None:
        self._remote = remote
        self._refspecs = managed.refspecs
        self._equal: tuple[bytes, Touched] | None = None

    async def seen(self, directory: Path, object_format: str) -> Seen:
        """Ask the remote. Raises Unanswered."""
        touched = when_touched(directory)
        words = await self._remote.listing(_prefixes(self._refspecs), object_format)
        return Seen(hashlib.sha256(words).digest(), words, touched)

    def is_as_before(self, seen: Seen) -> bool:
        """Whether remote and mirror are both as they were when they were equal."""
        return self._equal == (seen.digest, seen.touched)

    def is_equal(self, seen: Seen, refs: Snapshot, head: str | None, now: float) -> bool:
        """Whether the mirror with these refs (taken after the look), and this HEAD, has what the remote says.

        Raises Unanswered where the remote's words make no sense.
        """
        try:
            listing = pktline.listing(seen.words)
        except ProtocolError:
            raise Unanswered("protocol") from None
        theirs = destination(self._refspecs, ref_text(listing.head)) if listing.head else None
        equal = Snapshot.of(landing(self._refspecs, listing)) == refs and theirs in (None, head)
        newest = max((changed for _, changed, *_ in seen.touched), default=0)
        self._equal = (seen.digest, seen.touched) if equal and newest < (now - SETTLED) * 1e9 else None
        return equal


def when_touched(directory: Path) -> Touched:
    """Everything that a change of refs leaves a trace on: the packed ones, HEAD, and each folder of loose ones."""
    return tuple(_traces(directory))


def _traces(directory: Path) -> Iterator[tuple[str, int, int, int]]:
    for name in ("HEAD", "packed-refs"):
        with contextlib.suppress(FileNotFoundError):
            status = (directory / name).stat()
            yield name, status.st_mtime_ns, status.st_ino, status.st_size
    folders = [directory / "refs"]
    while folders:
        folder = folders.pop()
        status = folder.stat()
        yield str(folder), status.st_mtime_ns, status.st_ino, 0
        with os.scandir(folder) as entries:
            folders += sorted(folder / entry.name for entry in entries if entry.is_dir(follow_symlinks=False))


def _prefixes(refspecs: tuple[str, ...]) -> list[bytes]:
    sources = (each.removeprefix("+").partition(":")[0] for each in refspecs if not each.startswith("^"))
    return [b"HEAD", *dict.fromkeys(ref_bytes(source.partition("*")[0]) for source in sources)]
