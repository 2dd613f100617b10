"""The route of discovery: ``POST {prefix}/discover`` reads all listings now, or says what that would change."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Protocol

import msgspec

from stackit.api.admin import AdminRequest, Response, Route, error
from stackit.github.discovery.report import ListingReport


class LookNow(Protocol):
    """Reads all listings."""

    def __call__(self, *, accept: bool, dry: bool) -> Awaitable[Sequence[ListingReport]]:
        """Return the outcome of each."""


def discovery_routes(look_now: LookNow) -> list[Route]:
    """Return the routes."""

    async def discover(request: AdminRequest) -> Response:
        query = request.query
        if query.get("dry_run", "1") != "1":
            return error(400, "dry_run: expected 1")
        if query.get("accept", "removals") != "removals":
            return error(400, "accept: expected removals")
        reports = await look_now(accept="accept" in query, dry="dry_run" in query)
        return Response(body={"listings": [_shown(each) for each in reports]})

    return [Route("POST", "{prefix}/discover", discover, query=("dry_run", "accept"))]


def _shown(report: ListingReport) -> dict[str, object]:
    shown: dict[str, object] = msgspec.to_builtins(report)
    del shown["retry_at"]
    return shown | {"complete": report.problem is None}
