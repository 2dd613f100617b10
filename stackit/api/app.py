"""What a plugin is given of the running stackit."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from stackit.api.events import RefChange, Repo
from stackit.api.metrics import Collector
from stackit.api.occurrences import Occurrence
from stackit.api.reactor import Reactor
from stackit.api.repos import Repos
from stackit.text.redaction import redacted


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
    """The wall clock, in seconds since the epoch."""

    observe: Callable[[Occurrence], None]
    """Tell every observer what happened. Never raises."""

    announced: Callable[[Repo], Awaitable[Mapping[str, str]]]
    """The refs of a mirror (ref to object id) as handlers of ``stackit_refs_changed`` have been told."""

    announce: Callable[[Repo, tuple[RefChange, ...], str, str | None], Awaitable[None]]
    """Record that refs moved, and tell every ``stackit_refs_changed``: repo, changes, cause, delivery.

    The event and the record of what was announced are one transaction: neither is there
    without the other. Raises JournalError where it cannot be made durable now.
    """

    visible: Callable[[str, float], Awaitable[bool]]
    """Note on the receipt of an event (its ``id``) when its commit became visible, in epoch seconds.

    The first time counts; returns whether this was it (a replay is not).
    """

    pending: Callable[[], Mapping[str, int]]
    """How many events each subscriber still has to handle."""

    stalled: Callable[[], Mapping[str, float]] = dict
    """For how many seconds each subscriber has had events due of which none has begun or ended; 0 where all is well."""

    dropped_lines: Callable[[], int] = int
    """How many lines of the log were dropped since the start, because nobody read them."""

    collectors: Sequence[tuple[str, Collector]] = ()
    """Every collector that plugins return from ``stackit_metrics``, with the name of its plugin."""

    redact: Callable[[str], str] = redacted
    """Return a text of bounded length without credentials: every secret and token that stackit uses now, in whatever
    form, and what looks like one. For every text from outside that is kept or shown."""
