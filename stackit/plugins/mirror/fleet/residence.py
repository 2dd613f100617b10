"""The mirrors that this node keeps: those whose home is here, and copies of others, as the fleet changes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Protocol

import msgspec
from twisted.internet.defer import CancelledError, Deferred, succeed

from stackit import ManagedRepo, Repo, StackitError, sleep
from stackit.plugins.mirror.fleet.copies import Copies
from stackit.plugins.mirror.fleet.disposal import Disposal
from stackit.plugins.mirror.fleet.distant import DistantMirror
from stackit.plugins.mirror.fleet.records import MirrorRecord
from stackit.plugins.mirror.fleet.states import MirrorStates
from stackit.plugins.mirror.fleet.whole_shards import WholeShards
from stackit.plugins.mirror.repository.places import Places
from stackit.plugins.mirror.sync.settings import SyncSettings
from stackit.plugins.mirror.sync.worker import MirrorWorker
from stackit.plugins.mirror.sync.workshop import Workshop

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

_AGAIN = 1.0
"""Seconds until the journal is asked again after an error, of which it tells by itself."""


class Homes(Protocol):
    """The workers of the mirrors whose home is here."""

    def present(self, key: str) -> MirrorWorker | None:
        """Return the worker of a repository, if it has been made."""

    def is_busy(self, managed: ManagedRepo) -> bool:
        """Return whether a worker has a mirror, is to be made for it soon, or ends, be it under a former name."""

    def take_up(self, managed: ManagedRepo) -> None:
        """Have a worker made, soon after ``work``."""

    def give_up(self, key: str) -> None:
        """Have the worker of a repository ended, if there is one, soon after ``work``: another node has the mirror."""

    def work(self) -> None:
        """End and make workers."""

    def prepare_mirror(self, worker: MirrorWorker) -> bool:
        """Bring a mirror to its place and clean it; False where that cannot be."""


class Residence:
    """Follows the fleet. One thing at a time has a mirror on disk: a worker of its home, or of a copy."""

    def __init__(self, workshop: Workshop, settings: SyncSettings, places: Places, homes: Homes) -> None:
        self._app = workshop.app
        self._nodes = workshop.app.nodes
        self._homes = homes
        self._places = places
        self.states = MirrorStates(self._app, own=self._own, awaited=self._is_awaited, changed=self._states_changed)
        self.copies = Copies(
            workshop, settings, prepare=homes.prepare_mirror, fetched=self._fetched, ended=self._copy_ended
        )
        self._whole = WholeShards(self._app, own=self._whole_here, changed=self._whole_changed)
        self._disposal = Disposal(
            self._app,
            places,
            record=self.states.get,
            is_wanted=self._is_wanted,
            is_copied=self._is_copied,
            again=self._again,
        )
        self._claimed: set[str] = set()  # of which it is durable that their home is here
        self._to_claim: set[str] = set()
        self._claiming: Deferred[None] = succeed(None)
        self._is_claiming = False
        self._handed_over: set[str] = set()  # that were copied here in time
        self._arrivals: dict[int, set[str]] = {}  # the keys without which a shard cannot arrive
        self._shards: dict[int, list[ManagedRepo]] | None = None  # None: they have to be grouped anew
        self._seen: dict[int, object] = {}
        self._turn: DelayedCall | None = None
        self._stopped = False

    def begin(self) -> None:
        """Read what the homes wrote, and follow from now on."""
        self.states.begin()
        self._whole.begin()
        self._look_for_leftovers(self._app.repos)
        self._nodes.when_changed(self.follow_soon)
        self._nodes.when_arriving(lambda _: self.follow_soon())
        self.follow_soon()

    def peers(self, managed: ManagedRepo) -> list[ManagedRepo]:
        """Return where other nodes serve a mirror, the node that had it last first."""
        record = self.states.get(managed.repo.key)
        last = None if record is None else record.node
        nodes = [each for each in self._nodes.nodes() if each.state != "away" and "mirror" in each.roles]
        others = [each for each in nodes if each.name != self._nodes.here]
        others.sort(key=lambda each: each.name != last)
        found = (self._app.copy_at(managed, each) for each in others)
        return [each for each in found if each is not None]

    def is_inherited(self, key: str) -> bool:
        """Return whether another node had a mirror last, or may have."""
        record = self.states.get(key)
        return record is None or record.inherited

    def is_coming(self, managed: ManagedRepo) -> bool:
        """Return whether a mirror whose home is here, and that has no worker, gets one: not if that was refused."""
        return managed.repo.key not in self._claimed or self._homes.is_busy(managed)

    def distant(self, managed: ManagedRepo) -> DistantMirror:
        """Return a mirror that is not worked on here, as far as it is known here."""
        home, record = self._nodes.home(managed.repo), self.states.get(managed.repo.key)
        return DistantMirror(managed, home, record, self._nodes.here)

    def handed_over(self, key: str) -> MirrorRecord | None:
        """Return the record of a mirror that was copied here in time, if its last home looked at its remote lately."""
        if key not in self._handed_over:
            return None
        self._handed_over.discard(key)
        record, interval = self.states.get(key), self._app.sync_interval
        if record is None or record.verified_at is None or record.error is not None:
            return None
        return record if not interval or self._app.fleet_now() - record.verified_at < interval else None

    # -- placing ------------------------------------------------------------------------

    def follow_soon(self) -> None:
        """Look again at what should be here, once in this turn of the reactor."""
        if not self._stopped and (self._turn is None or not self._turn.active()):
            self._turn = self._app.reactor.callLater(0, self._follow)

    def place(self, managed: ManagedRepo) -> None:
        """Have a mirror kept as it should be: by its home, as a copy, or not at all. ``work`` has to follow."""
        if self._stopped:
            return
        key = managed.repo.key
        if self._nodes.is_here(managed.repo):
            self._place_here(managed, key)
            return
        self._claimed.discard(key)
        self._to_claim.discard(key)
        self._handed_over.discard(key)
        self._homes.give_up(key)
        if self._homes.is_busy(managed):
            return  # it is placed again when its worker has ended
        if self._is_copy(managed.repo):
            self._disposal.add([key])
            self._keep_copy(managed)
        elif self.copies.holds(key):
            self.copies.end(key)
        else:
            self._disposal.check(managed)

    def left(self, key: str) -> None:
        """Take note that the worker of a mirror has ended."""
        self._disposal.add([key])

    def registry_changed(self, gone: Collection[str], new: Iterable[ManagedRepo]) -> None:
        """Keep no copies and no records of those that are gone: they are managed no more, or have other names.

        The others are to be placed then, also the ``new`` ones, or those under new names.
        """
        self._shards = None
        self.follow_soon()
        self._look_for_leftovers(new)
        for key in gone:
            self.copies.end(key)
            if key in self._claimed or self._nodes.leads():
                self.states.forget([key])
            self._claimed.discard(key)

    def _look_for_leftovers(self, repos: Iterable[ManagedRepo]) -> None:
        self._disposal.add(each.repo.key for each in repos if self._places.is_known(each))

    def _follow(self) -> None:
        """Place the mirrors of all shards of which the fleet says something else than before."""
        for shard, repos in self._grouped().items():
            seen = self._look_at(repos[0].repo)
            if self._seen.get(shard) != seen:
                self._seen[shard] = seen
                for managed in repos:
                    self.place(managed)
        self._homes.work()
        self._await_arrivals()
        self._whole.note()

    def _grouped(self) -> dict[int, list[ManagedRepo]]:
        if self._shards is None:
            self._shards = {}
            for managed in self._app.repos:
                self._shards.setdefault(self._nodes.shard(managed.repo), []).append(managed)
        return self._shards

    def _look_at(self, repo: Repo) -> object:
        """Return all of what the fleet says of a repository that decides what is kept of it here."""
        home = self._nodes.home(repo)
        at = None if home is None else (home.name, home.incarnation, home.state, home.address)
        copies = [(each.name, each.state == "away") for each in self._nodes.copies(repo)]
        return at, self._nodes.is_here(repo), self._is_copy(repo), copies

    def _place_here(self, managed: ManagedRepo, key: str) -> None:
        if self._homes.is_busy(managed):
            return
        if self.copies.holds(key):
            if self.copies.is_in_step(key):
                self._handed_over.add(key)
            self.copies.end(key)
        elif key in self._claimed:
            self._homes.take_up(managed)
        else:
            self._to_claim.add(key)
            self._claim()

    def _keep_copy(self, managed: ManagedRepo) -> None:
        home = self._nodes.home(managed.repo)
        at = None if home is None or home.state == "away" else self._app.copy_at(managed, home)
        if at is not None:
            record = self.states.get(managed.repo.key)
            # What the forge says of a name is not asked about the mirror of another node.
            at = msgspec.structs.replace(at, source="file")
            is_there = record is not None and record.verified_at is not None
            self.copies.keep(at, 0 if record is None else record.moves, is_there=is_there)

    def _is_copy(self, repo: Repo) -> bool:
        """Return whether a copy of a mirror that has its home elsewhere is kept here, or its home is to be here."""
        if self._nodes.shard(repo) in self._nodes.arriving():
            return True
        return self._has_second(repo)

    def _is_wanted(self, managed: ManagedRepo) -> bool:
        is_in_use = self._homes.is_busy(managed) or self.copies.holds(managed.repo.key)
        return is_in_use or self._nodes.is_here(managed.repo) or self._is_copy(managed.repo)

    def _again(self, keys: Iterable[str]) -> None:
        for key in keys:
            managed = self._find(key)
            if managed is not None:
                self.place(managed)
        self._homes.work()

    def _find(self, key: str) -> ManagedRepo | None:
        managed = self._app.repos.get(Repo.parse(key))
        return managed if managed is not None and managed.repo.key == key else None

    # -- taking over --------------------------------------------------------------------

    def _claim(self) -> None:
        if not self._is_claiming:
            self._is_claiming = True
            self._claiming = Deferred.fromCoroutine(self._claim_all())
            self._claiming.addErrback(lambda failure: failure.trap(CancelledError) and None)

    async def _claim_all(self) -> None:
        try:
            while self._to_claim and not self._stopped:
                await sleep(self._app.reactor, 0)  # those that come together are claimed together
                keys, self._to_claim = self._to_claim, set()
                try:
                    await self.states.claim(self._paths(keys))
                except StackitError:
                    self._to_claim |= keys
                    await self._app.sleep(_AGAIN)
                    continue
                self._claimed |= keys
                self._again(keys)
        finally:
            self._is_claiming = False

    def _paths(self, keys: Iterable[str]) -> dict[str, str]:
        found = (self._find(key) for key in keys)
        return {each.repo.key: str(self._places.place(each.repo)) for each in found if each is not None}

    # -- copies -------------------------------------------------------------------------

    def _copy_ended(self, key: str) -> None:
        self._disposal.add([key])
        self._again([key])
        self._whole.note()

    def _whole_here(self) -> Collection[int]:
        """Return the shards of whose mirrors the second copies are here, and all of them whole."""
        whole = set()
        for shard, repos in self._grouped().items():
            if all(self.copies.is_whole(each.repo.key) for each in repos) and self._has_second(repos[0].repo):
                whole.add(shard)
        return whole

    def _has_second(self, repo: Repo) -> bool:
        """Return whether a second copy of a mirror is to be here."""
        return any(each.name == self._nodes.here for each in self._nodes.copies(repo))

    def _is_copied(self, managed: ManagedRepo) -> bool:
        """Return whether all nodes that should have a second copy of a mirror are there, and have said that they do."""
        shard = self._nodes.shard(managed.repo)
        return all(each.state != "away" and self._whole.has(each, shard) for each in self._nodes.copies(managed.repo))

    def _whole_changed(self, shards: Collection[int]) -> None:
        grouped = self._grouped()
        keys = [each.repo.key for shard in shards for each in grouped.get(shard, ())]
        self._again(key for key in keys if self._disposal.is_held(key))

    def _await_arrivals(self) -> None:
        """Tell which of the shards that shall arrive are here already, and wait for the copies of the others."""
        arriving = self._nodes.arriving()
        self._arrivals = {shard: set() for shard in arriving}
        for shard, waiting in self._arrivals.items():
            repos = self._grouped().get(shard, ())
            waiting.update(managed.repo.key for managed in repos if not self._is_ready(managed))
        self._tell_arrived(self._arrivals)

    def _fetched(self, key: str) -> None:
        managed = self._find(key)
        if managed is None:
            return
        shard = self._nodes.shard(managed.repo)
        if not self._whole.is_said(shard):
            self._whole.note()
        if key in self._arrivals.get(shard, ()) and self._is_ready(managed):
            self._arrivals[shard].discard(key)
            self._tell_arrived([shard])

    def _tell_arrived(self, shards: Iterable[int]) -> None:
        arrived = [shard for shard in shards if not self._arrivals[shard]]
        if arrived:
            self._nodes.prepared(arrived)

    def _is_ready(self, managed: ManagedRepo) -> bool:
        """Return whether nothing more can be had for a mirror before its home is here."""
        key, home = managed.repo.key, self._nodes.home(managed.repo)
        if home is None or home.state == "away" or self.copies.is_in_step(key):
            return True
        if self.copies.is_hopeless(key):
            return not self._is_better_there(key)
        return not self.copies.holds(key) and not self._homes.is_busy(managed)  # it cannot be copied

    def _is_better_there(self, key: str) -> bool:
        """Return whether a mirror that could not be copied has a home that has it, and is tried again by itself.

        What keeps a copy from this node, such as a disk that is full, would keep a clone from it, too.
        """
        record = self.states.get(key)
        return bool(self._app.sync_interval) and record is not None and record.verified_at is not None

    # -- states -------------------------------------------------------------------------

    def _own(self, key: str) -> MirrorRecord | None:
        worker = self._homes.present(key)
        if worker is None or not self._nodes.is_here(worker.managed.repo):
            return None
        home = self._nodes.home(worker.managed.repo)
        return MirrorRecord(
            node=self._nodes.here,
            path=str(worker.directory),
            state=worker.settled_state,
            verified_at=worker.status.verified_at,
            error=worker.problem,
            next_at=worker.status.next_at,
            held=worker.status.held is not None,
            inherited=worker.is_inherited,
            incarnation=0 if home is None else home.incarnation,
        )

    def _is_awaited(self, key: str) -> bool:
        managed = self._find(key)
        return managed is not None and bool(self._nodes.copies(managed.repo))

    def _states_changed(self, keys: Collection[str]) -> None:
        for key in keys:
            self.states.note(key)  # a node that was frozen has not heard yet that the mirror is here
        self._again(keys)

    # -- the end ------------------------------------------------------------------------

    def stop(self) -> None:
        """Follow no more, and begin no more fetches of copies."""
        self._stopped = True
        if self._turn is not None and self._turn.active():
            self._turn.cancel()
        self.copies.stop()
        self._disposal.stop()

    async def finish(self) -> None:
        """Wait until no copy is fetched any more, and write the last states."""
        await self._claiming
        await self.copies.finish()
        await self.states.stop()
        await self._whole.stop()
