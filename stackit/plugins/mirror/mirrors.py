"""The mirrors of the managed repositories, each with its worker: made, moved and given up as the registry says."""

from __future__ import annotations

import contextlib
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred, DeferredList

from stackit import App, ManagedRepo, MirrorInfo, Occurrence, Push, Repo, ReposChange, StackitError, TokenSource
from stackit.plugins.mirror.fleet.distant import DistantMirror
from stackit.plugins.mirror.fleet.records import MirrorRecord
from stackit.plugins.mirror.fleet.residence import Residence
from stackit.plugins.mirror.fleet.states import MirrorStates
from stackit.plugins.mirror.git.runner import Git
from stackit.plugins.mirror.pushes import PushHandler
from stackit.plugins.mirror.remote.remotes import Remotes
from stackit.plugins.mirror.repository.disk_space import DiskReserve
from stackit.plugins.mirror.repository.history_cache import HistoryCache
from stackit.plugins.mirror.repository.leftovers import SAFE_AGE, remove_leftovers
from stackit.plugins.mirror.repository.places import Places
from stackit.plugins.mirror.schedule.backstop import BackstopSchedule
from stackit.plugins.mirror.settings import MirrorSettings
from stackit.plugins.mirror.sync.clock import ClockConverter
from stackit.plugins.mirror.sync.fetch_slots import FetchSlots
from stackit.plugins.mirror.sync.peer_clone import no_peers
from stackit.plugins.mirror.sync.requests import Elsewhere, Moved, Unmanaged
from stackit.plugins.mirror.sync.status import SyncStatus
from stackit.plugins.mirror.sync.tunables import Tunables
from stackit.plugins.mirror.sync.worker import MirrorWorker
from stackit.plugins.mirror.sync.workshop import Workshop

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

_CLOCKS_DIFFER = 5.0
"""Seconds by which the wall clocks of two nodes may differ."""
STEP = 0.002
"""Seconds of one turn of the reactor in which workers are ended and made; the rest have the next turn."""


