"""Recovery over time: when it looks, how fast it takes, what it tells."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from delivery_list import ListedHook
from recovery_harness import NOW, RecoveryHarness
from twisted.internet.defer import Deferred

from stackit.api.errors import JournalError
from stackit.github.api import ApiError

MINUTE, DAY = 60.0, 86400.0


@pytest.fixture
def hook() -> ListedHook:
    return ListedHook(lambda: NOW)


@pytest.fixture
def harness(hook: ListedHook) -> RecoveryHarness:
    """A recovery that was started once: what comes from now on counts."""
    made = RecoveryHarness(hook)
    hook.clock = made.now
    made.start()
    made.seen.clear()
    return made


def test_a_first_start_begins_now_and_says_so(hook: ListedHook) -> None:
    harness = RecoveryHarness(hook)
    hook.clock = harness.now
    hook.add("long-ago", NOW - DAY)
    hook.add("just-now", NOW - 1)
    harness.start()
    assert harness.notices() == [
        "recovery of missed deliveries of app:main begins now: what was missed before is left alone"
    ]
    harness.clock.advance(300)
    assert (harness.taken(), hook.fetched, hook.listings) == ([], [], 2)
    harness.stop()


def test_one_payload_a_second_at_most_oldest_first(harness: RecoveryHarness, hook: ListedHook) -> None:
    for number in range(4):
        hook.add(f"guid-{number}", NOW + number)
    harness.clock.advance(300)
    told = []
    for _ in range(5):
        told.append(len(hook.fetched))
        harness.clock.advance(1)
    assert told == [1, 2, 3, 4, 4]
    assert harness.taken() == [f"guid-{number}" for number in range(4)]
    assert "4 deliveries of app:main were missed; they are taken from GitHub's list now" in harness.notices()
    harness.stop()


def test_taking_goes_on_where_it_was_after_a_stop(harness: RecoveryHarness, hook: ListedHook) -> None:
    for number in range(10):
        hook.add(f"guid-{number}", NOW + number)
    harness.clock.advance(300)
    harness.clock.pump([1] * 4)
    before = harness.taken()
    assert 0 < len(before) < 10
    harness.restart()
    harness.clock.pump([1] * 20)
    assert harness.taken() == [f"guid-{number}" for number in range(10)]
    assert len(hook.fetched) <= 11  # one more at most: what was fetched when it stopped
    harness.restart()
    fetched = len(hook.fetched)
    harness.clock.pump([1] * 20)
    assert (len(harness.taken()), len(hook.fetched)) == (10, fetched)
    harness.stop()


def test_what_github_calls_delivered_is_missed_all_the_same_if_it_never_came(
    harness: RecoveryHarness, hook: ListedHook
) -> None:
    hook.add("answered-by-a-proxy", NOW, status_code=200)
    hook.add("came", NOW, status_code=502)
    harness.journal.webhook(hook.hook_id, "came")
    harness.clock.advance(300)
    harness.clock.pump([1] * 3)
    assert harness.taken() == ["answered-by-a-proxy"]
    harness.stop()


def test_what_came_by_another_hook_is_missed_at_this_one(harness: RecoveryHarness, hook: ListedHook) -> None:
    hook.add("both", NOW)
    harness.journal.webhook("another", "both")
    harness.clock.advance(300)
    assert harness.journal.taken == [(hook.hook_id, "both")]
    harness.stop()


def test_the_payload_of_an_event_that_nobody_wants_is_not_fetched(harness: RecoveryHarness, hook: ListedHook) -> None:
    hook.add("unwanted", NOW, event="star", action="created")
    harness.clock.advance(300)
    harness.clock.advance(300)
    assert (harness.taken(), hook.fetched) == ([], [])
    (report,) = harness.ask(NOW - 1, dry_run=True)
    assert (report.listed, report.unwanted, report.missed) == (1, 1, 0)
    harness.stop()


def test_a_delivery_of_a_repository_that_the_hook_may_not_speak_for_is_told_once_and_not_taken(
    harness: RecoveryHarness, hook: ListedHook
) -> None:
    harness.foreign.add("foreign")
    hook.add("foreign", NOW)
    for _ in range(3):
        harness.clock.advance(300)
    assert (harness.taken(), hook.fetched) == ([], ["foreign"])
    said = [each for each in harness.notices() if "which is not its own" in each]
    assert said == ["app:main told of a delivery for octo/widget, which is not its own: it is left out"]
    harness.restart()
    assert hook.fetched == ["foreign"]
    harness.stop()


@pytest.mark.parametrize("reason", ["too_large", "validation"])
def test_a_payload_that_github_does_not_tell_is_named_and_holds_up_nothing(
    harness: RecoveryHarness, hook: ListedHook, reason: Any
) -> None:
    gone = hook.add("gone", NOW)
    hook.add("there", NOW + 1)
    hook.faults[gone.id] = ApiError("GitHub does not know it", reason=reason)
    harness.clock.advance(300)
    harness.clock.pump([1] * 5)
    assert harness.taken() == ["there"]
    assert [each for each in harness.notices() if "delivery gone (push)" in each] == [
        "delivery gone (push) of app:main was missed, and GitHub does not tell its payload (GitHub does not know it); "
        "look at it in the settings of the hook"
    ]
    harness.clock.advance(300)
    assert hook.fetched == ["there"]
    harness.stop()


@pytest.mark.parametrize("reason", ["server", "shape", "not_found"])
def test_a_payload_that_fails_holds_up_nothing_and_is_tried_as_long_as_github_keeps_it(
    harness: RecoveryHarness, hook: ListedHook, reason: Any
) -> None:
    fault = ApiError("GitHub answered in vain", reason=reason)
    bad, worse = hook.add("bad", NOW), hook.add("worse", NOW + 1)
    hook.add("good", NOW + 2)
    hook.faults = {bad.id: fault, worse.id: fault}
    harness.clock.advance(300)
    harness.clock.pump([1] * 10)
    assert harness.taken() == ["good"]
    assert values(harness, "stackit_github_deliveries_missed") == [2]
    for _ in range(24):
        harness.clock.advance(3600)
        harness.clock.pump([1] * 5)
    harness.restart()
    harness.clock.pump([1] * 5)
    del hook.faults[bad.id]
    harness.clock.advance(300)
    harness.clock.pump([1] * 5)
    assert harness.taken() == ["good", "bad"]
    assert not any("delivery worse" in each for each in harness.notices())
    for _ in range(50):
        harness.clock.advance(3600)
        harness.clock.pump([1] * 5)
    assert [each for each in harness.notices() if "delivery worse" in each] == [
        "delivery worse (push) of app:main was missed, and GitHub does not tell its payload (GitHub answered in vain); "
        "look at it in the settings of the hook"
    ]
    assert values(harness, "stackit_github_deliveries_missed") == [0]
    assert values(harness, "stackit_github_deliveries_lost_seconds_total") == [0]
    harness.stop()


def test_payloads_that_all_fail_end_a_walk_and_the_next_one_takes_them(
    harness: RecoveryHarness, hook: ListedHook
) -> None:
    for number in range(20):
        entry = hook.add(f"guid-{number:02}", NOW + number)
        hook.faults[entry.id] = ApiError("GitHub answered 502", reason="server", status=502)
    asked = hook.details
    harness.clock.advance(300)
    harness.clock.pump([1] * 30)
    assert hook.details - asked <= 20 + 3  # each was asked for the id of the hook; then three as themselves
    assert any("GitHub answered 502" in each for each in harness.notices())
    hook.faults.clear()
    harness.clock.advance(300)
    harness.clock.pump([1] * 30)
    assert sorted(harness.taken()) == [f"guid-{number:02}" for number in range(20)]
    harness.stop()


def test_a_failure_is_told_once_for_each_kind_in_a_row_and_so_is_its_end(
    harness: RecoveryHarness, hook: ListedHook
) -> None:
    def failing(reason: Any) -> Any:
        def fail() -> None:
            raise ApiError(f"it fails: {reason}", reason=reason)

        return fail

    for reason in ("network", "network", "unauthorized", "unauthorized"):
        hook.step = failing(reason)
        harness.clock.advance(300)
    hook.step = lambda: None
    harness.clock.advance(300)
    harness.clock.advance(300)
    beginning = "missed deliveries of app:main cannot be looked for, which is tried again in 300 s: ApiError: it fails:"
    assert harness.notices() == [
        f"{beginning} network",
        f"{beginning} unauthorized",
        "missed deliveries of app:main can be looked for again",
    ]
    assert values(harness, "stackit_github_recovery_failures_total", reason="network") == [2]
    assert values(harness, "stackit_github_recovery_failures_total", reason="server") == [0]
    harness.stop()


def test_a_journal_that_cannot_be_written_stops_the_walk_and_the_next_one_takes_the_rest(
    harness: RecoveryHarness, hook: ListedHook
) -> None:
    def full() -> None:
        raise JournalError("the disk is full")

    hook.add("guid", NOW)
    harness.journal.step = full
    harness.clock.advance(300)
    assert harness.taken() == []
    assert any("the disk is full" in each for each in harness.notices())
    harness.journal.step = lambda: None
    harness.clock.advance(300)
    assert harness.taken() == ["guid"]
    harness.stop()


def test_a_hook_that_a_reload_adds_is_looked_at_at_once(harness: RecoveryHarness, hook: ListedHook) -> None:
    other = ListedHook(harness.now, name="app:other", hook_id="8")
    harness.hooks.append(other)
    harness.recovery.change(interval=600, pause=0)
    assert other.listings == 1
    assert sorted(each["hook"] for each in harness.recovery.status()) == ["app:main", "app:other"]
    harness.hooks.remove(other)
    harness.recovery.change(interval=600, pause=0)
    assert [each["hook"] for each in harness.recovery.status()] == ["app:main"]
    listings = hook.listings
    harness.clock.advance(599)
    assert hook.listings == listings
    harness.clock.advance(1)
    assert hook.listings == listings + 1
    harness.stop()


def test_with_an_interval_of_0_it_looks_only_when_asked() -> None:
    hook = ListedHook(lambda: NOW)
    harness = RecoveryHarness(hook, interval=0)
    harness.start()
    harness.clock.advance(DAY)
    assert hook.listings == 0
    assert len(harness.ask()) == 1
    assert hook.listings == 1
    harness.stop()


# -- when somebody asks ----------------------------------------------------------------


def test_a_dry_run_shows_what_was_missed_and_takes_nothing(harness: RecoveryHarness, hook: ListedHook) -> None:
    hook.add("first", NOW, action=None)
    hook.add("second", NOW + 1, event="issues", action="opened")
    harness.clock.advance(10)
    harness.journal.webhook(hook.hook_id, "first")
    (report,) = harness.ask(dry_run=True)
    assert (report.listed, report.missed, report.running) == (2, 1, False)
    assert msgspec.to_builtins(report.shown().deliveries) == [
        {
            "delivery": "second",
            "event": "issues",
            "action": "opened",
            "delivered_at": "2026-11-18T11:06:41.000Z",
            "status_code": 502,
        }
    ]
    harness.clock.pump([1] * 5)
    assert harness.taken() == []
    harness.stop()


def test_who_asks_is_told_before_the_payloads_are_taken(harness: RecoveryHarness, hook: ListedHook) -> None:
    for number in range(5):
        hook.add(f"guid-{number}", NOW + number)
    harness.clock.advance(10)
    (report,) = harness.ask()
    assert (report.missed, report.running) == (5, True)
    (again,) = harness.ask()
    assert (again.running, again.listed) == (True, 0)
    assert 0 < again.left <= 5
    harness.clock.pump([1] * 10)
    assert len(harness.taken()) == 5
    harness.stop()


def test_since_reaches_behind_the_mark_also_while_a_walk_takes(hook: ListedHook) -> None:
    hook.add("before-the-first-start", NOW - DAY)
    harness = RecoveryHarness(hook)
    hook.clock = harness.now
    harness.start()
    for number in range(3):
        hook.add(f"guid-{number}", NOW + number)
    harness.clock.advance(300)
    (report,) = harness.ask(NOW - 2 * DAY)
    assert report.running
    harness.clock.pump([1] * 10)
    assert harness.taken() == ["guid-0", "guid-1", "guid-2", "before-the-first-start"]
    (report,) = harness.ask(NOW - 2 * DAY)
    assert report.missed == 0
    harness.stop()


def test_who_asks_while_github_cannot_be_reached_is_told_why(harness: RecoveryHarness, hook: ListedHook) -> None:
    def fail() -> None:
        raise ApiError("GitHub cannot be reached", reason="network")

    hook.step = fail
    for dry_run in (False, True):
        (report,) = harness.ask(dry_run=dry_run)
        assert report.error == "GitHub cannot be reached"
    harness.stop()


# -- lost windows ----------------------------------------------------------------------


def absent(harness: RecoveryHarness, hook: ListedHook, seconds: float) -> None:
    """Let time pass without stackit, an event every six hours, and start it again."""
    harness.stop()
    began, at = harness.now(), 0.0
    while at < seconds:
        hook.add(f"away-{at:g}", began + at)
        at += DAY / 4
    harness.clock.advance(seconds)
    harness.restart()


def test_a_window_that_the_list_does_not_reach_is_named_and_everything_is_compared(
    harness: RecoveryHarness, hook: ListedHook
) -> None:
    comparison: Deferred[bool] = Deferred()
    harness.comparison = comparison
    absent(harness, hook, 4 * DAY)
    (problem,) = harness.recovery.losses.problems()
    window = "from 2026-11-18T10:51:40.000Z to 2026-11-19T11:06:40.000Z"  # a quarter of an hour to spare
    assert problem.startswith(f"deliveries of app:main {window} may be lost")
    assert [each for each in harness.notices() if f"deliveries of app:main {window} may be lost" in each] != []
    assert values(harness, "stackit_github_deliveries_lost_seconds_total") == [DAY + 15 * MINUTE]
    assert values(harness, "stackit_github_lost_from_timestamp_seconds") == [NOW - 15 * MINUTE]
    assert values(harness, "stackit_github_lost_until_timestamp_seconds") == [NOW + DAY]
    assert harness.compared == 1
    harness.clock.pump([1] * 20)
    assert len(harness.taken()) == 11  # those of the last three days: one lies on the edge
    comparison.callback(True)
    assert harness.recovery.losses.problems() == []
    assert "everything was compared with GitHub after deliveries of app:main were lost" in harness.notices()
    harness.restart()
    assert harness.compared == 1
    assert harness.recovery.losses.problems() == []
    assert values(harness, "stackit_github_lost_from_timestamp_seconds") == [NOW - 15 * MINUTE]  # nobody has seen it
    Deferred.fromCoroutine(harness.recovery.losses.acknowledge())
    assert values(harness, "stackit_github_lost_from_timestamp_seconds") == [0]
    assert values(harness, "stackit_github_deliveries_lost_seconds_total") == [DAY + 15 * MINUTE]
    harness.stop()


def test_a_comparison_that_fails_is_made_again_and_a_person_may_end_the_wait(
    harness: RecoveryHarness, hook: ListedHook
) -> None:
    harness.comparison = False
    absent(harness, hook, 4 * DAY)
    harness.clock.pump([1] * 20)
    assert len(harness.recovery.losses.problems()) == 1
    harness.clock.advance(300)
    assert harness.compared == 2
    acknowledged: list[int] = []
    Deferred.fromCoroutine(harness.recovery.losses.acknowledge()).addCallback(acknowledged.append)
    assert acknowledged == [1]
    assert harness.recovery.losses.problems() == []
    harness.clock.advance(300)
    assert harness.compared == 2
    harness.restart()
    assert harness.recovery.losses.problems() == []
    harness.stop()


def test_a_stop_while_the_rest_of_a_window_is_taken_tells_of_no_other_window(
    harness: RecoveryHarness, hook: ListedHook
) -> None:
    absent(harness, hook, 4 * DAY)
    harness.clock.advance(1)
    harness.restart()
    (status,) = harness.recovery.status()
    assert len(status["lost"]) == 1
    assert not any("may be lost" in each for each in harness.notices())
    harness.stop()


@pytest.mark.parametrize("days", [0.5, 2.9])
def test_an_absence_that_the_list_reaches_over_loses_nothing(
    harness: RecoveryHarness, hook: ListedHook, days: float
) -> None:
    absent(harness, hook, days * DAY)
    harness.clock.pump([1] * 20)
    assert harness.recovery.losses.problems() == []
    assert values(harness, "stackit_github_deliveries_lost_seconds_total") == [0]
    assert len(harness.taken()) == len(hook.attempts)
    harness.stop()


def test_a_hook_that_is_silent_for_weeks_loses_nothing(harness: RecoveryHarness, hook: ListedHook) -> None:
    hook.add("guid", NOW)
    for _ in range(20 * 24):
        harness.clock.advance(3600)
    assert harness.recovery.losses.problems() == []
    hook.add("another", harness.now())
    harness.clock.advance(3600)
    assert harness.taken() == ["guid", "another"]
    assert values(harness, "stackit_github_deliveries_lost_seconds_total") == [0]
    harness.stop()


def test_an_empty_answer_by_mistake_moves_no_mark(harness: RecoveryHarness, hook: ListedHook) -> None:
    hook.add("guid", NOW)
    harness.clock.advance(300)
    hook.empty = True
    hook.add("missed", harness.now())
    harness.clock.advance(7200)
    assert any("lacks what it showed before" in each for each in harness.notices())
    assert harness.recovery.losses.problems() == []
    hook.empty = False
    harness.clock.advance(300)
    assert harness.taken() == ["guid", "missed"]
    harness.stop()


@pytest.mark.parametrize("skew", [-2 * DAY, -300.0, 300.0, 2 * DAY])
def test_the_clock_of_this_machine_opens_no_gap(skew: float) -> None:
    """GitHub's clock is what counts: here it differs by ``skew``, and its answers tell so."""
    harness = RecoveryHarness(hook := ListedHook(lambda: NOW))
    hook.clock = lambda: harness.now() + skew
    harness.start()
    for number in range(5):
        hook.add(f"guid-{number}", hook.clock())
        harness.clock.advance(300)
        harness.clock.advance(5)
    assert harness.taken() == [f"guid-{number}" for number in range(5)]
    assert harness.recovery.losses.problems() == []
    harness.stop()


