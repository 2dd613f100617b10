"""Those who want to know when another process changes documents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from twisted.internet.base import DelayedCall
from twisted.logger import Logger

from stackit.api.reactor import Timers
from stackit.journal.postgres.notices import Notice

_log = Logger(namespace="stackit")

Changed = Callable[[frozenset[str] | None], object]

_TOPIC = "documents:"
LONGEST = 300.0
"""Seconds after which everything is looked at again: whoever changes a document may die before it is told."""


def topic_of(collection: str) -> str:
    """Return the topic of notices about the documents of a collection."""
    return _TOPIC + collection


class Watchers:
    """Calls those who watch a collection: with the keys of the documents that changed, or None for any."""

    def __init__(self, reactor: Timers) -> None:
        self._reactor = reactor
        self._watching: defaultdict[str, list[Changed]] = defaultdict(list)
        self._timer: DelayedCall | None = None

    def start(self) -> None:
        """Begin to have everything looked at now and then."""
        self._timer = self._reactor.callLater(LONGEST, self._look_again)

    def stop(self) -> None:
        """Call nobody any more."""
        self._watching.clear()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def add(self, collection: str, changed: Changed) -> None:
        """Call ``changed`` from now on."""
        self._watching[collection].append(changed)

    def take(self, notice: Notice) -> None:
        """Tell what a notice of another process says."""
        if notice.topic.startswith(_TOPIC):
            keys = None if notice.items is None else frozenset(str(each) for each in notice.items)
            self._tell(notice.topic.removeprefix(_TOPIC), keys)

    def all_may_have_changed(self) -> None:
        """Have everything looked at."""
        for collection in tuple(self._watching):
            self._tell(collection, None)

    def _look_again(self) -> None:
        self.all_may_have_changed()
        self.start()

    def _tell(self, collection: str, keys: frozenset[str] | None) -> None:
        for changed in self._watching.get(collection, ()):
            try:
                changed(keys)
            except Exception:  # noqa: BLE001 - the fault of one must not keep it from the others
                _log.failure("a change of documents by another process was not taken")
