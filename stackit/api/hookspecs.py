"""Every hook of the bus: its arguments, its kind, and the results that it may have.

The bus and the checks of a plugin derive the rest from the kind: a new hook is a specification here, and the place that
calls it. docs/hooks.md says more about each, with an example.
"""

# A specification has no body.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import pluggy
from twisted.application.service import IService

from stackit.api.admin import Refused, RequestHead, Route, check_refused
from stackit.api.commands import Command
from stackit.api.events import Event, RefsChanged, Repo
from stackit.api.hookimpl import ON, PROJECT
from stackit.api.metrics import Collector
from stackit.api.mirrors import MirrorInfo
from stackit.api.occurrences import Occurrence
from stackit.api.pages import Page, Panel
from stackit.api.public import PublicRoute

if TYPE_CHECKING:
    from stackit.api.app import App

Function = TypeVar("Function", bound=Callable[..., Any])

_SPEC_ATTRIBUTE = "stackit_hook"
_spec = pluggy.HookspecMarker(PROJECT)


class HookKind(Enum):
    """The kinds of hooks: how the bus calls the implementations, and what it does about an exception."""

    FIRST = "first result"
    """In call order, until one returns a result. An exception is logged once, and counts as no result."""

    NOTIFY = "notification"
    """All of them. Results are ignored; an exception is logged once."""

    EVENT = "event"
    """Each is a subscriber: it is called by dispatch, and after an exception again. May be async."""

    ASK = "question"
    """All of them, side by side. The outcome of each is its own, an exception included. May be async."""

    COLLECT = "collection"
    """Once at start. An exception, or a result that does not fit, stops the start."""

    ONE = "call of one plugin"
    """Only the implementation of the plugin that is named. The caller gets an exception."""

    @property
    def may_be_async(self) -> bool:
        """True if an implementation may be a coroutine, or return a Deferred."""
        return self in (HookKind.EVENT, HookKind.ASK)


class Hook(msgspec.Struct, frozen=True, kw_only=True):
    """The marker of a specification.

    ``fits`` tells whether a result other than None is allowed, ``expected`` names those that are. ``check`` raises
    ValueError for an allowed one that cannot be used; ``replace(result)`` is used instead. With ``copies`` each
    implementation gets a copy of the argument.
    """

    kind: HookKind
    expected: str = ""
    fits: Callable[[Any], bool] = lambda _: True
    check: Callable[[Any], None] = lambda _: None
    replace: Callable[[Any], Any] = lambda result: result
    copies: bool = False


def _hook(
    kind: HookKind,
    expected: str = "",
    fits: Callable[[Any], bool] = lambda _: True,
    *,
    check: Callable[[Any], None] = lambda _: None,
    replace: Callable[[Any], Any] = lambda result: result,
    copies: bool = False,
) -> Callable[[Function], Function]:
    def mark(function: Function) -> Function:
        hook = Hook(kind=kind, expected=expected, fits=fits, check=check, replace=replace, copies=copies)
        setattr(function, _SPEC_ATTRIBUTE, hook)
        return _spec(function)

    return mark


def _list_of(wanted: type) -> Callable[[Any], bool]:
    return lambda result: isinstance(result, Sequence) and all(isinstance(each, wanted) for each in result)


def _failed_refusal(refused: Refused) -> Refused:
    return Refused(status=500, reason="failed", unless_verified=refused.unless_verified is True)


@_hook(
    HookKind.FIRST,
    "Refused or None",
    lambda result: isinstance(result, Refused),
    check=check_refused,
    replace=_failed_refusal,
)
def stackit_admit(request: RequestHead) -> Refused | None:
    """Turn a public request away before its body is read; the first ``Refused`` wins."""


@_hook(HookKind.FIRST, "an address or None", lambda result: isinstance(result, str))
def stackit_client(request: RequestHead) -> str | None:
    """Return the address of the client of a public request that came by a proxy; the first result counts."""


