"""What holds handlers up: told in one line where it lasts longer than a moment, and in another once it is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

from twisted.internet.base import DelayedCall

from stackit.api.reactor import Timers

MOMENT = 3.0
"""Seconds after which people are told: the journal tells sooner of what is wrong with itself."""
_LOOK = 1.0

HoldOfAll = Literal["unwritable", "uncounted", "unknown"]
"""Why no handler begins: outcomes cannot be written down; it is not counted yet in which handlers the last process
ended; or it is not known yet which of them are paused.
"""
Reason = Literal[HoldOfAll, "unread", "unheard"]
"""Why handlers are not as they should be: none begins, or what is due cannot be read; or some may begin that another
node of a fleet has paused.
"""
_LINES: Mapping[Reason, tuple[str, str]] = MappingProxyType(
    {
        "unwritable": (
            "no handler begins while its outcome could not be written down",
            "handlers begin again: outcomes can be written down",
        ),
        "unread": (
            "events that wait in the journal are not handed on",
            "events that wait in the journal are handed on again",
        ),
        "uncounted": (
            "no handler begins before it is counted in which of them the last process ended",
            "handlers begin: nothing is left to count of how the last process ended",
        ),
        "unheard": (
            "handlers may begin here that were paused at another node",
            "it is known again which handlers were paused at other nodes",
        ),
        "unknown": (
            "no handler begins before it is known which of them are paused",
            "handlers begin: it is known which of them are paused",
        ),
    }
)
_ALWAYS_TOLD = ("uncounted",)  # a problem of the journal does not say that by itself


class HoldUps:
    """What holds handlers up now, each since when, and what is known of the cause.

    ``notice`` is called with lines for people. ``is_explained`` returns whether the journal tells of a problem of its
    own: what follows from that is not told again.
    """

    def __init__(self, reactor: Timers, notice: Callable[[str], object], is_explained: Callable[[], bool]) -> None:
        self._reactor = reactor
        self._notice = notice
        self._is_explained = is_explained
        self._since: dict[Reason, float] = {}
        self._causes: dict[Reason, str] = {}
        self._told: set[Reason] = set()
        self._timer: DelayedCall | None = None
        self._is_stopped = False

    def begin(self, reason: Reason, cause: str = "") -> None:
        """Take note of what holds handlers up, or of another cause of it."""
        if self._is_stopped:
            return
        self._since.setdefault(reason, self._reactor.seconds())
        if cause:
            self._causes[reason] = cause
        if self._timer is None:
            self._timer = self._reactor.callLater(MOMENT, self._look)

    def end(self, reason: Reason) -> None:
        """Take note of what holds handlers up no longer."""
        self._since.pop(reason, None)
        self._causes.pop(reason, None)
        if reason in self._told:
            self._told.discard(reason)
            self._notice(_LINES[reason][1])
        if not self._since:
            self._cancel()

    def problems(self) -> list[str]:
        """Return what has lasted longer than a moment, one line each."""
        return [self._line(each) for each in self._lasting()]

    def stop(self) -> None:
        """Tell nothing more."""
        self._is_stopped = True
        self._since.clear()
        self._told.clear()
        self._cancel()

    def _lasting(self) -> list[Reason]:
        before = self._reactor.seconds() - MOMENT
        lasting: list[Reason] = [each for each, since in self._since.items() if since <= before]
        if lasting and self._is_explained():
            return [each for each in lasting if each in _ALWAYS_TOLD]
        return lasting

    def _line(self, reason: Reason) -> str:
        line, cause = _LINES[reason][0], self._causes.get(reason)
        return line if cause is None else f"{line}: {cause}"

    def _look(self) -> None:
        self._timer = self._reactor.callLater(_LOOK, self._look)
        for each in self._lasting():
            if each not in self._told:
                self._told.add(each)
                self._notice(self._line(each))

    def _cancel(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
