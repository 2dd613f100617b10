"""The routes of people: log in, log out, who am I, and the audit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from stackit.api.address_limiter import AddressLimiter
from stackit.api.admin import AdminRequest, Response, Role, Route, error
from stackit.api.schema import Parameter
from stackit.text.own_path import own_path
from stackit.text.times import rfc3339
from stackit.web.admin.audit import Audit, AuditEntry, is_id
from stackit.web.admin.guard import Guard
from stackit.web.admin.paging import page_limit
from stackit.web.sessions.entrance import Entrance
from stackit.web.sessions.pages import LoginWay, login_page

_DEFAULT = 50
_MOST = 200


class Me(msgspec.Struct, frozen=True):
    """Who asks. ``logged_in`` says whether by a session."""

    by: str
    role: Role
    logged_in: bool


class AuditRecord(msgspec.Struct, frozen=True):
    """What one person changed, or tried to; ``node`` is that of a fleet which they asked."""

    id: str
    at: str
    by: str
    role: str
    action: str
    target: str
    client: str
    status: int
    reason: str | None
    node: str


class AuditPage(msgspec.Struct, frozen=True):
    """A page of the audit, newest first."""

    audit: Sequence[AuditRecord]
    next: str | None


def people_routes(
    entrance: Entrance,
    audit: Audit,
    *,
    guard: Callable[[], Guard],
    slowdown: AddressLimiter,
    ways: Callable[[], Sequence[LoginWay]] = tuple,
) -> list[Route]:
    """Return the routes. ``ways`` are those to log in by beside a token; ``slowdown`` bounds wrong tokens."""

    def show(request: AdminRequest) -> Response:
        return login_page(own_path(request.query.get("next", "/")), has_tokens=guard().has_tokens, ways=ways())

    def log_in(request: AdminRequest) -> Response:
        following = own_path(request.form.get("next", "/"))

        def again(problem: str, status: int) -> Response:
            return login_page(following, has_tokens=guard().has_tokens, ways=ways(), problem=problem, status=status)

        waiting = slowdown.refusal(request.client)
        if waiting is not None:
            page = again("Too many wrong tokens came from this address. Wait a minute, and try again.", 429)
            return msgspec.structs.replace(page, headers={**page.headers, **waiting.headers})
        admitted = entrance.admit_by_token(request, request.form.get("token", "").strip(), following)
        if admitted is None:
            slowdown.spend(request.client)
            entrance.refuse(request, "", "wrong token")
            return again("This token is not valid.", 403)
        return admitted

    def log_out(request: AdminRequest) -> Response:
        return entrance.leave(request, "/login")

    def me(request: AdminRequest) -> Response:
        return Response(body=Me(by=request.by, role=request.role, logged_in=bool(request.session)))

    def records(request: AdminRequest) -> Response:
        cursor = request.query.get("cursor")
        try:
            limit = page_limit(request.query.get("limit"), _DEFAULT, _MOST)
        except ValueError as problem:
            return error(400, str(problem))
        if cursor is not None and not is_id(cursor):
            return error(400, "cursor: expected the next of an earlier answer")
        found, following = audit.page(cursor, limit)
        return Response(body=AuditPage(audit=[_shown(each) for each in found], next=following))

    listing = (Parameter("limit", "1 to 200, default 50."), Parameter("cursor", "The `next` of an earlier answer."))
    return [
        Route("GET", "/login", show, query=("next",), open=True, summary="The page to log in at."),
        Route(
            "POST",
            "/login",
            log_in,
            query=(),
            open=True,
            form=True,
            when_read_only=True,
            summary="Log in by a bearer token.",
        ),
        Route("POST", "/logout", log_out, query=(), form=True, role="viewer", when_read_only=True, summary="Log out."),
        Route("GET", "{prefix}/session", me, query=(), summary="Tell who asks.", returns=Me),
        Route(
            "GET",
            "{prefix}/audit",
            records,
            query=listing,
            role="operator",
            summary="List who changed what.",
            returns=AuditPage,
            errors={400: "A parameter makes no sense."},
        ),
    ]


def _shown(entry: AuditEntry) -> AuditRecord:
    return AuditRecord(
        id=entry.id,
        at=rfc3339(entry.at),
        by=entry.by,
        role=entry.role,
        action=entry.action,
        target=entry.target,
        client=entry.client,
        status=entry.status,
        reason=entry.reason,
        node=entry.node,
    )
