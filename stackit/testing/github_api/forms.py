"""Forms that browsers and login clients send, and the pages they see."""

from __future__ import annotations

import html
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode, urlsplit

from stackit.testing.github_api.answers import ApiAnswer, ApiRequest


def fields(request: ApiRequest) -> dict[str, str]:
    """Return the fields of a body, which is a form or JSON; those of the query where it has none."""
    if not request.body:
        return dict(request.query)
    if request.headers.get("content-type", "").startswith("application/json"):
        found = request.object()
        return {name: value for name, value in found.items() if isinstance(value, str)}
    return dict(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))


def wants_json(request: ApiRequest) -> bool:
    """Return whether the client asks for JSON: without asking it gets a form."""
    return "json" in request.headers.get("accept", "")


def form(values: Mapping[str, object]) -> ApiAnswer:
    """Return an answer as login clients get it by default."""
    return ApiAnswer(
        body=urlencode(dict(values)).encode(), content_type="application/x-www-form-urlencoded; charset=utf-8"
    )


def page(title: str, text: str, status: int = 200) -> ApiAnswer:
    """Return a page for people."""
    shown = f"<!DOCTYPE html><title>{html.escape(title)}</title><h1>{html.escape(title)}</h1><p>{html.escape(text)}</p>"
    return ApiAnswer(status=status, body=shown.encode(), content_type="text/html; charset=utf-8")


def redirect(url: str, parameters: Mapping[str, str]) -> ApiAnswer:
    """Send a browser to a URL with more parameters in its query."""
    separator = "&" if urlsplit(url).query else "?"
    return ApiAnswer(status=302, headers={"Location": f"{url}{separator}{urlencode(parameters)}"})
