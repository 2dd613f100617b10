"""The page of the fleet: its nodes and their work, its database, and a node that is to give its work away."""

from __future__ import annotations

from stackit.api.pages import Page, PageError, PageRequest, View
from stackit.html.templates import Templates


def fleet_page() -> Page:
    """Return the page."""
    return Page("/fleet", "Fleet", _show, nav="Fleet", actions={"drain": _drain, "undrain": _undrain})


async def _show(request: PageRequest) -> View:
    fleet = await request.get("/fleet")
    return View(body=Templates("stackit.fleet").render("fleet.html", request=request, **fleet))


async def _drain(request: PageRequest) -> str:
    answer = await request.send("POST", f"/fleet/nodes/{_node(request)}/drain")
    told = answer["warning"] or "it finishes what it has in hand, and its work goes to others"
    return f"{answer['node']} is draining: {told}."


async def _undrain(request: PageRequest) -> str:
    answer = await request.send("POST", f"/fleet/nodes/{_node(request)}/undrain")
    return f"{answer['node']} takes its part of the work again."


def _node(request: PageRequest) -> str:
    name = request.form.get("node", "")
    if not name:
        raise PageError(400, "The form names no node.")
    return name
