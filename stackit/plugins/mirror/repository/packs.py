"""Compute from a pack alone if its objects are small enough to be unpacked to a file each.

A pack of a few kilobytes can hold hundreds of deltas, each of which results in another version of a large file. An
object's header has its size, and a delta begins with the sizes of its base and its result (git's gitformat-pack).
"""

from __future__ import annotations

import zlib

MOST_UNPACKED = 8 * 2**20
"""Bytes of all objects of a pack up to which each may become a file."""
MOST_READ = 2**20
"""Bytes of a pack's objects that are inflated to find out: a push waits for it."""

_HEADER = 12
_SIZE_BITS = 64
_OFFSET_DELTA, _REF_DELTA = 6, 7
_PIECE = 4096


class _BrokenError(Exception):
    """The pack does not have the format of one."""


def is_small_unpacked(pack: bytes, id_size: int) -> bool:
    """Return True if the objects of a pack have at most ``MOST_UNPACKED`` bytes together.

    ``id_size`` is the size of an object id in bytes. False also if that takes too long to compute, or if the pack is
    broken: git, which indexes it then, reports the error.
    """
    try:
        return _is_small(pack, id_size)
    except (IndexError, zlib.error, _BrokenError):
        return False


def _is_small(pack: bytes, id_size: int) -> bool:
    unpacked = read = 0
    at = _HEADER
    for _ in range(int.from_bytes(pack[8:_HEADER])):
        kind = pack[at] >> 4 & 7
        size, at = _number(pack, at, first=4)
        if kind == _OFFSET_DELTA:
            _, at = _number(pack, at)
        elif kind == _REF_DELTA:
            at += id_size
        read += size
        if read > MOST_READ:
            return False
        data, at = _inflated(pack, at, size)
        unpacked += _result_size(data) if kind in (_OFFSET_DELTA, _REF_DELTA) else size
        if unpacked > MOST_UNPACKED:
            return False
    return True


def _number(data: bytes, at: int, first: int = 7) -> tuple[int, int]:
    """Return a number and the position behind it. It is in pieces of seven bits, the lowest first.

    The first piece has ``first`` bits. Raises IndexError and _BrokenError.
    """
    value, shift = data[at] & (1 << first) - 1, first
    while data[at] & 0x80:
        at += 1
        if shift >= _SIZE_BITS:  # as git does; a number of megabytes would take minutes
            raise _BrokenError
        value |= (data[at] & 0x7F) << shift
        shift += 7
    return value, at + 1


def _inflated(pack: bytes, at: int, size: int) -> tuple[bytes, int]:
    """Return ``size`` bytes that are compressed at ``at``, and the position behind. Raises zlib.error, _BrokenError."""
    inflater = zlib.decompressobj()
    pieces: list[bytes] = []
    left = size
    while not inflater.eof:
        piece = pack[at : at + _PIECE]
        data = inflater.decompress(piece, left + 1)
        left -= len(data)
        if left < 0 or not piece:
            raise _BrokenError
        pieces.append(data)
        at += len(piece) - len(inflater.unused_data)
    if left:
        raise _BrokenError
    return b"".join(pieces), at


def _result_size(delta: bytes) -> int:
    """Return the size of a delta's result, which is behind the size of its base. Raises IndexError and _BrokenError."""
    _, at = _number(delta, 0)
    return _number(delta, at)[0]
