"""Whatever the list looks like, and wherever the process dies: each wanted delivery is taken once, and none is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from delivery_list import Died, ListedHook, Recorded
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from stackit.api.occurrences import Occurrence
from stackit.github.api import ApiError
from stackit.github.recovery.hook import HookRecovery
from stackit.github.recovery.taking import Taker
from stackit.github.recovery.walk import OVERLAP

MINUTE = 60.0
HOUR = 3600.0


class Machine:
    """A machine on which stackit runs, dies and starts again, and GitHub beside it. One turn takes no time."""

    def __init__(self, page: int, skew: float) -> None:
        self.time = 1_000_000.0
        self.github = ListedHook(lambda: self.time, page=page)
        self.github.skew = skew
        self.journal = Recorded()
        self.steps_left = -1
        self.github.step = self.journal.step = self._step
        self.up: HookRecovery | None = None
        self.first_look: float | None = None

    def _step(self) -> None:
        if self.steps_left == 0:
            raise Died
        self.steps_left -= 1

    def start(self) -> None:
        taker = Taker(
            take=self.journal.take,
            observe=self._observed,
            now=lambda: self.time,
            speaks_for=lambda _signer, _event: True,
            verify=lambda _body, _digest: None,
            max_body=lambda: 25 * 2**20,
        )
        self.up = HookRecovery(
            self.github,
            self.journal.kept.get(self.github.name),
            reactor=Clock(),
            journal=self.journal,
            taker=taker,
            wanted=lambda event, _action: event == "push",
            pause=0,
            notice=lambda _: None,
        )

    def _observed(self, _: Occurrence) -> None:
        pass

    def walk(self, dies_after: int = -1) -> None:
        """Make a walk, or the part of it until the process dies."""
        if self.up is None:
            self.start()
        self.steps_left = dies_after
        try:
            self._now(self._walk(self.up))
        except Died:
            self.up = None
        except ApiError:
            pass  # too many payloads in a row could not be had
        finally:
            self.steps_left = -1

    async def _walk(self, recovery: Any) -> None:
        await recovery.take(await recovery.find())

    def _now(self, coroutine: Any) -> None:
        results: list[Any] = []
        Deferred.fromCoroutine(coroutine).addBoth(results.append)
        (result,) = results  # no step waits
        if result is not None:
            result.raiseException()

    def event(self, guid: str, step: Step) -> None:
        """Have something happen at GitHub; it is delivered only to a stackit that runs."""
        event = "push" if step.wanted else "star"
        entry = self.github.add(guid, self.time, event=event, lag=step.lag, status_code=202)
        if step.faulty and not step.again:
            self.github.faults[entry.id] = ApiError("GitHub answered 502", reason="server", status=502)
        if step.delivered and self.up is not None:
            self.journal.webhook(self.github.hook_id, guid)
        if step.again:  # somebody has it redelivered: a new entry of the same event
            self.github.add(guid, self.time + 0.5, event=event, lag=step.lag)


class Step(msgspec.Struct, frozen=True):
    """A time that passes, an event after it, and a walk that dies after so many things (-1: never; None: no walk).

    The payload of a ``faulty`` event cannot be had until the end.
    """

    pause: float
    lag: float
    delivered: bool
    wanted: bool
    again: bool
    faulty: bool
    walk: int | None


steps = st.lists(
    st.builds(
        Step,
        st.sampled_from([1.0, 30.0, 5 * MINUTE, 5 * MINUTE, OVERLAP, HOUR]),
        st.sampled_from([0.0, 0.0, 5 * MINUTE, OVERLAP - 1, OVERLAP - 1]),
        st.booleans(),
        st.sampled_from([True, True, False]),
        st.booleans(),
        st.sampled_from([False, False, True]),
        st.sampled_from([None, None, None, -1, *range(4, 60, 3)]),
    ),
    max_size=30,
)


@settings(max_examples=600)
@given(steps, st.integers(1, 5), st.sampled_from([0.0, -3600.0, 3600.0]), st.integers(0, 3))
def test_each_wanted_delivery_is_taken_once_wherever_the_process_dies(
    happenings: Sequence[Step], page: int, skew: float, before: int
) -> None:
    machine = Machine(page, skew)
    for number in range(before):
        machine.event(
            f"before-{number}", Step(0, 0, delivered=False, wanted=True, again=False, faulty=False, walk=None)
        )
    machine.time += 1
    machine.walk()  # the first start: what is older came before this stackit
    wanted: set[str] = set()
    for number, step in enumerate(happenings, 1000):
        machine.time += step.pause
        machine.event(f"guid-{number}", step)
        if step.wanted:
            wanted.add(f"guid-{number}")
        if step.walk is not None:
            earlier = len(machine.journal.taken)
            machine.walk(step.walk)
            if not machine.github.faults:
                assert machine.journal.taken[earlier:] == sorted(machine.journal.taken[earlier:])  # oldest first
    machine.time += OVERLAP  # all is listed by now
    machine.github.faults.clear()
    machine.walk()
    hook, journal = machine.github.hook_id, machine.journal
    assert {guid for _, guid in journal.deliveries if guid in wanted} == wanted
    assert set(journal.taken) <= {(hook, guid) for guid in wanted}
    assert len(journal.taken) == len(set(journal.taken))
    fetched = len(machine.github.fetched)
    machine.start()
    machine.walk()
    assert len(machine.github.fetched) == fetched
