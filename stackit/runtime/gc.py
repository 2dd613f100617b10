"""The garbage collector, told what a daemon's memory is like."""

from __future__ import annotations

import gc

_YOUNG = 10_000
"""Objects made, less those freed, between two looks for cycles; Python's own 700 are a handful of deliveries."""


def freeze_startup_objects() -> None:
    """Leave everything that is there now out of every later collection.

    What the start makes stays until the end: with ten thousand repositories that are a million objects, and going
    through them finds nothing and holds up the reactor.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG)
