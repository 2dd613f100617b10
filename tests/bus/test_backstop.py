"""The backstop: at start and on its interval, each plugin by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from clocks import as_reactor
from places import without_place
from plugin_maker import bus_with, plugin
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from stackit import Occurrence, hookimpl
from stackit.api.nodes import Alone
from stackit.bus.backstop import Backstop


class Rounds(Alone):
    """A node of a fleet. ``is_away``: it is out of the fleet, and begins nothing. ``begun`` is shared by all nodes."""

    here = "a"

    def __init__(self, clock: Clock, begun: dict[str, float]) -> None:
        self.clock = clock
        self.begun = begun
        self.is_away = False
        self.leader_is_here = True

    def leads(self) -> bool:
        return self.leader_is_here

    async def round(self, name: str, interval: float) -> bool:
        now = self.clock.seconds()
        if self.is_away or now - self.begun.get(name, -interval) < interval:
            return False
        self.begun[name] = now
        return True


class Harness:
    """A backstop with plugins that note their looks, and an observer."""

    def __init__(
        self,
        *,
        interval: float = 300,
        fleet: Rounds | None = None,
        everywhere: tuple[str, ...] = (),
        **looks: Callable[[], Any],
    ) -> None:
        """``fleet`` has the rounds that nodes share. The plugins ``everywhere`` look at each node."""
        self.clock = Clock() if fleet is None else fleet.clock
        self.looks: list[str] = []
        self.seen: list[Occurrence] = []

        @hookimpl
        def stackit_observe(occurrence: Occurrence) -> None:
            self.seen.append(occurrence)

        plugins = {name: self._looking(name, look, everywhere=name in everywhere) for name, look in looks.items()}
        bus = bus_with(observer=stackit_observe, **plugins)
        self.backstop = Backstop(
            reactor=as_reactor(self.clock),
            bus=bus,
            interval=interval,
            grace=10,
            nodes=fleet,
        )
        self.backstop.startService()

    def _looking(self, name: str, look: Callable[[], Any], *, everywhere: bool) -> Any:
        @hookimpl(needs_mirror=everywhere)
        def stackit_backstop() -> Any:
            self.looks.append(name)
            return look()

        return plugin(stackit_backstop)

    def reports(self) -> list[tuple[str | None, str | None, str | None]]:
        assert {each.name for each in self.seen} <= {"backstop"}
        return [(each.plugin, each.outcome, without_place(each.error)) for each in self.seen]

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.backstop.stop())


def nothing() -> None:
    """Find nothing."""


def fault() -> None:
    raise OSError("unreachable")


def test_it_looks_at_start_and_every_interval() -> None:
    harness = Harness(one=nothing)
    assert harness.looks == ["one"]
    harness.clock.advance(299)
    assert harness.looks == ["one"]
    harness.clock.advance(1)
    harness.clock.advance(300)
    assert harness.looks == ["one"] * 3
    assert harness.reports() == [("one", "done", None)] * 3
    assert harness.stop().called
    assert harness.clock.getDelayedCalls() == []


def test_with_an_interval_of_0_it_never_looks() -> None:
    harness = Harness(interval=0, one=nothing)
    harness.clock.advance(10**6)
    assert harness.looks == []
    assert harness.stop().called


def test_the_failure_of_one_plugin_is_one_occurrence_and_the_loop_goes_on() -> None:
    harness = Harness(bad=fault, good=nothing)
    failed, done = ("bad", "failed", "OSError: unreachable"), ("good", "done", None)
    assert sorted(harness.reports()) == [failed, done]
    harness.clock.advance(300)
    assert sorted(harness.reports()) == [failed, failed, done, done]
    assert harness.stop().called


def test_a_plugin_that_leaves_the_process_or_is_cancelled_from_within_has_failed() -> None:
    def leave() -> None:
        raise SystemExit

    async def cancelled() -> None:
        raise CancelledError

    harness = Harness(leave=leave, cancelled=cancelled)
    assert sorted(harness.reports()) == [
        ("cancelled", "failed", "CancelledError"),
        ("leave", "failed", "RuntimeError: SystemExit"),
    ]
    assert harness.stop().called


def test_a_round_that_still_runs_is_not_started_again_and_holds_up_no_other() -> None:
    hanging: list[Deferred[None]] = []

    def hang() -> Deferred[None]:
        hanging.append(Deferred())
        return hanging[-1]

    harness = Harness(slow=hang, quick=nothing)
    harness.clock.advance(300)
    harness.clock.advance(300)
    assert (harness.looks.count("slow"), harness.looks.count("quick")) == (1, 3)
    hanging[0].callback(None)
    assert harness.seen[-1] == Occurrence(name="backstop", plugin="slow", outcome="done", seconds=600)
    harness.clock.advance(300)
    assert (harness.looks.count("slow"), harness.looks.count("quick")) == (2, 4)
    hanging[1].callback(None)
    assert harness.stop().called


def test_stopping_waits_for_what_runs() -> None:
    running: Deferred[None] = Deferred()
    harness = Harness(slow=lambda: running)
    stopped = harness.stop()
    assert not stopped.called
    harness.clock.advance(9)
    running.callback(None)
    assert stopped.called
    assert harness.reports() == [("slow", "done", None)]
    assert harness.clock.getDelayedCalls() == []
    harness.clock.advance(1000)
    assert harness.looks == ["slow"]


def test_stopping_cancels_what_outlives_the_grace_and_reports_no_failure() -> None:
    async def stubborn() -> None:
        while True:
            try:
                await Deferred()
            except CancelledError:
                continue

    cancelled: list[Deferred[None]] = []
    harness = Harness(slow=lambda: Deferred(cancelled.append), stubborn=stubborn)
    stopped = harness.stop()
    harness.clock.advance(10)
    assert stopped.called
    assert len(cancelled) == 1
    assert harness.reports() == []
    assert harness.clock.getDelayedCalls() == []


def test_a_stop_that_is_cancelled_cancels_what_runs() -> None:
    cancelled: list[Deferred[None]] = []
    harness = Harness(slow=lambda: Deferred(cancelled.append), quick=nothing)
    assert harness.backstop.rounds() == ["slow"]
    stopped = harness.stop()
    stopped.cancel()
    assert stopped.called
    assert len(cancelled) == 1
    assert harness.backstop.rounds() == []
    assert harness.reports() == [("quick", "done", None)]
    assert harness.clock.getDelayedCalls() == []


def test_stopping_twice_or_without_a_start_is_fine() -> None:
    harness = Harness(one=nothing)
    assert harness.stop().called
    assert harness.stop().called


def compared(harness: Harness) -> list[bool]:
    """Ask for a comparison; return its result, once it is there."""
    results: list[bool] = []
    Deferred.fromCoroutine(harness.backstop.compare()).addCallback(results.append)
    return results


def test_a_comparison_asks_every_plugin_and_waits_for_a_round_that_runs() -> None:
    rounds: list[Deferred[None]] = []

    def slowly() -> Deferred[None]:
        rounds.append(Deferred())
        return rounds[-1]

    harness = Harness(one=slowly, two=nothing)
    results = compared(harness)
    assert harness.looks == ["two", "one", "two"]  # one still looks
    assert results == []
    rounds[0].callback(None)
    assert results == [True]
    results = compared(harness)
    rounds[1].callback(None)
    assert results == [True]
    assert harness.stop().called


def test_a_comparison_in_which_a_plugin_fails_says_so_also_without_an_interval() -> None:
    harness = Harness(interval=0, bad=fault, good=nothing)
    assert compared(harness) == [False]
    assert sorted(harness.looks) == ["bad", "good"]
    assert harness.stop().called
    assert compared(harness) == [False]
    assert sorted(harness.looks) == ["bad", "good"]


def test_a_comparison_that_the_stop_cuts_off_is_none() -> None:
    harness = Harness(one=Deferred)
    results = compared(harness)
    harness.stop()
    harness.clock.advance(10)
    assert results == [False]


def test_in_a_fleet_one_node_looks_in_each_interval_and_a_plugin_of_mirrors_at_every_node() -> None:
    clock, begun = Clock(), {}  # type: ignore[var-annotated]
    nodes = [Rounds(clock, begun), Rounds(clock, begun)]
    nodes[0].is_away = True
    harnesses = [Harness(fleet=each, everywhere=("mirrors",), mirrors=nothing, lists=nothing) for each in nodes]
    assert [each.looks for each in harnesses] == [["mirrors"], ["mirrors", "lists"]]
    nodes[0].is_away = False
    for _ in range(3):
        clock.pump([15.0] * 20)
    assert [each.looks.count("mirrors") for each in harnesses] == [4, 4]
    assert sum(each.looks.count("lists") for each in harnesses) == 4
    nodes[1].is_away = True  # another one looks for it, not much later
    clock.pump([15.0] * 21)
    assert sum(each.looks.count("lists") for each in harnesses) == 5
    for each in harnesses:
        assert each.stop().called
    assert clock.getDelayedCalls() == []


def test_what_is_compared_now_is_compared_by_the_leader_but_for_what_each_node_does() -> None:
    clock, begun = Clock(), {}  # type: ignore[var-annotated]
    for leads, looks in ((True, ["lists", "mirrors"]), (False, ["mirrors"])):
        node = Rounds(clock, begun)
        node.leader_is_here = leads
        harness = Harness(fleet=node, everywhere=("mirrors",), mirrors=nothing, lists=nothing)
        harness.looks.clear()
        assert Deferred.fromCoroutine(harness.backstop.compare()).result is True
        assert sorted(harness.looks) == looks
        assert harness.stop().called
