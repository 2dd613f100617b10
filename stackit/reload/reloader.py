"""The reload: which settings differ, which part takes each of them, and what is left to a restart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
from twisted.logger import Logger

from stackit.api.errors import ConfigError, StackitError
from stackit.config.changes import differing, fixed_settings, replaced
from stackit.config.load import check_admin
from stackit.config.model import Config

_log = Logger(namespace="stackit")


def _nothing() -> None:
    """Do nothing."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a reload, prepared: what could be wrong with the file was found by then.

    ``apply`` takes the change. Only that of a plugin may refuse it, by a StackitError, with nothing changed; ``undo``
    takes it back then if a later step refuses. ``changes`` are clauses for people. ``restart`` are settings that only a
    restart changes, and ``keep`` fields of Config as they stay for that reason.
    """

    apply: Callable[[], None] = _nothing
    undo: Callable[[], None] = _nothing
    changes: Sequence[str] = ()
    restart: Sequence[str] = ()
    keep: Mapping[str, Any] = MappingProxyType({})


Prepare = Callable[[Config, Config, Sequence[str]], Sequence[Step]]
"""Make the steps from one configuration to another; the names are the part's settings that differ.

Raises StackitError where the new one cannot be taken.
"""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a reload: the clauses of what changed, and the settings that wait for a restart."""

    changes: Sequence[str]
    restart: Sequence[str]


class Reloader:
    """Takes new configurations into the running stackit.

    Every setting is taken by one part (``takes``), or its annotation says that it needs a restart. ``config`` is the
    configuration that holds now.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._parts: list[tuple[frozenset[str], Prepare]] = []

    def takes(self, prepare: Prepare, *settings: str) -> None:
        """Have ``prepare`` make the steps when any of these settings differs. Steps are taken in this order."""
        self._parts.append((frozenset(settings), prepare))

    def taken(self) -> list[str]:
        """Return the settings that a part takes."""
        return [name for names, _ in self._parts for name in names]

    def reload(self, wanted: Config) -> Outcome:
        """Take a configuration. Raises StackitError, with nothing changed, where it cannot be taken."""
        running = self.config
        if running.source is not None and wanted.source is None:
            raise ConfigError(f"{running.source}: is gone")
        differ = differing(running, wanted)
        restart = [name for name in differ if name in fixed_settings()]
        for name in restart:
            wanted = replaced(wanted, name, _value(running, name))
        # Listeners that stay as they are may need what the file no longer has.
        check_admin(wanted, wanted.where)
        steps: list[Step] = []
        for names, prepare in self._parts:
            own = [name for name in differ if name in names]
            steps += prepare(running, wanted, own) if own else ()
        _apply(steps)
        for step in steps:
            restart += step.restart
            for name, value in step.keep.items():
                wanted = replaced(wanted, name, value)
        self.config = wanted
        changes = dict.fromkeys(clause for step in steps for clause in step.changes)  # two parts may take one setting
        return Outcome(changes=list(changes), restart=restart)


def _apply(steps: Sequence[Step]) -> None:
    """Take the steps, all or none: when one refuses, those before it are taken back."""
    done: list[Step] = []
    try:
        for step in steps:
            step.apply()
            done.append(step)
    except StackitError:
        for step in reversed(done):
            try:
                step.undo()
            except StackitError as fault:
                _log.error("a change could not be taken back: {problem}", problem=fault)
        raise


def _value(config: Config, name: str) -> Any:
    section, _, key = name.rpartition(".")
    return getattr(getattr(config, section) if section else config, key)
