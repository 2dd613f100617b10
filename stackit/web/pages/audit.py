"""The page of the audit, for operators."""

from __future__ import annotations

from markupsafe import Markup

from stackit.api.pages import Page, PageRequest
from stackit.html.templates import Templates


def audit_page() -> Page:
    """Return the page."""
    return Page("/audit", "Audit", _show, nav="Audit")


async def _show(request: PageRequest) -> Markup:
    page = await request.get("/audit", {name: each for name, each in request.query.items() if name == "cursor"})
    return Templates("stackit.web.pages").render(
        "audit.html", request=request, query=request.query, records=page["audit"], next=page["next"]
    )
