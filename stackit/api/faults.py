"""An exception of foreign code for the log: one line with its place, and its traceback the first time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from stackit.api.errors import StackitError, class_name, describe
from stackit.api.tracebacks import Source, describe_at, own_place_of, place_of, release_frames, traceback_of

_MOST_REMEMBERED = 256
"""Kinds of faults that are remembered. One that is forgotten counts as new when it comes again."""


class Fault(msgspec.Struct, frozen=True):
    """One exception.

    ``error`` is one line, ``traceback`` whole lines, both without credentials. ``is_new`` is True for the first of its
    kind, which is the type of the exception and the innermost place in the plugin.
    """

    error: str
    traceback: str
    is_new: bool

    @property
    def new_traceback(self) -> str | None:
        """The traceback, where it is the first of its kind."""
        return self.traceback if self.is_new else None


class FaultDescriber:
    """Describes the exceptions of one piece of foreign code, and remembers their kinds."""

    __slots__ = ("_kinds", "_redact", "_source")

    def __init__(self, redact: Callable[[str], str], function: Callable[..., Any] | None = None) -> None:
        """``function`` is the one that is called, whose plugin's frames count as its own."""
        self._redact = redact
        self._source = None if function is None else Source.of(function)
        self._kinds: dict[tuple[str, str, int], None] = {}

    def describe(self, fault: BaseException | None) -> Fault:
        """Return the description of an exception, and drop the frames that it holds. Never raises.

        A StackitError is a line for the operator: it has no place, and its traceback is not news.
        """
        if fault is None:  # a Failure may be of anything
            return Fault(describe(fault), "", is_new=False)
        described = self._described(fault)
        release_frames(fault)
        return described

    def _described(self, fault: BaseException) -> Fault:
        traceback = traceback_of(fault, self._redact)
        if isinstance(fault, StackitError):
            return Fault(describe(fault, self._redact), traceback, is_new=False)
        place = place_of(fault) if self._source is None else own_place_of(fault, self._source)
        # What stackit says of a handler has no traceback that would help its author.
        is_new = place is not None and self._note((class_name(fault), place.file, place.line))
        return Fault(describe_at(fault, place, self._redact), traceback, is_new)

    def _note(self, kind: tuple[str, str, int]) -> bool:
        """Remember a kind of fault; return True for one that was not remembered."""
        is_new = kind not in self._kinds
        self._kinds.pop(kind, None)
        self._kinds[kind] = None
        if len(self._kinds) > _MOST_REMEMBERED:
            del self._kinds[next(iter(self._kinds))]
        return is_new
