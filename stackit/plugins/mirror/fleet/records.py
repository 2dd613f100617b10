"""The record of a mirror that its home keeps for the other nodes."""

from __future__ import annotations

import msgspec

from stackit.plugins.mirror.sync.status import State


class MirrorRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A mirror, as the node that is its home last wrote it.

    ``path`` is the mirror's directory at that node. ``incarnation`` is that of the process there: an earlier one may
    have had another disk. ``state``, ``verified_at``, ``error``, ``next_at`` and ``held`` are those of its status;
    times are epoch seconds. ``moves`` counts the announcements of refs that moved: those who keep a copy fetch when it
    has changed. ``inherited``: the home took the mirror over, and has not compared it with its remote yet, so its refs
    may be older than what was announced.
    """

    node: str
    path: str = ""
    state: State = "cloning"
    verified_at: float | None = None
    error: str | None = None
    next_at: float | None = None
    held: bool = False
    moves: int = 0
    inherited: bool = False
    incarnation: int = 0

    @property
    def is_good(self) -> bool:
        """True if the home has a whole mirror, which it has compared with its remote."""
        return self.verified_at is not None and not self.inherited and self.error is None


_DECODER = msgspec.json.Decoder(MirrorRecord)


def decode_record(document: bytes) -> MirrorRecord | None:
    """Return a record; None for one that another version wrote, and that cannot be read here."""
    try:
        return _DECODER.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
