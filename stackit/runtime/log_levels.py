"""The level from which on the events of each logger are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.logger import LogEvent, LogLevel

_RANKS: Mapping[Any, int] = {
    each: rank for rank, each in enumerate((LogLevel.debug, LogLevel.info, LogLevel.warn, LogLevel.error))
}
_CRITICAL = len(_RANKS)
_NUMBERS = (10, 20, 30, 40, 50)
"""The levels of the standard library's ``logging``, by rank."""
_MOST_KNOWN = 1024
_DEFAULT = "default"
# Of every connection of every client, two lines at the level info.
_NOISE = frozenset({"Starting factory {factory!r}", "Stopping factory {factory!r}"})


class LogLevels:
    """``setting`` is a level, or levels by logger, with ``default`` for all others.

    A logger has the level of the longest name that it begins with: ``acme.db`` that of ``acme``.
    """

    __slots__ = ("_by_logger", "_hidden")

    def __init__(self, setting: str | Mapping[str, str] = "info") -> None:
        table = {_DEFAULT: setting} if isinstance(setting, str) else {_DEFAULT: "info", **setting}
        self._by_logger = {name: _RANKS.get(LogLevel.lookupByName(level), _CRITICAL) for name, level in table.items()}
        self._hidden: dict[Any, tuple[Any, ...]] = {}  # the levels that are not written, by logger

    def hides(self, event: LogEvent) -> bool:
        """Return True for an event that is not written."""
        name = event.get("log_namespace")
        hidden = self._hidden.get(name)
        if hidden is None:
            hidden = self._remember(name)
        if "factory" in event and event.get("log_format") in _NOISE:
            return LogLevel.debug in hidden
        return event.get("log_level") in hidden

    def lowest_number(self) -> int:
        """Return the lowest level that is written of any logger, as a number of the standard library's ``logging``."""
        return _NUMBERS[min(self._by_logger.values())]

    def _remember(self, name: Any) -> tuple[Any, ...]:
        if len(self._hidden) >= _MOST_KNOWN:  # a plugin may make any number of loggers
            self._hidden.clear()
        least = self._rank(name)
        # An event without a level is as good as one with info.
        hidden = tuple(level for level, rank in {**_RANKS, None: _RANKS[LogLevel.info]}.items() if rank < least)
        self._hidden[name] = hidden
        return hidden

    def _rank(self, namespace: object) -> int:
        name = str(namespace or "-")
        while name not in self._by_logger:
            name, dot, _ = name.rpartition(".")
            if not dot:
                return self._by_logger[_DEFAULT]
        return self._by_logger[name]
