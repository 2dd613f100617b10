"""``[plugins.mirror]`` in the configuration."""

from __future__ import annotations

import msgspec

from stackit import Duration, Size

LEAST_MEMORY = 64 * 2**20
"""Bytes of memory below which git cannot start all of its processes."""


class MirrorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[plugins.mirror]``.

    ``concurrency``: fetches at once from one host, of each kind. ``timeout``: how long one may take; a fetch without
    any progress ends after a minute at the latest, a first clone has an hour. ``debounce``: quiet time before a push is
    fetched.
    ``reserve``: bytes of the disk that stay free: below, no fetch starts. ``git_memory``: bytes of memory that each
    git may have, 0 for as many as there are. A look that would delete more than the share
    ``max_deletions`` of a mirror's refs waits for a person, from ``min_refs`` refs on.
    """

    concurrency: int = 4
    timeout: Duration = Duration(120)
    debounce: Duration = Duration(0)
    reserve: Size = Size(256 * 2**20)
    git_memory: Size = Size(2 * 2**30)
    max_deletions: float = 0.5
    min_refs: int = 20

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ValueError("concurrency: expected at least 1")
        if self.timeout <= 0:
            raise ValueError("timeout: expected more than 0")
        if 0 < self.git_memory < LEAST_MEMORY:
            raise ValueError("git_memory: expected 0 (no limit), or at least 64 MiB")
        if not 0 <= self.max_deletions <= 1:
            raise ValueError("max_deletions: expected a share from 0 to 1")
        if self.min_refs < 1:
            raise ValueError("min_refs: expected at least 1")
