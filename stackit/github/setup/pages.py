"""The pages that the browser sees. No secret is on them but the state, which goes to GitHub."""

from __future__ import annotations

import json
from html import escape
from urllib.parse import quote, urlsplit

from stackit.api.admin import Response
from stackit.github.pages import page
from stackit.github.setup.manifest import AppWish

OF_NO_USE = "this address is of no use (any more); stackit app create gives another one"


def form(wish: AppWish, state: str, cookie: str, max_age: int) -> Response:
    """Return the page whose button sends the manifest to GitHub, with a cookie that lasts ``max_age`` seconds."""
    action, manifest, back = wish.action, wish.manifest(), urlsplit(wish.callback_url)
    parts = urlsplit(action)
    content = (
        f"<p>{escape(parts.netloc)} will ask you for the name of the App, and send you back here.</p>\n"
        f'<form method="post" action="{escape(action)}?state={quote(state)}">\n'
        f'<input type="hidden" name="manifest" value="{escape(json.dumps(manifest))}">\n'
        f"<button>Create the App {escape(manifest['name'])}</button>\n"
        "</form>"
    )
    path = back.path.rpartition("/")[0]
    attributes = f"Path={path}; Max-Age={max_age}; HttpOnly; SameSite=Lax"
    if back.scheme == "https":
        attributes += "; Secure"
    return _page(
        "Create a GitHub App for stackit",
        content,
        form_action=f"{parts.scheme}://{parts.netloc}",
        headers={"Set-Cookie": f"{COOKIE}={cookie}; {attributes}"},
    )


def done(install_url: str, toml: str, node: str) -> Response:
    """Return the page at the end: what to put into the configuration, and where to install the App.

    ``node`` is the one of a fleet that has the files of the App.
    """
    files = f"<p>The files of the App are at node {escape(node)}: bring them to all nodes first.</p>\n" if node else ""
    content = (
        f"{files}<p>Put this into the configuration of stackit, and reload it:</p>\n<pre>{escape(toml)}</pre>\n"
        f'<p>Then install the App: <a href="{escape(install_url)}">{escape(install_url)}</a></p>'
    )
    return _page("The App is made", content)


def failed(problem: str, status: int) -> Response:
    """Return the page that tells of a set-up that failed."""
    return _page("The App is not set up", f"<p>{escape(problem)}</p>", status=status)


def forbidden() -> Response:
    """Return the page for everybody else: it tells nothing."""
    return _page("No", f"<p>{escape(OF_NO_USE)}</p>", status=403)


COOKIE = "stackit_setup"


def _page(
    heading: str,
    content: str,
    *,
    status: int = 200,
    form_action: str = "'none'",
    headers: dict[str, str] | None = None,
) -> Response:
    return page("stackit: a GitHub App", heading, content, status=status, form_action=form_action, headers=headers)
