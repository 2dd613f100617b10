"""The repositories of all sources, and which of them is managed under which name; a change is planned, then made."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

import msgspec

from stackit.api.repos import ManagedRepo, ReposChange, difference
from stackit.registry.records import Record, encode

Build = Callable[[Record], ManagedRepo | None]
"""Make a managed repository of a record, with its credentials; None where it cannot be mirrored now."""

_RANK = {"file": 0, "people": 1, "discover": 2}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A change of the catalog, planned.

    ``names`` are the keys of the names that it is about.
    ``updates`` are records by their keys, None for one that goes. ``documents`` are those for the journal, ``renames``
    the keys of announced refs, old and new. ``file`` are the repositories of the configuration from then on.
    """

    names: frozenset[str]
    change: ReposChange
    updates: Mapping[str, Record | None]
    documents: Mapping[str, bytes | None]
    renames: tuple[tuple[str, str], ...]
    file: Mapping[str, ManagedRepo]
    build: Build


class Catalog:
    """The records, and the repositories of the configuration by name.

    Under one name, the configuration comes first, then what a person added, then what was discovered.
    """

    def __init__(self, file: Mapping[str, ManagedRepo], build: Build) -> None:
        self._file = file
        self._build = build
        self._records: dict[str, Record] = {}
        self._formerly: dict[str, set[str]] = {}
        self._named: dict[
            str, tuple[str, ...]
        ] = {}  # keys of records by the name under which they are mirrored, or were last

    def formerly(self, name: str) -> Collection[str]:
        """Return the keys of the records that had a name, by ``Repo.key``, and have another one."""
        return self._formerly.get(name, ())

    def load(self, records: Iterable[Record]) -> None:
        """Take the records of the journal, at the start."""
        for record in records:
            self._put(record.key, record)

    def record(self, key: str) -> Record | None:
        """Return the record of this key."""
        return self._records.get(key)

    def records(self) -> Iterator[Record]:
        """Return all records, removed ones too."""
        return iter(self._records.values())

    def named(self, name: str) -> list[Record]:
        """Return the records that are, or were last, mirrored under a name (``Repo.key``): the first one counts."""
        found = [self._records[key] for key in self._named.get(name, ())]
        return sorted(found, key=lambda each: (not each.is_managed, _RANK[each.source], -(each.removed_at or 0.0)))

    def in_file(self, name: str) -> ManagedRepo | None:
        """Return the repository of the configuration that has a name."""
        return self._file.get(name)

    def managed(self) -> Iterator[ManagedRepo]:
        """Return every managed repository: those of the configuration first."""
        view = _View(self, {}, self._file, self._build)
        for name in self._file:
            yield from _there(view.managed(name))
        for name in self._named:
            if name not in self._file:
                yield from _there(view.managed(name))

    def plan(
        self,
        updates: Mapping[str, Record | None],
        *,
        file: Mapping[str, ManagedRepo] | None = None,
        build: Build | None = None,
    ) -> Plan:
        """Plan a change of records, of the repositories in the configuration, or of how repositories are made."""
        now = _View(self, {}, self._file, self._build)
        new = _View(self, updates, self._file if file is None else file, self._build if build is None else build)
        names = set(self._changed_names(updates, new, rebuild=new.build is not self._build))
        before = {name: found for name in names if (found := now.managed(name)) is not None}
        after = {name: found for name in names if (found := new.managed(name)) is not None}
        renames, parked = _moves_of_refs(names, now, new, before, after)
        changed = {**updates, **parked}
        return Plan(
            names=frozenset(names),
            change=difference(before, after),
            updates=changed,
            documents={key: None if record is None else encode(record) for key, record in changed.items()},
            renames=tuple(renames.items()),
            file=new.file,
            build=new.build,
        )

    def follow(
        self,
        updates: Mapping[str, Record | None],
        *,
        file: Mapping[str, ManagedRepo] | None = None,
        build: Build | None = None,
    ) -> Plan:
        """Plan a change of which another node writes down what it changes of records and announced refs."""
        plan = self.plan(updates, file=file, build=build)
        return msgspec.structs.replace(plan, updates=updates, documents={}, renames=())

    def commit(self, plan: Plan) -> None:
        """Make a planned change. Nothing may have changed since it was planned."""
        self._file, self._build = plan.file, plan.build
        for key, record in plan.updates.items():
            self._put(key, record)

    def _changed_names(self, updates: Mapping[str, Record | None], new: _View, *, rebuild: bool) -> Iterator[str]:
        for key, record in updates.items():
            for each in (self._records.get(key), record):
                if each is not None:
                    yield each.name
        if new.file is not self._file:
            for name in self._file.keys() | new.file.keys():
                if self._file.get(name) != new.file.get(name):
                    yield name
        if rebuild:
            yield from self._named

    def _put(self, key: str, record: Record | None) -> None:
        old = self._records.pop(key, None)
        if old is not None:
            for name in old.former:
                self._formerly[name].discard(key)
                if not self._formerly[name]:
                    del self._formerly[name]
            rest = tuple(each for each in self._named[old.name] if each != key)
            if rest:
                self._named[old.name] = rest
            else:
                del self._named[old.name]
        if record is not None:
            self._records[key] = record
            for name in record.former:
                self._formerly.setdefault(name, set()).add(key)
            self._named[record.name] = (*self._named.get(record.name, ()), key)


