"""The list of deliveries in pages, which cursors lead through: newest first, and never by number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlencode

from stackit.testing.github_api.answers import ApiAnswer, ApiRefused, ApiRequest, not_found
from stackit.testing.github_api.delivery_log import DeliveryLog, DeliveryRecord
from stackit.testing.github_api.paging import BIGGEST_PAGE, USUAL_PAGE

_CURSOR = re.compile(r"v1_([0-9]{1,18})")


def delivery_page(request: ApiRequest, log: DeliveryLog) -> ApiAnswer:
    """Answer with the page that ``per_page``, ``cursor`` and ``status`` ask for."""
    status = request.query.get("status")
    if status not in (None, "success", "failure"):
        raise ApiRefused(422, "Invalid request.\n\nstatus must be success or failure.")
    text = request.query.get("per_page", "")
    size = min(int(text), BIGGEST_PAGE) if text.isascii() and text.isdigit() and int(text) > 0 else USUAL_PAGE
    listed = log.listed(status)
    start = _start(request.query.get("cursor"), listed)
    cursors = {}
    if start + size < len(listed):
        cursors["next"] = listed[start + size].id
    if start > 0:
        cursors["prev"] = listed[max(0, start - size)].id
    links = ", ".join(f'<{_url(request, number)}>; rel="{name}"' for name, number in cursors.items())
    page = [each.item() for each in listed[start : start + size]]
    return ApiAnswer(body=page, headers={"Link": links} if links else {})


def delivery_of(request: ApiRequest, log: DeliveryLog) -> DeliveryRecord:
    """Return the delivery that the path names. Raises ApiRefused."""
    number = request.parameters["delivery_id"]
    if not (number.isascii() and number.isdigit()):
        raise ApiRefused(400, "delivery_id must be an integer")
    found = log.get(int(number))
    if found is None:
        raise not_found()
    return found


def _start(cursor: str | None, listed: Sequence[DeliveryRecord]) -> int:
    """Return where a page begins. A cursor whose delivery is gone leads to the next older one."""
    if cursor is None:
        return 0
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise ApiRefused(400, "Invalid cursor")
    return next((index for index, each in enumerate(listed) if each.id <= int(match[1])), len(listed))


def _url(request: ApiRequest, number: int) -> str:
    return f"{request.api_url}{request.path}?{urlencode({**request.query, 'cursor': f'v1_{number}'})}"
