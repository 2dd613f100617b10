"""The frame of every page: its head, its menu, its notice, and the headers that bind the browser."""

from __future__ import annotations

from collections.abc import Sequence

from stackit.api.admin import Response
from stackit.api.occurrences import OCCURRENCES
from stackit.api.pages import PageRequest, View
from stackit.api.version import VERSION
from stackit.html.templates import Templates
from stackit.web.pages.notices import Notice
from stackit.web.pages.static_files import static_files

_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:;"
    " form-action {form_action}; base-uri 'none'; frame-ancestors 'none'"
)
_REASONS = {
    400: "That does not work",
    401: "Not logged in",
    403: "Not allowed",
    404: "Not found",
    405: "That does not work",
    409: "Not now",
    421: "Unknown host",
    429: "Not now",
    503: "Not now",
}

Menu = Sequence[tuple[str, str]]
"""The names and paths of the pages that the menu has."""


def framed(
    request: PageRequest, view: View, *, title: str = "", menu: Menu = (), here: str = "", notice: Notice | None = None
) -> Response:
    """Return a whole page. ``here`` is the path of the entry of the menu to which it belongs."""
    html = Templates("stackit.web.pages").render(
        "layout.html",
        request=request,
        view=view,
        title=view.title or title,
        menu=menu,
        here=here,
        notice=notice,
        static={name: each.path for name, each in static_files().items()},
        occurrences=" ".join(OCCURRENCES),
        version=VERSION,
    )
    return Response(
        status=view.status,
        body=html.encode("utf-8", "backslashreplace"),
        content_type="text/html; charset=utf-8",
        headers={
            "Content-Security-Policy": _POLICY.format(form_action=" ".join(("'self'", *view.form_origins))),
            # With no-referrer, a browser would not tell the origin of a form either.
            "Referrer-Policy": "same-origin",
        },
    )


def problem_view(status: int, text: str) -> View:
    """Return what is shown where a page cannot be."""
    body = Templates("stackit.web.pages").render("problem.html", text=text, status=status)
    return View(body=body, title=_REASONS.get(status, "Something went wrong"), status=status)
