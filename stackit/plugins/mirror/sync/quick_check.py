"""The cheap look at a remote: is the mirror equal to it, asked by one request and no process.

Ten thousand quiet repositories are looked at every few minutes, and hardly any has
changed. Where the remote's words on its refs are the same as last time, and nothing has
touched the mirror's refs since, there is nothing to do.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import msgspec

from stackit import ManagedRepo, ref_bytes
from stackit.plugins.mirror.refs.refspecs import mapped_refs
from stackit.plugins.mirror.refs.snapshot import Snapshot
from stackit.plugins.mirror.remote import protocol_v2
from stackit.plugins.mirror.remote.client import Remote
from stackit.plugins.mirror.remote.protocol_v2 import ProtocolError
from stackit.plugins.mirror.repository.head import choose_head
from stackit.plugins.mirror.repository.tamper import RefStamps, ref_stamps

SETTLED = 1.0
"""Seconds after which a file's time tells of every change: clocks of file systems tick slowly."""


class Answer(msgspec.Struct, frozen=True):
    """What a look found: the digest of the remote's words, the words, and how the mirror's files stood before it."""

    digest: bytes
    words: bytes
    stamps: RefStamps
    object_format: str


class Equal(msgspec.Struct, frozen=True):
    """Remote and mirror when they were equal. It is as large with many refs as with one."""

    digest: bytes
    stamps: RefStamps
    object_format: str


class QuickCheck:
    """Looks at the remote of one repository, and remembers when the mirror was equal to it."""

    def __init__(self, remote: Remote, managed: ManagedRepo) -> None:
        self._remote = remote
        self._refspecs = managed.refspecs
        self._equal: Equal | None = None

    async def is_unchanged(self, directory: Path) -> bool:
        """Whether mirror and remote are as they were when they were equal: one request at most.

        False says nothing. Raises RemoteError.
        """
        equal = self._equal
        if equal is None or not equal.stamps.is_current(directory):
            return False
        words = await self._remote.ls_refs(_question(self._refspecs, equal.object_format), patient=True)
        return hashlib.sha256(words).digest() == equal.digest

    async def ask(self, directory: Path, object_format: str) -> Answer:
        """Ask the remote. Raises RemoteError, and OSError where the mirror has no refs."""
        touched = ref_stamps(directory)
        words = await self._remote.ls_refs(_question(self._refspecs, object_format))
        return Answer(hashlib.sha256(words).digest(), words, touched, object_format)

    def is_as_before(self, seen: Answer) -> bool:
        """Whether remote and mirror are both as they were when they were equal."""
        equal = self._equal
        return equal is not None and (equal.digest, equal.stamps) == (seen.digest, seen.stamps)

    def is_equal(self, seen: Answer, refs: Snapshot, head: str | None, now: float) -> bool:
        """Whether the mirror with these refs (taken after the look), and this HEAD, has what the remote says.

        Raises RemoteError where the remote's words make no sense.
        """
        try:
            listing = protocol_v2.parse_listing(seen.words)
        except ProtocolError as problem:
            raise self._remote.reject_listing(problem) from None
        equal = Snapshot.from_refs(mapped_refs(self._refspecs, listing.refs)) == refs
        equal = equal and choose_head(self._refspecs, listing, refs, head) in (None, head)
        self._equal = None
        if equal and seen.stamps.newest < now - SETTLED:
            self._equal = Equal(seen.digest, seen.stamps, seen.object_format)
        return equal


@lru_cache(maxsize=16)
def _question(refspecs: tuple[str, ...], object_format: str) -> bytes:
    """What to ask; nearly all repositories have the same refspecs."""
    sources = (each.removeprefix("+").partition(":")[0] for each in refspecs if not each.startswith("^"))
    prefixes = dict.fromkeys(ref_bytes(source.partition("*")[0]) for source in sources)
    return protocol_v2.ls_refs_request([b"HEAD", *prefixes], object_format)
