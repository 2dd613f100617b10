"""The deliveries of a webhook as GitHub's API lists them: newest first, kept for days, and listed with a lag.

The keys are those of GitHub's OpenAPI description, ``hook-delivery-item`` and ``hook-delivery``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs

import msgspec

from stackit.testing.deliveries import SignedDelivery
from stackit.testing.objects import Json, utc

DAY = 86_400.0
RETENTION = 3 * DAY
"""Seconds for which github.com keeps deliveries. GitHub Enterprise Server: seven days."""

_STATUSES: Mapping[str, Callable[[int], bool]] = {
    "success": lambda code: 200 <= code < 400,
    "failure": lambda code: 400 <= code < 600,
}


class Keeping(msgspec.Struct):
    """How long deliveries are kept, and how late they are listed; both in seconds, and free to change."""

    retention: float = RETENTION
    listing_lag: float = 0.0


class DeliveryRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of a delivery. ``delivered_at`` and ``throttled_at`` are epoch seconds, ``duration`` is seconds.

    ``status_code`` is 0 where GitHub never had an answer to judge. ``answer_headers`` and ``answer_body`` are None
    where none came.
    """

    id: int
    guid: str
    delivered_at: float
    redelivery: bool
    duration: float
    status: str
    status_code: int
    event: str
    action: str | None
    installation_id: int | None
    repository_id: int | None
    throttled_at: float | None
    url: str
    sent: SignedDelivery
    payload: Mapping[str, Any] | bytes
    answer_headers: Mapping[str, str] | None
    answer_body: str | None

    @property
    def ok(self) -> bool:
        """Return whether the receiver took it."""
        return _STATUSES["success"](self.status_code)

    def item(self) -> Json:
        """Return it as an element of a list."""
        return {
            "id": self.id,
            "guid": self.guid,
            "delivered_at": utc(int(self.delivered_at)),
            "redelivery": self.redelivery,
            "duration": round(self.duration, 2),
            "status": self.status,
            "status_code": self.status_code,
            "event": self.event,
            "action": self.action,
            "installation_id": self.installation_id,
            "repository_id": self.repository_id,
            "throttled_at": None if self.throttled_at is None else utc(int(self.throttled_at)),
        }

    def whole(self) -> Json:
        """Return it with request and response.

        The payload is an object inside the JSON, with its keys in another order: the bytes that were signed cannot
        be had from it.
        """
        return {
            **self.item(),
            "url": self.url,
            "request": {"headers": dict(self.sent.headers), "payload": _reordered(self.sent)},
            "response": {
                "headers": {} if self.answer_headers is None else dict(self.answer_headers),
                "payload": self.answer_body,
            },
        }


class DeliveryLog:
    """The last ``most`` records of one webhook, by ids that grow. ``now`` is GitHub's clock."""

    def __init__(self, now: Callable[[], float], keeping: Keeping, *, most: int) -> None:
        self._now = now
        self._keeping = keeping
        self._records: deque[DeliveryRecord] = deque(maxlen=most)

    def __iter__(self) -> Iterator[DeliveryRecord]:
        """Iterate over what is kept, oldest first."""
        oldest = self._now() - self._keeping.retention
        while self._records and self._records[0].delivered_at < oldest:
            self._records.popleft()
        return iter(list(self._records))

    def add(self, record: DeliveryRecord) -> None:
        """Add a record."""
        self._records.append(record)

    def get(self, number: int) -> DeliveryRecord | None:
        """Return the record with an id, listed or not yet; None if there is none (any more)."""
        return next((each for each in self if each.id == number), None)

    def latest(self, guid: str) -> DeliveryRecord | None:
        """Return the newest attempt of a delivery."""
        return next((each for each in reversed(list(self)) if each.guid == guid), None)

    def listed(self, status: str | None = None) -> list[DeliveryRecord]:
        """Return what a list shows, newest first.

        ``status`` is ``success`` or ``failure``, which are codes of 200-399 and 400-599: a code of 0 is neither.
        """
        newest = self._now() - self._keeping.listing_lag
        fits = _STATUSES[status] if status is not None else lambda _: True
        return [each for each in reversed(list(self)) if each.delivered_at <= newest and fits(each.status_code)]


def _reordered(sent: SignedDelivery) -> Any:
    text = sent.body
    if sent.headers["Content-Type"] != "application/json":
        text = parse_qs(text.decode())["payload"][0].encode()
    try:
        decoded = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    return dict(sorted(decoded.items())) if isinstance(decoded, dict) else None
