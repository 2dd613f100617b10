"""A source of listings, such as an App: read at the start, at intervals and after events, one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec
from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredLock

from stackit.api.errors import StackitError
from stackit.api.reactor import Reactor
from stackit.github.api import ApiError
from stackit.github.discovery.listings import Listing
from stackit.github.discovery.report import ListingReport

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

GATHER = 0.5
"""Seconds in which events gather before a look: a transfer comes as three of them."""
_REST_PER_PAGE = 2.0
"""Seconds of rest after each page of a listing, until events have it read again: a storm costs no more requests."""
_FIRST_PAUSE, _LONGEST_PAUSE = 30.0, 3600.0


Result = Literal["complete", "held", "failed"]
RESULTS: tuple[Result, ...] = get_args(Result)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A listing as of its last reading. Times are in epoch seconds; ``succeeded_at`` is of the last complete one."""

    report: ListingReport
    read_at: float
    succeeded_at: float
    failures: int = 0


class Source:
    """The listings of one credential.

    ``standings`` are those of its listings by name, and ``results`` counts their readings. ``problem`` is why it is not
    known which listings there are.
    ``interval`` is in seconds, 0 for never.
    """

    def __init__(
        self,
        name: str,
        *,
        reactor: Reactor,
        now: Callable[[], float],
        interval: float,
        listings: Callable[[], Awaitable[Sequence[Listing]]],
        read: Callable[[Sequence[Listing], bool, bool], Awaitable[Sequence[ListingReport]]],
        changed: Callable[[Standing | None, Standing], None],
    ) -> None:
        """``listings`` raises StackitError where they are not known.

        ``read`` is given some, whether removals are accepted, and whether to change nothing. ``changed`` is told
        of each reading: with the standing before, if there is one, and now.
        """
        self.name = name
        self.standings: dict[str, Standing] = {}
        self.results: Counter[Result] = Counter()
        self.problem: str | None = None
        self._reactor = reactor
        self._now = now
        self.interval = interval
        self._listings = listings
        self._read = read
        self._changed = changed
        self._lock = DeferredLock()
        self._failures = 0
        self._made_at = self._known_at = now()
        self._full_at: float | None = None  # of the next reading of all, and of what is wanted beside
        self._wanted_at: float | None = None
        self._wanted: set[int] = set()  # ids of installations
        self._again: set[str] = set()  # names of listings
        self._rest_until: dict[str, float] = {}
        self._timer: DelayedCall | None = None
        self._running: set[Deferred[Any]] = set()
        self._stopped = False

    @property
    def succeeded_at(self) -> float:
        """Return when all listings were last complete; before that, when the source was made."""
        return min([self._known_at, *(each.succeeded_at for each in self.standings.values())])

    def start(self) -> None:
        """Read all listings soon."""
        self.look()

    async def stop(self) -> None:
        """End a reading that runs, and begin no more."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        running = list(self._running)
        for each in running:
            each.cancel()
        await DeferredList(running, consumeErrors=True)

    def look(self, installation: int | None = None) -> None:
        """Have the listing of an installation read soon, or all of them. Several wishes become one reading."""
        soon = self._reactor.seconds() + GATHER
        if installation is None:
            self._full_at = _earlier(self._full_at, soon)
        else:
            self._wanted.add(installation)
            self._wanted_at = _earlier(self._wanted_at, soon)
        self._set_timer()

    async def look_now(self, *, accept: bool = False, dry: bool = False) -> list[ListingReport]:
        """Read all listings now, and return what each showed. Raises StackitError where they are not known."""
        reports: list[ListingReport] = await self._tracked(self._all(accept=accept, dry=dry))
        return reports

    # -- readings -----------------------------------------------------------------

    async def _all(self, *, accept: bool, dry: bool) -> list[ListingReport]:
        await self._lock.acquire()
        try:
            listings = await self._listings()
            if dry:
                return list(await self._read(listings, accept, True))
            return await self._take(listings, accept=accept)
        finally:
            self._lock.release()

    async def _due(self) -> None:
        await self._lock.acquire()
        try:
            now = self._reactor.seconds()
            everything = self._full_at is not None and self._full_at <= now
            if everything:
                self._full_at = now + self.interval if self.interval else None
            wanted, again = self._wanted, self._again
            self._wanted, self._again, self._wanted_at = set(), set(), None
            try:
                listings = await self._listings()
            except StackitError as problem:
                self._not_known(problem)
                return
            self._known(listings)
            await self._take_rested(
                [
                    each
                    for each in listings
                    if everything
                    or each.installation in wanted
                    or each.name in again
                    or each.name not in self.standings
                ]
            )
        finally:
            self._lock.release()
            self._set_timer()

    async def _take_rested(self, listings: Sequence[Listing]) -> None:
        """Read listings; later where one was read a moment ago, and again after a pause where that failed."""
        rested: list[Listing] = []
        for each in listings:
            rest = self._rest_until.get(each.name, 0.0) - self._reactor.seconds()
            if rest > 0:
                self._read_again(each.name, rest)
            else:
                rested.append(each)
        for report in await self._take(rested):
            if report.problem is not None:
                failures = self.standings[report.listing].failures
                self._read_again(report.listing, self._pause(failures, report.retry_at))

    def _read_again(self, name: str, pause: float) -> None:
        self._again.add(name)
        self._wanted_at = _earlier(self._wanted_at, self._reactor.seconds() + pause)

    def _not_known(self, problem: StackitError) -> None:
        """Take note that it is not known which listings there are."""
        self.problem = str(problem)
        self._failures += 1
        retry_at = problem.retry_at if isinstance(problem, ApiError) else None
        self._full_at = _earlier(self._full_at, self._reactor.seconds() + self._pause(self._failures, retry_at))

    def _known(self, listings: Sequence[Listing]) -> None:
        self.problem, self._failures, self._known_at = None, 0, self._now()
        names = {each.name for each in listings}
        self.standings = {name: each for name, each in self.standings.items() if name in names}

    async def _take(self, listings: Sequence[Listing], *, accept: bool = False) -> list[ListingReport]:
        reports = list(await self._read(listings, accept, False))
        now = self._now()
        for report in reports:
            name = report.listing
            before = self.standings.get(name)
            standing = Standing(report=msgspec.structs.replace(report, repos=()), read_at=now, succeeded_at=now)
            if report.problem is not None:
                succeeded_at, failures = (before.succeeded_at, before.failures) if before else (self._made_at, 0)
                standing = msgspec.structs.replace(standing, succeeded_at=succeeded_at, failures=failures + 1)
            self.standings[name] = standing
            result: Result = "complete" if report.held is None else "held"
            self.results[result if report.problem is None else "failed"] += 1
            self._rest_until[name] = self._reactor.seconds() + _REST_PER_PAGE * max(1, report.pages)
            self._changed(before, standing)
        return reports

    # -- time ---------------------------------------------------------------------

    def _pause(self, failures: int, retry_at: float | None) -> float:
        pause = min(_FIRST_PAUSE * 2.0 ** (failures - 1), self.interval or _LONGEST_PAUSE, _LONGEST_PAUSE)
        return max(pause, 0.0 if retry_at is None else retry_at - self._now())

    def _set_timer(self) -> None:
        """Have the next reading begin when it is due."""
        due = _earlier(self._full_at, self._wanted_at)
        if self._timer is not None and self._timer.active():
            if due is not None and self._timer.getTime() <= due:
                return
            self._timer.cancel()
        if due is not None and not self._stopped:
            self._timer = self._reactor.callLater(max(0.0, due - self._reactor.seconds()), self._begin)

    def _begin(self) -> None:
        self._tracked(self._due()).addErrback(lambda failure: failure.trap(CancelledError) and None)

    def _tracked(self, work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        running: Deferred[Any] = Deferred.fromCoroutine(work)
        self._running.add(running)

        def ended(result: Any) -> Any:
            self._running.discard(running)
            return result

        return running.addBoth(ended)


def _earlier(one: float | None, other: float | None) -> float | None:
    """Return the earlier of two times; None stands for never."""
    return other if one is None else one if other is None else min(one, other)
