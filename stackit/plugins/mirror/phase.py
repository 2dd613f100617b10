"""When in an interval a repository has its turn, so that a remote is asked evenly."""

from __future__ import annotations

from zlib import crc32


def phase(key: str) -> float:
    """Where in its interval a repository has its turn: from 0 to 1, and the same in every run."""
    return crc32(key.encode()) / 2**32
