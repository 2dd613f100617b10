"""``GET {prefix}/history`` of the admin side: the last hour."""

from __future__ import annotations

import msgspec

from stackit.api.admin import AdminRequest, Response, Route
from stackit.api.schema import Timestamp
from stackit.history.history import History
from stackit.history.minutes import merged, quantile
from stackit.text.times import rfc3339


class HistoryMinute(msgspec.Struct, frozen=True):
    """A minute, by its begin. ``median`` and ``p95`` are seconds from a push to its commit in the mirror."""

    at: Timestamp
    deliveries: int
    visible: int
    median: float | None
    p95: float | None


class LastHour(msgspec.Struct, frozen=True):
    """The last hour as a whole and by its minutes, oldest first; the last minute still runs.

    ``visible`` are pushes that became visible; ``median`` and ``p95`` are the seconds that it took, to 2.5 %.
    """

    deliveries: int
    visible: int
    median: float | None
    p95: float | None
    minutes: list[HistoryMinute]


def history_routes(history: History) -> list[Route]:
    """Return the route."""

    def show(_request: AdminRequest) -> Response:
        minutes = history.last()
        shown = []
        for each in minutes:
            buckets = merged([each])
            median, p95 = _rounded(quantile(buckets, 0.5)), _rounded(quantile(buckets, 0.95))
            shown.append(HistoryMinute(rfc3339(each.number * 60), each.deliveries, buckets.total(), median, p95))
        whole = merged(minutes)
        return Response(
            body=LastHour(
                deliveries=sum(each.deliveries for each in minutes),
                visible=whole.total(),
                median=_rounded(quantile(whole, 0.5)),
                p95=_rounded(quantile(whole, 0.95)),
                minutes=shown,
            )
        )

    return [
        Route(
            "GET",
            "{prefix}/history",
            show,
            query=(),
            summary="Show the last hour: deliveries, and how soon pushes were visible.",
            returns=LastHour,
        )
    ]


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else float(f"{seconds:.3g}")