def test_a_mark_that_cannot_be_read_has_the_whole_list_gone_through(hook: ListedHook) -> None:
    harness = RecoveryHarness(hook)
    hook.clock = harness.now
    harness.journal.kept["app:main"] = b"not one of ours"
    hook.add("guid", NOW - DAY)
    harness.start()
    assert any("cannot be read" in each for each in harness.notices())
    harness.clock.advance(1)
    assert harness.taken() == ["guid"]
    assert harness.recovery.losses.problems() == []
    harness.stop()


def values(harness: RecoveryHarness, name: str, **labels: str) -> list[float]:
    """The values of a metric."""
    return [
        sample.value
        for family in harness.recovery.metrics.collect()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]


def test_a_start_after_a_stop_goes_on_from_the_mark_that_another_node_has_left(
    harness: RecoveryHarness, hook: ListedHook
) -> None:
    harness.stop()
    harness.recovery.change(interval=harness.interval, pause=harness.pause)
    hook.add("guid-1", NOW + 1)
    harness.clock.advance(600)
    assert harness.taken() == []  # it does not look while another node leads
    first, harness.recovery = harness.recovery, harness._make()
    harness.start()
    harness.clock.advance(5)
    assert harness.taken() == ["guid-1"]
    harness.stop()
    marks = dict(harness.journal.kept)
    harness.recovery = first
    hook.fetched.clear()
    harness.start()
    harness.clock.advance(5)
    assert (harness.taken(), hook.fetched) == (["guid-1"], [])
    hook.add("guid-2", NOW + 700)
    harness.clock.advance(300)
    assert harness.taken() == ["guid-1", "guid-2"]
    assert harness.journal.kept != marks
    harness.stop()
