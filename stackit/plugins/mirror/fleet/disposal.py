"""The removal of mirrors that have their home at another node, once that node has them whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from threading import Thread

from stackit import App, ManagedRepo, Occurrence
from stackit.plugins.mirror.fleet.records import MirrorRecord
from stackit.plugins.mirror.repository.places import Places
from stackit.plugins.mirror.repository.repository import has_kept


class Disposal:
    """Removes what is on disk and belongs to another node. Old tips that were kept may be nowhere else, and stay.

    ``is_wanted(key)`` tells whether a mirror is this node's to keep, or still in use.
    """

    def __init__(
        self,
        app: App,
        places: Places,
        *,
        record: Callable[[str], MirrorRecord | None],
        is_wanted: Callable[[ManagedRepo], bool],
    ) -> None:
        self._app = app
        self._places = places
        self._record = record
        self._is_wanted = is_wanted
        self._candidates: set[str] = set()

    def add(self, keys: Iterable[str]) -> None:
        """Take mirrors for ones that may have to be removed, by the keys of their repositories."""
        self._candidates.update(keys)

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
            and record.is_good
        )
        if not has_it or home is None or self._has_kept(each):
            return
        self._candidates.discard(key)
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

    def _has_kept(self, each: ManagedRepo) -> bool:
        """Return whether a mirror has old tips that its home may not have: that fetched them if this node was there."""
        place = self._places.find(each) if each.keep_forced else None
        return place is not None and has_kept(place)
