"""The login by a browser: GitHub's web flow, with PKCE, and a ``state`` that is bound to the browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from stackit.api.admin import AdminRequest, Response, Route
from stackit.api.errors import StackitError
from stackit.github.login.admission import Admission, NotAdmitted
from stackit.github.login.attempts import OPEN_FOR, Attempts
from stackit.github.pages import cookie_of
from stackit.text.own_path import own_path

START, CALLBACK = "/login/github", "/login/github/callback"
OF_NO_USE = "this address is of no use (any more), or it was not this browser that left for GitHub"
_CODE = re.compile(r"[A-Za-z0-9_-]{1,200}", re.ASCII)


class BrowserLogin:
    """The routes of browsers. ``now`` and ``key`` are those of ``Attempts``."""

    def __init__(self, admission: Admission, now: Callable[[], float], key: Callable[[], bytes]) -> None:
        self._admission = admission
        self._attempts = Attempts(now, key)

    def routes(self) -> Sequence[Route]:
        """Return the routes. Who asks is not known: that is what they are for."""
        return [
            Route("GET", START, self._start, query=("next",), open=True, summary="Send a browser to GitHub to log in."),
            Route("GET", CALLBACK, self._callback, open=True, summary="Log in a browser that comes back from GitHub."),
        ]

    @property
    def button(self) -> str | None:
        """Return the address at which a browser begins; None where it cannot log in with GitHub.

        It is that of ``admin.url``: a browser that got here by another name would come back without its cookie.
        """
        try:
            self._admission.oauth()
            return f"{self._admission.base()}{START}"
        except StackitError:
            return None

    def _start(self, request: AdminRequest) -> Response:
        try:
            oauth, base = self._admission.oauth()[0], self._admission.base()
        except StackitError as problem:
            return self._admission.pages.refused(str(problem), 404)
        attempt = self._attempts.begin(own_path(request.query.get("next", "")))
        name, secure = _cookie(base)
        return Response(
            status=303,
            body=b"",
            content_type="text/plain",
            headers={
                "Location": oauth.authorize_url(f"{base}{CALLBACK}", attempt.state, attempt.challenge),
                "Set-Cookie": (
                    f"{name}={attempt.cookie}; Path=/; Max-Age={int(OPEN_FOR)}; HttpOnly; SameSite=Lax{secure}"
                ),
            },
        )

    async def _callback(self, request: AdminRequest) -> Response:
        """Log in the browser that comes back with a code."""
        admission, query = self._admission, request.query
        try:
            (oauth, app), base = admission.oauth(), admission.base()
        except StackitError as problem:
            return self._admission.pages.refused(str(problem), 404)
        attempt = None
        if request.method == "GET":
            attempt = self._attempts.find(cookie_of(request.cookie, _cookie(base)[0]), query.get("state", ""))
        if attempt is None:
            return self._admission.pages.refused(OF_NO_USE, 403)  # anybody can send this: it is not written down
        waiting = admission.wait(request)
        if waiting is not None:
            return self._admission.pages.too_many(waiting)
        self._attempts.use(attempt)
        try:
            if query.get("error") or not _CODE.fullmatch(query.get("code", "")):
                raise oauth.refusal(query.get("error", ""), f"{base}{CALLBACK}")
            user = await oauth.exchange(query["code"], f"{base}{CALLBACK}", attempt.verifier)
            person = await admission.person(request, app, user)
        except NotAdmitted as problem:
            return self._admission.pages.refused(str(problem), problem.status)
        except StackitError as problem:
            return self._refuse(request, str(problem), admission.status_of(problem))
        return admission.entrance.admit(request, person, attempt.following)

    def _refuse(self, request: AdminRequest, problem: str, status: int) -> Response:
        self._admission.entrance.refuse(request, "", problem)
        return self._admission.pages.refused(problem, status)


def _cookie(base: str) -> tuple[str, str]:
    """Return the name of the cookie of a login that is under way, and its attribute for https."""
    parts = urlsplit(base)
    if parts.scheme == "https":
        return "__Host-stackit-login", "; Secure"
    return f"stackit-login-{parts.port or 80}", ""  # on loopback alone
