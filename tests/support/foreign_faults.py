"""What foreign code may raise, to be told by a text that can be had or not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred

from stackit import Permanent


class TextRaises(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise ValueError("no text for you")


class TextLeaves(Exception):
    """Who asks for its text is to leave."""

    def __str__(self) -> str:
        raise SystemExit(1)


class TextIsNoText(Exception):
    """Its text is no text."""

    def __str__(self) -> str:
        return self.args  # type: ignore[return-value]  # wrong on purpose


@dataclass(frozen=True)
class Frozen(Exception):
    """Nothing can be set on it."""

    reason: str

    def __str__(self) -> str:
        return self.reason


class RaisedOnce(Exception):
    """It can be raised, and not raised once more by Twisted's ``Failure``."""

    def with_traceback(self, _traceback: Any) -> Any:
        raise ValueError("no traceback for you")


class _Named(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]  # wrong on purpose
        raise ValueError("no name for you")


class NameRaises(Exception, metaclass=_Named):
    """The name of its class cannot be asked for as usual."""


class FinalWithoutText(Permanent):
    """Trying again cannot help, and why cannot be said."""

    __str__ = TextRaises.__str__


FAULTS: list[tuple[Callable[[], BaseException], str]] = [
    (lambda: ValueError("plain"), "ValueError: plain"),
    (TextRaises, "TextRaises: no text can be had of it (ValueError)"),
    (TextLeaves, "TextLeaves: no text can be had of it (SystemExit)"),
    (TextIsNoText, "TextIsNoText: no text can be had of it (TypeError)"),
    (NameRaises, "NameRaises"),
    (lambda: Frozen("set"), "Frozen: set"),
    (RaisedOnce, "RaisedOnce"),
    (lambda: ValueError("half \ud83d and \x00"), "ValueError: half \\ud83d and \x00"),
    (asyncio.CancelledError, "CancelledError"),
    (KeyboardInterrupt, "KeyboardInterrupt"),
    (GeneratorExit, "GeneratorExit"),
    (lambda: SystemExit(3), "SystemExit: 3"),
    (lambda: StopIteration(3), "StopIteration: 3"),
    (lambda: StopAsyncIteration(3), "StopAsyncIteration: 3"),
    (lambda: BaseException("bare"), "BaseException: bare"),
]
"""Exceptions, made anew each time, and how ``describe`` tells of each."""

IDS = [text.partition(":")[0] for _, text in FAULTS]


class OddDeferred(Deferred[None]):
    """A Deferred of a plugin's own class, which takes no callbacks."""

    def addBoth(self, *_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt("no callbacks for you")

    addCallbacks = addCallback = addErrback = addBoth
