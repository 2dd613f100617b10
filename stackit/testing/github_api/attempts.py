"""The record of an attempt: what GitHub notes of a delivery, whatever became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from stackit.testing.deliveries import SignedDelivery
from stackit.testing.github_api.delivery_log import DeliveryRecord
from stackit.testing.webhooks import Posted

Mishap = Literal["lost", "unlisted", "refused", "timed_out", "throttled"]
"""What GitHub can do to a delivery.

``lost``: nothing is sent; it is listed with status code 0, which is neither success nor failure. ``unlisted``: the
same, and no list will show it. ``refused``: as if the receiver were down (502). ``timed_out``: it is sent, and the
answer came too late for GitHub (504). ``throttled``: held back, and listed with ``throttled_at``.
"""


def recorded(
    made: SignedDelivery,
    event: str,
    payload: Mapping[str, Any] | bytes,
    posted: Posted,
    *,
    number: int,
    url: str,
    began: float,
    redelivery: bool,
    mishap: Mishap | None,
) -> DeliveryRecord:
    """Return the record of an attempt that has ended. ``number`` is its id."""
    code, status = _judged(posted, mishap)
    about = payload if isinstance(payload, Mapping) else {}
    return DeliveryRecord(
        id=number,
        guid=made.guid,
        delivered_at=began,
        redelivery=redelivery,
        duration=posted.seconds,
        status=status,
        status_code=code,
        event=event,
        action=about.get("action"),
        installation_id=_id_of(about, "installation"),
        repository_id=_id_of(about, "repository"),
        throttled_at=began if mishap == "throttled" else None,
        url=url,
        sent=made,
        payload=payload,
        answer_headers=posted.headers,
        answer_body=None if posted.status is None else posted.body.decode("utf-8", "replace"),
    )


def _judged(posted: Posted, mishap: Mishap | None) -> tuple[int, str]:
    """Return the status code and the status text of GitHub's list."""
    if posted.status is not None:
        return posted.status, "OK" if posted.status < 300 else f"Invalid HTTP Response: {posted.status}"
    if posted.late:
        return 504, "timed out"
    if mishap in ("lost", "unlisted", "throttled"):
        return 0, "throttled" if mishap == "throttled" else ""
    return 502, "failed to connect to host"


def _id_of(payload: Mapping[str, Any], key: str) -> int | None:
    found = payload.get(key)
    number = found.get("id") if isinstance(found, Mapping) else None
    return number if isinstance(number, int) else None
