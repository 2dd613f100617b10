"""Every hook of the bus, and the two decorators that implement them.

Any hook that may be async may be a plain function, return a Deferred, or be a
coroutine. docs/hooks.md says more about each, with an example.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

import msgspec
import pluggy
from twisted.application.service import IService

from stackit.api.admin import Refused, RequestHead, Route
from stackit.api.events import LONGEST_ACTION, Event, RefsChanged
from stackit.api.occurrences import Occurrence

if TYPE_CHECKING:
    from stackit.api.app import App

PROJECT = "stackit"
OPTIONS_ATTRIBUTE = "stackit_options"
ON = "stackit_on"
"""What pluggy knows ``@on`` handlers as: a hook without a specification, whose argument may have any name."""

Function = TypeVar("Function", bound=Callable[..., Any])

# The action of a repository_dispatch is whatever its sender chose: what is more than a word is quoted, as it stands.
_PATTERN = re.compile(
    rf"""\*|(?P<name>[a-z0-9_]+)(\.(\*|(?P<word>[A-Za-z0-9_-]+)|"(?P<quoted>.{{1,{LONGEST_ACTION}}})"))?""", re.DOTALL
)

_spec = pluggy.HookspecMarker(PROJECT)
_impl = pluggy.HookimplMarker(PROJECT)


@_spec(firstresult=True)
def stackit_admit(request: RequestHead) -> Refused | None:
    """Turn a public request away before its body is read; the first ``Refused`` wins. Not async."""


@_spec
def stackit_expect(event: Event) -> None:
    """Make ready for a verified event while it is on its way to disk, where it may still fail to arrive. Not async."""


@_spec
def stackit_event(event: Event) -> Awaitable[None] | None:
    """Handle a verified event, after it is durable. May be async; an exception means: try again."""


@_spec
def stackit_refs_changed(change: RefsChanged) -> Awaitable[None] | None:
    """Handle refs of a mirror that moved. May be async; an exception means: try again."""


@_spec
def stackit_backstop() -> Awaitable[None] | None:
    """Look for what was missed, at start and every sync interval. May be async."""


@_spec
def stackit_service(app: App) -> IService:  # type: ignore[empty-body]
    """Return a Twisted service that lives as long as stackit. Called once at start."""


@_spec
def stackit_routes(app: App) -> Sequence[Route]:  # type: ignore[empty-body]
    """Return admin routes of the plugin. Called once at start."""


@_spec
def stackit_health() -> Awaitable[str | None] | str | None:
    """Say what is wrong, in one line, for ``/readyz``; None is healthy. May be async."""


@_spec
def stackit_observe(occurrence: Occurrence) -> None:
    """See what stackit did: refused, accepted, handled, failed and so on. Not async, and quick."""


class HandlerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the handler of an event wants to be called; see ``on``."""

    patterns: tuple[str, ...] = ("*",)
    ordered: bool = True
    timeout: float | None = None
    concurrency: int | None = None
    thread: bool = False

    def __post_init__(self) -> None:
        timeout, concurrency = self.timeout, self.concurrency
        if timeout is not None and not (isinstance(timeout, int | float) and 0 <= timeout < math.inf):
            raise ValueError(f"timeout is {timeout!r}, expected seconds, or 0 for no limit")
        if concurrency is not None and not (isinstance(concurrency, int) and concurrency >= 1):
            raise ValueError(f"concurrency is {concurrency!r}, expected 1 or more")

    def wants(self, name: str, action: str | None) -> bool:
        """Whether an event of this name and action passes the filter."""
        wanted = map(read_pattern, self.patterns)
        return any(each in ((None, None), (name, None)) or (each == (name, action)) for each in wanted)


@overload
def hookimpl(function: Function, /) -> Function: ...
@overload
def hookimpl(
    *,
    specname: str | None = None,
    tryfirst: bool = False,
    trylast: bool = False,
    ordered: bool = True,
    timeout: float | None = None,
    concurrency: int | None = None,
    thread: bool = False,
) -> Callable[[Function], Function]: ...
def hookimpl(
    function: Callable[..., Any] | None = None,
    /,
    *,
    specname: str | None = None,
    tryfirst: bool = False,
    trylast: bool = False,
    ordered: bool = True,
    timeout: float | None = None,
    concurrency: int | None = None,
    thread: bool = False,
) -> Any:
    """Mark a function as the implementation of the hook whose name it has (or ``specname``).

    ``ordered``, ``timeout``, ``concurrency`` and ``thread`` are for ``stackit_event`` and
    ``stackit_refs_changed``, and mean what they mean in ``on``.
    """
    options = HandlerOptions(ordered=ordered, timeout=timeout, concurrency=concurrency, thread=thread)

    def mark(function: Function) -> Function:
        _set_options(function, options)
        return _impl(function, specname=specname, tryfirst=tryfirst, trylast=trylast)

    return mark if function is None else mark(function)


def on(
    *patterns: str,
    ordered: bool = True,
    timeout: float | None = None,
    concurrency: int | None = None,
    thread: bool = False,
) -> Callable[[Function], Function]:
    """Mark a function, of any name, as the handler of events that match a pattern.

    A pattern is an event name (``push``), with an action (``issues.opened``), with any
    action (``pull_request.*``), or ``*`` for all. An action that is more than a word of
    letters, digits, ``_`` and ``-`` stands in double quotes, as it is, whatever is between
    the first and the last of them: ``repository_dispatch."deploy: prod"``.

    ``ordered=False`` lets events of one repository be handled side by side; ``timeout``
    (seconds, 0 for none) and ``concurrency`` (events in hand at once) replace the configured
    defaults. A plain function runs in the reactor's thread and must not block; one that does
    (``subprocess``, ``requests``) says ``thread=True`` and runs in a thread.
    Raises ValueError for a pattern that can never match, and for a function that has a filter already.
    """
    if not patterns:
        raise ValueError("on() needs at least one event, such as on('push'), or on('*') for all")
    for pattern in patterns:
        read_pattern(pattern)
    options = HandlerOptions(
        patterns=patterns, ordered=ordered, timeout=timeout, concurrency=concurrency, thread=thread
    )

    def mark(function: Function) -> Function:
        _set_options(function, options)
        return _impl(function, specname=ON, optionalhook=True)

    return mark


def _set_options(function: Callable[..., Any], options: HandlerOptions) -> None:
    if hasattr(function, OPTIONS_ATTRIBUTE):
        raise ValueError(f"{function.__name__} is marked twice: one on('push', 'issues.opened') holds all its events")
    setattr(function, OPTIONS_ATTRIBUTE, options)


def read_pattern(pattern: str) -> tuple[str | None, str | None]:
    """The name and the action that a pattern asks for; None for any. Raises ValueError."""
    found = _PATTERN.fullmatch(pattern) if isinstance(pattern, str) else None
    if found is None:
        raise ValueError(
            f"not an event pattern: {pattern!r} (expected 'push', 'issues.opened', 'issues.*' or '*'; "
            "an action of more than a word is quoted: 'repository_dispatch.\"deploy: prod\"')"
        )
    return found["name"], found["word"] or found["quoted"]
