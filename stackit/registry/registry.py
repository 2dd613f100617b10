"""The registry: the managed repositories of the configuration, of people and of discovery, kept in the journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec
from twisted.internet.defer import Deferred, DeferredLock

from stackit.api.background import Background
from stackit.api.errors import JournalError, StackitError
from stackit.api.events import Event, Repo
from stackit.api.nodes import Alone, Nodes
from stackit.api.reactor import Timers, sleep
from stackit.api.repos import REALM, ManagedRepo, Repos, ReposChange, identity
from stackit.journal.followed import FollowedDocuments
from stackit.registry.catalog import Build, Catalog, Plan
from stackit.registry.documents import Documents
from stackit.registry.errors import ConflictError, NotLeaderError, RenamedError, UnknownError
from stackit.registry.merging import followed, merged, removed
from stackit.registry.records import COLLECTION, Record, decode
from stackit.registry.shown import Shown, ShownRepositories
from stackit.registry.sightings import Batch

_APP = "app:"
_RETRY = 5.0
"""Seconds until the journal is asked again, at the start or for a change of the configuration."""


class Registry:
    """Keeps ``repos`` up to date: the repositories that are managed, whatever has them mirrored.

    Each change is one transaction of the journal, and takes effect once that is durable. Changes are made one after the
    other. In a fleet the leader makes them, and the other nodes follow what it writes.
    """

    def __init__(
        self,
        file: Iterable[ManagedRepo],
        *,
        build: Build,
        journal: Documents,
        reactor: Timers,
        now: Callable[[], float],
        notice: Callable[[str], None],
        source: str = "the configuration",
        nodes: Nodes = Alone(),  # noqa: B008 - it has no state
    ) -> None:
        """``build`` makes managed repositories of records, ``now`` is the wall clock, ``source`` names the file."""
        self._journal = journal
        self._reactor = reactor
        self._now = now
        self._notice = notice
        self._source = source
        self._file = {each.repo.key: each for each in file}
        self._build = build
        self._catalog = Catalog(self._file, build)
        self._lock = DeferredLock()
        self._is_loaded = False
        self._left_out: set[str] = set()  # keys of documents that cannot be read
        self._moving: frozenset[str] = frozenset()  # keys of names whose announced refs are being moved
        self._moved: list[Deferred[bool]] = []
        self._background = Background()
        self._nodes = nodes
        self._leads = False  # and knows what the leader before has written
        self._is_taking_over = False
        nodes.when_changed(self._leader_changed)
        self._followed = FollowedDocuments(
            journal,
            COLLECTION,
            self._follow_leader,
            known=lambda: [each.key for each in self._catalog.records()],
            reactor=reactor,
            lock=self._lock,
        )
        self._shown = ShownRepositories(journal, self._confirm_as_told, reactor=reactor, now=now)
        self.repos = Repos(self._file.values())
        """The managed repositories."""

    # -- start and stop -----------------------------------------------------------------

    def load(self) -> None:
        """Take the records of the journal, before anything listens. Blocks; no forge is asked.

        Where the journal cannot be read yet, they are taken later: until then only the repositories of the
        configuration are managed, and nothing can be changed.
        """
        try:
            documents = self._journal.documents_now(COLLECTION)
        except JournalError as problem:
            self._notice(f"repositories that are not in {self._source} are not mirrored yet: {problem}")
            self._background.run(self._load_later())
            return
        self._load(documents, leads=self._nodes.leads())

    async def _load_later(self) -> None:
        while not self._is_loaded:
            await sleep(self._reactor, _RETRY)
            leads = self._nodes.leads()
            try:
                self._load(await self._journal.documents(COLLECTION), leads=leads)
            except JournalError:
                continue

    def _load(self, documents: Mapping[str, bytes], *, leads: bool) -> None:
        """Take the documents, and ``leads``: whether this node led the fleet when they were asked for."""
        self._catalog.load(record for _, record in self._decoded(documents) if record is not None)
        self._is_loaded = True
        self._leads = leads
        if not leads:
            self.repos.replace(self._catalog.managed())
            self._leader_changed()
            return
        plan = self._following()
        waiting = set(plan.names) if plan.documents else set()  # until the journal has followed the configuration
        self.repos.replace([each for each in self._catalog.managed() if each.repo.key not in waiting])
        if waiting:
            self._background.run(self._follow())

    async def stop(self) -> None:
        """End what runs in the background."""
        await self._shown.stop()
        await self._followed.stop()
        await self._background.stop()

    # -- the fleet ----------------------------------------------------------------------

    def _leader_changed(self) -> None:
        """Change nothing any more, or take over from the leader before this one."""
        if not self._nodes.leads():
            self._leads = False
        elif self._is_loaded and not self._leads and not self._is_taking_over:
            self._is_taking_over = True
            self._background.run(self._take_over())

    async def _take_over(self) -> None:
        """Read what the leader before has written, then have the records follow the configuration of this node."""
        try:
            while self._nodes.leads():
                try:
                    await self._followed.read()
                except JournalError:
                    await sleep(self._reactor, _RETRY)
                else:
                    self._leads = self._nodes.leads()
                    break
        finally:
            self._is_taking_over = False
        if self._leads:
            await self._follow()

    def _follow_leader(self, documents: Mapping[str, bytes | None]) -> None:
        """Take the records that another node has written."""
        if not self._is_loaded:
            return  # they are read with the others
        updates = {key: record for key, record in self._decoded(documents) if record != self._catalog.record(key)}
        gone = [self._catalog.record(key) for key, record in updates.items() if record is None]
        plan = self._catalog.follow(updates)
        purged = tuple(each for each in map(self._purged, gone) if each is not None)
        self._take(msgspec.structs.replace(plan, change=msgspec.structs.replace(plan.change, purged=purged)))

    def _decoded(self, documents: Mapping[str, bytes | None]) -> Iterator[tuple[str, Record | None]]:
        for key, document in documents.items():
            try:
                record = None if document is None else decode(document)
                if record is not None and record.key != key:
                    raise ValueError(f"it is that of {record.key}")
            except ValueError:  # of a newer stackit, or written by hand
                if key not in self._left_out:
                    self._left_out.add(key)
                    self._notice(f"the journal's record of the repository {key} cannot be read, and is left out")
                continue
            self._left_out.discard(key)
            yield key, record

    # -- the configuration --------------------------------------------------------------

    def difference(self, file: Iterable[ManagedRepo], build: Build | None = None) -> ReposChange:
        """Return how the managed repositories would change by another configuration."""
        return self._following({each.repo.key: each for each in file}, build).change

    def configure(self, file: Iterable[ManagedRepo], build: Build | None = None) -> None:
        """Take the repositories of another configuration, and another way to make those of records.

        At once where the journal need not know of it, else as soon as it does.
        """
        self._file = {each.repo.key: each for each in file}
        self._build = self._build if build is None else build
        if not self._is_loaded:
            self._catalog = Catalog(self._file, self._build)
            self.repos.replace(self._file.values())
            return
        if not self._leads:
            self._background.run(self._configure())
            return
        if not self._lock.locked:
            plan = self._following()
            if not plan.documents and not plan.renames:
                self._take(plan)
                return
        self._background.run(self._follow())

    async def _configure(self) -> None:
        """Take the configuration where another node leads, which writes down what it changes of the records."""
        await self._lock.run(lambda: self._take(self._catalog.follow({}, file=self._file, build=self._build)))

    async def _follow(self) -> None:
        """Follow the configuration, however long the journal cannot be written."""
        while True:
            try:
                await self._change(self._following)
            except NotLeaderError:
                await self._configure()
                return
            except JournalError:
                await sleep(self._reactor, _RETRY)
            else:
                break
        self.repos.replace(self._catalog.managed())  # with those that waited at the start

    def _following(self, file: Mapping[str, ManagedRepo] | None = None, build: Build | None = None) -> Plan:
        file = self._file if file is None else file
        return self._catalog.plan(
            followed(self._catalog, file, self._now()), file=file, build=self._build if build is None else build
        )

    # -- people -------------------------------------------------------------------------

    async def add(self, repo: Repo, url: str, by: str) -> ManagedRepo:
        """Have a repository mirrored, for a person. Raises ConflictError where it is, and JournalError."""

        def plan() -> Plan:
            self._check_loaded()
            there = self.repos.get(repo)
            if there is not None:
                raise ConflictError(f"{there.repo} is mirrored already: {self._origin(there)}")
            known = [each for each in self._catalog.named(repo.key) if not each.is_managed and not each.parked]
            record = Record(repo=repo, url=url, source="people", added_by=by, added_at=self._now())
            for each in known:
                if each.id is not None and each.url == url:
                    record = msgspec.structs.replace(record, id=each.id, realm=each.realm, former=each.former)
                    break
            return self._catalog.plan({record.key: record})

        await self._change(plan)
        added = self.repos.get(repo)
        if added is None:
            raise StackitError(f"{repo} cannot be mirrored now")
        return added

    async def remove(self, repo: Repo, by: str) -> ManagedRepo:
        """Have a repository mirrored no more, that a person added; its mirror stays.

        Returns it. Raises UnknownError, ConflictError where it is in the configuration or discovered, and JournalError.
        """
        gone: list[ManagedRepo] = []

        def plan() -> Plan:
            self._check_loaded()
            managed = self.repos.get(repo)
            record = None if managed is None else self.record(managed)
            if managed is None:
                raise UnknownError(f"{repo} is not mirrored")
            if managed.source != "people" or record is None:
                raise ConflictError(f"{managed.repo} was not added by a person: {self._way_out(managed, record)}")
            gone.append(managed)
            return self._catalog.plan({record.key: removed(record, f"removed by {by}", self._now())})

        await self._change(plan)
        return gone[0]

    def _origin(self, managed: ManagedRepo) -> str:
        record = self.record(managed)
        if managed.source == "file" or record is None:
            return f"{self._source} has it"
        return f"added by {record.added_by}" if managed.source == "people" else f"found by {record.rule}"

    def _way_out(self, managed: ManagedRepo, record: Record | None) -> str:
        if managed.source == "file" or record is None:
            return f"take it out of [[repos]] in {self._source}, and reload"
        return f'{record.rule} found it; have that table leave it out (exclude = ["{managed.repo}"]), and reload'

    # -- discovery ----------------------------------------------------------------------

    async def discovered(self, batch: Batch) -> ReposChange:
        """Take what discovery has seen, and return what changed. Raises JournalError, with nothing changed."""

        def plan() -> Plan:
            self._check_loaded()
            updates = merged(self._catalog, batch, self._now())
            plan = self._catalog.plan(updates)
            gone = [self._catalog.record(key) for key, record in updates.items() if record is None]
            purged = tuple(each for each in map(self._purged, gone) if each is not None)
            return msgspec.structs.replace(plan, change=msgspec.structs.replace(plan.change, purged=purged))

        return (await self._change(plan)).change

    def _purged(self, record: Record | None) -> ManagedRepo | None:
        """Return a repository of which nothing is kept, by the record that goes; None for one that is known anew."""
        return None if record is None or record.is_managed else self._build(record)

    def confirm(self, number: int, repo: Repo, realm: str = REALM) -> None:
        """Note that the forge has just shown the repository of an id under a name."""
        managed = self.repos.by_id(number, realm)
        if managed is not None and managed.repo.key == repo.key and managed.identity is not None:
            self.repos.confirm(managed.identity, self._reactor.seconds())
            if self._nodes.here:
                self._shown.tell(managed.identity, repo.key)

    def _confirm_as_told(self, shown: Shown, age: float) -> None:
        """Note that the forge has shown a repository to another node."""
        identity, key = shown
        realm, _, number = identity.rpartition(":")
        managed = self.repos.by_id(int(number), realm) if number.isdigit() else None
        if managed is not None and managed.repo.key == key:
            self.repos.confirm(identity, self._reactor.seconds() - age)

    # -- reading ------------------------------------------------------------------------

    def record(self, managed: ManagedRepo) -> Record | None:
        """Return the record of a managed repository; None for one that only the configuration knows."""
        if managed.identity is not None:
            return self._catalog.record(managed.identity)
        return self._catalog.record(f"name:{managed.repo.key}")

    def by_id(self, number: int, realm: str = REALM) -> Record | None:
        """Return the record of an id, also of a repository that is removed."""
        return self._catalog.record(identity(realm, number))

    def records(self) -> Iterator[Record]:
        """Return all records, also of repositories that are removed."""
        return self._catalog.records()

    def app_of(self, repo: Repo) -> str | None:
        """Return the name of the App that has a managed repository; None where none has, or that is not known."""
        managed = self.repos.get(repo)
        if managed is None or managed.app is not None:
            return None if managed is None else managed.app
        record = self.record(managed)
        return None if record is None else record.app

    def speaks_for(self, signer: str, event: Event) -> bool:
        """Return whether a signer may tell of an event, as far as it tells of a repository: none of another App's."""
        if not signer.startswith(_APP) or event.repo is None:
            return True
        app = self.app_of(event.repo)
        return app is None or app == signer.removeprefix(_APP)

    def counts(self) -> Mapping[str, int]:
        """Return the number of repositories in each state."""
        found = dict.fromkeys(("managed", "held", "removed"), 0)
        for record in self._catalog.records():
            if record.state != "managed":
                found[record.state] += 1
        return found | {"managed": len(self.repos) - found["held"]}

    def doubts(self) -> list[str]:
        """Return what an operator should change in the configuration, a line each."""
        return [doubt for record in self._catalog.records() if (doubt := self._doubt(record)) is not None]

    def _doubt(self, record: Record | None) -> str | None:
        if record is None or record.kept_as is None:
            return None
        return f"{record.kept_as} in {self._source} is called {record.repo} now: change its name there, and reload"

    # -- changes ------------------------------------------------------------------------

    async def settled(self, repo: Repo) -> None:
        """Return once no change is being written that gives a repository's announced refs to another name.

        Raises RenamedError if one did so meanwhile: what would be announced is announced under the new name.
        """
        if repo.key in self._moving:
            waiting: Deferred[bool] = Deferred()
            self._moved.append(waiting)
            if await waiting:
                raise RenamedError(f"{repo} was renamed meanwhile")

    def _check_leads(self) -> None:
        if self._is_loaded and not self._leads:
            leader = self._nodes.leader()
            who = "no node leads the fleet now" if leader is None else f"node {leader.name} leads the fleet now"
            raise NotLeaderError(f"{who}, and changes which repositories are mirrored: try again in a moment")

    def _check_loaded(self) -> None:
        if not self._is_loaded:
            raise JournalError("the journal cannot be read yet")

    async def _change(self, plan_it: Callable[[], Plan]) -> Plan:
        """Plan a change once all earlier ones are made, make it durable, then have it take effect."""
        await self._lock.acquire()
        try:
            self._check_leads()
            plan = plan_it()
            if plan.renames or plan.documents:
                await self._write(plan)
            known = [self._catalog.record(key) for key in plan.updates]
            self._take(plan)
            for before, after in zip(known, plan.updates.values(), strict=True):
                if (doubt := self._doubt(after)) is not None and doubt != self._doubt(before):
                    self._notice(doubt)
        finally:
            self._lock.release()
        return plan

    async def _write(self, plan: Plan) -> None:
        self._moving = frozenset(old for old, _ in plan.renames)
        done = False
        try:
            await self._journal.rename(plan.renames, COLLECTION, plan.documents)
            done = True
        finally:
            self._moving = frozenset()
            waiting, self._moved = self._moved, []
            # Those that wait go on when the change has taken effect.
            for each in waiting:
                self._reactor.callLater(0, each.callback, done)

    def _take(self, plan: Plan) -> None:
        self._catalog.commit(plan)
        if plan.change:
            self.repos.apply(plan.change)
