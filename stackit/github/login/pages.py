"""The pages of a login. One that succeeded has none: the browser goes on to where it wanted to be."""

from __future__ import annotations

from html import escape

import msgspec

from stackit.api.admin import Response
from stackit.github.login.steps import Waiting
from stackit.github.pages import page

LOGIN = "/login"
"""The page to log in, which the admin side has."""
CODE = "/login/code"
"""The page to log in by a code."""
_BY_CODE = "Log in with GitHub"


class LoginPages:
    """Makes the pages. ``stylesheet`` is the path of that of the admin side, "" for none."""

    def __init__(self, stylesheet: str = "") -> None:
        self._stylesheet = stylesheet

    def refused(self, problem: str, status: int) -> Response:
        """Return the page that says why somebody is not logged in, and the way out."""
        content = (
            f'<p class="callout callout-bad" role="alert">{escape(problem)}.</p>\n'
            f'<p><a class="button" href="{LOGIN}">Log in again</a></p>'
        )
        return self._page("You are not logged in", content, status=status)

    def too_many(self, waiting: Response) -> Response:
        """Return the page for an address that has to wait, as the answer for programs has it."""
        refused = self.refused("Too many logins came from this address: wait a minute, and try again", waiting.status)
        return msgspec.structs.replace(refused, headers={**refused.headers, **waiting.headers})

    def question(self, following: str) -> Response:
        """Return the page with the button for a code; ``following`` is the path to go to at the end."""
        content = (
            "<p>You get a code, which you enter at GitHub.</p>\n"
            f'<form method="post" action="{CODE}">\n'
            f'<input type="hidden" name="next" value="{escape(following)}">\n'
            "<p><button>Get a code</button></p>\n</form>"
        )
        return self._page(_BY_CODE, content, form_action="'self'")

    def code(self, login: Waiting) -> Response:
        """Return the page with the code, which loads itself again when it is time for the next question."""
        address = escape(login.verification_uri)
        content = (
            f'<p>Open <a href="{address}" target="_blank" rel="noreferrer">{address}</a>, and enter this code:</p>\n'
            f'<p><strong class="code">{escape(login.user_code)}</strong></p>\n'
            f'<p>Then <a href="{CODE}">go on</a>: this page does so by itself.</p>'
        )
        return self._page(_BY_CODE, content, headers={"Refresh": str(max(1, round(login.interval)))})

    def _page(
        self,
        heading: str,
        content: str,
        *,
        status: int = 200,
        form_action: str = "'none'",
        headers: dict[str, str] | None = None,
    ) -> Response:
        return page(
            f"{heading} · stackit",
            heading,
            content,
            status=status,
            form_action=form_action,
            stylesheet=self._stylesheet,
            headers=headers,
        )
