"""The removal of mirrors that have their home at another node, once that node has them whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable
from threading import Thread
from typing import TYPE_CHECKING

from stackit import App, ManagedRepo, Occurrence
from stackit.plugins.mirror.fleet.records import MirrorRecord
from stackit.plugins.mirror.repository.places import Places
from stackit.plugins.mirror.repository.repository import has_kept

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

KEPT_FOR = 6 * 3600.0
"""Seconds for which a mirror stays where the second copy that is to take its place does not become whole."""


class Disposal:
    """Removes what is on disk and belongs to another node. Old tips that were kept may be nowhere else, and stay.

    ``is_wanted`` tells whether a mirror is this node's to keep, or still in use, ``is_copied`` whether the nodes that
    should have second copies of it have them. ``again`` is called with the keys of mirrors that are to be checked.
    """

    def __init__(
        self,
        app: App,
        places: Places,
        *,
        record: Callable[[str], MirrorRecord | None],
        is_wanted: Callable[[ManagedRepo], bool],
        is_copied: Callable[[ManagedRepo], bool],
        again: Callable[[Collection[str]], object],
    ) -> None:
        self._app = app
        self._places = places
        self._record = record
        self._is_wanted = is_wanted
        self._is_copied = is_copied
        self._again = again
        self._candidates: set[str] = set()
        self._held: dict[str, float] = {}  # until when, by the reactor's clock, they wait for second copies
        self._timer: DelayedCall | None = None

    def add(self, keys: Iterable[str]) -> None:
        """Take mirrors for ones that may have to be removed, by the keys of their repositories."""
        for key in keys:
            self._candidates.add(key)
            self._held.pop(key, None)

    def is_held(self, key: str) -> bool:
        """Return whether a mirror is still here because a second copy of it may not be whole yet."""
        return key in self._held

    def stop(self) -> None:
        """Call ``again`` no more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def check(self, each: ManagedRepo) -> None:
        """Remove the mirror of a repository if its home has it whole."""
        key = each.repo.key
        if key not in self._candidates:
            return
        if self._is_wanted(each):
            return
        home, record = self._app.nodes.home(each.repo), self._record(key)
        has_it = (
            home is not None
            and home.state == "up"
            and record is not None
            and record.node == home.name != self._app.nodes.here
            and record.incarnation == home.incarnation
            and record.is_good
        )
        if not has_it or home is None or self._has_kept(each) or not self._may_go(each):
            return
        self._candidates.discard(key)
        self._held.pop(key, None)
        try:
            doomed = self._places.give_up(each)
        except OSError as problem:
            reason = f"a mirror that node {home.name} has now cannot be removed: {problem.strerror}: {problem.filename}"
            self._app.observe(Occurrence(name="notice", repo=each.repo, reason=reason))
            return
        for folder in doomed:
            # A large one takes long, and a stop need not wait for it: the next start removes the rest.
            Thread(target=shutil.rmtree, args=(folder, True), name="deletion of a mirror", daemon=True).start()
        if doomed:
            reason = f"node {home.name} has the mirror now: it is removed here"
            self._app.observe(Occurrence(name="notice", repo=each.repo, reason=reason))

    def _may_go(self, each: ManagedRepo) -> bool:
        """Return whether a mirror need not stay: with the home's alone, there would be one copy for a while.

        One that has to is looked at again when ``KEPT_FOR`` is over.
        """
        if self._is_copied(each):
            return True
        now = self._app.reactor.seconds()
        until = self._held.setdefault(each.repo.key, now + KEPT_FOR)
        if now < until and (self._timer is None or not self._timer.active()):
            self._timer = self._app.reactor.callLater(until - now, lambda: self._again(tuple(self._held)))
        return now >= until

    def _has_kept(self, each: ManagedRepo) -> bool:
        """Return whether a mirror has old tips that its home may not have: that fetched them if this node was there."""
        place = self._places.find(each) if each.keep_forced else None
        return place is not None and has_kept(place)
