"""The deliveries of a hook, listed by GitHub's API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

import msgspec

from stackit.api.errors import StackitError
from stackit.github.api import ApiClient, ApiError
from stackit.github.recovery.records import Detail, Listed
from stackit.github.recovery.taking import compact

DAY = 86400.0
LARGEST = 64 * 2**20
"""Bytes of an answer with a payload, which GitHub keeps within 25 MiB."""

_LARGEST_HEADER = 8192


class _Item(msgspec.Struct, frozen=True):
    id: int
    delivered_at: datetime
    guid: str | None = None
    event: str | None = None
    action: str | None = None
    status_code: int | None = None


class _Request(msgspec.Struct, frozen=True):
    headers: dict[str, object] | None = None
    payload: msgspec.Raw = msgspec.Raw(b"null")


class _Delivery(msgspec.Struct, frozen=True):
    id: int
    request: _Request


class ApiSource:
    """A hook whose deliveries are below a route: ``/app/hook/deliveries``, or those of an owner's or a repository's.

    ``values`` are those of the route. The client may do no more than read them. ``retention`` is in seconds; None for
    what GitHub documents for itself and for Enterprise Server.
    """

    def __init__(
        self,
        name: str,
        client: ApiClient,
        *,
        signer: str,
        route: str,
        values: Mapping[str, object] | None = None,
        hook: str | None = None,
        retention: float | None = None,
        refused: Callable[[StackitError], StackitError] | None = None,
    ) -> None:
        """``refused`` takes note that GitHub refuses the credential, and returns what people are told of it."""
        self.name = name
        self.signer = signer
        self.hook = hook
        self.retention = default_retention(client.api_url) if retention is None else retention
        self._client = client
        self._route = route
        self._values = dict(values or {})
        self._refused = refused

    def now(self) -> float:
        """Return the time by GitHub's clock."""
        return self._client.clock.now()

    async def pages(self) -> AsyncIterator[Sequence[Listed]]:
        """List the deliveries, newest first, a hundred to a page. Raises ApiError."""
        try:
            async for page in self._client.pages(self._route, list[_Item], None, **self._values):
                yield [_listed(item) for item in page]
        except ApiError as problem:
            if problem.reason != "unauthorized" or self._refused is None:
                raise
            told = str(self._refused(problem))
            raise ApiError(told, reason=problem.reason, status=problem.status) from None

    async def detail(self, id: int) -> Detail:  # noqa: A002 - the name of GitHub's field
        """Return one delivery with its payload. Raises ApiError."""
        found = await self._client.get(self._route + "/{delivery_id}", _Delivery, None, **self._values, delivery_id=id)
        try:
            payload = compact(found.request.payload)
        except (msgspec.DecodeError, RecursionError):
            raise ApiError(f"delivery {id} of {self.name} has no payload that can be read", reason="shape") from None
        return Detail(_headers(found.request.headers or {}), payload)


def default_retention(api_url: str) -> float:
    """Return for how many seconds the GitHub of an API lists a delivery: three days, or seven on Enterprise Server."""
    return (7 if urlsplit(api_url).path.rstrip("/").endswith("/api/v3") else 3) * DAY


def _listed(item: _Item) -> Listed:
    at = item.delivered_at if item.delivered_at.tzinfo is not None else item.delivered_at.replace(tzinfo=UTC)
    # An entry without a guid stands for itself.
    guid = item.guid or f"github-{item.id}"
    return Listed(item.id, guid, at.timestamp(), item.event or "", item.action, item.status_code or 0)


def _headers(headers: Mapping[str, object]) -> dict[bytes, tuple[bytes, ...]]:
    """Return headers as those of a request; one that no request could have is left out."""
    found: dict[bytes, tuple[bytes, ...]] = {}
    for name, value in headers.items():
        text = str(value)
        if name.isascii() and text.isascii() and len(text) <= _LARGEST_HEADER:
            found[name.lower().encode("ascii")] = (text.encode("ascii"),)
    return found