class _View:
    """The catalog as it is with some changes."""

    def __init__(
        self, catalog: Catalog, updates: Mapping[str, Record | None], file: Mapping[str, ManagedRepo], build: Build
    ) -> None:
        self._catalog = catalog
        self._updates = updates
        self._updated: dict[str, list[Record]] = {}
        self.file = file
        self.build = build
        for record in updates.values():
            if record is not None:
                self._updated.setdefault(record.name, []).append(record)

    def record(self, key: str | None) -> Record | None:
        """Return the record of a key."""
        if key is None:
            return None
        return self._updates[key] if key in self._updates else self._catalog.record(key)

    def named(self, name: str) -> list[Record]:
        """Return the records that are, or were last, mirrored under a name."""
        kept = [each for each in self._catalog.named(name) if each.key not in self._updates]
        added = self._updated.get(name)
        if not added:
            return kept
        found = [*kept, *added]
        return sorted(found, key=lambda each: (not each.is_managed, _RANK[each.source], -(each.removed_at or 0.0)))

    def managed(self, name: str) -> ManagedRepo | None:
        """Return the repository that is managed under a name."""
        own = self.file.get(name)
        records = self.named(name)
        if own is None:
            wanted = next((each for each in records if each.is_managed and each.source != "file"), None)
            return None if wanted is None else self.build(wanted)
        known = next((each for each in records if not each.parked and is_of(each, own)), None)
        if known is None:
            return own
        if known.kept_as is None:
            return msgspec.structs.replace(own, id=known.id, realm=known.realm, former=known.former)
        former = (*known.former, known.repo.key)
        return msgspec.structs.replace(own, id=known.id, realm=known.realm, former=former, url=known.url)


def _moves_of_refs(
    names: Iterable[str],
    now: _View,
    new: _View,
    before: Mapping[str, ManagedRepo],
    after: Mapping[str, ManagedRepo],
) -> tuple[dict[str, str], dict[str, Record]]:
    """Return which announced refs get which key, and the records of those that are parked, or are no more.

    Announced refs have the key of their repository's name. Where another repository takes that name, they follow theirs
    to its new name, or else are parked under its identity until it is managed again.
    """
    places = {each.identity: name for name, each in after.items() if each.identity is not None}
    renames: dict[str, str] = {}
    parked: dict[str, Record] = {}
    for name in names:
        holder = _holder(name, now, before)
        taker = after.get(name)
        if holder is None or (holder not in places and (taker is None or taker.identity in (None, holder))):
            continue
        place = places.get(holder)
        if place == name:
            continue
        renames[name] = holder if place is None else place
        record = new.record(holder)
        if place is None and record is not None:
            parked[holder] = msgspec.structs.replace(record, parked=True)
    for holder, name in places.items():
        record = now.record(holder)
        if record is not None and record.parked:
            renames[holder] = name
            latest = new.record(holder) or record
            parked[holder] = msgspec.structs.replace(latest, parked=False)
    return renames, parked


def _holder(name: str, now: _View, before: Mapping[str, ManagedRepo]) -> str | None:
    """Return the identity of the repository whose announced refs have a name's key; None where it is not known."""
    managed = before.get(name)
    if managed is not None:
        return managed.identity
    last = next((each for each in now.named(name) if each.id is not None and not each.parked), None)
    return None if last is None else last.key


def is_of(record: Record, configured: ManagedRepo) -> bool:
    """Return True for the record of a repository in the configuration: it has the id of that one."""
    if record.id is None or record.name != configured.repo.key:
        return False
    return same_url(record.kept_url if record.kept_as is not None else record.url, configured.url)


def same_url(one: str, another: str) -> bool:
    """Return True where two URLs are those of one repository."""
    return _plain(one) == _plain(another)


def _plain(url: str) -> str:
    return url.lower().removesuffix("/").removesuffix(".git")


def _there(found: ManagedRepo | None) -> Iterator[ManagedRepo]:
    if found is not None:
        yield found
