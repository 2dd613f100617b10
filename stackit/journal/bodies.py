"""A body as it lies on disk: compressed, since payloads are mostly names and URLs said again and again.

A fifth of the bytes is a fifth of the pages that a commit writes, and five times the deliveries that
a journal of one size keeps. Its blocks carry checksums, so a damaged body is never handed on as if it were one.
"""

from __future__ import annotations

import lz4.frame

from stackit.errors import Permanent

_FRAME = b"\x04\x22\x4d\x18"  # LZ4 Frame Format Description, 1.6.4: what every frame begins with; JSON never does


def packed(body: bytes) -> bytes:
    """``body`` for the disk."""
    frame: bytes = lz4.frame.compress(body, block_checksum=True)
    return frame


def unpacked(stored: bytes, event_id: int) -> bytes:
    """The body again. Raises Permanent for one that is damaged: no later try can read it either."""
    if not stored.startswith(_FRAME):
        return stored  # from before bodies were compressed
    try:
        body: bytes = lz4.frame.decompress(stored)
    except RuntimeError:
        raise Permanent(f"the body of delivery {event_id} is damaged in the journal") from None
    return body
