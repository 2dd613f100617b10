"""The time of a fleet is its database's, whatever the clocks of its nodes show; and each node tells of its own."""

from __future__ import annotations

import time
from typing import Any

import pytest_twisted
from fleet_nodes import Member, Nodes
from twisted.internet.task import Clock

from stackit.fleet.clock import FleetClock
from stackit.fleet.metrics import FleetMetrics
from stackit.fleet.routes import overview
from stackit.journal.postgres.clock import Reading, read_clock
from stackit.journal.postgres.connection import Server

DATABASE = 1_000_000.0
"""What the database's clock shows when that of the timers shows 0."""


class Machine:
    """A machine whose clock is so many seconds ``ahead`` of the database's, and the lines that it told."""

    def __init__(self, *, ahead: float = 0.0, took: float = 0.0) -> None:
        self.ahead = ahead
        self.timers = Clock()
        self.lines: list[str] = []
        self.clock = FleetClock(
            self.reading(took),
            seconds=self.timers.seconds,
            wall_clock=lambda: DATABASE + self.timers.seconds() + self.ahead,
            notice=self.lines.append,
        )

    def reading(self, took: float, *, part: float = 0.5, step: float = 0.0) -> Reading:
        """Ask the database, whose answer took so long, and was given after a part of that. ``step`` is one of its."""
        before = self.timers.seconds()
        shown = DATABASE + before + took * part + step
        self.timers.advance(took)
        return Reading(before, shown, before + took)

    @property
    def error(self) -> float:
        """By how much it takes the time of the fleet for later than it is."""
        return self.clock.now() - DATABASE - self.timers.seconds()


def test_the_time_of_the_fleet_is_the_database_s_and_nobody_sets_it_at_a_node() -> None:
    machine = Machine(ahead=3600.0)
    for seconds, ahead in ((1.0, 3600.0), (5.0, -86400.0), (90.0, 0.0)):
        machine.timers.advance(seconds)
        machine.ahead = ahead
        assert machine.error == 0.0
        assert machine.clock.ahead() == ahead


def test_an_answer_that_takes_long_moves_no_time_that_may_be_right() -> None:
    machine = Machine(took=0.01)
    for part in (0.0, 1.0, 0.3, 0.9):
        machine.clock.observe(machine.reading(4.0, part=part))
        assert abs(machine.error) < 1e-6


def test_a_first_answer_that_took_long_is_made_good_by_the_next_one() -> None:
    class Late(Machine):
        def reading(self, took: float, *, part: float = 1.0, step: float = 0.0) -> Reading:
            return super().reading(took, part=part, step=step)

    machine = Late(took=4.0)
    assert abs(machine.error - 2.0) < 1e-6
    machine.clock.observe(machine.reading(0.02))
    assert abs(machine.error) <= 0.02 + 1e-6


def test_the_time_follows_a_database_whose_clock_is_set() -> None:
    machine = Machine(took=0.01)
    machine.clock.observe(machine.reading(0.01, step=-600.0))
    assert abs(machine.error + 600.0) <= 0.01
    machine.clock.observe(machine.reading(0.01))
    assert abs(machine.error) <= 0.01


def test_a_clock_that_is_wrong_is_told_of_once_and_that_it_is_right_again() -> None:
    machine = Machine(ahead=4.9)
    wrong = "the clock of this machine is {} that of the fleet's database: let NTP set it ("

    def problems() -> list[str]:
        return [each.partition("or the")[0] for each in machine.clock.problems()]

    assert problems() == machine.lines == []
    machine.ahead = 10800.0
    assert problems() == [wrong.format("10800 seconds ahead of")]
    machine.ahead = -60.0
    machine.clock.observe(machine.reading(0.01))
    assert problems() == [wrong.format("60 seconds behind")]
    machine.ahead = 3.0  # nearly
    assert problems() == [wrong.format("3 seconds ahead of")]
    assert len(machine.lines) == 1
    machine.ahead = 2.0
    machine.clock.observe(machine.reading(0.01))
    assert problems() == []
    assert machine.lines[1:] == ["the clock of this machine agrees with that of the fleet's database again"]


def test_a_machine_whose_clock_is_wrong_from_its_start_says_so() -> None:
    (line,) = Machine(ahead=-7200.0, took=0.5).lines
    assert "7200 seconds behind that of the fleet's database" in line


@pytest_twisted.ensureDeferred
async def test_each_beat_reads_the_database_s_clock(nodes: Nodes, postgres: str) -> None:
    reading = read_clock(Server(postgres), nodes.reactor.seconds)
    assert reading.before <= reading.after
    assert abs(reading.shown - time.time()) < 60  # one machine
    a = nodes.start("a")
    b = nodes.start("b")
    b.clock.observe(Reading(0.0, 1000.0, 0.0))  # as if the clock of its database had been far from that
    await nodes.until(lambda: nodes.is_divided(a, b))
    assert abs(a.clock.now() - b.clock.now()) < 30
    assert a.entered_with == b.entered_with == [0]  # what planned retries has to know of it before it owns any
    b.clock.observe(Reading(0.0, 1000.0, 0.0))
    await nodes.until(lambda: abs(a.clock.now() - b.clock.now()) < 30)


@pytest_twisted.ensureDeferred
async def test_a_node_that_is_kept_out_of_the_fleet_reads_the_database_s_clock_too(nodes: Nodes) -> None:
    one = nodes.start("a", lease=1.5)
    await nodes.until(lambda: nodes.is_divided(one))
    other = nodes.start("a")
    await nodes.until(lambda: nodes.is_divided(other) and "has the name a now" in str(one.fleet.problems()))
    for _ in range(2):  # the answer to a beat says it, and then each try to enter anew
        one.clock.observe(Reading(0.0, 1000.0, 0.0))
        await one.look()
        await nodes.until(lambda: abs(one.clock.now() - other.clock.now()) < 30)
    assert one.fleet.incarnation is None


@pytest_twisted.ensureDeferred
async def test_a_node_shows_how_far_its_clock_is_off_and_goes_on(nodes: Nodes) -> None:
    a, b = await nodes.divided("a", "b")
    b.ahead = 10800.0
    await b.look()
    await nodes.until(lambda: any("of this machine is 10800 seconds ahead of" in line for line in b.lines))
    assert [problem.partition(" that")[0] for problem in overview(b.fleet, None).problems] == [
        "the clock of this machine is 10800 seconds ahead of"
    ]
    assert (round(_ahead(b), -1), round(overview(b.fleet, None).clock_ahead, -1)) == (10800, 10800)
    assert abs(_ahead(a)) < 5
    assert overview(a.fleet, None).problems == []
    assert b.fleet.problems() == []  # it is no reason to send deliveries elsewhere
    assert nodes.is_divided(a, b)
    b.ahead = 0.0
    await nodes.until(lambda: overview(b.fleet, None).problems == [])


def _ahead(member: Member) -> float:
    families: Any = FleetMetrics(member.fleet, lambda: None).collect()
    (sample,) = [
        sample for family in families for sample in family.samples if sample.name == "stackit_fleet_clock_ahead_seconds"
    ]
    return float(sample.value)
