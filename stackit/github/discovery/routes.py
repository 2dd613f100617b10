"""The route of discovery: ``POST {prefix}/discover`` reads all listings now, or says what that would change."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Literal, Protocol

import msgspec

from stackit.api.admin import AdminRequest, Response, Route, error
from stackit.api.schema import Parameter
from stackit.github.discovery.report import ListingReport, RepoReport


class ShownListing(msgspec.Struct, frozen=True, kw_only=True):
    """A listing that was read: what it showed, and what that changes.

    ``problem`` is why it is not ``complete``; ``held`` is why the removal of repositories waits for a person.
    """

    listing: str
    complete: bool
    problem: str | None
    held: str | None
    pages: int
    listed: int
    repos: tuple[RepoReport, ...]


class Discovered(msgspec.Struct, frozen=True):
    """The listings that were read."""

    listings: list[ShownListing]


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
        return Response(body=Discovered([_shown(each) for each in reports]))

    return [
        Route(
            "POST",
            "{prefix}/discover",
            discover,
            query=(
                Parameter("dry_run", "Only say what would change.", Literal["1"]),
                Parameter("accept", "Accept that many repositories vanished.", Literal["removals"]),
            ),
            node="leader",
            summary="Read all listings of repositories now, and follow them.",
            returns=Discovered,
        )
    ]


def _shown(report: ListingReport) -> ShownListing:
    return ShownListing(
        listing=report.listing,
        complete=report.problem is None,
        problem=report.problem,
        held=report.held,
        pages=report.pages,
        listed=report.listed,
        repos=report.repos,
    )
