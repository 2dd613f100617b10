"""The registry as the reading of a listing sees it; that of a dry run only plays the changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stackit.api.events import Repo
from stackit.github.discovery.difference import Found, Known
from stackit.github.discovery.listings import Listing
from stackit.registry import Batch, Discovered, Record, Registry

ELSEWHERE = 0
"""Stands for the id of a repository at another GitHub: it is none that a listing shows."""


class Played:
    """The changes of a dry run: the names that repositories would have by id, None for one that would be removed."""

    def __init__(self) -> None:
        self.names: dict[int, Repo | None] = {}
        self.holders: dict[str, int] = {}

    def take(self, batch: Batch) -> None:
        """Play a batch."""
        for each in batch.found:
            self._leave(each.id)
            self.names[each.id] = each.repo
        for each in batch.found:
            self.holders[each.repo.key] = each.id
        for number in batch.removed:
            self._leave(number)
            self.names[number] = None

    def _leave(self, number: int) -> None:
        old = self.names.get(number)
        if old is not None and self.holders.get(old.key) == number:
            del self.holders[old.key]


class View:
    """What the registry knows of the repositories of one listing, and the way to change it."""

    def __init__(self, registry: Registry, listing: Listing, played: Played | None) -> None:
        """``played`` are the changes of a dry run; None stands for changing the registry."""
        self._registry = registry
        self._listing = listing
        self._dry = played is not None
        self._played = played or Played()

    def mirrored(self) -> list[Record]:
        """Return the repositories that are mirrored because of the listing."""
        return [each for each in self._registry.records() if each.is_managed and self._listing.has(each)]

    def removed(self) -> list[Record]:
        """Return the repositories that were found by the listing once, and are mirrored no more."""
        return [each for each in self._registry.records() if not each.is_managed and self._listing.has(each)]

    def record(self, number: int) -> Record | None:
        """Return the record of an id."""
        return self._registry.by_id(number, self._listing.realm)

    def known(self, found: Iterable[Found]) -> dict[int, Known]:
        """Return what is known of repositories, by their ids."""
        return {each.id: known for each in found if (known := self._known(each.id)) is not None}

    def names(self, found: Iterable[Found]) -> dict[str, int]:
        """Return the ids of the repositories that have these names now, as far as they have ids.

        One at another GitHub has ``ELSEWHERE``: it keeps its name, whoever takes the same one here.
        """
        return dict(self._names(found))

    def origin(self, found: Found) -> str | None:
        """Return what has a repository mirrored before any rule: a file or a person; None where neither has."""
        managed = self._registry.repos.by_id(found.id, self._listing.realm) or self._registry.repos.get(found.repo)
        if managed is None or managed.source == "discover" or managed.id not in (None, found.id):
            return None
        return "named in [[repos]]" if managed.source == "file" else "added by a person"

    def confirm(self, found: Iterable[Found]) -> None:
        """Note that repositories have just been listed under these names."""
        for each in () if self._dry else found:
            self._registry.confirm(each.id, each.repo, self._listing.realm)

    async def apply(self, batch: Batch) -> None:
        """Make a change. Raises JournalError, with nothing changed."""
        if not self._dry:
            if batch.found or batch.seen or batch.removed or batch.held or batch.purged:
                await self._registry.discovered(batch)
            return
        self._played.take(batch)

    def _known(self, number: int) -> Known | None:
        record = self.record(number)
        if number in self._played.names:
            repo = self._played.names[number]
            if repo is not None:
                return Known(number, repo, mirrored=True, details=None)
            return None if record is None else Known(number, record.repo, mirrored=False)
        if record is None or record.source == "file":
            return None
        details = _details(record) if record.state == "managed" else None
        return Known(number, record.repo, mirrored=record.is_managed, details=details)

    def _names(self, found: Iterable[Found]) -> Iterator[tuple[str, int]]:
        for each in found:
            key = each.repo.key
            managed = self._registry.repos.get(each.repo)
            if key in self._played.holders:
                yield key, self._played.holders[key]
            elif managed is not None and managed.repo.key == key and managed.id is not None:
                if managed.realm != self._listing.realm:
                    yield key, ELSEWHERE
                elif managed.id not in self._played.names:
                    yield key, managed.id


def _details(record: Record) -> Discovered:
    return Discovered(
        id=record.id or 0,
        repo=record.repo,
        url=record.url,
        rule=record.rule,
        app=record.app,
        installation=record.installation,
        token_file=record.token_file,
        refspecs=record.refspecs,
        keep_forced=record.keep_forced,
        deletes=record.deletes,
    )
