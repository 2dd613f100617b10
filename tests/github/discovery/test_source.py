"""When listings are read: at the start, at intervals, after events that gather, and again after a failure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from stackit.api.errors import StackitError
from stackit.github.api import ApiError
from stackit.github.discovery.report import ListingReport
from stackit.github.discovery.source import Source

HOUR = 3600.0


class Named:
    """A listing, as far as a source looks at it."""

    def __init__(self, name: str, installation: int) -> None:
        self.name = name
        self.installation = installation


class SourceHarness:
    """A source of two listings. ``read`` tells what was read, each time with the time."""

    def __init__(self, interval: float = HOUR) -> None:
        self.clock = Clock()
        self.listings: list[Any] = [Named("at octo", 1), Named("at acme", 2)]
        self.unknown: StackitError | None = None
        self.problems: dict[str, StackitError] = {}
        self.pages = 1
        self.reads: list[tuple[float, list[str]]] = []
        self.hold: Deferred[None] | None = None
        self.source = Source(
            "App main",
            reactor=self.clock,  # type: ignore[arg-type]
            now=self.clock.seconds,
            interval=interval,
            listings=self._listings,
            read=self._read,
            changed=lambda _before, _now: None,
        )

    async def _listings(self) -> Sequence[Any]:
        if self.unknown is not None:
            raise self.unknown
        return self.listings

    async def _read(self, listings: Sequence[Any], accept: bool, dry: bool) -> Sequence[ListingReport]:
        if listings:
            self.reads.append((self.clock.seconds(), [each.name for each in listings]))
        await (self.hold or succeed(None))
        return [
            ListingReport(
                listing=each.name,
                pages=self.pages,
                problem=None if (problem := self.problems.get(each.name)) is None else str(problem),
                retry_at=getattr(problem, "retry_at", None),
            )
            for each in listings
        ]

    def advance(self, seconds: float) -> None:
        """Let time pass in small steps."""
        for _ in range(int(seconds * 2)):
            self.clock.advance(0.5)

    def began(self) -> list[float]:
        """The times at which anything was read."""
        return [at for at, _ in self.reads]


@pytest.fixture
def harness() -> SourceHarness:
    made = SourceHarness()
    made.source.start()
    made.advance(1)
    assert made.reads == [(0.5, ["at octo", "at acme"])]
    return made


def test_listings_are_read_at_the_start_and_at_intervals(harness: SourceHarness) -> None:
    harness.advance(2.5 * HOUR)
    assert harness.began() == [0.5, 0.5 + HOUR, 0.5 + 2 * HOUR]


def test_an_interval_of_nothing_reads_at_the_start_alone() -> None:
    harness = SourceHarness(interval=0)
    harness.source.start()
    harness.advance(5 * HOUR)
    assert harness.began() == [0.5]


def test_a_storm_of_events_is_one_reading_of_the_installation_that_they_name(harness: SourceHarness) -> None:
    harness.advance(60)
    for _ in range(500):
        harness.source.look(2)
    harness.advance(60)
    assert harness.reads[1:] == [(61.5, ["at acme"])]


def test_a_storm_that_goes_on_costs_no_more_than_the_pages_allow(harness: SourceHarness) -> None:
    harness.pages = 100  # of 10,000 repositories
    harness.advance(60)
    for _ in range(2000):
        harness.source.look(2)
        harness.advance(1)
    assert len(harness.reads) - 1 <= 2000 / 200 + 1
    assert all(names == ["at acme"] for _, names in harness.reads[1:])


def test_events_do_not_put_off_the_next_reading_of_all(harness: SourceHarness) -> None:
    for _ in range(150):
        harness.source.look(2)
        harness.advance(30)
    assert (0.5 + HOUR, ["at octo", "at acme"]) in harness.reads


def test_an_event_during_a_reading_has_it_read_again(harness: SourceHarness) -> None:
    harness.advance(60)
    hold: Deferred[None] = Deferred()
    harness.hold = hold
    harness.source.look(1)
    harness.advance(1)
    harness.source.look(1)
    harness.advance(60)
    assert len(harness.reads) == 2
    harness.hold = None
    hold.callback(None)
    harness.advance(10)
    assert [names for _, names in harness.reads[1:]] == [["at octo"], ["at octo"]]


def test_a_listing_that_fails_is_read_again_by_itself_after_pauses_that_grow(harness: SourceHarness) -> None:
    harness.problems["at octo"] = StackitError("HTML")
    harness.advance(60)
    harness.source.look(1)
    harness.advance(400)
    began = harness.began()[1:]
    assert [round(after - before) for before, after in pairwise(began)] == [30, 60, 120]
    assert {tuple(names) for _, names in harness.reads[1:]} == {("at octo",)}
    standing = harness.source.standings["at octo"]
    assert (standing.failures, standing.succeeded_at) == (4, 0.5)
    assert harness.source.succeeded_at == 0.5
    harness.problems.clear()
    harness.advance(250)
    assert harness.source.standings["at octo"].failures == 0


def test_a_limit_is_waited_out(harness: SourceHarness) -> None:
    harness.advance(60)
    end = harness.clock.seconds() + 1000
    harness.problems["at octo"] = ApiError("no request is left", reason="rate_limited", retry_at=end)
    harness.source.look(1)
    harness.advance(900)
    assert len(harness.reads) == 2
    harness.problems.clear()
    harness.advance(120)
    assert harness.reads[2][0] >= end


def test_where_the_listings_are_not_known_the_problem_is_told_until_they_are(harness: SourceHarness) -> None:
    harness.unknown = StackitError("GitHub refuses the key")
    harness.source.look()
    harness.advance(60)
    assert harness.source.problem == "GitHub refuses the key"
    assert set(harness.source.standings) == {"at octo", "at acme"}
    harness.unknown = None
    harness.advance(300)
    assert harness.source.problem is None
    assert len(harness.reads) == 2


def test_after_a_stop_nothing_is_read(harness: SourceHarness) -> None:
    harness.source.look()
    Deferred.fromCoroutine(harness.source.stop())
    harness.source.look(1)
    harness.advance(2 * HOUR)
    assert len(harness.reads) == 1
    assert not harness.clock.getDelayedCalls()
