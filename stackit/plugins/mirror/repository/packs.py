"""What a pack becomes when it is unpacked, told from the pack alone.

A pack of a few kilobytes can hold hundreds of deltas, each of which makes another version of a large file. Each object
begins with its own size, and a delta with the size of what it makes (git's gitformat-pack).
"""

from __future__ import annotations

import zlib

MOST_UNPACKED = 8 * 2**20
"""Bytes up to which the objects of a pack are worth a file each."""
MOST_READ = 2**20
"""Bytes of a pack's objects that are inflated to find out: they are read on the way of a push."""

_HEAD = 12
_OFFSET_DELTA, _REF_DELTA = 6, 7
_PIECE = 4096


def is_small_unpacked(pack: bytes, id_size: int) -> bool:
    """Whether all objects of a pack are at most ``MOST_UNPACKED`` bytes together, as far as a short look can tell.

    ``id_size`` is that of an object id in bytes. False also for what is broken: git says in words what it is.
    """
    try:
        return _is_small(pack, id_size)
    except (IndexError, zlib.error):
        return False


def _is_small(pack: bytes, id_size: int) -> bool:
    unpacked = read = 0
    at = _HEAD
    for _ in range(int.from_bytes(pack[8:_HEAD])):
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
        unpacked += _made_by(data) if kind in (_OFFSET_DELTA, _REF_DELTA) else size
        if unpacked > MOST_UNPACKED:
            return False
    return True


def _number(data: bytes, at: int, first: int = 7) -> tuple[int, int]:
    """A number in pieces of seven bits, the lowest first (the first piece may be smaller), and where it ends."""
    value, shift = data[at] & (1 << first) - 1, first
    while data[at] & 0x80:
        at += 1
        value |= (data[at] & 0x7F) << shift
        shift += 7
    return value, at + 1


def _inflated(pack: bytes, at: int, size: int) -> tuple[bytes, int]:
    """The ``size`` bytes that begin at ``at``, and where their compressed form ends. Raises zlib.error."""
    inflater = zlib.decompressobj()
    pieces: list[bytes] = []
    left = size
    while not inflater.eof:
        piece = pack[at : at + _PIECE]
        data = inflater.decompress(piece, left + 1)
        left -= len(data)
        if left < 0 or not piece:
            raise zlib.error("not the size that it says")
        pieces.append(data)
        at += len(piece) - len(inflater.unused_data)
    if left:
        raise zlib.error("not the size that it says")
    return b"".join(pieces), at


def _made_by(delta: bytes) -> int:
    """The size of what a delta makes, which stands behind the size of what it is applied to."""
    _, at = _number(delta, 0)
    return _number(delta, at)[0]
