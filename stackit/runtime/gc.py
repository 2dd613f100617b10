"""The garbage collector, set up for a daemon."""

from __future__ import annotations

import gc

_YOUNG = 10_000
"""Objects made, less those freed, between two collections; Python's own 700 are a handful of deliveries."""


def freeze_startup_objects() -> None:
    """Leave all present objects out of every later collection.

    Objects made at the start stay until the end. With ten thousand repositories there are a million of them; to go
    through them finds nothing, and holds up the reactor.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG)
