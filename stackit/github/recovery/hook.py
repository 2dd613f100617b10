"""The deliveries of one hook: list them, take what is missed, and keep the mark in the journal."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from stackit.api.reactor import Timers, sleep
from stackit.github.api import ApiError
from stackit.github.recovery.ledger import Ledger
from stackit.github.recovery.records import (
    Detail,
    HookState,
    Listed,
    Mark,
    Window,
    decode_state,
    encode_state,
    shown_window,
)
from stackit.github.recovery.source import DeliverySource
from stackit.github.recovery.taking import Taker
from stackit.github.recovery.walk import Walk, Wanted
from stackit.text.times import rfc3339

COLLECTION = "recovery"
_POSTPONED = frozenset({"server", "shape", "not_found"})
"""Why a payload is left for later: nothing says that GitHub will not tell it yet. Maintenance answers all of these."""
_REFUSED = frozenset({"too_large", "validation"})
"""Reasons for which no later request for a payload is answered otherwise."""
_MOST_FAILURES = 3
"""Payloads in a row that cannot be had, after which a walk ends: it is hardly their fault."""
_MOST_POSTPONED = 1000


class Documents(Protocol):
    """The part of the journal that keeps the marks."""

    async def put(self, collection: str, documents: Mapping[str, bytes | None]) -> None:
        """Write documents."""

    async def documents(self, collection: str) -> Mapping[str, bytes]:
        """Return the documents of a collection by their keys."""

    async def recorded(self, hook: str, deliveries: Sequence[str]) -> Collection[str]:
        """Return those of these delivery ids of a hook that are recorded."""


class Found(msgspec.Struct, frozen=True, eq=False):
    """What a walk found: the entries that are ``missed``, oldest first, and the window that is ``lost``, if any.

    ``since`` is the time that it was to go back to, None where that was the mark.
    """

    walk: Walk
    missed: Sequence[Listed]
    lost: Window | None
    since: float | None


class HookRecovery:
    """Recovery for one hook. One walk at a time: ``find``, then ``take`` of what it found.

    ``pause`` are the seconds between two payloads. ``state`` is as the journal has it. ``left`` counts what is found
    and not yet taken, or postponed, ``recovered`` what was taken since the start.
    """

    def __init__(
        self,
        source: DeliverySource,
        document: bytes | None,
        *,
        reactor: Timers,
        journal: Documents,
        taker: Taker,
        wanted: Wanted,
        pause: float,
        notice: Callable[[str], None],
    ) -> None:
        self.source = source
        self.pause = pause
        self.left = 0
        self.recovered = 0
        self._reactor = reactor
        self._journal = journal
        self._taker = taker
        self._wanted = wanted
        self._notice = notice
        self._is_kept = True
        self.state = self._state(document)
        self._next_at = reactor.seconds()
        self._fetched: dict[int, Detail] = {}
        self._hook = self.state.mark.hook if self.state.mark is not None else None

    def _state(self, document: bytes | None) -> HookState:
        if document is None:
            return HookState()
        try:
            return decode_state(document)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._notice(
                f"the journal's mark of {self.source.name} cannot be read: GitHub's whole list is gone through; what "
                "the journal does not know any more is taken again"
            )
            return HookState(Mark(0.0, 0, self.source.now()))

    @property
    def hook(self) -> str | None:
        """The id of the hook, None while nothing has told it: the same event comes by other hooks, too."""
        return self.source.hook or self._hook

    # -- find ---------------------------------------------------------------------

    async def find(self, since: float | None = None) -> Found:
        """Read the list back to the mark, or to ``since``, and return what is missed. Nothing is written.

        Raises ApiError and JournalError.
        """
        source, began = self.source, self._reactor.seconds()
        walk: Walk | None = None
        missed: list[Listed] = []
        async for page in source.pages():
            if walk is None:
                # Only an answer tells GitHub's time for sure. It was asked for before that.
                listed_at = source.now() - (self._reactor.seconds() - began)
                walk = Walk(
                    self.state.mark, listed_at=listed_at, retention=source.retention, wanted=self._wanted, since=since
                )
            found = walk.add(page)
            if found and self.hook is None:
                await self._learn_hook(found)
            if found and self.hook is not None:
                known = await self._journal.recorded(self.hook, [each.guid for each in found])
                found = [each for each in found if each.guid not in known]
            missed += found
            if walk.ended:
                break
        if walk is None:  # GitHub has a page even for nothing
            raise ApiError("the list of deliveries has no page", reason="shape")
        return Found(walk, sorted(missed, key=walk.place), walk.lost(), since)

    async def _learn_hook(self, entries: Sequence[Listed]) -> None:
        """Know the id of the hook, as one of its deliveries tells it; not where none of these can be read."""
        for entry in entries:
            try:
                detail = await self._detail(entry)
            except ApiError as problem:
                if problem.reason not in _POSTPONED | _REFUSED:
                    raise
            else:
                self._fetched[entry.id] = detail
                self._hook = self._taker.hook(detail)
                return

    # -- take ---------------------------------------------------------------------

    async def take(self, found: Found) -> None:
        """Take what was found, oldest first, and move the mark over what is durable.

        Raises ApiError and JournalError; what is left is found by the next walk. A delivery whose payload GitHub does
        not tell is postponed: it is tried after all others, on every walk, for as long as GitHub keeps it.
        """
        walk, mark = found.walk, self.state.mark
        ledger = Ledger.of(mark)
        again = [each for each in ledger.postponed.values() if each.guid not in walk]
        self.left = len(found.missed) + len(again)
        failures = 0
        try:
            for at, entry in enumerate([*found.missed, *again]):
                problem = await self._taken(entry, ledger, walk)
                failures = 0 if problem is None else failures + 1
                mark = self.state.mark
                if mark is not None and not walk.is_cut and at < len(found.missed):
                    mark = walk.mark_after(mark, entry)
                await self._keep(mark, ledger, walk)
                self.left -= 1
                if problem is not None and failures == _MOST_FAILURES:
                    raise problem
        finally:
            self.left = len(ledger.postponed)
            self._fetched.clear()
        await self._keep(self.state.mark if walk.is_cut else walk.mark(self.state.mark), ledger, walk)

    async def _taken(self, entry: Listed, ledger: Ledger, walk: Walk) -> ApiError | None:
        """Take one delivery, unless it has come meanwhile; return why it is postponed instead, if it is.

        Raises ApiError where the fault is not that of the delivery.
        """
        hook = self.hook
        if hook is not None and await self._journal.recorded(hook, [entry.guid]):
            ledger.done(entry)
            return None
        try:
            detail = await self._detail(entry)
        except ApiError as problem:
            if problem.reason in _REFUSED or (problem.reason in _POSTPONED and entry.at < walk.edge):
                ledger.settle(entry)
                self._give_up(entry, problem)
                return None
            if problem.reason not in _POSTPONED or len(ledger.postponed) >= _MOST_POSTPONED:
                raise
            ledger.postpone(entry)
            return problem
        hook = self._taker.hook(detail)
        if hook != self.hook:
            self._hook = hook
            if await self._journal.recorded(hook, [entry.guid]):
                ledger.done(entry)
                return None
        outcome = await self._taker.take(self.source, entry, detail)
        if outcome in ("recovered", "duplicate"):
            self.recovered += outcome == "recovered"
            ledger.done(entry)
        else:
            ledger.settle(entry)
        return None

    def _give_up(self, entry: Listed, problem: ApiError) -> None:
        self._notice(
            f"delivery {entry.guid} ({entry.event}) of {self.source.name} was missed, and GitHub does not tell its "
            f"payload ({problem}); look at it in the settings of the hook"
        )

    async def _detail(self, entry: Listed) -> Detail:
        """Return a delivery with its payload; the next request waits for the pause."""
        found = self._fetched.pop(entry.id, None)
        if found is not None:
            return found
        wait = self._next_at - self._reactor.seconds()
        if wait > 0:
            await sleep(self._reactor, wait)
        self._next_at = self._reactor.seconds() + self.pause
        return await self.source.detail(entry.id)

    # -- state --------------------------------------------------------------------

    async def change(self, changed: Callable[[HookState], HookState]) -> None:
        """Keep a changed state. Raises JournalError; the next change keeps this one, too."""
        state = changed(self.state)
        if state == self.state and self._is_kept:
            return
        # At once: another change may come while this one is written, and the journal takes both in their order.
        self.state, self._is_kept = state, False
        await self._journal.put(COLLECTION, {self.source.name: encode_state(state)})
        self._is_kept = state is self.state

    async def _keep(self, mark: Mark | None, ledger: Ledger, walk: Walk) -> None:
        """Keep a mark with what is known of single deliveries. Without a mark there is none before the walk's end."""
        if mark is not None:
            settled = walk.relevant(mark, ledger.settled)
            mark = msgspec.structs.replace(
                mark, hook=self.hook, settled=settled, postponed=tuple(ledger.postponed.values())
            )
            await self.change(lambda state: msgspec.structs.replace(state, mark=mark))

    def status(self) -> dict[str, Any]:
        """Return the state for people."""
        mark = self.state.mark
        return {
            "hook": self.source.name,
            "hook_id": self.hook,
            "seen_at": None if mark is None else rfc3339(mark.seen_at),
            "recovered": self.recovered,
            "left": self.left,
            "lost": [shown_window(each) for each in self.state.lost],
        }
