"""Why a push cannot come by the fast road."""

from __future__ import annotations


class Detour(Exception):
    """This push cannot go this way; ``reason`` is from a small closed set, fit for a metric's label.

    ``wide``: nor by any other that brings only what was pushed.
    """

    def __init__(self, reason: str, *, wide: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wide = wide
