"""The sizes at which the journal does something about itself."""

from __future__ import annotations

import msgspec


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of the write-ahead log in bytes, and of the digests in memory in events.

    A log of ``checkpoint`` is worth a checkpoint, and is kept between two: a checkpoint competes with commits for the
    disk, and at a quarter of this, appends took longer at p99. A log of ``notice`` is more than load explains: a reader
    is in the way of the checkpoints, and people are told. Beyond ``log`` nothing more is written until the log can be
    copied into the journal's file. The digests of ``digests`` events go into their index together.
    """

    checkpoint: int = 16 * 2**20
    notice: int = 64 * 2**20
    log: int = 256 * 2**20
    digests: int = 2048
