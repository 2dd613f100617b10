"""When in an interval a repository has its turn, so that a remote is asked evenly."""

from __future__ import annotations

from hashlib import blake2b


def phase(key: str) -> float:
    """Where in its interval a repository has its turn: from 0 to 1, and the same in every run.

    Names that are alike must not have turns that are: a checksum such as CRC-32 will not do.
    """
    return int.from_bytes(blake2b(key.encode(), digest_size=6).digest()) / 2**48
