"""A plugin like any other, which prints what it sees on the bus."""

from __future__ import annotations

from collections.abc import Callable

from stackit import RefsChanged, hookimpl
from stackit.api.occurrences import Occurrence

Say = Callable[[str], None]


class Story:
    """The plugin. ``aside``: it counts, and prints nothing.

    ``visible`` counts pushes that became visible, and ``looked`` the changes that the backstop found. ``recovered``
    has the ids of missed deliveries that were taken from GitHub's list, and whose commits are in the mirror.
    """

    def __init__(self, say: Say) -> None:
        self._say = say
        self.aside = False
        self.visible = 0
        self.looked = 0
        self.recovered: set[str] = set()
        self._taken: set[str] = set()

    @hookimpl
    def stackit_refs_changed(self, change: RefsChanged) -> None:
        self.looked += change.cause == "backstop"
        if self.aside or change.cause == "start":
            return
        for each in change.changes:
            moved = f"{each.kind} {short(each.old)} → {short(each.new)}"
            self._say(f"    a plugin saw  {change.repo} {branch(each.ref)} {moved} (found by: {change.cause})")

    @hookimpl
    def stackit_observe(self, occurrence: Occurrence) -> None:
        if occurrence.name == "visible" and occurrence.seconds is not None:
            self.visible += 1
            if occurrence.delivery in self._taken:
                self.recovered.add(occurrence.delivery)
            if not self.aside:
                self._say(f"    visible       in the mirror {occurrence.seconds * 1000:.0f} ms after it was received")
        elif occurrence.name == "accepted" and occurrence.via == "api" and occurrence.delivery is not None:
            self._taken.add(occurrence.delivery)
        elif occurrence.name == "refused":
            self._say(f"    refused       {occurrence.status} ({occurrence.reason}); nothing else happened")


def short(oid: str) -> str:
    """Return an object id for people."""
    return "nothing" if set(oid) == {"0"} else oid[:7]


def branch(ref: str) -> str:
    """Return the name of a branch."""
    return ref.removeprefix("refs/heads/")
