"""The pages of deliveries: the list with its filters, and one delivery with its receipt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from stackit.api.events import RefsChanged
from stackit.api.pages import Done, Page, PageError, PageRequest, View
from stackit.html.templates import Templates
from stackit.web.pages.payload import decoded, folded
from stackit.web.pages.timeline import timeline

_FILTERS = ("repo", "event", "state", "subscriber", "delivery", "since", "until")
_LIMIT = "50"
_LARGEST = 512 * 1024
_MOST_CHANGES = 20


def delivery_pages() -> list[Page]:
    """Return the list of deliveries, and the page of one."""
    return [
        Page("/deliveries", "Deliveries", _list, nav="Deliveries"),
        Page("/deliveries/{id}", "Delivery", _show, actions={"replay": _replay}),
    ]


async def _list(request: PageRequest) -> View:
    asked = {name: request.query[name] for name in (*_FILTERS, "cursor") if name in request.query}
    answer = await request.api("GET", "/deliveries", query={**asked, "limit": _LIMIT})
    if not isinstance(answer.body, dict) or (answer.status >= 400 and "error" not in answer.body):
        raise PageError(502, "the list of deliveries cannot be read")
    body = _templates().render(
        "deliveries.html",
        request=request,
        query=asked,
        deliveries=answer.body.get("deliveries", []),
        next=answer.body.get("next"),
        problem=answer.body.get("error", ""),
    )
    return View(body=body, status=200 if answer.status < 400 else answer.status)


async def _show(request: PageRequest) -> View:
    path = f"/deliveries/{request.args['id']}"
    delivery, payload = await _receipt(request, path)
    changes = await _changes(request, delivery)
    body = _templates().render(
        "delivery.html",
        request=request,
        delivery=delivery,
        steps=timeline(delivery),
        payload=None if payload is None else folded(payload),
        changes=changes,
        repository=await _repository(request, delivery["repo"]),
        raw=f"{request.prefix}/deliveries/{quote(delivery['id'], safe='')}?payload=1",
    )
    title = " ".join(filter(None, (delivery["event"], delivery["action"])))
    if delivery["repo"]:
        title = f"{title} in {delivery['repo']}"
    return View(body=body, title=title, lead=_templates().render("delivery_lead.html", delivery=delivery))


async def _repository(request: PageRequest, name: str | None) -> str:
    """Return the path of the page of a repository; "" where none is mirrored by this name."""
    if not name:
        return ""
    answer = await request.api("GET", f"/repos/{name}")
    return f"/repos/{quote(name)}" if answer.status == 200 else ""


async def _receipt(request: PageRequest, path: str) -> tuple[Mapping[str, Any], Any]:
    """Return the receipt, and the payload; None for one that is gone, damaged, or too large for a page."""
    answer = await request.api("GET", path, query={"payload": "1", "traceback": "1"})
    if isinstance(answer.body, bytes) and len(answer.body) <= _LARGEST:
        shown = decoded(answer.body)
        return shown, shown.pop("payload")
    if answer.status == 200 and isinstance(answer.body, dict):
        shown = dict(answer.body)
        return shown, shown.pop("payload", None)
    return await request.get(path, {"traceback": "1"}), None


async def _changes(request: PageRequest, delivery: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the ref changes that a delivery led to, and their own receipts' ids."""
    if delivery["event"] == RefsChanged.name or not delivery["delivery"]:
        return []
    query = {"delivery": delivery["delivery"], "event": RefsChanged.name, "limit": "5"}
    answer = await request.api("GET", "/deliveries", query=query)
    if answer.status != 200:
        return []
    found: list[Mapping[str, Any]] = []
    for each in answer.body["deliveries"]:
        _, payload = await _receipt(request, f"/deliveries/{each['id']}")
        moved = payload.get("changes") if isinstance(payload, dict) else payload
        refs = moved if isinstance(moved, list) else []
        found.append({"id": each["id"], "repo": each["repo"], "refs": refs[:_MOST_CHANGES], "count": len(refs)})
    return found


async def _replay(request: PageRequest) -> Done:
    subscriber = request.form.get("subscriber", "")
    query = {"subscriber": subscriber} if subscriber else {}
    done = await request.send("POST", f"/deliveries/{request.args['id']}/replay", query)
    count = done["replayed"]
    handled = "1 handler runs" if count == 1 else f"{count} handlers run"
    return Done(f"Replayed: {handled} again.")


def _templates() -> Templates:
    return Templates("stackit.web.pages")
