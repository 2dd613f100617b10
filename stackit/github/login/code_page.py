"""The login by a browser and a code, where the App has no client secret here, or cannot send the browser back."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from stackit.api.admin import AdminRequest, Response, Route
from stackit.config.checks import is_loopback
from stackit.github.login.admission import Admission, NotAdmitted
from stackit.github.login.device_flow import DeviceFlow, UnknownLogin
from stackit.github.login.pages import CODE
from stackit.github.login.steps import Waiting
from stackit.github.pages import cookie_of
from stackit.text.own_path import own_path


class CodeLogin:
    """The page with the code: it loads itself again until the code was entered."""

    def __init__(self, admission: Admission, flow: DeviceFlow) -> None:
        self._admission = admission
        self._flow = flow

    def routes(self) -> Sequence[Route]:
        """Return the routes. Who asks is not known: that is what they are for."""
        return [
            Route("GET", CODE, self._show, query=("next",), open=True, summary="Show the code to log in by."),
            Route(
                "POST",
                CODE,
                self._begin,
                query=(),
                open=True,
                form=True,
                when_read_only=True,
                summary="Get a code to log in by.",
            ),
        ]

    async def _begin(self, request: AdminRequest) -> Response:
        pages = self._admission.pages
        name, secure = _cookie(request.origin)
        if not name:
            return pages.refused("a login over plain http would tell others of it: use https://", 403)
        waiting = self._admission.wait(request)
        if waiting is not None:
            return pages.too_many(waiting)
        try:
            key, codes = await self._flow.begin(request, own_path(request.form.get("next", "")))
        except NotAdmitted as problem:
            return pages.refused(str(problem), problem.status)
        cookie = f"{name}={key}; Path=/; Max-Age={int(codes.expires_in)}; HttpOnly; SameSite=Lax{secure}"
        return Response(
            status=303, body=b"", content_type="text/plain", headers={"Location": CODE, "Set-Cookie": cookie}
        )

    async def _show(self, request: AdminRequest) -> Response:
        pages = self._admission.pages
        name, _ = _cookie(request.origin)
        key = cookie_of(request.cookie, name) if name else ""
        question = pages.question(own_path(request.query.get("next", "")))
        if not key or request.method != "GET":
            return question
        try:
            step = await self._flow.ask(request, key)
        except UnknownLogin:
            return question
        except NotAdmitted as problem:
            return pages.refused(str(problem), problem.status)
        if isinstance(step, Waiting):
            return pages.code(step)
        person, following = step
        return self._admission.entrance.admit(request, person, following)


def _cookie(origin: str) -> tuple[str, str]:
    """Return the name of the cookie for the page of an origin, "" where it can have none, and its attribute."""
    parts = urlsplit(origin)
    if parts.scheme == "https":
        return "__Host-stackit-code", "; Secure"
    if parts.scheme == "http" and is_loopback(parts.hostname or ""):
        return f"stackit-code-{parts.port or 80}", ""
    return "", ""
