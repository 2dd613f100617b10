"""The pages on the way to GitHub and back: plain, and with nothing in them that anybody else could have put there."""

from __future__ import annotations

from html import escape

from stackit.api.admin import Response

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
{link}<main class="narrow">
<h1>{heading}</h1>
<div class="card">
{content}
</div>
</main>
</html>
"""


def page(
    title: str,
    heading: str,
    content: str,
    *,
    status: int = 200,
    form_action: str = "'none'",
    stylesheet: str = "",
    headers: dict[str, str] | None = None,
) -> Response:
    """Return a page. ``content`` is HTML, the rest is text; ``form_action`` is where its form may lead,
    ``stylesheet`` the path of a stylesheet of this site.
    """
    link = f'<link rel="stylesheet" href="{escape(stylesheet)}">\n' if stylesheet else ""
    style = "'self'" if stylesheet else "'none'"
    policy = (
        f"default-src 'none'; style-src {style}; base-uri 'none'; form-action {form_action}; frame-ancestors 'none'"
    )
    return Response(
        status=status,
        body=_PAGE.format(title=escape(title), heading=escape(heading), link=link, content=content).encode(),
        content_type="text/html; charset=utf-8",
        headers={
            "Content-Security-Policy": policy,
            # With no-referrer, a browser would not tell the origin of a form either.
            "Referrer-Policy": "same-origin",
            **(headers or {}),
        },
    )


def cookie_of(header: str, wanted: str) -> str:
    """Return the value of a cookie in a header ``Cookie``, "" without one.

    It is read as it was given: ``http.cookies`` takes long to unescape what nobody escaped.
    """
    for pair in header.split(";"):
        name, _, value = pair.strip().partition("=")
        if name == wanted:
            return value
    return ""
