"""Handlers that end their process: each such end is counted, and after a few of them the event is a dead letter.

Its handling would begin anew after each restart, and in a fleet at one node after the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import msgspec

from stackit.api.events import Repo
from stackit.api.occurrences import Occurrence
from stackit.bus.bus import Bus
from stackit.dispatch.step_file import Step, StepFile
from stackit.journal import EventId, HandlingRow, JournalProtocol, Receipt

COLLECTION = "crashes"
MOST = 3
"""Ends of a process in one handling, at which that is given up."""

Crashes = Mapping[Step, Collection[str]]
"""The keys of the documents of each handling, one for each end that was counted."""
Receipts = Mapping[EventId, Receipt | None]


class CrashCounts:
    """The ends of processes that were in a handling, counted by event and subscriber in the journal.

    Each is a document of its own, the step, so nodes of a fleet that count at once lose none. An end counts for every
    step that the process was in, since any of them may be to blame. One that reaches ``MOST`` has all of the blame for
    that end: what was in a thread beside it goes on.
    """

    def __init__(self, steps: StepFile, journal: JournalProtocol, bus: Bus, *, now: Callable[[], float]) -> None:
        """``now`` is the wall clock."""
        self._steps = steps
        self._journal = journal
        self._bus = bus
        self._now = now
        self._given_up: Step | None = None

    def has_suspects(self) -> bool:
        """Return whether no event may begin before ``settle``: the last process ended in a handling."""
        return self._steps.last is not None and bool(self._steps.last.steps)

    async def settle(self) -> None:
        """Count the end of the last process, and give up what was in hand too often; before any event begins.

        Counts of handlings that are not pending any more are forgotten. Raises JournalError, and may be called again.
        """
        last = self._steps.last
        suspects = {} if last is None else {each: f"{each.event} {last.id} {each.subscriber}" for each in last.steps}
        if self._given_up is None:
            await self._count(suspects)
        documents = await self._journal.documents(COLLECTION)
        known = {key: _decoded(document) for key, document in documents.items()}
        receipts = await self._receipts(step for step in known.values() if step is not None)
        crashes: defaultdict[Step, set[str]] = defaultdict(set)
        for key, step in known.items():
            if step is not None and _pending(receipts, step):
                crashes[step].add(key)
        blamed = [each for each, key in suspects.items() if key in crashes[each]]
        if self._given_up is None:
            self._given_up = await self._give_up(blamed, crashes, receipts)
        if self._given_up is not None:
            crashes.pop(self._given_up, None)
            for each in blamed:
                crashes[each].discard(suspects[each])
        if gone := documents.keys() - set().union(*crashes.values()):
            await self._journal.put(COLLECTION, dict.fromkeys(gone))
        self._steps.begin()
        if self._given_up is None:
            for each in blamed:
                self._tell(each, len(crashes[each]), receipts[each.event])

    async def _count(self, suspects: Mapping[Step, str]) -> None:
        """Write down an end for each handling that is pending: of two nodes that do so at once, one sees both."""
        receipts = await self._receipts(suspects)
        counted = {key: msgspec.json.encode(step) for step, key in suspects.items() if _pending(receipts, step)}
        if counted:
            # A start that did not come to its end may have done so already: under the same keys.
            await self._journal.put(COLLECTION, counted)

    async def _receipts(self, steps: Iterable[Step]) -> Receipts:
        return {event: await self._journal.receipt(event) for event in sorted({each.event for each in steps})}

    async def _give_up(self, blamed: Sequence[Step], crashes: Crashes, receipts: Receipts) -> Step | None:
        """Make the handling that was there most often a dead letter, if that was too often, and return it."""
        worst = max(blamed, key=lambda each: len(crashes[each]), default=None)
        if worst is None or len(crashes[worst]) < MOST:
            return None
        times = len(crashes[worst])
        error = (
            f"its handler ended the process {times} times: by a crash in C, by an exit, by the memory that it took, or "
            "by a step without end (the system's log may tell); mend it, and replay the event"
        )
        if await self._journal.give_up(worst.event, worst.subscriber, at=self._now(), error=error):
            self._report(worst, receipts, error)
        return worst

    def _report(self, step: Step, receipts: Receipts, error: str) -> None:
        receipt, row = receipts[step.event], _pending(receipts, step)
        if receipt is None or row is None:
            return
        self._bus.observe(
            Occurrence(
                name="dead",
                subscriber=self._bus.display(step.subscriber),
                event=receipt.event,
                action=receipt.action,
                repo=None if receipt.repo is None else Repo.parse(receipt.repo),
                delivery=receipt.delivery,
                id=step.event,
                attempts=row.attempts + 1,
                error=error,
            )
        )

    def _tell(self, step: Step, times: int, receipt: Receipt | None) -> None:
        self._bus.observe(
            Occurrence(
                name="notice",
                subscriber=self._bus.display(step.subscriber),
                delivery=None if receipt is None else receipt.delivery,
                id=step.event,
                reason=f"the last process ended in the handler of this event, without a stop: {times} of the {MOST} "
                "times at which it becomes a dead letter",
            )
        )


def _pending(receipts: Receipts, step: Step) -> HandlingRow | None:
    """Return the handling of a step while that is pending."""
    receipt = receipts[step.event]
    rows = () if receipt is None else receipt.handlings
    return next((each for each in rows if each.subscriber == step.subscriber and each.state == "pending"), None)


def _decoded(document: bytes) -> Step | None:
    try:
        return msgspec.json.decode(document, type=Step)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
