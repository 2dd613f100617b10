"""Faults of the API's answers, for a route or for all."""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

from stackit.testing.faults import PAUSE
from stackit.testing.github_api.answers import ApiAnswer, ApiRefused, ApiRequest
from stackit.testing.github_api.paging import page_number

Named = Literal[
    "echo", "html", "html_503", "blank", "empty", "shape", "items", "cut", "drip", "endless", "reset", "hang"
]
ApiFaultKind = int | Named
"""A status is answered as such. ``echo``: 500, with the credential and the body that came in its message. ``html``: a
page, with 200. ``html_503``: a page of maintenance. ``blank``: 200 with no body. ``empty``: a valid answer with empty
lists. ``shape``: lists are objects, and objects are lists. ``items``: what is listed has no id. ``cut``: half an
answer, then the connection closes. ``drip``: a few bytes at a time. ``endless``: a list without an end. ``reset``: the
connection breaks without an answer. ``hang``: no answer."""

_KINDS = get_args(Named)
_PAGE = b"<!DOCTYPE html>\n<html><head><title>%s</title></head><body><h1>%s</h1></body></html>\n"
_MESSAGES = {401: "Bad credentials", 403: "Resource not accessible by integration", 404: "Not Found"}


class ApiFault(msgspec.Struct, eq=False):
    """One fault, for ``left`` more requests (None: until it is healed).

    ``route`` is a template, or "" for every route, as is ``method``; ``page`` is None for every page.
    """

    kind: ApiFaultKind
    route: str
    method: str
    page: int | None
    left: int | None
    pause: float
    also: str = ""

    def replacement(self, request: ApiRequest) -> ApiAnswer | None:
        """Return the answer instead of the route's own; None where there is none."""
        if isinstance(self.kind, int):
            return ApiRefused(self.kind, _MESSAGES.get(self.kind, "Server Error")).answer
        if self.kind == "echo":
            credential = request.headers.get("authorization", "nothing")
            said = f"Server Error: asked with {credential} and {request.body!r}"
            return ApiRefused(500, f"{said}; {self.also}" if self.also else said).answer
        if self.kind == "html":
            return _page(200, b"Sign in to GitHub")
        if self.kind == "html_503":
            return _page(503, b"GitHub is undergoing maintenance")
        return ApiAnswer(body=b"") if self.kind == "blank" else None

    def spoil(self, answer: ApiAnswer) -> ApiAnswer:
        """Return the route's own answer, spoiled; or with the fault of its transmission."""
        if answer.status >= 300:
            return answer
        if self.kind == "empty":
            return msgspec.structs.replace(answer, body=_emptied(answer.body), headers={})
        if self.kind == "shape":
            return msgspec.structs.replace(answer, body=_twisted(answer.body))
        if self.kind == "items":
            return msgspec.structs.replace(answer, body=_without_ids(answer.body))
        return msgspec.structs.replace(answer, transmission=self)

    def matches(self, request: ApiRequest) -> bool:
        """Return whether it is the fault of a request."""
        return (
            self.route in ("", request.route)
            and self.method in ("", request.method)
            and self.page in (None, page_number(request))
        )


class ApiFaults:
    """The faults of today."""

    def __init__(self) -> None:
        self._faults: list[ApiFault] = []

    def begin(
        self,
        route: str,
        kind: ApiFaultKind,
        *,
        times: int | None = None,
        page: int | None = None,
        method: str = "",
        pause: float = PAUSE,
        also: str = "",
    ) -> None:
        """Give requests of a route (its template, "" for every route) a fault: ``times`` times, or until ``heal``.

        With ``page``, only those of that page. ``pause``: seconds between two pieces of a ``drip``. ``also``: what an
        ``echo`` says besides. Raises ValueError for a kind that is not known.
        """
        if kind not in _KINDS and not isinstance(kind, int):
            raise ValueError(f"no such fault: {kind!r} (expected a status or one of {', '.join(_KINDS)})")
        self._faults.append(ApiFault(kind, route, method, page, times, pause, also))

    def heal(self, route: str = "") -> None:
        """Answer correctly again: on a route, or on all. A request that hangs goes on hanging."""
        self._faults = [each for each in self._faults if route not in ("", each.route)]

    def next(self, request: ApiRequest) -> ApiFault | None:
        """Return the fault of a request, the newest that is meant."""
        for fault in reversed(self._faults):
            if fault.matches(request):
                if fault.left is not None:
                    fault.left -= 1
                    if fault.left <= 0:
                        self._faults.remove(fault)
                return fault
        return None


def _page(status: int, title: bytes) -> ApiAnswer:
    return ApiAnswer(status=status, body=_PAGE % (title, title), content_type="text/html; charset=utf-8")


def _emptied(body: Any) -> Any:
    if isinstance(body, dict):
        emptied = {name: [] if isinstance(value, list) else value for name, value in body.items()}
        return emptied | {"total_count": 0} if "total_count" in body else emptied
    return [] if isinstance(body, list) else body


def _twisted(body: Any) -> Any:
    if isinstance(body, list):
        return {"items": body}
    if isinstance(body, dict) and any(isinstance(value, list) for value in body.values()):
        return {name: {"items": value} if isinstance(value, list) else value for name, value in body.items()}
    return [body]


def _without_ids(body: Any) -> Any:
    if isinstance(body, list):
        return [{name: value for name, value in each.items() if name != "id"} for each in body]
    if isinstance(body, dict):
        return {name: _without_ids(value) if isinstance(value, list) else value for name, value in body.items()}
    return body
