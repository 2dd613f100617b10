"""Copies of mirrors that have their home at another node: fetched from there, and announced by nobody."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec
from twisted.internet.defer import DeferredList

from stackit import App, ManagedRepo, Occurrence, RefChange, Repo
from stackit.plugins.mirror.sync.requests import Elsewhere, Request
from stackit.plugins.mirror.sync.settings import SyncSettings
from stackit.plugins.mirror.sync.worker import MirrorWorker
from stackit.plugins.mirror.sync.workshop import Workshop

TRIES = 2
"""Failed fetches after which a copy is given up until it is tried again: its home has no whole mirror, perhaps."""
_TOLD = frozenset({"notice", "healed"})
"""Occurrences of a copy that are told as those of any mirror."""


class CopySettings(msgspec.Struct, frozen=True):
    """The settings of a copy: what its home deleted is deleted, however much it is, if anything is left there."""

    timeout: float
    debounce: float = 0.0
    max_deletions: float = 1.0
    min_refs: int = 1

    @classmethod
    def of(cls, settings: SyncSettings) -> CopySettings:
        return cls(timeout=settings.timeout)


class Prepare(Protocol):
    """What brings the mirror of a worker to its place, and cleans it; False where that cannot be."""

    def __call__(self, worker: MirrorWorker) -> bool: ...


class _Copy:
    """One copy, fetched from ``at``. ``moves`` is what its home had announced when it was fetched last.

    ``is_told``: people know that it cannot be fetched. ``is_there``: its home has the mirror, as far as is known.
    """

    def __init__(self, worker: MirrorWorker, at: ManagedRepo, moves: int) -> None:
        self.worker = worker
        self.at = at
        self.moves = moves
        self.failures = 0
        self.is_told = False
        self.is_there = False

    @property
    def is_in_step(self) -> bool:
        status = self.worker.status
        return status.verified_at is not None and status.error is None


class Copies:
    """The workers of the copies, by ``Repo.key``.

    ``fetched`` is called with a key when a fetch of a copy has ended, ``ended`` when one is left for good.
    """

    def __init__(
        self,
        workshop: Workshop,
        settings: SyncSettings,
        *,
        prepare: Prepare,
        fetched: Callable[[str], object],
        ended: Callable[[str], object],
    ) -> None:
        self._workshop = workshop
        self._settings = CopySettings.of(settings)
        self._prepare = prepare
        self._fetched = fetched
        self._ended = ended
        self._copies: dict[str, _Copy] = {}
        self._leaving: dict[str, MirrorWorker] = {}
        self._stopped = False

    def holds(self, key: str) -> bool:
        """Return True while a worker has a copy, also one that ends."""
        return key in self._copies or key in self._leaving

    def workers(self) -> list[MirrorWorker]:
        """Return the workers of the copies that are kept."""
        return [copy.worker for copy in self._copies.values()]

    def count(self) -> tuple[int, int]:
        """Return the number of copies that the last fetch made equal to the mirror at their home, and of the others."""
        in_step = sum(copy.is_in_step for copy in self._copies.values())
        return in_step, len(self._copies) - in_step

    def is_in_step(self, key: str) -> bool:
        """Return True if the last fetch made a copy equal to the mirror at its home."""
        copy = self._copies.get(key)
        return copy is not None and copy.is_in_step

    def is_whole(self, key: str) -> bool:
        """Return True if a copy has been equal to the mirror at its home."""
        copy = self._copies.get(key)
        return copy is not None and copy.worker.status.verified_at is not None

    def is_hopeless(self, key: str) -> bool:
        """Return True for a copy that could not be fetched a few times in a row."""
        copy = self._copies.get(key)
        tries = TRIES if self._workshop.app.sync_interval else 1  # it is not tried again without a backstop
        return copy is not None and copy.failures >= tries

    def keep(self, at: ManagedRepo, moves: int, *, is_there: bool) -> None:
        """Keep a copy of the mirror that another node serves as ``at``, and fetch it if it has moved since.

        ``is_there`` tells whether that node has it yet.
        """
        key = at.repo.key
        if self._stopped or key in self._leaving:
            return
        copy = self._copies.get(key)
        if copy is None:
            worker = self._workshop.make(at, self._settings, app=self._quiet(at.repo))
            if not self._prepare(worker):
                return
            self._copies[key] = copy = _Copy(worker, at, moves)
            worker.rounds.ask_quietly(Request("backstop"))
        elif copy.at != at:
            # Also where its home started again, which takes no tickets for the incarnation before.
            copy.at, copy.moves, copy.failures = at, moves, 0
            copy.worker.change(at, self._workshop.remotes.get(at))
        elif copy.moves != moves or (is_there and not copy.is_there and not copy.is_in_step):
            if not copy.is_there:
                copy.failures = 0  # they were to be expected
            copy.moves = moves
            copy.worker.rounds.ask_quietly(Request("backstop"))
        copy.is_there = is_there

    def end(self, key: str) -> None:
        """Have a copy kept no more; ``ended`` is called when its last fetch has ended."""
        copy = self._copies.pop(key, None)
        if copy is None:
            return
        self._leaving[key] = worker = copy.worker
        worker.leave(Elsewhere)

        def left(_: None) -> None:
            del self._leaving[key]
            if not self._stopped:
                self._ended(key)

        worker.rounds.idle().addCallback(left)

    def change_settings(self, settings: SyncSettings) -> None:
        """Take other settings, from the next fetch on."""
        self._settings = CopySettings.of(settings)
        for copy in self._copies.values():
            copy.worker.change_settings(self._settings)

    def stop(self) -> None:
        """Begin no more fetches; those that run go on."""
        self._stopped = True
        for copy in self._copies.values():
            copy.worker.stop()

    def cancel(self) -> None:
        """Cancel the fetches that run."""
        for copy in self._copies.values():
            copy.worker.rounds.cancel()

    async def finish(self) -> None:
        """Wait until no fetch runs."""
        workers = [*(copy.worker for copy in self._copies.values()), *self._leaving.values()]
        await DeferredList([worker.rounds.idle() for worker in workers])

    def _quiet(self, repo: Repo) -> App:
        """Return the app for a copy: nothing is announced, and what its home tells is not told twice."""
        app = self._workshop.app

        def observe(occurrence: Occurrence) -> None:
            if occurrence.name in _TOLD:
                app.observe(occurrence)
            elif occurrence.name == "synced":
                self._note(repo.key, occurrence.error)

        return msgspec.structs.replace(app, observe=observe, announced=_none_announced, announce=_announce_nothing)

    def _note(self, key: str, error: str | None) -> None:
        copy = self._copies.get(key)
        if copy is not None:
            copy.failures = 0 if error is None else copy.failures + 1
            if error is None or (copy.is_there and self.is_hopeless(key)):
                self._tell(copy, error)
            self._fetched(key)

    def _tell(self, copy: _Copy, error: str | None) -> None:
        """Tell people, once, that a copy is behind, and when it is so no more."""
        if copy.is_told == (error is not None):
            return
        copy.is_told = error is not None
        app, repo = self._workshop.app, copy.at.repo
        home = app.nodes.home(repo)
        at = "its home" if home is None else f"node {home.name}"
        reason = f"the copy of this mirror is in step with {at} again"
        if error is not None:
            again = ", and in the rounds of the backstop" if app.sync_interval else ""
            reason = f"the copy of this mirror cannot be fetched from {at}: {error}; tried again when refs move{again}"
        app.observe(Occurrence(name="notice", repo=repo, reason=reason))


async def _none_announced(repo: Repo) -> Mapping[str, str]:  # noqa: ARG001 - of no repository
    """Return no refs: a copy is announced by its home alone."""
    return {}


async def _announce_nothing(repo: Repo, changes: tuple[RefChange, ...], cause: str, delivery: str | None) -> None:
    """Do nothing, as its home has announced it."""
