"""The answers of the admin side itself: who is nobody, what may not be done, what is not there."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import quote

import msgspec

from stackit.api.admin import AdminRequest, Response, Route, error
from stackit.web.admin.asker import Asker
from stackit.web.admin.router import Match

LOGIN = "/login"
"""The path of the page to log in at."""
_LONGEST_NEXT = 1000


def in_words(refused: Response) -> str:
    """Return what a person is told of a refusal."""
    if refused.status == HTTPStatus.UNAUTHORIZED:
        return "You are not logged in, or your login is over."
    if refused.status == HTTPStatus.NOT_FOUND:
        return "There is nothing at this address."
    return str(refused.body["error"]) if isinstance(refused.body, dict) else "It failed."


def login_address(path: bytes, query: bytes) -> str:
    """Return the address of the page to log in at, from which one comes back."""
    following = path + (b"?" + query if query else b"")
    return f"{LOGIN}?next={quote(following, safe='/')}" if len(following) <= _LONGEST_NEXT else LOGIN


def nobody() -> Response:
    """Return the answer for one who may not even look."""
    refused = error(401, "a bearer token is needed: send Authorization: Bearer TOKEN")
    return msgspec.structs.replace(refused, headers={"WWW-Authenticate": 'Bearer realm="stackit"'})


def busy() -> Response:
    """Return the answer for an address of which too many wait to be known."""
    refused = error(503, "too many requests of this address wait for the database to tell who asks: come again soon")
    return msgspec.structs.replace(refused, headers={"Retry-After": "1"})


def too_much(route: Route | None, asker: Asker | None) -> Response | None:
    """Return the answer that refuses what a viewer may not do, or None."""
    if route is None or asker is None or route.open or route.role_needed == "viewer" or asker.role == "operator":
        return None
    return forbidden()


def unknown_parameter(route: Route, request: AdminRequest) -> Response | None:
    """Return the answer that refuses a parameter that the route does not know, or None."""
    names = [each.name for each in route.parameters]
    if route.query is None or not (unknown := sorted(request.query.keys() - set(names))):
        return None
    there = f"there is {', '.join(names)}" if names else "this path takes none"
    return error(400, f"unknown parameter {unknown[0][:40]!r}; {there}")


def forbidden() -> Response:
    """Return the answer for a viewer who would change something."""
    return error(403, "this takes an operator, and you may only look")


def other_method(found: Match) -> Response:
    """Return the answer for a method that a path does not answer."""
    allowed = error(405, f"this path answers {found.entry.allow}")
    return Response(status=405, body=allowed.body, headers={"Allow": found.entry.allow})
