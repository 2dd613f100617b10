"""Single deliveries that a mark has to know of beside itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stackit.github.recovery.records import Listed, Mark


class Ledger:
    """What is known of single deliveries: those that are ``settled``, by guid, and those that are ``postponed``."""

    def __init__(self, settled: Mapping[str, float], postponed: Sequence[Listed]) -> None:
        self.settled = dict(settled)
        self.postponed = {each.guid: each for each in postponed}

    @classmethod
    def of(cls, mark: Mark | None) -> Ledger:
        """Return what a mark has."""
        return cls({}, ()) if mark is None else cls(mark.settled, mark.postponed)

    def done(self, entry: Listed) -> None:
        """Note that the journal has a delivery."""
        self.postponed.pop(entry.guid, None)

    def settle(self, entry: Listed) -> None:
        """Note that a delivery was judged, and is not in the journal."""
        self.done(entry)
        self.settled[entry.guid] = entry.at

    def postpone(self, entry: Listed) -> None:
        """Note that a delivery is to be tried again."""
        self.postponed[entry.guid] = entry
