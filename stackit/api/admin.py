"""A request to the admin side as a plugin receives it, and the refusals and answers that it returns."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Literal

import msgspec

from stackit.api.errors import StackitError
from stackit.api.schema import Parameter
from stackit.http.messages import BodyStream, RequestHead, Response, StreamEnd, error
from stackit.text.units import Duration

__all__ = [
    "AdminRequest",
    "At",
    "BodyStream",
    "Refused",
    "RequestHead",
    "Response",
    "Role",
    "Route",
    "StreamEnd",
    "check_refused",
    "error",
    "sendable",
    "unavailable",
]

# What can be sent as it is (RFC 9110, 5.5 and 5.6.2).
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}")
_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_STATUSES = frozenset(each.value for each in HTTPStatus if each.value >= HTTPStatus.OK)
_FRAMING = frozenset({"connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})
_LONGEST = 200

Role = Literal["viewer", "operator"]
"""What a person may do on the admin side: look, or change as well."""

At = Literal["any", "mirror", "leader"]
"""The node of a fleet that answers a route: the one that was asked, the one with the mirror, or the leader."""


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """``stackit_admit``'s no: the request is answered with ``status``.

    ``status`` is a final status that HTTP knows, ``reason`` a short constant (it becomes a metric label),
    ``retry_after`` whole seconds, or a text such as ``"1m"``. With ``unless_verified`` the refusal waits for the
    signature: a delivery that verifies is taken all the same.
    """

    status: int
    reason: str
    retry_after: int | str | None = None
    unless_verified: bool = False


class AdminRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request to an admin route that passed the admin side's protections.

    ``args`` are the parts of the path that the route names in braces, ``query`` the last
    value of each query parameter, ``body`` at most 64 KiB, ``cookie`` the header ``Cookie``. ``by`` tells people who
    asked: the name of the file of the bearer token, a person, or where the request came from. ``role`` is what they may
    do, ``client`` the address that asked, ``csrf`` what a form has to send back ("" where there is no session).
    ``last_event_id`` is the header by which a browser goes on with server-sent events.
    ``session`` is the key of the person's session, which is no secret; ``origin`` the scheme and host of the page that
    asks, where the browser told it; ``form`` what a form sent, on a route that takes forms. ``via_node`` is the node of
    a fleet that forwarded the request, "" for one that came from whoever asks.
    """

    method: str
    path: str
    args: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    cookie: str = ""
    by: str = ""
    role: Role = "operator"
    client: str = ""
    csrf: str = ""
    last_event_id: str = ""
    session: str = ""
    origin: str = ""
    form: Mapping[str, str] = {}
    via_node: str = ""


