"""The admin route of recovery: look for missed deliveries now."""

from __future__ import annotations

from collections.abc import Callable

from stackit.api.admin import AdminRequest, Response, Route, error, unavailable
from stackit.api.errors import JournalError
from stackit.github.recovery.recovery import Recovery
from stackit.text.times import parse_time


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
                return Response(body={"acknowledged": await recovery.losses.acknowledge()})
            reports = await recovery.recover(since, dry_run=flags["dry_run"] == "1")
        except JournalError as problem:
            return unavailable(problem)
        return Response(body={"hooks": [each.shown() for each in reports]})

    return [Route("POST", "{prefix}/recover", recover, query=("since", "dry_run", "acknowledge"))]
