"""The admin route of recovery: look for missed deliveries now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from stackit.api.admin import AdminRequest, Response, Route, error, unavailable
from stackit.api.errors import JournalError
from stackit.api.schema import Parameter
from stackit.github.recovery.recovery import Recovery
from stackit.github.recovery.report import ShownReport
from stackit.text.times import parse_time


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in the list of each hook; or the number of losses that were acknowledged, if that was asked."""

    hooks: list[ShownReport] | msgspec.UnsetType = msgspec.UNSET
    acknowledged: int | msgspec.UnsetType = msgspec.UNSET


def recovery_routes(recovery: Recovery, now: Callable[[], float]) -> list[Route]:
    """Return ``POST {prefix}/recover``. ``now`` is the wall clock."""

    async def recover(request: AdminRequest) -> Response:
        flags = {name: request.query.get(name, "0") for name in ("dry_run", "acknowledge")}
        for name, value in flags.items():
            if value not in ("0", "1"):
                return error(400, f"{name}: expected 1 or 0")
        since = None
        if "since" in request.query:
            try:
                since = parse_time(request.query["since"], now())
            except ValueError as problem:
                return error(400, f"since: {problem}")
            if since > now():
                return error(400, "since: expected a time that is over")
        try:
            if flags["acknowledge"] == "1":
                if since is not None or flags["dry_run"] == "1":
                    return error(400, "acknowledge: goes with nothing else")
                return Response(body=Recovered(acknowledged=await recovery.losses.acknowledge()))
            reports = await recovery.recover(since, dry_run=flags["dry_run"] == "1")
        except JournalError as problem:
            return unavailable(problem)
        return Response(body=Recovered(hooks=[each.shown() for each in reports]))

    return [
        Route(
            "POST",
            "{prefix}/recover",
            recover,
            query=(
                Parameter("since", "Look back to this time: RFC 3339, or a duration ago (2h)."),
                Parameter("dry_run", "Whether to take nothing.", Literal["0", "1"]),
                Parameter("acknowledge", "Whether only to say that the losses are known.", Literal["0", "1"]),
            ),
            node="leader",
            summary="Look for missed deliveries in GitHub's lists, and take them.",
            returns=Recovered,
        )
    ]
