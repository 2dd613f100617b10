"""The pages of the mirrors, and the panel on the overview. All that they show and do is asked of the API."""

from __future__ import annotations

import json
from typing import Any

from markupsafe import Markup

from stackit import Done, Page, PageError, PageRequest, Panel, Templates, View
from stackit.plugins.mirror.sync.status import STATES

_LIST = "/repos"
_ONE = "/repos/{owner}/{name}"
_ROWS = "50"
_LATEST = "10"
_LATEST_CHANGES = 5
_MOST_REFS = 10
_LARGEST = 256 * 1024
"""Bytes of a ref change whose refs are shown."""


def mirror_pages() -> list[Page | Panel]:
    """Return the pages and the panel."""
    return [
        Page(_LIST, "Repositories", _show_list, nav="Repositories", actions={"add": _add}),
        Page(_ONE, "Repository", _show_one, actions={"sync": _sync, "accept": _accept, "remove": _remove}),
        Panel("Mirrors by state", _show_states, path=_LIST),
    ]


async def _show_states(request: PageRequest) -> Markup:
    states = (await request.get("/repos", {"limit": "1"}))["states"]
    return _templates().render("states.html", request=request, states=states)


async def _show_list(request: PageRequest) -> View:
    query = {name: request.query[name] for name in ("q", "state", "cursor") if name in request.query}
    answer: dict[str, Any] = {"repos": [], "next": None, "states": {}}
    problem = ""
    try:
        answer = await request.get("/repos", {**query, "limit": _ROWS})
    except PageError as refused:
        problem = str(refused)
    body = _templates().render(
        "repositories.html", request=request, query=query, problem=problem, all_states=STATES, **answer
    )
    return View(body=body, status=400 if problem else 200)


async def _show_one(request: PageRequest) -> View:
    path = _path(request)
    repository = await request.get(path)
    query = {name: request.query[name] for name in ("q", "cursor") if name in request.query}
    refs, refs_problem = await _asked(request, f"{path}/refs", {**query, "limit": _ROWS})
    history, _ = await _asked(request, f"{path}/history")
    of_it = {"repo": repository["name"], "limit": _LATEST}
    deliveries, deliveries_problem = await _asked(request, "/deliveries", of_it)
    changes, _ = await _asked(request, "/deliveries", of_it | {"event": "refs_changed", "limit": str(_LATEST_CHANGES)})
    moved = [await _refs_of(request, each) for each in changes.get("deliveries", [])]
    body = _templates().render(
        "repository.html",
        request=request,
        repository=repository,
        base=_ONE.format(**dict(zip(("owner", "name"), repository["name"].split("/"), strict=True))),
        query=query,
        refs=refs,
        refs_problem=refs_problem,
        history=history.get("history", []),
        deliveries=deliveries.get("deliveries", []),
        deliveries_problem=deliveries_problem,
        changes=moved,
    )
    lead = _templates().render("repository_lead.html", repository=repository)
    return View(body=body, title=repository["name"], lead=lead)


async def _refs_of(request: PageRequest, event: dict[str, Any]) -> dict[str, Any]:
    """Return some of the refs that an event moved; none for one that is large, or kept no longer."""
    answer = await request.api("GET", f"/deliveries/{event['id']}", query={"payload": "1"})
    body = answer.body
    if isinstance(body, bytes):
        body = _decoded(body) if len(body) <= _LARGEST else {}
    payload = body.get("payload") if isinstance(body, dict) else None
    found = payload.get("changes") if isinstance(payload, dict) else payload
    refs = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    return {"id": event["id"], "at": event["received_at"], "refs": refs[:_MOST_REFS], "count": len(refs)}


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:  # a number of thousands of digits, which no ref change has: somebody sent it as one
        return {}


async def _asked(request: PageRequest, path: str, query: dict[str, str] | None = None) -> tuple[dict[str, Any], str]:
    """Return an answer of the API, or why there is none: the rest of the page is shown without it."""
    try:
        return await request.get(path, query or {}), ""
    except PageError as refused:
        return {}, str(refused)


async def _add(request: PageRequest) -> Done:
    url = request.form.get("url", "").strip()
    body = {"name": request.form.get("name", "").strip()} | ({"url": url} if url else {})
    added = await request.send("POST", "/repos", body=body)
    return Done(f"{added['name']} is mirrored from now on.", f"/repos/{added['name']}")


async def _sync(request: PageRequest) -> Done:
    return _synced(await request.send("POST", f"{_path(request)}/sync"))


async def _accept(request: PageRequest) -> Done:
    return _synced(await request.send("POST", f"{_path(request)}/sync", {"accept": "deletions"}))


def _synced(answer: dict[str, Any]) -> Done:
    count = len(answer["changes"])
    changed = "no ref changed" if not count else "1 ref changed" if count == 1 else f"{count} refs changed"
    return Done(f"In step: {changed}.")


async def _remove(request: PageRequest) -> Done:
    removed = await request.send("DELETE", _path(request))
    at = [f"node {removed['node']}"] if "node" in removed else []
    at += [removed["mirror"]] if removed["mirror"] else []
    kept = f" Its mirror stays at {', '.join(at)}." if at else ""
    return Done(f"{removed['name']} is mirrored no more.{kept}", _LIST)


def _path(request: PageRequest) -> str:
    return f"/repos/{request.args['owner']}/{request.args['name']}"


def _templates() -> Templates:
    return Templates("stackit.plugins.mirror.pages")
