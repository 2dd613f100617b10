"""The phase of a repository in an interval, so that remotes are asked evenly."""

from __future__ import annotations

from hashlib import blake2b


def phase(key: str) -> float:
    """Return the phase of a repository, from 0 to 1. It is the same in every run.

    Similar names must not have similar phases, so a checksum such as CRC-32 will not do.
    """
    return int.from_bytes(blake2b(key.encode(), digest_size=6).digest()) / 2**48