class Route(msgspec.Struct, frozen=True):
    """One admin route.

    ``path`` may hold ``{prefix}`` (served under every API prefix) and names in braces that
    match one segment each: ``{prefix}/repos/{owner}/{name}``. The handler may be async.
    ``plugin``, whose route it is, is filled in by stackit. ``query`` are the query parameters, each a name or a
    ``Parameter``: a request with any other is answered 400 (None: the handler looks itself).
    An ``open`` route is a GET or a form that needs no bearer token: the handler has to know who asks.
    A route with ``form`` is the action of a page: a POST that forms of this very host may send, too.
    ``role`` is what it takes to ask: by default a viewer may GET, and the rest takes an operator.
    ``when_read_only``: it is served also while stackit is read-only, as it changes only who is logged in.
    ``node`` is the node of a fleet that answers: ``any`` that is asked, the ``leader``, or with ``mirror`` the one that
    has the mirror of the repository ``{owner}/{name}`` of the path. Any other node forwards the request there.
    There, ``forwarded`` is called with the request and the answer, if that is a success: it may wait, for a second at
    most, until that node knows of what was changed.

    The others describe the route in ``{prefix}/openapi.json``. ``summary`` is one line, ``body`` the type of the JSON
    that is sent, ``returns`` that of the answer, whose status is ``status``. ``errors`` are the statuses of its own
    refusals, each with its reason (the answer is ``{"error": …}``), or with the type of an answer of another shape.
    ``content_type`` is that of the answer.
    """

    method: str
    path: str
    handler: Callable[[AdminRequest], Response | Awaitable[Response]]
    plugin: str | None = None
    query: tuple[str | Parameter, ...] | None = None
    open: bool = False
    form: bool = False
    role: Role | None = None
    when_read_only: bool = False
    node: At = "any"
    forwarded: Callable[[AdminRequest, Response], Awaitable[None]] | None = None
    summary: str = ""
    body: Any = None
    returns: Any = None
    status: int = 200
    errors: Mapping[int, Any] = {}
    content_type: str = "application/json"

    @property
    def role_needed(self) -> Role:
        """What it takes to ask."""
        return self.role or ("viewer" if self.method == "GET" else "operator")

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The query parameters that are known."""
        return tuple(each if isinstance(each, Parameter) else Parameter(each) for each in self.query or ())


def unavailable(problem: StackitError) -> Response:
    """Return the answer for what cannot be done now, and can be soon, such as a write to a journal on a full disk."""
    return Response(status=503, body={"error": str(problem)}, headers={"Retry-After": "10"})


def check_refused(refused: Refused) -> None:
    """Raise ValueError, which says why, for a refusal of a plugin that cannot be sent as it is."""
    _check_status(refused.status)
    if not (isinstance(refused.reason, str) and refused.reason.isprintable() and 0 < len(refused.reason) <= _LONGEST):
        raise ValueError(f"the reason must be a word, not {_shown(refused.reason)}")
    if refused.retry_after is not None:
        whole_seconds(refused.retry_after)
    if not isinstance(refused.unless_verified, bool):
        raise ValueError(f"unless_verified must be True or False, not {_shown(refused.unless_verified)}")


def whole_seconds(retry_after: int | str) -> int:
    """Return ``Refused.retry_after`` as a header has it. Raises ValueError for one that is not whole seconds."""
    try:
        found = Duration.parse(retry_after) if isinstance(retry_after, str) else retry_after
    except ValueError:
        found = -1
    if not ((isinstance(found, Duration) and found.is_integer()) or _is_whole(found)) or found < 0:
        raise ValueError(f"retry_after must be whole seconds, or a text such as '1m', not {_shown(retry_after)}")
    return int(found)


def sendable(response: Response) -> Response:
    """Return an answer of a plugin with a status and headers that can be sent. Its body and stream stay.

    Raises ValueError for an answer that cannot be sent, and any exception that the mapping of its headers raises.
    """
    _check_status(response.status)
    if not isinstance(response.headers, Mapping):
        raise ValueError(f"the headers must be a mapping, not {_shown(response.headers)}")
    if response.stream is not None and not callable(response.stream):
        raise ValueError(f"the stream must be a function, not {_shown(response.stream)}")
    headers = {_name(name): _value(name, value) for name, value in dict(response.headers).items()}
    kind = _value("content_type", response.content_type)
    return Response(
        status=response.status, body=response.body, content_type=kind, headers=headers, stream=response.stream
    )


def _name(name: object) -> str:
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise ValueError(f"the header {_shown(name)} has no name that can be sent")
    if match[0].lower() in _FRAMING:
        raise ValueError(f"the header {match[0]} is not a plugin's to set")
    return match[0]


def _value(name: object, value: object) -> str:
    match = _VALUE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"the value of {_shown(name)} cannot be sent: {_shown(value)}")
    return match[0]


def _check_status(status: object) -> None:
    if not (_is_whole(status) and status in _STATUSES):
        raise ValueError(f"the status must be a final one that HTTP knows, not {_shown(status)}")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(value: object) -> str:
    """Return a value of a plugin as text, if it is of a kind that can be shown."""
    return repr(value)[:100] if type(value) in (str, bytes, int, float, bool) else type(value).__name__
