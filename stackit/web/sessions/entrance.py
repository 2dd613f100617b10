"""The entrance: people who come in by a bearer token or by an App's login, who are refused, and who leave."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from stackit.api.admin import AdminRequest, Response, error
from stackit.api.person import Person
from stackit.text.own_path import own_path
from stackit.web.admin.audit import Audit
from stackit.web.admin.guard import Guard
from stackit.web.sessions.origins import Origin, origin_of_url
from stackit.web.sessions.session import proof_of
from stackit.web.sessions.sessions import Sessions

_NOT_HERE = (
    "a login over plain http would tell others of it: use the address of admin.url, https:// in front of it, or a "
    "tunnel to this machine"
)


class Entrance:
    """The door. ``guard`` returns the protection as it is now."""

    def __init__(
        self, sessions: Sessions, audit: Audit, *, guard: Callable[[], Guard], now: Callable[[], float]
    ) -> None:
        self.sessions = sessions
        self._audit = audit
        self._guard = guard
        self._now = now

    def admit(self, request: AdminRequest, person: Person, following: str) -> Response:
        """Begin a session of the browser that asks, and send it to ``following``, a path of the admin side.

        A session that it had ends: what somebody else knew of it is worth nothing from now on.
        """
        return self._admit(request, person, following, lambda _: "")

    def admit_by_token(self, request: AdminRequest, token: str, following: str) -> Response | None:
        """Begin a session of somebody who has a bearer token; None where it is not valid.

        The session counts for as long as the token is valid.
        """
        label = self._guard().token_label(token)
        if label is None:
            return None
        person = Person(id=f"token:{label}", name=label, role="operator")
        return self._admit(request, person, following, partial(proof_of, bearer_token=token))

    def issue(self, request: AdminRequest, person: Person) -> tuple[str, float]:
        """Begin a session of a shell; return its token, and when it ends at the latest, in seconds since the epoch."""
        token = self.sessions.create(person, kind="shell")
        self._audit.note(request, 200, action="login", by=person.name, role=person.role, target=request.path)
        return token, self._now() + self.sessions.absolute

    def refuse(self, request: AdminRequest, name: str, reason: str) -> None:
        """Write down that somebody was refused. ``name`` tells people who it is, "" where that is not known."""
        self._audit.note(request, 403, action="login refused", by=name, reason=reason, target=request.path)

    def leave(self, request: AdminRequest, following: str) -> Response:
        """End the session of the one who asks. Who has none changes nothing, and is not written down."""
        if request.session:
            self.sessions.end(request.session)
            self._audit.note(request, 303, action="logout", target=request.path)
        headers = {"Location": own_path(following)}
        origin = origin_of_url(request.origin)
        if origin is not None:
            headers["Set-Cookie"] = self._guard().cookies.clear(origin)
        return Response(status=303, headers=headers)

    def _admit(self, request: AdminRequest, person: Person, following: str, proof: Callable[[str], str]) -> Response:
        origin = self._fitting(request)
        if origin is None:
            self.refuse(request, person.name, "plain http")
            return error(403, _NOT_HERE)
        if request.session:
            self.sessions.end(request.session)
        token = self.sessions.create(person, proof=proof)
        self._audit.note(request, 303, action="login", by=person.name, role=person.role, target=request.path)
        cookie = self._guard().cookies.write(token, origin, self.sessions.absolute)
        return Response(status=303, headers={"Location": own_path(following), "Set-Cookie": cookie})

    def _fitting(self, request: AdminRequest) -> Origin | None:
        """Return the origin of a page that may have a cookie, None for any other."""
        origin = origin_of_url(request.origin)
        return origin if origin is not None and self._guard().cookies.fits(origin) else None
