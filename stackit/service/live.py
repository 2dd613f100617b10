"""What tells people and programs of what happens, as it happens, and of the last hour."""

from __future__ import annotations

from collections.abc import Callable

from stackit.api.admin import Route
from stackit.api.metrics import Collector
from stackit.api.reactor import Reactor
from stackit.history.history import History
from stackit.history.routes import history_routes
from stackit.journal import JournalProtocol
from stackit.live.feed import Feed
from stackit.live.metrics import LiveMetrics
from stackit.live.places import Places
from stackit.live.routes import live_routes
from stackit.secrets.redactor import Redactor
from stackit.web.sessions.sessions import Sessions


class LiveParts:
    """The ``feed`` and the ``history``, both of which observe as plugins do."""

    def __init__(
        self, journal: JournalProtocol, *, reactor: Reactor, now: Callable[[], float], redact: Redactor, node: str
    ) -> None:
        """``now`` is the wall clock, ``node`` the name of this node."""
        self.feed = Feed(reactor=reactor, now=now, redact=redact, node=node)
        self.history = History(journal, reactor=reactor, now=now, node=node)
        self._places = Places()

    def routes(self, sessions: Sessions) -> list[Route]:
        """Return the routes of both. A stream ends with its session."""
        return [*history_routes(self.history), *live_routes(self.feed, self._places, sessions.when_ended)]

    def collectors(self) -> list[tuple[str, Collector]]:
        """Return the metrics of the feed."""
        return [("live", LiveMetrics(self.feed, self._places))]
