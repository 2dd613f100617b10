"""The check of an unchanged mirror: one request to the remote, and no process.

The backstop checks ten thousand quiet repositories every few minutes, and hardly any has changed. If the remote's
list of refs is the same as last time, and the mirror's refs were not touched since, there is nothing to do.
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
"""Age in seconds from which on a file's time shows every later change: clocks of file systems tick slowly."""


class Answer(msgspec.Struct, frozen=True):
    """The remote's list of refs in bytes, its SHA-256 digest, and the stamps of the mirror's refs before it."""

    digest: bytes
    words: bytes
    stamps: RefStamps
    object_format: str


class Equal(msgspec.Struct, frozen=True):
    """The digest and stamps of when remote and mirror were equal. Its size does not grow with the refs."""

    digest: bytes
    stamps: RefStamps
    object_format: str


class QuickCheck:
    """Checks one mirror, and remembers when it was equal to its remote."""

    def __init__(self, remote: Remote, managed: ManagedRepo) -> None:
        self._remote = remote
        self._refspecs = managed.refspecs
        self._equal: Equal | None = None

    async def is_unchanged(self, directory: Path) -> bool:
        """Return True if mirror and remote are unchanged since they were equal, by one request at most.

        False means that it is not known. Raises RemoteError.
        """
        equal = self._equal
        if equal is None or not equal.stamps.is_current(directory):
            return False
        words = await self._remote.ls_refs(_question(self._refspecs, equal.object_format), patient=True)
        return hashlib.sha256(words).digest() == equal.digest

    async def ask(self, directory: Path, object_format: str) -> Answer:
        """Ask the remote for its refs. Raises RemoteError, and OSError if the mirror has no refs."""
        stamps = ref_stamps(directory)
        words = await self._remote.ls_refs(_question(self._refspecs, object_format))
        return Answer(hashlib.sha256(words).digest(), words, stamps, object_format)

    def is_as_before(self, answer: Answer) -> bool:
        """Return True if remote and mirror are unchanged since they were equal."""
        equal = self._equal
        return equal is not None and (equal.digest, equal.stamps) == (answer.digest, answer.stamps)

    def is_equal(self, answer: Answer, refs: Snapshot, head: str | None, now: float) -> bool:
        """Return True if these refs (read after the answer) and this HEAD are those of the remote.

        ``now`` is in epoch seconds. Raises RemoteError if the answer is no list of refs.
        """
        try:
            listing = protocol_v2.parse_listing(answer.words)
        except ProtocolError as problem:
            raise self._remote.reject_listing(problem) from None
        equal = Snapshot.from_refs(mapped_refs(self._refspecs, listing.refs)) == refs
        equal = equal and choose_head(self._refspecs, listing, refs, head) in (None, head)
        self._equal = None
        if equal and answer.stamps.newest < now - SETTLED:
            self._equal = Equal(answer.digest, answer.stamps, answer.object_format)
        return equal


@lru_cache(maxsize=16)
def _question(refspecs: tuple[str, ...], object_format: str) -> bytes:
    """Return the ls-refs request; cached, as nearly all repositories have the same refspecs."""
    sources = (each.removeprefix("+").partition(":")[0] for each in refspecs if not each.startswith("^"))
    prefixes = dict.fromkeys(ref_bytes(source.partition("*")[0]) for source in sources)
    return protocol_v2.ls_refs_request([b"HEAD", *prefixes], object_format)
