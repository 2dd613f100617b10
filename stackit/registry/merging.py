"""What a batch of discovery makes of the records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from stackit.api.events import Repo
from stackit.api.repos import ManagedRepo, identity
from stackit.registry.catalog import Catalog, is_of, same_url
from stackit.registry.records import Record
from stackit.registry.sightings import Batch, Discovered, Seen

NAME_TAKEN = "another repository has its name now"
NOT_CONFIGURED = "it is in the configuration no more"
_FROM_FORGE = ("rule", "app", "installation", "token_file", "refspecs", "keep_forced", "deletes")
_ACCESS = ("app", "installation")


def merged(catalog: Catalog, batch: Batch, now: float) -> Mapping[str, Record | None]:
    """Return the records that a batch changes, by their keys. ``now`` is in epoch seconds."""
    updates: dict[str, Record | None] = {}
    for found in batch.found:
        updates |= _found(catalog, batch.realm, found, now)
    for seen in batch.seen:
        updates |= _seen(catalog, batch.realm, seen, now)
    for number, reason in batch.held.items():
        record = _of(catalog, updates, identity(batch.realm, number))
        if record is not None and record.source == "discover" and record.is_managed:
            updates[record.key] = msgspec.structs.replace(record, state="held", reason=reason)
    for number, reason in batch.removed.items():
        record = _of(catalog, updates, identity(batch.realm, number))
        if record is not None and record.source == "discover" and record.is_managed:
            updates[record.key] = removed(record, reason, now)
    for number in batch.purged:
        record = catalog.record(identity(batch.realm, number))
        if record is not None and not record.is_managed:
            updates[record.key] = None
    updates |= dict(_without_name(catalog, batch.realm, updates, now))
    updates |= _with_other_former_names(catalog, updates)
    return {key: record for key, record in updates.items() if record != catalog.record(key)}


def removed(record: Record, reason: str, now: float) -> Record:
    """Return a record of a repository that is mirrored no more."""
    return msgspec.structs.replace(record, state="removed", reason=reason, removed_at=now)


def _of(catalog: Catalog, updates: Mapping[str, Record | None], key: str) -> Record | None:
    return updates[key] if key in updates else catalog.record(key)


def _found(catalog: Catalog, realm: str, found: Discovered, now: float) -> Iterator[tuple[str, Record | None]]:
    key = identity(realm, found.id)
    of_rule = {name: getattr(found, name) for name in _FROM_FORGE}
    record = catalog.record(key)
    if record is None:
        learned = _learned(catalog, realm, found, {name: of_rule[name] for name in _ACCESS})
        if learned is not None:
            yield from learned
            return
        record = Record(
            repo=found.repo,
            url=found.url,
            source="discover",
            id=found.id,
            realm=realm,
            added_by=found.rule,
            added_at=now,
        )
    elif record.source == "people" and record.is_managed:
        of_rule = {name: of_rule[name] for name in _ACCESS}
    elif record.source != "discover":
        record = msgspec.structs.replace(record, source="discover", added_by=found.rule, added_at=now)
    record = _called(catalog, record, found.repo, found.url)
    yield key, msgspec.structs.replace(record, **of_rule, state="managed", reason="", removed_at=None)


def _seen(catalog: Catalog, realm: str, seen: Seen, now: float) -> Iterator[tuple[str, Record | None]]:
    key = identity(realm, seen.id)
    record = catalog.record(key)
    if record is None:
        learned = _learned(catalog, realm, seen, {})
        if learned is not None:
            yield from learned
            return
    configured = catalog.in_file(seen.repo.key)
    is_configured = configured is not None and same_url(configured.url, seen.url)
    if record is not None and record.is_managed:
        if record.source == "discover" and record.kept_as is None and not is_configured:
            return  # its rule has left it out, and says so by itself
        yield key, _called(catalog, record, seen.repo, seen.url)
    elif is_configured:
        yield key, Record(repo=seen.repo, url=seen.url, source="file", id=seen.id, realm=realm, added_at=now)


def followed(catalog: Catalog, file: Mapping[str, ManagedRepo], now: float) -> Mapping[str, Record | None]:
    """Return the records that other repositories in the configuration change, by their keys.

    A repository whose name there is gone goes by the forge's name. One that only the configuration had is removed.
    """
    updates: dict[str, Record | None] = {}
    for record in catalog.records():
        kept = record
        if record.kept_as is not None and not _is_in(file, record):
            kept = msgspec.structs.replace(record, kept_as=None, kept_url="")
        if kept.source == "file" and kept.is_managed and not _is_in(file, kept):
            kept = removed(kept, NOT_CONFIGURED, now)
        if kept is not record:
            updates[record.key] = kept
    return updates


def _is_in(file: Mapping[str, ManagedRepo], record: Record) -> bool:
    configured = file.get(record.name)
    return configured is not None and is_of(record, configured)


def _learned(
    catalog: Catalog, realm: str, seen: Discovered | Seen, access: Mapping[str, object]
) -> list[tuple[str, Record | None]] | None:
    """Return what the id of a repository that a person added changes; None where nobody added this one."""
    added = catalog.record(f"name:{seen.repo.key}")
    if added is None or not added.is_managed or not same_url(added.url, seen.url):
        return None
    known = msgspec.structs.replace(added, id=seen.id, realm=realm, **access)
    return [(added.key, None), (known.key, known)]


def _called(catalog: Catalog, record: Record, repo: Repo, url: str) -> Record:
    """Return a record with the name that the forge has for it now.

    What the configuration names keeps that name, and its mirror its place, until somebody changes the configuration.
    """
    configured = catalog.in_file(record.name)
    if record.repo != repo and record.kept_as is None and configured is not None and is_of(record, configured):
        record = msgspec.structs.replace(record, kept_as=configured.repo, kept_url=configured.url)
    record = record.renamed(repo, url)
    if record.kept_as is not None and record.kept_as.key == repo.key:
        return msgspec.structs.replace(record, kept_as=None, kept_url="")
    return record


def _without_name(
    catalog: Catalog, realm: str, updates: Mapping[str, Record | None], now: float
) -> Iterator[tuple[str, Record]]:
    """Yield the records, as they are then, whose name the forge now shows for another repository.

    Nobody knows their own name then: they are removed until they are seen again.
    """
    for taker in updates.values():
        if taker is None or taker.id is None or not taker.is_managed:
            continue
        for record in catalog.named(taker.repo.key):
            stays = record.key in updates or record.id is None or record.realm != realm or record.kept_as is not None
            if not stays and record.is_managed and same_url(record.url, taker.url):
                yield record.key, removed(record, NAME_TAKEN, now)


def _with_other_former_names(catalog: Catalog, updates: Mapping[str, Record | None]) -> dict[str, Record | None]:
    """Return the records that had a name which another repository takes: it leads to them no more."""
    changed: dict[str, Record | None] = {}
    for taker in updates.values():
        if taker is None or not taker.is_managed:
            continue
        name = taker.repo.key
        for key in catalog.formerly(name):
            record = changed.get(key) or _of(catalog, updates, key)
            if record is not None and key != taker.key and name in record.former:
                rest = tuple(each for each in record.former if each != name)
                changed[key] = msgspec.structs.replace(record, former=rest)
    return changed
