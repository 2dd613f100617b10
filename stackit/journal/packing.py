"""Bytes as they are stored: compressed, and with checksums, so that damage is recognised.

Payloads repeat names and URLs: a fifth of the bytes is left, and so a fifth of what a commit writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import lz4.frame

BUNDLE_BYTES = 63 * 2**10
"""Bytes of bodies that are packed together, at most: all of them are read for one of them, and lost with one damaged
place.

With what a journal writes beside them this is one block of LZ4 (64 KiB). More saves hardly anything, and costs time:
the kernel clears the pages of a large buffer anew for each bundle, and reading one body out of two blocks takes ten
times as long.
"""
T = TypeVar("T")


def bundles(bodies: Iterable[tuple[T, bytes]]) -> Iterator[list[tuple[T, bytes]]]:
    """Yield bodies, each with whose it is: neighbours that are to be packed together, in their order.

    A body that is larger than ``BUNDLE_BYTES`` is alone.
    """
    bundle: list[tuple[T, bytes]] = []
    size = 0
    for each in bodies:
        size += len(each[1])
        if bundle and size > BUNDLE_BYTES:
            yield bundle
            bundle, size = [], len(each[1])
        bundle.append(each)
    if bundle:
        yield bundle


def packed(body: bytes) -> bytes:
    """Return bytes as they are stored."""
    frame: bytes = lz4.frame.compress(body, block_checksum=True)
    return frame


def unpacked(stored: bytes) -> bytes:
    """Return what was packed. Raises RuntimeError for damaged bytes."""
    body: bytes = lz4.frame.decompress(stored)
    return body
