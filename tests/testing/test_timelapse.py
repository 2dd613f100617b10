"""The reactor whose time passes only while nothing else happens."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from outcomes import outcome
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorProcess, IReactorTime
from twisted.internet.task import LoopingCall

from stackit import sleep
from stackit.journal.sqlite import SQLiteJournal
from stackit.subprocesses import ProcessLimits, run
from stackit.testing.timelapse import Timelapse


@pytest.fixture
def clock() -> Timelapse:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    return Timelapse(reactor)


@pytest.fixture
def journal(clock: Timelapse, tmp_path: Path) -> Iterator[SQLiteJournal]:
    journal = SQLiteJournal.open(tmp_path / "state", reactor=clock)
    yield journal
    pytest_twisted.blockon(Deferred.fromCoroutine(journal.close()))


@pytest_twisted.ensureDeferred
async def test_what_is_due_happens_in_its_order_and_the_time_is_exact(clock: Timelapse) -> None:
    began = clock.seconds()
    happened: list[tuple[str, float]] = []

    def note(name: str) -> None:
        happened.append((name, clock.seconds() - began))

    for name, after in (("second", 70.0), ("first", 30.0), ("never", 101.0)):
        clock.callLater(after, note, name)
    await clock.pass_time(100)
    assert [name for name, _ in happened] == ["first", "second"]
    assert [at for _, at in happened] == [pytest.approx(30), pytest.approx(70)]
    assert clock.seconds() - began == pytest.approx(100)
    left: Any = clock.getDelayedCalls()
    assert [call.getTime() - began for call in left] == [pytest.approx(101)]


@pytest_twisted.ensureDeferred
async def test_an_hour_of_a_looping_call_takes_no_time(clock: Timelapse) -> None:
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1

    loop = LoopingCall(tick)
    loop.clock = cast("IReactorTime", clock)
    ended = loop.start(60, now=False)
    await clock.pass_time(3600)
    loop.stop()
    await ended
    assert count == 60


@pytest_twisted.ensureDeferred
async def test_time_stands_while_a_child_runs(clock: Timelapse) -> None:
    began = clock.seconds()

    async def work() -> float:
        await sleep(clock, 10)
        done = await run(clock, ["sleep", "0.1"], env={"PATH": os.environ["PATH"]}, limits=ProcessLimits(timeout=5))
        assert not done.timed_out
        return clock.seconds() - began

    working = Deferred.fromCoroutine(work())
    await clock.pass_time(1000)
    assert await working == pytest.approx(10)


@pytest_twisted.ensureDeferred
async def test_time_stands_while_a_watched_object_has_work(clock: Timelapse, journal: SQLiteJournal) -> None:
    clock.watch(journal)
    began = clock.seconds()

    async def work() -> float:
        await sleep(clock, 10)
        for _ in range(50):
            await journal.pending()
            await journal.announced("octo/widget")
            await outcome(journal.finish, 1, at=clock.seconds())
        return clock.seconds() - began

    working = Deferred.fromCoroutine(work())
    await clock.pass_time(1000)
    assert await working == pytest.approx(10)


def test_it_is_the_reactor_for_all_but_time(clock: Timelapse) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    there: Any = reactor
    assert IReactorProcess.providedBy(clock)
    assert IReactorTime.providedBy(clock)
    assert clock.listenTCP == there.listenTCP


@pytest_twisted.ensureDeferred
async def test_a_child_that_never_ends_is_named_in_place_of_a_wait_without_end(clock: Timelapse) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    hasty = Timelapse(cast("Any", reactor), patience=0.5)
    running = run(cast("Any", reactor), ["sleep", "1000"], env={"PATH": os.environ["PATH"]})
    child = Deferred.fromCoroutine(running)
    try:
        with pytest.raises(TimeoutError, match=r"still busy after 0\.5 s, .*: (child \d+|pipes to children)"):
            await hasty.pass_time(60)
        assert not child.called
    finally:
        child.addErrback(lambda failure: failure.trap(CancelledError) and None)
        child.cancel()
        await child
