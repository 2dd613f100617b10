"""The page to log in at."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

import msgspec

from stackit.api.admin import Response
from stackit.web.pages.static_files import static_files

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Log in · stackit</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="{icon}" type="image/svg+xml">
<link rel="stylesheet" href="{style}"></head>
<body><main class="narrow"><h1><img src="{icon}" alt="" width="28" height="28"> Log in to stackit</h1>
<div class="card">
{content}
</div>
</main></body>
</html>
"""
_FORM = """<form class="form" method="post" action="/login">
<div class="field"><label for="token">API token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required aria-describedby="where"></div>
<p class="muted" id="where">What a token file of stackit has, or STACKIT_API_TOKEN.</p>
<input type="hidden" name="next" value="{following}">
<p><button type="submit">Log in</button></p>
</form>
"""
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


class LoginWay(msgspec.Struct, frozen=True):
    """Another way to log in, as a link of the page: its text, and its path, which takes ``next``."""

    label: str
    path: str


def login_page(
    following: str, *, has_tokens: bool, ways: Sequence[LoginWay] = (), problem: str = "", status: int = 200
) -> Response:
    """Return the page. ``following`` is where one goes on to, ``problem`` why one is here again."""
    parts = [f'<p class="callout callout-bad" role="alert">{escape(problem)}</p>'] if problem else []
    for way in ways:
        target = f"{way.path}?next={quote(following, safe='/')}"
        parts.append(f'<p><a class="button" href="{escape(target)}">{escape(way.label)}</a></p>')
    if has_tokens:
        parts.append(_FORM.format(following=escape(following)))
    if not parts:
        parts.append('<p>Nobody needs to log in here. <a href="/">Go on</a></p>')
    files = static_files()
    icon, style = files["icon.svg"].path, files["style.css"].path
    html = _PAGE.format(icon=icon, style=style, content="\n".join(parts))
    return Response(
        status=status,
        body=html.encode(),
        content_type="text/html; charset=utf-8",
        # With no-referrer, a browser would not tell the origin of the form either.
        headers={"Content-Security-Policy": _POLICY, "Referrer-Policy": "same-origin"},
    )
