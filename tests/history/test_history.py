"""The last hour: counted by the minute, in fixed memory, kept over a restart."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_twisted
from shared_journals import SharedJournals
from twisted.internet.task import Clock

from stackit import Occurrence
from stackit.api.admin import AdminRequest
from stackit.history.history import COLLECTION, History
from stackit.history.minutes import MINUTES, Minutes, bucket, quantile
from stackit.history.routes import LastHour, history_routes
from stackit.journal.sqlite import SQLiteJournal

NOON = 1_700_000_040.0


def hour(history: History) -> LastHour:
    (route,) = history_routes(history)
    answer: Any = route.handler(AdminRequest(method="GET", path="/", args={}, query={}, body=b""))
    shown: LastHour = answer.body
    return shown


@pytest.mark.parametrize("share", [0.5, 0.95, 1.0])
def test_a_quantile_is_right_to_a_fortieth(share: float) -> None:
    random = Random(7)
    durations = sorted(random.lognormvariate(0, 2) for _ in range(5000))
    exact = durations[max(0, round(share * len(durations)) - 1)]
    assert quantile(Counter(map(bucket, durations)), share) == pytest.approx(exact, rel=0.026)


def test_nothing_has_no_quantile_and_the_extremes_have_one() -> None:
    assert quantile(Counter(), 0.5) is None
    assert quantile(Counter([bucket(0.0)]), 0.5) == pytest.approx(0.001)
    assert (quantile(Counter([bucket(10.0**9)]), 0.5) or 0) > 86400


def test_memory_is_bounded_whatever_comes_and_for_however_long() -> None:
    minutes = Minutes()
    random = Random(1)
    for number in range(500):
        for _ in range(50):
            minutes.delivery(NOON + 60 * number)
            minutes.visible(NOON + 60 * number, random.lognormvariate(0, 5))
    now = NOON + 60 * 499
    assert len(minutes._minutes) <= MINUTES
    assert [each.deliveries for each in minutes.last(now)] == [50] * MINUTES
    assert minutes.kept(now + 3600) == []


def test_minutes_in_which_nothing_came_are_there_and_old_ones_are_not() -> None:
    minutes = Minutes()
    minutes.delivery(NOON)
    minutes.delivery(NOON + 120)
    assert [each.deliveries for each in minutes.last(NOON + 120)][-3:] == [1, 0, 1]
    assert sum(each.deliveries for each in minutes.last(NOON + 3600)) == 1


@pytest_twisted.ensureDeferred
async def test_a_restart_continues_the_hour(tmp_path: Path) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    clock = Clock()
    clock.advance(NOON)
    journal = SQLiteJournal.open(tmp_path, reactor=reactor)
    try:
        first = History(journal, reactor=clock, now=clock.seconds)
        first.load()
        first.startService()
        for seconds in (0.2, 0.3, 4.0):
            first.stackit_observe(Occurrence(name="accepted"))
            first.stackit_observe(Occurrence(name="visible", seconds=seconds))
        first.stackit_observe(Occurrence(name="refused"))
        await first.stopService()

        second = History(journal, reactor=clock, now=clock.seconds)
        second.load()
        shown = hour(second)
        assert (shown.deliveries, shown.visible) == (3, 3)
        assert shown.median == pytest.approx(0.3, rel=0.03)
        assert shown.p95 == pytest.approx(4.0, rel=0.03)
        assert shown.minutes[-1].at == "2023-11-14T22:14:00.000Z"
        assert [each.deliveries for each in shown.minutes] == [0] * 59 + [3]

        second.stackit_observe(Occurrence(name="accepted"))
        clock.advance(61)
        second.stackit_observe(Occurrence(name="accepted"))
        assert [each.deliveries for each in hour(second).minutes][-2:] == [4, 1]

        await journal.put(COLLECTION, {"minutes": b"no history"})
        third = History(journal, reactor=clock, now=clock.seconds)
        third.load()
        assert hour(third).deliveries == 0
    finally:
        await journal.close()


@pytest_twisted.ensureDeferred
async def test_the_nodes_of_a_fleet_show_the_sum_of_what_each_has_counted() -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    clock, journals = Clock(), SharedJournals(reactor)
    clock.advance(NOON)
    nodes = [History(journals.node(), reactor=clock, now=clock.seconds, node=name) for name in "ab"]
    for seconds, each in zip((0.2, 4.0), nodes, strict=True):
        each.load()
        each.startService()
        each.stackit_observe(Occurrence(name="accepted"))
        each.stackit_observe(Occurrence(name="visible", seconds=seconds))
    journal = journals.node()
    for _ in range(12):
        clock.advance(1)
        await journal.put("other", {})  # it writes in order
    for each in nodes:
        shown = hour(each)
        assert (shown.deliveries, shown.visible) == (2, 2)
        assert shown.p95 == pytest.approx(4.0, rel=0.03)
    a, b = nodes
    await b.stopService()
    again = History(journals.node(), reactor=clock, now=clock.seconds, node="b")
    again.load()
    assert hour(again).deliveries == 2
    clock.advance(3700)
    a.stackit_observe(Occurrence(name="accepted"))
    await a.stopService()
    assert hour(a).deliveries == 1
    assert list(await journal.documents(COLLECTION)) == ["minutes:a"]  # of b there is nothing to tell any more
