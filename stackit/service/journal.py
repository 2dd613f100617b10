"""The journal that the configuration asks for: one of this process alone, or one that the nodes of a fleet share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from stackit.api.errors import JournalError, StackitError
from stackit.api.reactor import Reactor
from stackit.config.fleet import missing_package
from stackit.config.model import Config
from stackit.journal import JournalProtocol
from stackit.journal.directory import DirectoryLock, prepare
from stackit.journal.sqlite import SQLiteJournal
from stackit.service.node import SingleNode, ThisNode

if TYPE_CHECKING:
    from stackit.service.fleet import FleetNode


class Journal(JournalProtocol, Protocol):
    """A journal whose retention the configuration sets."""

    def change_retention(self, *, keep_for: float, keep_bytes: int) -> None:
        """Have ``prune`` keep to other bounds."""


def open_journal(
    config: Config,
    *,
    reactor: Reactor,
    now: Callable[[], float],
    on_change: Callable[[str | None], None],
    notice: Callable[[str], None],
) -> tuple[Journal, ThisNode]:
    """Open the journal, and return it with this process's place among those that share it.

    ``on_change`` and ``notice`` are those of ``SQLiteJournal.open``, ``now`` is the wall clock. Blocks. Raises
    StackitError.
    """
    if not config.fleet.is_configured:
        journal = SQLiteJournal.open(
            config.state_dir,
            reactor=reactor,
            keep_for=config.journal.keep_for,
            keep_bytes=config.journal.keep_bytes,
            on_change=on_change,
            notice=notice,
        )
        return journal, SingleNode(journal, now)
    fleet_node = _fleet_node(config)
    prepare(config.state_dir)
    lock = DirectoryLock(config.state_dir)
    try:
        node = fleet_node(config, lock=lock, reactor=reactor, now=now, on_change=on_change, notice=notice)
    except JournalError as problem:
        raise StackitError(f"{config.where('fleet.postgres')}: {problem}") from None
    return node.journal, node


def _fleet_node(config: Config) -> type[FleetNode]:
    """Return the class of a node, which brings PostgreSQL with it. Raises StackitError where that is not installed."""
    try:
        from stackit.service.fleet import FleetNode  # noqa: PLC0415 - its packages are an extra, for fleets alone
    except ImportError as problem:
        raise StackitError(f"{config.where('fleet.postgres')}: {missing_package(problem)}") from None
    return FleetNode
