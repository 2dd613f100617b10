"""The route ``GET {prefix}/events``: a stream of occurrences."""

from __future__ import annotations

import re
from collections.abc import Callable

from stackit.api.admin import AdminRequest, BodyStream, Response, Route, error
from stackit.api.schema import Parameter
from stackit.live.feed import Feed
from stackit.live.filters import parse_filter
from stackit.live.places import Full, Places
from stackit.text.addresses import client_network

_ID = re.compile(r"[\x21-\x7e]{1,100}", re.ASCII)
_HEADERS = {"X-Accel-Buffering": "no"}  # nginx would hold back what is small
_RETRY_AFTER = "5"
_FOR_OPERATORS = frozenset({"audit"})
"""Names of what a viewer does not see: who changed what, and from where."""
_CONTENT_TYPE = "text/event-stream"
_FULL: dict[Full, tuple[int, str]] = {
    "address": (429, "too many streams from this address: close one, or come again later"),
    "person": (429, "too many streams of yours: close one, or come again later"),
    "all": (503, "too many streams: come again later"),
}


WhenEnded = Callable[[str, Callable[[], None]], Callable[[], None]]
"""Has a function called when the session of a key ends; returns one that calls it off."""


def _no_session(_key: str, _tell: Callable[[], None]) -> Callable[[], None]:
    return lambda: None


def live_routes(feed: Feed, places: Places, when_ended: WhenEnded = _no_session) -> list[Route]:
    """Return the route of the stream. ``when_ended`` is that of the sessions, whose streams end with them."""
    stream = _Stream(feed, places, when_ended)
    return [
        Route(
            "GET",
            "{prefix}/events",
            stream.begin,
            query=(
                Parameter("repo", "Only what is about these repositories, one or several with commas."),
                Parameter("name", "Only occurrences of these names, one or several with commas."),
                Parameter(
                    "last_event_id", "Go on behind the event with this id, as the header Last-Event-ID says, too."
                ),
            ),
            summary="Watch what happens, as server-sent events.",
            returns=str,
            errors={429: "Too many streams of this address or this person.", 503: "Too many streams in all."},
            content_type=_CONTENT_TYPE,
        )
    ]


class _Stream:
    def __init__(self, feed: Feed, places: Places, when_ended: WhenEnded) -> None:
        self._when_ended = when_ended
        self._feed = feed
        self._places = places

    def begin(self, request: AdminRequest) -> Response:
        """Return the answer whose stream the feed writes."""
        try:
            wanted = parse_filter(request.query, _FOR_OPERATORS if request.role != "operator" else frozenset())
        except ValueError as problem:
            return error(400, str(problem))
        last_id = request.last_event_id or request.query.get("last_event_id") or None
        if last_id is not None and not _ID.fullmatch(last_id):
            return error(400, "last_event_id: expected the id of an event")
        if self._feed.stopping:
            return _later(503, "stackit stops: come again soon")
        address, person = client_network(request.client), request.by
        is_known = request.role == "operator" or bool(request.session)
        full = self._places.full(address, person, is_known=is_known)
        if full is not None:
            return _later(*_FULL[full])

        def write(stream: BodyStream) -> None:
            self._places.take(address, person)
            stream.when_ended(lambda _: self._places.leave(address, person))
            self._feed.join(stream, wanted, last_id)
            if request.session:
                call_off = self._when_ended(request.session, stream.finish)
                stream.when_ended(lambda _: call_off())

        return Response(content_type=_CONTENT_TYPE, headers=_HEADERS, stream=write)


def _later(status: int, text: str) -> Response:
    return Response(status=status, body={"error": text}, headers={"Retry-After": _RETRY_AFTER})