class Mirrors:
    """The workers by ``Repo.key``, and a handler of pushes for each.

    ``directory`` holds the mirrors, ``disk`` is its reserve.
    """

    def __init__(
        self,
        app: App,
        directory: Path,
        git: Git,
        *,
        slots: FetchSlots,
        disk: DiskReserve,
        settings: MirrorSettings,
        tunables: Tunables,
    ) -> None:
        self._remotes = Remotes(app.reactor, 2 * settings.concurrency, now=app.now)
        self._workshop = Workshop(app, directory, git, slots=slots, disk=disk, remotes=self._remotes, tunables=tunables)
        self._app = app
        self._git = git
        self._slots = slots
        self._disk = disk
        self._settings = settings
        self._tunables = tunables
        self._histories, self._clock = HistoryCache(), ClockConverter(app.reactor, app.fleet_now)
        self._workers: dict[str, MirrorWorker] = {}
        self._pushes: dict[str, PushHandler] = {}
        self._stopped = False
        self._places = Places(directory, self._notice)
        self._leaving: dict[str, tuple[MirrorWorker, str | None]] = {}  # given up or moved: a last round runs
        self._identities_leaving: set[str | None] = set()
        self._arriving: dict[str, ManagedRepo] = {}  # that have no worker yet
        self._departing: deque[tuple[MirrorWorker, Callable[[], StackitError]]] = deque()
        self._turn: DelayedCall | None = None
        self._former: dict[str, SyncStatus] = {}  # of those that move, by their new key
        self._awaited: dict[str, list[Deferred[None]]] = {}
        self.residence: Residence | None = None
        """What follows the fleet; None where there is none."""
        if app.nodes.here:
            self.residence = Residence(self._workshop, settings, self._places, self)
        else:
            for managed in app.repos:
                self._make(managed)
        self.schedule = BackstopSchedule(app.reactor, tuple(self), app.sync_interval)

    def __iter__(self) -> Iterator[MirrorWorker]:
        return iter(tuple(self._workers.values()))

    def __len__(self) -> int:
        return len(self._workers)

    def on_this_disk(self) -> Iterator[MirrorWorker]:
        """Yield the workers of all mirrors on this node's disk, also of copies of others' mirrors."""
        yield from self
        if self.residence is not None:
            yield from self.residence.copies.workers()

    def present(self, key: str) -> MirrorWorker | None:
        """Return the worker of a repository, if it has been made."""
        return self._workers.get(key)

    def is_busy(self, managed: ManagedRepo) -> bool:
        """Return whether a worker has a mirror, is to be made for it soon, or ends, be it under a former name."""
        key = managed.repo.key
        return key in self._workers or key in self._arriving or self._is_left(managed)

    def _is_left(self, managed: ManagedRepo) -> bool:
        """Return whether a last round works in a mirror, which may still have the place of a former name."""
        return managed.repo.key in self._leaving or managed.identity in self._identities_leaving

    def worker(self, key: str) -> MirrorWorker | None:
        """Return the worker of a managed repository, by its ``Repo.key``; None where another node has the mirror."""
        if key in self._arriving:
            self._arrive_now(key)
        return self._workers.get(key)

    def info(self, key: str) -> MirrorInfo | None:
        """Return a mirror that has its home here, as other plugins see it, also before it has a worker."""
        worker = self.worker(key)
        if worker is not None or self.residence is None:
            return None if worker is None else worker.info()
        managed = self._app.repos.get(Repo.parse(key))
        if managed is None or not self._app.nodes.is_here(managed.repo) or not self.residence.is_coming(managed):
            return None
        path = self._places.place(managed.repo)
        return MirrorInfo(repo=managed.repo, path=path, exists=False, state="cloning", arriving=True)

    def anywhere(self, key: str) -> MirrorWorker | DistantMirror | None:
        """Return the mirror of a managed repository, by its ``Repo.key``, at whatever node of a fleet it is."""
        worker = self.worker(key)
        managed = None if worker is not None or self.residence is None else self._app.repos.get(Repo.parse(key))
        return worker if managed is None or self.residence is None else self.residence.distant(managed)

    def everywhere(self) -> Iterator[MirrorWorker | DistantMirror]:
        """Return the mirrors of all managed repositories, at whatever nodes of a fleet they are."""
        for managed in self._app.repos:
            mirror = self.anywhere(managed.repo.key)
            if mirror is not None:
                yield mirror

    def on_disk(self, key: str) -> MirrorInfo | None:
        """Return the mirror of a managed repository that is on this node's disk, wherever its home is."""
        worker = self.worker(key)
        if worker is not None or self.residence is None:
            return None if worker is None else worker.info()
        managed = self._app.repos.get(Repo.parse(key))
        path = None if managed is None else self._places.find(managed)
        if managed is None or path is None:
            return None
        distant = self.residence.distant(managed)
        return MirrorInfo(repo=managed.repo, path=path, exists=True, state=distant.presumed_state, verified_at=None)

    def pushes(self, key: str) -> PushHandler | None:
        """Return the handler of the pushes of a managed repository."""
        if key in self._arriving:
            self._arrive_now(key)
        return self._pushes.get(key)

    async def forward(self, push: Push) -> None:
        """Handle a push of a repository that is moving, or that has another name now, once its mirror has its place."""
        while (managed := self._app.repos.of(push)) is not None:
            key = managed.repo.key
            pushes = self.pushes(key)
            if pushes is not None:
                await pushes.handle(push)
                return
            if self._stopped:
                raise CancelledError
            if not self._app.nodes.is_here(managed.repo):
                self._check_elsewhere(push, managed)
                return
            arrived: Deferred[None] = Deferred()
            self._awaited.setdefault(key, []).append(arrived)
            await arrived

    def _check_elsewhere(self, push: Push, managed: ManagedRepo) -> None:
        """Check that the node that has the mirror looked at all refs since a push; it is tried again until then.

        A push by a former name comes to the node that would have the mirror by that. Raises Elsewhere.
        """
        record = None if self.residence is None else self.residence.states.get(managed.repo.key)
        if record is None or (record.verified_at or 0.0) < push.received_at + _CLOCKS_DIFFER:
            raise Elsewhere

    def prepare(self) -> None:
        """Bring every mirror that is on disk to its place, and clean it, before any round."""
        self._places.look()
        if self.residence is not None:
            self.residence.begin()
        workers = tuple(self)
        for worker in workers:
            with self._told(worker.managed):
                self._places.clear(worker.managed)
        for worker in workers:
            if not self.prepare_mirror(worker):
                key = worker.managed.repo.key
                del self._workers[key], self._pushes[key]
                self.schedule.remove(worker)

    def change(self, change: ReposChange) -> None:
        """Follow a change of the registry: clone what is new, move what has another name, give up what is gone."""
        if self.residence is not None:
            gone = [*change.removed, *(old for old, _ in change.moved)]
            new = [*change.added, *(new for _, new in change.moved)]
            self.residence.registry_changed([managed.repo.key for managed in gone], new)
        for managed in change.removed:
            self._take_out(managed.repo.key, Unmanaged)
        for old, _ in change.moved:
            self._take_out(old.repo.key, Moved)
        for managed in change.changed:
            if not self._can_stay(managed):
                self._take_out(managed.repo.key, Moved)
        for managed in change.changed:
            if managed.repo.key in self._workers:
                self._workers[managed.repo.key].change(managed, self._remotes.get(managed))
            else:
                self._add(managed)
        for managed in (*change.added, *(new for _, new in change.moved)):
            self._add(managed)
        self.work()
        for managed in change.purged:
            self._delete(managed)

    def _can_stay(self, managed: ManagedRepo) -> bool:
        """Return whether a mirror stays in its place, and remembers the id that may be known now.

        Else its name is spelled in another way now, and so is its folder; or it is the name of another repository.
        """
        worker = self._workers.get(managed.repo.key)
        if worker is None or managed.identity == worker.managed.identity:
            return worker is None or worker.managed.repo == managed.repo
        known = worker.managed.identity
        return (
            worker.managed.repo == managed.repo
            and (known is None or managed.identity is None)
            and (self._accepts(managed))
        )

    def access_returned(self, source: TokenSource) -> None:
        """Ask the remotes that have their tokens from this source: it gives some again."""
        for worker in self:
            if worker.managed.token_source is source and not self._stopped:
                worker.access_returned()

    def stop(self) -> None:
        """Start no more rounds, and end what only waits; rounds that run go on."""
        self._stopped = True
        for worker in self:
            worker.stop()
        if self.residence is not None:
            self.residence.stop()
        if self._turn is not None and self._turn.active():
            self._turn.cancel()
        for worker, error in self._departing:
            worker.leave(error)
        self._departing.clear()
        self._arriving.clear()
        for arrived in [each for waiting in self._awaited.values() for each in waiting]:
            arrived.cancel()
        self.schedule.stop()

    def cancel(self) -> None:
        """Cancel the rounds that run."""
        for worker in self:
            worker.rounds.cancel()
        if self.residence is not None:
            self.residence.copies.cancel()

    def change_settings(self, settings: MirrorSettings) -> None:
        """Take other settings, from the next fetch on."""
        self._settings = settings
        self._git.most_memory = settings.git_memory
        self._disk.reserve = settings.reserve
        self._slots.change(settings.concurrency)
        self._remotes.change_size(2 * settings.concurrency)
        for worker in self:
            worker.change_settings(settings)
        if self.residence is not None:
            self.residence.copies.change_settings(settings)

    async def finish(self) -> None:
        """Wait until no round runs any more, also of what was given up, and close the connections."""
        leaving = [worker for worker, _ in self._leaving.values()]
        await DeferredList([worker.rounds.idle() for worker in (*self, *leaving)])
        if self.residence is not None:
            await self.residence.finish()
        await self._remotes.close()

    def _make(self, managed: ManagedRepo) -> MirrorWorker:
        key = managed.repo.key
        fleet = self.residence
        inherited = fleet is not None and fleet.is_inherited(key)
        peers = no_peers if fleet is None else fleet.peers
        self._workers[key] = worker = self._workshop.make(managed, self._settings, inherited=inherited, peers=peers)
        self._pushes[key] = PushHandler(
            self._app, self._git, worker, self._histories, self._clock, self._tunables, self.forward
        )
        return worker

    # -- arrivals -----------------------------------------------------------------------

    def _add(self, managed: ManagedRepo) -> None:
        """Have a worker made soon, if the mirror is to be here."""
        if self.residence is None:
            self.take_up(managed)
        else:
            self.residence.place(managed)

    def take_up(self, managed: ManagedRepo) -> None:
        """Have a worker made soon, unless there is one, or a last round still works in the mirror: see ``_left``."""
        if managed.repo.key not in self._workers and not self._is_left(managed):
            self._arriving[managed.repo.key] = managed

    def work(self) -> None:
        """End and make workers, in turns of the reactor that are short.

        All that leave are out of ``_workers`` by then: one that arrives finds who still has to make room.
        """
        until = self._app.reactor.seconds() + STEP
        while (self._departing or self._arriving) and not self._stopped:
            if self._departing:
                self._end(*self._departing.popleft())
            else:
                self._arrive_now(next(iter(self._arriving)))
            if (self._departing or self._arriving) and self._app.reactor.seconds() >= until:
                if self._turn is None or not self._turn.active():
                    self._turn = self._app.reactor.callLater(0, self.work)
                return

    def _arrive_now(self, key: str) -> None:
        managed = self._arriving.pop(key)
        worker = self._make(managed)
        if not self.prepare_mirror(worker):
            del self._workers[key], self._pushes[key]
            return
        former = self._former.pop(key, None)
        if former is not None:
            worker.status.follow(former)
        self.schedule.add(worker)
        record = None if self.residence is None else self.residence.handed_over(key)
        if record is None or self.residence is None:
            self.schedule.check_now(worker)
            if self.residence is not None and worker.settled_state == "cloning":
                self.residence.states.note(key)  # the record still has the state of the home before
        else:
            Deferred.fromCoroutine(self._go_on(worker, record, self.residence.states))
        for arrived in self._awaited.pop(key, ()):
            arrived.callback(None)

    async def _go_on(self, worker: MirrorWorker, record: MirrorRecord, states: MirrorStates) -> None:
        """Go on with a mirror as another node left it, which looked at its remote lately: nobody looks twice."""
        with contextlib.suppress(StackitError, OSError):  # a look gives the reason
            await worker.compare()
        if self._workers.get(worker.managed.repo.key) is not worker or self._stopped:
            return
        if worker.all_announced:
            worker.status.verified_at = record.verified_at
            states.note(worker.managed.repo.key)
        else:
            self.schedule.check_now(worker)

    def prepare_mirror(self, worker: MirrorWorker) -> bool:
        """Bring a mirror to its place and clean it; False if another repository's is there and cannot be moved."""
        with self._told(worker.managed) as failed:
            self._places.settle(worker.managed)
        if failed and not self._accepts(worker.managed):
            return False
        with contextlib.suppress(OSError):  # it concerns one mirror only, whose first round reports the reason
            removed = remove_leftovers(worker.directory, before=self._app.now() - SAFE_AGE)
            if removed:
                reason = f"removed {removed} leftovers of a git that was killed"
                self._app.observe(Occurrence(name="healed", repo=worker.managed.repo, reason=reason, count=removed))
        return True

    def _accepts(self, managed: ManagedRepo) -> bool:
        """Return whether a repository may be fetched into what lies at its place."""
        with self._told(managed):
            return self._places.accept(managed)
        return False

    @contextlib.contextmanager
    def _told(self, managed: ManagedRepo) -> Iterator[list[OSError]]:
        """Tell of a mirror that cannot be moved. Yields a list, which has the reason then."""
        failed: list[OSError] = []
        try:
            yield failed
        except OSError as problem:
            failed.append(problem)
            self._notice(managed.repo, f"a mirror cannot be moved: {problem.strerror}: {problem.filename}")

    # -- departures ---------------------------------------------------------------------

    def give_up(self, key: str) -> None:
        """Have the worker of a repository ended soon: another node has the mirror."""
        self._take_out(key, Elsewhere)

    def _take_out(self, key: str, error: Callable[[], StackitError]) -> None:
        """Take the worker of a repository out of all that begins rounds; it is ended soon."""
        self._arriving.pop(key, None)
        worker = self._workers.pop(key, None)
        if worker is not None:
            del self._pushes[key]
            self.schedule.remove(worker)
            worker.announce_nothing(error)
            identity = worker.managed.identity
            self._leaving[key] = worker, identity
            if identity is not None:
                self._identities_leaving.add(identity)
            self._departing.append((worker, error))

    def _end(self, worker: MirrorWorker, error: Callable[[], StackitError]) -> None:
        worker.leave(error)
        worker.rounds.idle().addCallback(lambda _: self._left(worker, moved=error is Moved))

    def _left(self, worker: MirrorWorker, *, moved: bool) -> None:
        """Forget a worker whose last round has ended. Its repository goes on elsewhere, or another one in its place."""
        left = worker.managed
        _, identity = self._leaving.pop(left.repo.key)
        self._identities_leaving.discard(identity)
        if self.residence is not None:
            self.residence.left(left.repo.key)
        moved_to = None if left.id is None else self._app.repos.by_id(left.id, left.realm)
        if self.residence is not None and moved_to is not None:
            self.residence.left(moved_to.repo.key)
        if moved:
            with self._told(left):
                aside = self._places.leave(left)
                if aside is not None and moved_to is None:
                    self._notice(
                        left.repo, f"it is another repository now: the mirror of the former is kept in {aside}"
                    )
        if moved_to is not None and (moved or self.residence is None):
            self._former[moved_to.repo.key] = worker.status
        if self._stopped:
            return
        for managed in (self._app.repos.get(left.repo), moved_to):
            if managed is not None:
                self._add(managed)
        if not self._departing:
            self.work()

    def _delete(self, managed: ManagedRepo) -> None:
        """Delete what is kept of a repository that is managed no more."""
        if managed.id is None or self._app.repos.by_id(managed.id, managed.realm) is not None:
            return
        with self._told(managed):
            for doomed in self._places.forget(managed):
                # A large one takes long, and a stop need not wait for it.
                Thread(target=shutil.rmtree, args=(doomed, True), name="deletion of a mirror", daemon=True).start()

    def _notice(self, repo: Repo, reason: str) -> None:
        self._app.observe(Occurrence(name="notice", repo=repo, reason=reason))