@_hook(HookKind.NOTIFY, copies=True)
def stackit_expect(event: Event) -> None:
    """Prepare for a verified event while it is written to disk, which may still fail."""


@_hook(HookKind.EVENT)
def stackit_event(event: Event) -> Awaitable[None] | None:
    """Handle a verified event, after it is durable. An exception means: try again."""


@_hook(HookKind.EVENT)
def stackit_refs_changed(change: RefsChanged) -> Awaitable[None] | None:
    """Handle refs of a mirror that moved. An exception means: try again."""


@_hook(HookKind.FIRST, "MirrorInfo or None", lambda result: isinstance(result, MirrorInfo))
def stackit_mirror(repo: Repo) -> MirrorInfo | None:
    """Return the mirror of a repository; None where this plugin keeps none. The first answer counts."""


@_hook(HookKind.FIRST, "MirrorInfo or None", lambda result: isinstance(result, MirrorInfo))
def stackit_mirror_copy(repo: Repo) -> MirrorInfo | None:
    """Return the mirror of a repository on this node's disk, also a copy: other nodes of a fleet clone it from here."""


@_hook(HookKind.ASK)
def stackit_backstop() -> Awaitable[None] | None:
    """Look for what was missed, at start and every sync interval."""


@_hook(HookKind.COLLECT, "an IService", IService.providedBy)
def stackit_service(app: App) -> IService:
    """Return a Twisted service that lives as long as stackit."""


@_hook(HookKind.COLLECT, "a list of Route", _list_of(Route))
def stackit_routes(app: App) -> Sequence[Route]:
    """Return admin routes of the plugin."""


@_hook(HookKind.COLLECT, "a list of PublicRoute", _list_of(PublicRoute))
def stackit_public_routes(app: App) -> Sequence[PublicRoute]:
    """Return routes of the public side, which any stranger may ask."""


@_hook(
    HookKind.COLLECT,
    "a list of Page and Panel",
    lambda result: isinstance(result, Sequence) and all(isinstance(each, Page | Panel) for each in result),
)
def stackit_pages(app: App) -> Sequence[Page | Panel]:
    """Return pages of the admin side, and panels on its overview."""


def _are_collectors(result: Any) -> bool:
    return isinstance(result, Sequence) and all(callable(getattr(each, "collect", None)) for each in result)


@_hook(HookKind.COLLECT, "a list of collectors", _are_collectors)
def stackit_metrics() -> Sequence[Collector]:
    """Return collectors of ``prometheus_client``, whose metrics are served beside stackit's own."""


@_hook(HookKind.COLLECT, "a list of Command", _list_of(Command))
def stackit_commands() -> Sequence[Command]:
    """Return commands of ``stackit``. The shell asks too, where nothing else of the plugin is called."""


@_hook(HookKind.ASK, "a line or None", lambda result: isinstance(result, str) or result is False)
def stackit_health() -> Awaitable[str | None] | str | None:
    """Return the problem in one line, for ``/readyz``; None is healthy."""


@_hook(HookKind.ONE)
def stackit_reload(settings: Any) -> None:
    """Take other settings of the plugin, an instance of its ``Settings``. An exception means: the old ones stay."""


@_hook(HookKind.NOTIFY)
def stackit_observe(occurrence: Occurrence) -> None:
    """See what stackit did: refused, accepted, handled, failed and so on."""


HOOKS: Mapping[str, Hook] = MappingProxyType(
    {name: getattr(each, _SPEC_ATTRIBUTE) for name, each in vars().items() if hasattr(each, _SPEC_ATTRIBUTE)}
)
"""The marker of every hook, by its name."""


def kind_of(hook: str) -> HookKind:
    """Return the kind of a hook, by its name; ``@on`` handlers have that of ``stackit_event``."""
    return HookKind.EVENT if hook == ON else HOOKS[hook].kind
