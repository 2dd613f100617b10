"""The running stackit, as a plugin sees it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path

import msgspec
from twisted.internet.defer import Deferred

from stackit.api.errors import StackitError
from stackit.api.events import RefChange, Repo
from stackit.api.github import GitHubClient
from stackit.api.metrics import Collector
from stackit.api.mirrors import MirrorInfo
from stackit.api.nodes import Alone, Nodes
from stackit.api.occurrences import Occurrence
from stackit.api.peers import CopyAt, no_copies
from stackit.api.reactor import Reactor
from stackit.api.repos import Repos
from stackit.api.stop import Stop
from stackit.api.vitals import Vitals
from stackit.text.redaction import redacted


def _no_github(repo: Repo) -> GitHubClient:
    raise StackitError(f"no GitHub App may ask for {repo}: this stackit has none")


async def _keep_nothing(collection: str, documents: Mapping[str, bytes | None]) -> None:
    """Keep nothing: there is no journal."""


async def _read_nothing(collection: str, keys: Collection[str] | None) -> Mapping[str, bytes]:  # noqa: ARG001 - none are kept
    """Return nothing: there is no journal."""
    return {}


def _watch_nothing(collection: str, changed: Callable[[frozenset[str] | None], object]) -> None:
    """Never call it: nobody else changes anything."""


class App(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The running stackit, as ``stackit_service`` and ``stackit_routes`` receive it.

    ``reactor`` is the timers, the network and the processes; ``reactor.seconds()`` never runs backwards, and has
    no date. ``now`` is the wall clock, which somebody may set: for what people read, and for what outlives the
    process. ``state_dir`` is stackit's own
    directory, readable by its owner only. ``sync_interval`` is the backstop's period in
    seconds, 0 for off. ``grace`` is how many seconds running work has at a stop.
    """

    reactor: Reactor
    version: str
    state_dir: Path
    repos: Repos
    sync_interval: float
    grace: float

    now: Callable[[], float] = time.time
    """The wall clock of this machine, in seconds since the epoch."""

    clock_offset: Callable[[], float] = float
    """By how many seconds the clock of the fleet's database is ahead of ``now``; 0 without a fleet."""

    observe: Callable[[Occurrence], None]
    """Hand an occurrence to every ``stackit_observe``. Never raises."""

    announced: Callable[[Repo], Awaitable[Mapping[str, str]]]
    """The refs of a mirror (ref to object id) as handlers of ``stackit_refs_changed`` have been told."""

    announce: Callable[[Repo, tuple[RefChange, ...], str, str | None], Awaitable[None]]
    """Make a change of refs durable, and hand it to every ``stackit_refs_changed``: repo, changes, cause, delivery.

    The event and the announced refs are written in one transaction. Raises JournalError where it cannot be made durable
    now.
    """

    mirror: Callable[[Repo], MirrorInfo | None] = lambda _: None
    """The mirror of a repository; None for one that is not managed. Known once the plugins' services have started."""

    nodes: Nodes = msgspec.field(default_factory=Alone)
    """The nodes of the fleet, and which of them has the mirror of a repository. Without a fleet, everything is here."""

    copy_at: CopyAt = no_copies
    """Return a repository whose remote is the mirror that another node has; None where that cannot be reached."""

    github: Callable[[Repo], GitHubClient] = _no_github
    """A client of GitHub's API for a repository, which asks as the App that is installed for it."""

    visible: Callable[[str, float], Awaitable[bool]]
    """Note on the receipt of an event (its ``id``) when its commit became visible, in epoch seconds.

    The first note counts. Returns True for it, and False for a later one, such as that of a replay.
    """

    documents: Callable[[str], Mapping[str, bytes]] = lambda _: {}
    """The small documents that plugins keep over a restart, by key, of a collection that the plugin names.

    It blocks for as long as the disk needs: for ``stackit_service``. Raises JournalError.
    """

    keep: Callable[[str, Mapping[str, bytes | None]], Awaitable[None]] = _keep_nothing
    """Make documents of a collection durable, by key, in place of what is there; None deletes one.

    Raises JournalError.
    """

    kept: Callable[[str, Collection[str] | None], Awaitable[Mapping[str, bytes]]] = _read_nothing
    """The documents of a collection as they are now, which other nodes of a fleet change, too: those with these keys,
    all for None. Raises JournalError."""

    watch: Callable[[str, Callable[[frozenset[str] | None], object]], None] = _watch_nothing
    """Have a function called when another node of the fleet changed documents of a collection: with their keys, None
    where any may have changed. Without a fleet it is never called."""

    pending: Callable[[], Mapping[str, int]]
    """The number of events that each subscriber still has to handle."""

    stalled: Callable[[], Mapping[str, float]] = dict
    """The seconds for which each subscriber has had events due, and none of them began or ended; 0 where some do."""

    dropped_lines: Callable[[], int] = int
    """The number of lines of the log that were dropped since the start, because their reader was too slow."""

    vitals: Callable[[], Vitals] = Vitals
    """The state of the process, of its journal, its disk and its webhook secrets."""

    collectors: Sequence[tuple[str, Collector]] = ()
    """Every collector that plugins return from ``stackit_metrics``, with the name of its plugin."""

    redact: Callable[[str], str] = redacted
    """Return a text of bounded length without credentials: every secret and token that stackit uses now, in whatever
    form, and what looks like one. For every text from outside that is kept or shown."""

    stop: Stop = msgspec.field(default_factory=Stop)
    """The stop: ``stop.has_begun`` tells whether it has begun, and ``stop.when_begun(function)`` has a function called
    when it does. Requests, handlers and rounds of the backstop have the grace from then on."""

    def fleet_now(self) -> float:
        """Return the time by which all nodes of a fleet go, in seconds since the epoch; without a fleet, ``now``.

        ``received_at`` of events is of it. For what one node writes down and another compares.
        """
        return self.now() + self.clock_offset()

    def sleep(self, seconds: float | str) -> Deferred[None]:
        """Wait so many seconds, or a time such as ``"5m"``. A stop ends the wait at once, with CancelledError.

        An event whose handler ends with that stays pending, and is handled after the next start.
        """
        return self.stop.sleep(self.reactor, seconds)
