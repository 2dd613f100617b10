"""The overview: is all well, what waits, what came last, and the panels of plugins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from markupsafe import Markup

from stackit.api.pages import Page, PageError, PageRequest, Panel
from stackit.html.templates import Templates
from stackit.web.pages.plot import peaks, plot, summary

_LATEST = "10"

PanelBody = Callable[[Panel, PageRequest], Awaitable[Markup | None]]


def overview(panels: Sequence[Panel], body_of: PanelBody) -> Page:
    """Return the page. ``body_of`` returns the HTML of a panel, None for one that cannot be shown now."""

    async def show(request: PageRequest) -> Markup:
        status = await request.get("/status")
        history = await request.get("/history")
        latest, problem = [], ""
        try:
            latest = (await request.get("/deliveries", {"limit": _LATEST}))["deliveries"]
        except PageError as refused:
            problem = str(refused)
        bodies = [(panel, await body_of(panel, request)) for panel in panels]
        return Templates("stackit.web.pages").render(
            "overview.html",
            request=request,
            status=status,
            latest=latest,
            problem=problem,
            panels=bodies,
            plot=plot(history),
            peaks=peaks(history),
            summary=summary(history),
        )

    return Page("/", "Overview", show, nav="Overview")
