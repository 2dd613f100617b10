"""Pages of the admin side, and panels on its overview. Whatever they show or change is a request to the API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import msgspec
from markupsafe import Markup

from stackit.api.admin import Response, Role
from stackit.api.errors import StackitError


class PageError(StackitError):
    """A page cannot be shown, or an action not be done; the text says why, to people."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


NOTHING: Mapping[str, str] = MappingProxyType({})


class PageApi(Protocol):
    """Asks a route of the API in the name of the person who asked for the page."""

    def __call__(
        self, method: str, path: str, *, query: Mapping[str, str] = NOTHING, body: object = None
    ) -> Awaitable[Response]:
        """Return the answer; what it has of structs is made of dicts.

        ``path`` is that of the route without ``{prefix}``, and not percent-encoded. ``body`` is JSON-able.
        """


class PageRequest(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A request for a page, or one to do an action of a page.

    ``args`` are the parts of the path that the page names in braces, ``query`` the parameters that are not empty,
    ``form`` the fields of the form of an action. ``by``, ``role`` and ``csrf`` are those of ``AdminRequest``.
    ``read_only`` tells that nobody may change anything now. ``now`` is the wall clock, ``prefix`` the path below
    which the API is. ``api`` asks a route of it, as the same person.
    """

    path: str
    args: Mapping[str, str]
    query: Mapping[str, str]
    form: Mapping[str, str] = {}
    by: str = ""
    role: Role = "operator"
    csrf: str = ""
    read_only: bool = False
    now: float
    prefix: str
    api: PageApi

    @property
    def may_change(self) -> bool:
        """Whether this person may change anything now."""
        return self.role == "operator" and not self.read_only

    async def get(self, path: str, query: Mapping[str, str] = NOTHING) -> Any:
        """Return the answer of a route of the API, decoded. Raises PageError with the reason of any other."""
        return _body(await self.api("GET", path, query=query))

    async def send(self, method: str, path: str, query: Mapping[str, str] = NOTHING, body: object = None) -> Any:
        """Have a route of the API change something, and return its answer, decoded. Raises PageError."""
        return _body(await self.api(method, path, query=query, body=body))


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What a page shows: the HTML below its heading.

    ``title`` is used in place of the page's own. ``lead`` stands beside the heading: a state, a button.
    ``form_origins`` are foreign origins to which a form of the page may lead.
    """

    body: Markup
    title: str = ""
    lead: Markup = Markup("")
    status: int = 200
    form_origins: tuple[str, ...] = ()


class Done(msgspec.Struct, frozen=True):
    """The end of an action: ``notice`` is shown once, on the page at ``path`` ("": the page of the action)."""

    notice: str
    path: str = ""


Shown = Markup | View | Response
Show = Callable[[PageRequest], Shown | Awaitable[Shown]]
Action = Callable[[PageRequest], str | Done | Awaitable[str | Done]]


class Page(msgspec.Struct, frozen=True):
    """One page of the admin side, at ``path``, which may have names in braces as that of a ``Route``.

    ``show`` returns the HTML below the heading, or a ``View``. ``nav`` is its name in the menu, None for a page that is
    not there. ``actions`` are functions by name: a form that posts to ``path/NAME`` calls one, which returns a notice.
    An action takes an operator. ``plugin``, whose page it is, is filled in by stackit.
    """

    path: str
    title: str
    show: Show
    nav: str | None = None
    actions: Mapping[str, Action] = {}
    plugin: str | None = None


class Panel(msgspec.Struct, frozen=True):
    """A part of the overview. ``show`` returns its HTML; ``path`` is that of the page that says more."""

    title: str
    show: Show
    path: str = ""
    plugin: str | None = None


def _body(response: Response) -> Any:
    body = response.body
    if response.status < 400:
        return body
    reason = body.get("error") if isinstance(body, dict) else None
    raise PageError(response.status, str(reason or "the request failed"))
