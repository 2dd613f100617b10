"""One walk through GitHub's list of the deliveries of a hook, as a value of its own: no request, no clock, no journal.

The list is newest first. The walk ends at the first page that lies wholly before the mark, minus an overlap: an entry
may take some minutes until it is listed. What the journal does not know is missed, whatever GitHub says of it: an
answer that GitHub counted as success may have been given by a proxy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import msgspec

from stackit.github.recovery.records import Listed, Mark, Window

OVERLAP = 15 * 60.0
"""Seconds before the mark that every walk reads again, for entries that were listed late."""

_FUTURE = 86400.0
"""Seconds by which no clock is wrong: an entry that is later has no time."""

_SURE = 0.9
"""The part of the retention in which an entry that was listed once has to be there still."""

Wanted = Callable[[str, str | None], bool]
"""Whether a handler wants an event of this name and action."""


class Walk:
    """The entries of a list, page by page, as far as they matter.

    ``listed_at`` is GitHub's time when the first page was asked for, ``retention`` for how many seconds GitHub keeps
    an entry. With ``since``, the walk goes back at least to that time. Without a mark and a ``since`` it begins now:
    nothing is missed.
    """

    def __init__(
        self,
        mark: Mark | None,
        *,
        listed_at: float,
        retention: float,
        wanted: Wanted,
        overlap: float = OVERLAP,
        since: float | None = None,
    ) -> None:
        self._mark = mark
        self._listed_at = listed_at
        self._retention = retention
        self._wanted = wanted
        self._overlap = overlap
        self._since = since
        until = math.inf if mark is None else mark.at - overlap
        self._until = until if since is None else min(until, since)
        self._attempts: dict[str, tuple[float, int]] = {}
        self._newest: Listed | None = None
        self._oldest = math.inf
        self._reached_mark = False
        self.ended = False
        self.listed = 0
        self.unwanted = 0

    def add(self, page: Sequence[Listed]) -> list[Listed]:
        """Read the next page; return the entries that are missed unless the journal knows their event.

        ``ended`` tells then that no further page is needed. Of several attempts at one event the newest is returned.
        """
        self.listed += len(page)
        found = []
        for entry in page:
            if entry.at < self._listed_at + _FUTURE and (self._newest is None or entry.at > self._newest.at):
                self._newest = entry
            self._oldest = min(self._oldest, entry.at)
            if self._mark is not None and (entry.at <= self._mark.at or entry.id == self._mark.id):
                self._reached_mark = True
            if entry.at >= self._until and self._is_new(entry):
                found.append(entry)
        # A first walk has all that it needs to know of the list in one page.
        self.ended = bool(page) and all(entry.at < self._until for entry in page)
        return found

    def end(self) -> None:
        """Know that the list ended before the walk did: there is no further page."""
        self.ended = True

    def _is_new(self, entry: Listed) -> bool:
        place = (entry.at, entry.id)
        if entry.guid in self._attempts:
            self._attempts[entry.guid] = min(place, self._attempts[entry.guid])
            return False
        self._attempts[entry.guid] = place
        if self._since is None and self._mark is not None and self._is_settled(self._mark, entry):
            return False
        if not self._wanted(entry.event, entry.action):
            self.unwanted += 1
            return False
        return True

    def __contains__(self, guid: str) -> bool:
        """Return whether the walk met an event."""
        return guid in self._attempts

    def place(self, entry: Listed) -> tuple[float, int]:
        """Return the order in which events are taken: by their first attempt, as far as the walk saw it."""
        return self._attempts[entry.guid]

    @staticmethod
    def _is_settled(mark: Mark, entry: Listed) -> bool:
        return entry.guid in mark.settled or (entry.at, entry.id) <= (mark.first_at, mark.first_id)

    # -- what a walk that has ended knows ----------------------------------------------

    @property
    def edge(self) -> float:
        """The time before which GitHub keeps no entry."""
        return self._listed_at - self._retention

    @property
    def reaches_back_to(self) -> float:
        """The time from which on the list has everything, as far as it was read: its oldest entry, or the retention."""
        return min(self._oldest, self.edge)

    @property
    def is_cut(self) -> bool:
        """Whether the list lacks what it showed before and should still have: then it proves nothing of what it lacks.

        A fault of GitHub may answer an empty list.
        """
        mark = self._mark
        if mark is None or not mark.id or self._reached_mark or self._oldest < self._until:
            return False
        return mark.at > self._listed_at - self._retention * _SURE

    def lost(self) -> Window | None:
        """Return the time between the last look at the list and the oldest entry that is still there, if there is any.

        None also for a list that is cut: GitHub may show the rest later.
        """
        mark = self._mark
        if mark is None or self._oldest < mark.at - self._overlap or self.is_cut:
            return None
        begin, end = mark.seen_at - self._overlap, self.reaches_back_to
        return Window(begin, end) if end > begin else None

    def mark(self, mark: Mark | None) -> Mark:
        """Return the mark after everything that was missed has been taken; ``mark`` is that of before."""
        listed_at = self._listed_at
        newest_at, id_ = (self._newest.at, self._newest.id) if self._newest is not None else (0.0, 0)
        at = min(newest_at, listed_at)  # an entry of the future would hide all that comes before it
        if mark is None:
            return Mark(at, id_, listed_at, newest_at, id_)
        if mark.at >= at:
            at, id_ = mark.at, mark.id
        return msgspec.structs.replace(mark, at=at, id=id_, seen_at=max(mark.seen_at, listed_at))

    def mark_after(self, mark: Mark, entry: Listed) -> Mark:
        """Return the mark after everything up to this entry, in the order of ``place``, has been taken."""
        at, id_ = self.place(entry)
        at = min(at, self._listed_at)
        if at <= mark.at:
            at, id_ = mark.at, mark.id
        return msgspec.structs.replace(mark, at=at, id=id_, seen_at=max(mark.seen_at, at))

    def relevant(self, mark: Mark, settled: Mapping[str, float]) -> dict[str, float]:
        """Return those that a walk back to a mark may meet again."""
        return {guid: at for guid, at in settled.items() if at >= mark.at - self._overlap}
