"""A process with so many open files that the next ones have numbers which ``select`` does not know."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

_MANY = 1100


@contextmanager
def many_files() -> Iterator[None]:
    """Hold so many files open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * _MANY), hard))
    read, write = os.pipe()
    held = [os.dup(read) for _ in range(_MANY)]
    try:
        yield
    finally:
        for each in (read, write, *held):
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
