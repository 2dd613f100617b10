"""The pages of a login that did not succeed. One that did has none: the browser goes on to where it wanted to be."""

from __future__ import annotations

from html import escape

from stackit.api.admin import Response
from stackit.github.pages import page

LOGIN = "/login"
"""The page to log in, which the admin side has."""


def refused(problem: str, status: int) -> Response:
    """Return the page that says why somebody is not logged in, and the way out."""
    content = f'<p>{escape(problem)}.</p>\n<p><a href="{LOGIN}">Log in again</a></p>'
    return page("stackit: not logged in", "You are not logged in", content, status=status)
