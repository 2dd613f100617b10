"""The backstop's looks, and the admin routes of the mirrors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from mirror_harness import Harness, Upstream, ask, managed, refs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from stackit.plugins.mirror import MirrorSettings
from stackit.plugins.mirror.schedule.backstop import BackstopSchedule


@pytest.fixture
def harness(tmp_path: Path, upstream: Upstream) -> Iterator[Harness]:
    harness = Harness(
        tmp_path / "state",
        managed(upstream),
        managed("file://user:pass@/nowhere", "octo/gone"),
        interval=0,
    )
    yield harness
    pytest_twisted.blockon(harness.stop())


@pytest_twisted.ensureDeferred
async def test_the_first_look_clones_everything_and_one_failure_is_its_own(
    harness: Harness, upstream: Upstream
) -> None:
    await harness.backstop()
    assert refs(harness.path()) == upstream.refs()
    assert {(str(each.repo), each.cause, each.outcome) for each in harness.named("synced")} == {
        ("octo/widget", "start", "changed"),
        ("octo/gone", "start", "failed"),
    }


@pytest_twisted.ensureDeferred
async def test_later_looks_find_what_no_delivery_announced(harness: Harness, upstream: Upstream) -> None:
    await harness.backstop()
    oid = upstream.advance()
    upstream.set("refs/stackit/review", oid)
    await harness.backstop()
    assert refs(harness.path()) == upstream.refs() == harness.told["octo/widget"]
    assert harness.announcements[-1][2:] == ("backstop", None)
    assert len(harness.announcements[-1][1]) == 2


@pytest_twisted.ensureDeferred
async def test_a_failing_repository_is_left_alone_until_its_next_try(harness: Harness) -> None:
    await harness.backstop()
    await harness.backstop()
    assert len(harness.fetches("octo/gone")) == 1


class FakeWorker:
    """What the schedule needs of a worker."""

    def __init__(self, name: str, asked: list[tuple[str, str]]) -> None:
        self.managed = managed("file:///x", name)
        self.status = self
        self.answer: Deferred[None] | None = None
        self.quiet_until = 0.0
        self.quick_checks = 0
        self._name = name
        self._asked = asked

    def paused(self) -> bool:
        return False

    async def is_unchanged(self) -> bool:
        self.quick_checks += 1
        return False

    async def sync(self, cause: str) -> None:
        self._asked.append((self._name, cause))
        if self.answer is not None:
            await self.answer


def test_the_first_look_is_at_once_and_later_ones_are_spread_over_the_interval() -> None:
    clock = Clock()
    asked: list[tuple[str, str]] = []
    workers: list[Any] = [FakeWorker(f"octo/r{number}", asked) for number in range(100)]
    schedule = BackstopSchedule(clock, workers, 100)
    assert Deferred.fromCoroutine(schedule.run()).called
    assert [cause for _, cause in asked] == ["start"] * 100
    asked.clear()
    later = Deferred.fromCoroutine(schedule.run())
    assert asked == []
    counts = []
    for _ in range(10):
        before = len(asked)
        turn(clock, 10)
        counts.append(len(asked) - before)
    assert sum(counts) == 100
    assert max(counts) < 20, "no tenth of the interval has twice its share"
    assert sorted(asked) == sorted((str(each.managed.repo), "backstop") for each in workers)
    assert later.called
    assert clock.getDelayedCalls() == []


def turn(clock: Clock, seconds: int) -> None:
    """Let time pass as a reactor does, which calls what is due as it becomes due."""
    clock.pump([0.1] * (10 * seconds))


def test_every_repository_has_the_same_turn_in_every_round() -> None:
    clock = Clock()
    asked: list[tuple[str, str]] = []
    workers: list[Any] = [FakeWorker(f"octo/r{number}", asked) for number in range(20)]
    schedule = BackstopSchedule(clock, workers, 100)
    Deferred.fromCoroutine(schedule.run())
    rounds = []
    for _ in range(2):
        asked.clear()
        Deferred.fromCoroutine(schedule.run())
        turn(clock, 100)
        rounds.append(list(asked))
    assert rounds[0] == rounds[1]
    assert len(rounds[0]) == 20


def test_a_round_costs_one_timer_whatever_the_number_of_repositories() -> None:
    clock = Clock()
    workers: list[Any] = [FakeWorker(f"octo/r{number}", []) for number in range(1000)]
    schedule = BackstopSchedule(clock, workers, 100)
    Deferred.fromCoroutine(schedule.run())
    Deferred.fromCoroutine(schedule.run())
    assert len(clock.getDelayedCalls()) == 2, "the next turn, and the end of the round"
    turn(clock, 100)


def test_a_repository_whose_host_wants_silence_is_looked_at_after_it_at_a_time_of_its_own() -> None:
    clock = Clock()
    asked: list[tuple[str, str]] = []
    workers: list[Any] = [FakeWorker(f"octo/r{number}", asked) for number in range(100)]
    schedule = BackstopSchedule(clock, workers, 100)
    Deferred.fromCoroutine(schedule.run())
    asked.clear()
    for worker in workers:
        worker.quiet_until = 150.0
    Deferred.fromCoroutine(schedule.run())
    turn(clock, 100)
    Deferred.fromCoroutine(schedule.run())
    turn(clock, 49)
    assert asked == [], "nothing as long as it lasts"
    turn(clock, 10)
    assert 0 < len(asked) < 30, "and no herd when it ends"
    turn(clock, 90)
    assert len(asked) == len(set(asked)) == 100


def test_one_long_clone_does_not_keep_the_backstop_from_the_others() -> None:
    clock = Clock()
    asked: list[tuple[str, str]] = []
    workers: list[Any] = [FakeWorker("octo/large", asked), FakeWorker("octo/small", asked)]
    workers[0].answer = Deferred()
    schedule = BackstopSchedule(clock, workers, 100)
    first = Deferred.fromCoroutine(schedule.run())
    assert not first.called
    clock.advance(100)
    assert first.called
    asked.clear()
    second = Deferred.fromCoroutine(schedule.run())
    turn(clock, 95)
    assert asked == [("octo/small", "backstop")]
    workers[0].answer.callback(None)
    assert second.called


def test_cancelling_a_look_ends_its_waiting() -> None:
    clock = Clock()
    worker: Any = FakeWorker("octo/r1", [])
    schedule = BackstopSchedule(clock, [worker], 100)
    Deferred.fromCoroutine(schedule.run())
    look = Deferred.fromCoroutine(schedule.run())
    look.addErrback(lambda failure: failure.trap(CancelledError) and None)
    look.cancel()
    assert look.called
    assert clock.getDelayedCalls() == []


def test_a_stop_ends_what_only_waits_and_waits_for_the_rounds_that_run() -> None:
    clock = Clock()
    asked: list[tuple[str, str]] = []
    workers: list[Any] = [FakeWorker(f"octo/r{number}", asked) for number in range(100)]
    quiet, asking, fetching = workers[:3]
    schedule = BackstopSchedule(clock, workers, 100)
    Deferred.fromCoroutine(schedule.run())
    asked.clear()
    quiet.quiet_until = 10_000.0
    hanging: Deferred[bool] = Deferred()
    asking.is_unchanged = lambda: hanging
    fetching.answer = Deferred()
    look = Deferred.fromCoroutine(schedule.run())
    ended: list[object] = []
    look.addErrback(lambda failure: ended.append(failure.type))
    turn(clock, 90)
    assert len(asked) > 50
    before = len(asked)
    schedule.stop()
    assert not look.called
    assert hanging.called
    fetching.answer.callback(None)
    assert ended == [CancelledError], "not every repository was checked, so the round is not done"
    assert len(asked) == before
    assert clock.getDelayedCalls() == []
    schedule.stop()


@pytest_twisted.ensureDeferred
async def test_the_list_says_how_each_repository_stands(harness: Harness) -> None:
    answer = await ask(harness, "GET", "{prefix}/repos")
    assert {each["state"] for each in answer.body["repos"]} == {"cloning"}
    await harness.backstop()
    widget, gone = (await ask(harness, "GET", "{prefix}/repos")).body["repos"]
    fields = {
        "name",
        "url",
        "source",
        "added_by",
        "state",
        "verified_at",
        "error",
        "next_at",
        "held_deletions",
        "node",
        "path",
    }
    assert widget.keys() == gone.keys() == fields
    assert (widget["source"], widget["added_by"]) == ("file", None)
    assert (widget["name"], widget["state"], widget["error"], widget["next_at"]) == (
        "octo/widget",
        "in_step",
        None,
        None,
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", widget["verified_at"])
    assert (gone["state"], gone["verified_at"], gone["url"]) == ("failing", None, "file:///nowhere")
    assert "pass" not in gone["error"]
    assert gone["next_at"].endswith("Z")


@pytest_twisted.ensureDeferred
async def test_one_repository_is_found_in_any_letter_case(harness: Harness) -> None:
    answer = await ask(harness, "GET", "{prefix}/repos/{owner}/{name}", owner="OCTO", name="Widget")
    assert (answer.status, answer.body["name"]) == (200, "octo/widget")


@pytest.mark.parametrize("name", ["other", "..", "a b", ""])
@pytest_twisted.ensureDeferred
async def test_an_unmanaged_repository_is_not_found(harness: Harness, name: str) -> None:
    for method, path in (("GET", "{prefix}/repos/{owner}/{name}"), ("POST", "{prefix}/repos/{owner}/{name}/sync")):
        answer = await ask(harness, method, path, owner="octo", name=name)
        assert answer.status == 404
        assert "not managed" in answer.body["error"]


@pytest_twisted.ensureDeferred
async def test_a_sync_by_hand_answers_what_changed(harness: Harness, upstream: Upstream) -> None:
    sync = "{prefix}/repos/{owner}/{name}/sync"
    main = upstream.refs()["refs/heads/main"]
    answer = await ask(harness, "POST", sync, owner="octo", name="widget")
    change = {"ref": "refs/heads/main", "old": "0" * 40, "new": main, "kind": "created", "forced": False}
    assert (answer.status, answer.body) == (200, {"changes": [change]})
    upstream.set("refs/heads/caf\udce9", main)
    answer = await ask(harness, "POST", sync, owner="octo", name="widget")
    assert [each["ref"] for each in answer.body["changes"]] == ["refs/heads/caf\\xe9"]
    assert (await ask(harness, "POST", sync, owner="octo", name="widget")).body == {"changes": []}
    assert harness.named("synced")[-1].cause == "manual"


@pytest_twisted.ensureDeferred
async def test_a_sync_that_the_remote_fails_answers_with_the_reason(harness: Harness) -> None:
    answer = await ask(harness, "POST", "{prefix}/repos/{owner}/{name}/sync", owner="octo", name="gone")
    assert answer.status == 502
    assert "no such repository" in answer.body["error"]


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"timeout": 0}])
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MirrorSettings(**wrong)
