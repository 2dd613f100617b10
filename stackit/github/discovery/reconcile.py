"""The reading of one listing: additions, changes and moves as its pages arrive, removals only at its end.

Nothing is removed unless every page came and fits, the guard has no objection, and a second look says what became of
the repository.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from stackit.api.errors import StackitError
from stackit.config.discover import DiscoveryConfig
from stackit.github.api import ApiError
from stackit.github.discovery.difference import Difference, Found, difference
from stackit.github.discovery.listing import Page
from stackit.github.discovery.listings import Listing
from stackit.github.discovery.removal_guard import objection
from stackit.github.discovery.report import Change, ListingReport, RepoReport
from stackit.github.discovery.rules import Decision, decide
from stackit.github.discovery.view import Played, View
from stackit.registry import Batch, Record, Registry, Seen


class Reconcile:
    """One reading: first its pages (``read``), then what follows from the whole (``finish``).

    ``seen`` are the ids that the listings of one look have shown: one that went to another listing is not missing.
    ``played`` are the changes of a dry run, None where they are made. ``places`` are the places of all tables
    ``[[discover]]`` by their names. With ``accept``, a person has accepted that many repositories vanish.
    """

    def __init__(
        self,
        listing: Listing,
        registry: Registry,
        settings: DiscoveryConfig,
        *,
        places: Mapping[str, int],
        now: Callable[[], float],
        accept: bool,
        seen: set[int],
        played: Played | None,
    ) -> None:
        """``now`` is the wall clock."""
        self._listing = listing
        self._view = View(registry, listing, played)
        self._settings = settings
        self._places = places
        self._now = now
        self._accept = accept
        self._seen_by_all = seen
        self._mirrored: Mapping[int, Record] = {}
        self._seen: dict[int, Found] = {}
        self._reports: dict[int, RepoReport] = {}
        self._waiting: dict[int, Found] = {}
        self._left_out: dict[int, Found] = {}
        self._pages = 0
        self._problem: StackitError | None = None
        self._held: str | None = None

    async def read(self) -> None:
        """Read the listing, and follow what it shows. A failure is kept for the report."""
        self._mirrored = {record.id: record for record in self._view.mirrored() if record.id is not None}
        try:
            async for page in self._listing.pages():
                self._pages += 1
                await self._take(page)
        except StackitError as problem:
            self._problem = problem

    async def finish(self) -> ListingReport:
        """Follow what the whole listing means, if it is complete, and return the report."""
        try:
            if self._problem is None:
                await self._finish()
        except StackitError as problem:
            self._problem = problem
        return ListingReport(
            listing=self._listing.name,
            pages=self._pages,
            listed=len(self._seen),
            problem=None if self._problem is None else str(self._problem),
            retry_at=self._problem.retry_at if isinstance(self._problem, ApiError) else None,
            held=self._held,
            repos=tuple(self._reports.values()),
        )

    # -- a page -------------------------------------------------------------------

    async def _take(self, page: Page) -> None:
        found: list[Found] = []
        for listed in page:
            each = Found(listed, self._decide(Found(listed, decide(listed, self._listing.rules))))
            each = msgspec.structs.replace(each, details=self._listing.wanted(each))
            self._seen[each.id] = each
            self._seen_by_all.add(each.id)
            found.append(each)
        change = difference(found, self._view.known(found), self._view.names(found))
        own = {each.id: each for each in change.left_out if self._is_own(each)}
        self._left_out |= own
        self._waiting |= {each.id: each for each in change.contested}
        for each in found:
            self._report(each)
        await self._follow(change, seen=[each for each in found if not each.decision.mirrored and each.id not in own])
        self._view.confirm(found)

    def _decide(self, found: Found) -> Decision:
        """Return the decision on a repository, after what comes before the rules of this listing."""
        decision = found.decision
        if (origin := self._view.origin(found)) is not None:
            return msgspec.structs.replace(decision, mirrored=True, reason=origin)
        record = self._view.record(found.id)
        if decision.mirrored and record is not None and self._is_taken(record, decision):
            return msgspec.structs.replace(decision, mirrored=False, reason=f"{record.rule} has it")
        return decision

    def _is_taken(self, record: Record, decision: Decision) -> bool:
        """Return True if a table that comes first in the file has a repository, by another listing."""
        if not record.is_managed or record.source != "discover" or self._listing.has(record):
            return False
        return self._places.get(record.rule, len(self._places)) < self._places[decision.rule.name]

    def _is_own(self, found: Found) -> bool:
        """Return True if this listing has a repository mirrored, so that its rules may also leave it out."""
        record = self._view.record(found.id)
        return record is not None and self._listing.has(record)

    async def _follow(self, change: Difference, seen: Sequence[Found] = ()) -> None:
        """Mirror what is new, changed or moved; tell the registry of others that it may know."""
        before = self._view.known((*change.moved, *change.added))
        await self._view.apply(
            Batch(
                realm=self._listing.realm,
                found=tuple(self._listing.wanted(each) for each in (*change.added, *change.changed, *change.moved)),
                seen=tuple(
                    Seen(id=each.id, repo=each.repo, url=self._listing.wanted(each).url)
                    for each in seen
                    if self._view.record(each.id) is not None
                ),
            )
        )
        self._mark(change.added, "added")
        self._mark(change.changed, "changed")
        for each in change.moved:
            self._report(each, "moved", f"{each.decision.reason}; it was {before[each.id].repo}")

    # -- the end ------------------------------------------------------------------

    async def _finish(self) -> None:
        missing = [record for number, record in self._mirrored.items() if number not in self._seen_by_all]
        vanished = len(missing) + len(self._left_out)
        self._held = objection(
            self._settings,
            known=len(self._mirrored),
            vanished=vanished,
            listed=len(self._seen),
            source=self._listing.name,
        )
        if self._held is not None and not self._accept:
            held = {number: self._held for record in missing if (number := record.id) is not None}
            held |= dict.fromkeys(self._left_out, self._held)
            await self._view.apply(Batch(realm=self._listing.realm, held=held))
            for record in missing:
                self._report_missing(record, "held", "it is not in the listing")
            self._mark(self._left_out.values(), "held")
            await self._settle()
            return
        self._held = None
        removed = {number: found.decision.reason for number, found in self._left_out.items()}
        self._mark(self._left_out.values(), "removed")
        for record in missing:
            if (reason := await self._reason_to_remove(record)) is not None and record.id is not None:
                removed[record.id] = reason
        await self._view.apply(Batch(realm=self._listing.realm, removed=removed))
        await self._settle()
        await self._purge()

    async def _reason_to_remove(self, record: Record) -> str | None:
        """Return why a repository that is missing is to be mirrored no more; None where it is."""
        try:
            sighting = await self._listing.look(record.id or 0)
        except StackitError as problem:
            self._problem = problem
            self._report_missing(record, "none", f"it is not in the listing, and nobody knows why: {problem}")
            return None
        if sighting.whereabouts == "here":
            self._report_missing(record, "none", f"it is not in the listing, but {sighting.reason}")
            return None
        reason = f"{sighting.whereabouts}: {sighting.reason}"
        self._report_missing(record, "removed", reason)
        return reason

    async def _settle(self) -> None:
        """Give names that others left in the meantime to those that wait for them."""
        waiting = list(self._waiting.values())
        change = difference(waiting, self._view.known(waiting), self._view.names(waiting))
        self._waiting = {each.id: each for each in change.contested}
        await self._follow(change)
        self._view.confirm(waiting)

    async def _purge(self) -> None:
        """Delete what is kept of repositories whose grace is over, after one more look at each."""
        due = [record for record in self._view.removed() if self._is_due(record)]
        purged: list[int] = []
        for record in due:
            found = self._seen.get(record.id or 0)
            if found is not None:
                is_gone = not found.decision.mirrored
            else:
                is_gone = (await self._listing.look(record.id or 0)).whereabouts != "here"
            if is_gone and record.id is not None:
                purged.append(record.id)
        await self._view.apply(Batch(realm=self._listing.realm, purged=tuple(purged)))

    def _is_due(self, record: Record) -> bool:
        """Return True if the grace of a removed repository is over.

        Its table is found by its place in the file, which another one may have by now: both have to delete.
        """
        table = next((rule.table for rule in self._listing.rules if rule.name == record.rule), None)
        return (
            table is not None
            and table.on_removed == "delete"
            and record.deletes
            and record.removed_at is not None
            and record.removed_at + table.grace <= self._now()
        )

    # -- the report ---------------------------------------------------------------

    def _mark(self, found: Iterable[Found], change: Change) -> None:
        for each in found:
            self._report(each, change)

    def _report(self, found: Found, change: Change | None = None, reason: str = "") -> None:
        if change is None:
            change = "waiting" if found.id in self._waiting else "none"
        self._reports[found.id] = RepoReport(
            name=str(found.repo),
            id=found.id,
            mirrored=found.decision.mirrored or change == "held",
            reason=reason or found.decision.reason,
            change=change,
        )

    def _report_missing(self, record: Record, change: Change, reason: str) -> None:
        number = record.id or 0
        self._reports[number] = RepoReport(
            name=str(record.repo), id=number, mirrored=change != "removed", reason=reason, change=change
        )


async def read_all(readings: Sequence[Reconcile]) -> list[ListingReport]:
    """Read listings one after the other, then follow what each of them means as a whole."""
    for reading in readings:
        await reading.read()
    return [await reading.finish() for reading in readings]
