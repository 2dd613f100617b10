"""The two decorators that mark a plugin's functions: ``hookimpl`` and ``on``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar, overload

import msgspec
import pluggy

from stackit.api.events import LONGEST_ACTION
from stackit.text.units import seconds

PROJECT = "stackit"
OPTIONS_ATTRIBUTE = "stackit_options"
ON = "stackit_on"
"""The name of the hook of ``@on`` handlers: one without a specification, so that their argument may have any name."""

Function = TypeVar("Function", bound=Callable[..., Any])

# The sender of a repository_dispatch chooses its action: one that is more than a word is quoted, as it stands.
_PATTERN = re.compile(
    rf"""\*|(?P<name>[a-z0-9_]+)(\.(\*|(?P<word>[A-Za-z0-9_-]+)|"(?P<quoted>.{{1,{LONGEST_ACTION}}})"))?""", re.DOTALL
)

_impl = pluggy.HookimplMarker(PROJECT)


class HandlerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a handler of events; see ``on``."""

    patterns: tuple[str, ...] = ("*",)
    ordered: bool = True
    timeout: float | None = None
    concurrency: int | None = None
    thread: bool = False
    needs_mirror: bool = False

    def __post_init__(self) -> None:
        concurrency = self.concurrency
        if concurrency is not None and not (isinstance(concurrency, int) and concurrency >= 1):
            raise ValueError(f"concurrency is {concurrency!r}, expected 1 or more")

    def wants(self, name: str, action: str | None) -> bool:
        """Return whether an event of this name and action passes the filter."""
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
    timeout: float | str | None = None,
    concurrency: int | None = None,
    thread: bool = False,
    needs_mirror: bool = False,
) -> Callable[[Function], Function]: ...
def hookimpl(
    function: Callable[..., Any] | None = None,
    /,
    *,
    specname: str | None = None,
    tryfirst: bool = False,
    trylast: bool = False,
    ordered: bool = True,
    timeout: float | str | None = None,
    concurrency: int | None = None,
    thread: bool = False,
    needs_mirror: bool = False,
) -> Any:
    """Mark a function as the implementation of the hook whose name it has (or ``specname``).

    ``ordered``, ``timeout``, ``concurrency``, ``thread`` and ``needs_mirror`` are for ``stackit_event`` and
    ``stackit_refs_changed``, and mean what they mean in ``on``.
    """
    options = HandlerOptions(
        ordered=ordered,
        timeout=_timeout(timeout),
        concurrency=concurrency,
        thread=thread,
        needs_mirror=needs_mirror,
    )

    def mark(function: Function) -> Function:
        _set_options(function, options)
        return _impl(function, specname=specname, tryfirst=tryfirst, trylast=trylast)

    return mark if function is None else mark(function)


def on(
    *patterns: str,
    ordered: bool = True,
    timeout: float | str | None = None,
    concurrency: int | None = None,
    thread: bool = False,
    needs_mirror: bool = False,
) -> Callable[[Function], Function]:
    """Mark a function, of any name, as the handler of events that match a pattern.

    A pattern is an event name (``push``), with an action (``issues.opened``), with any
    action (``pull_request.*``), or ``*`` for all. An action that is more than a word of
    letters, digits, ``_`` and ``-`` stands in double quotes, as it is, whatever is between
    the first and the last of them: ``repository_dispatch."deploy: prod"``.

    ``ordered=False`` lets events of one repository be handled side by side; ``timeout``
    (seconds, or a text such as ``"90s"``; 0 for none) and ``concurrency`` (events in hand at once) replace the
    configured defaults. A plain function runs in the reactor's thread and must not block; one that does
    (``subprocess``, ``requests``) says ``thread=True`` and runs in a thread. In a fleet of several nodes, one that
    says ``needs_mirror=True`` runs on the node that has the mirror of the event's repository, as a handler of moved
    refs does in any case.
    Raises ValueError for a pattern that can never match, and for a function that has a filter already.
    """
    if not patterns:
        raise ValueError("on() needs at least one event, such as on('push'), or on('*') for all")
    for pattern in patterns:
        read_pattern(pattern)
    options = HandlerOptions(
        patterns=patterns,
        ordered=ordered,
        timeout=_timeout(timeout),
        concurrency=concurrency,
        thread=thread,
        needs_mirror=needs_mirror,
    )

    def mark(function: Function) -> Function:
        _set_options(function, options)
        return _impl(function, specname=ON, optionalhook=True)

    return mark


def _timeout(given: float | str | None) -> float | None:
    try:
        return None if given is None else seconds(given)
    except ValueError as problem:
        raise ValueError(f"timeout is {given!r}: {problem}; 0 is no limit") from None


def _set_options(function: Callable[..., Any], options: HandlerOptions) -> None:
    if hasattr(function, OPTIONS_ATTRIBUTE):
        raise ValueError(f"{function.__name__} is marked twice: one on('push', 'issues.opened') holds all its events")
    setattr(function, OPTIONS_ATTRIBUTE, options)


def read_pattern(pattern: str) -> tuple[str | None, str | None]:
    """Return the name and the action that a pattern asks for; None for any. Raises ValueError."""
    found = _PATTERN.fullmatch(pattern) if isinstance(pattern, str) else None
    if found is None:
        raise ValueError(
            f"not an event pattern: {pattern!r} (expected 'push', 'issues.opened', 'issues.*' or '*'; "
            "an action of more than a word is quoted: 'repository_dispatch.\"deploy: prod\"')"
        )
    return found["name"], found["word"] or found["quoted"]
