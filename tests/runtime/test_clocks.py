"""The wall clock is set while stackit runs: nothing waits longer or shorter, and nothing is called done that is not."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from dispatch_harness import Harness
from mirror_harness import Harness as Mirrors
from mirror_harness import Upstream, managed, pushed, refs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from stackit import StackitError, on
from stackit.plugins.mirror.sync.clock import ClockConverter
from stackit.plugins.mirror.sync.status import SyncStatus
from stackit.plugins.mirror.sync.tunables import Tunables
from stackit.subprocesses import ProcessLimits, run

DAY = 86400.0
YEAR = 365 * DAY
STEPS = [-YEAR, -DAY, -1800.0, 1800.0, DAY, YEAR]

# A process whose wall clock is set as soon as its timers wait.
SCRIPT = """
import sys, time

real, ahead = time.time, 0.0
time.time = lambda: real() + ahead

from importlib import import_module
import_module(f"twisted.internet.{sys.argv[1]}").install()

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from stackit.runtime.clocks import use_monotonic_time

rang = []

def ring(name):
    rang.append(name)
    if rang.count("loop") >= 3 and {"early", "late", "deferred"} <= set(rang):
        loop.stop()
        reactor.stop()

reactor.callLater(0.2, ring, "early")
early = reactor.callLater(1000, ring, "never")
use_monotonic_time(reactor)
assert 900 < early.getTime() - reactor.seconds() <= 1000
early.reset(2000)
assert 1900 < early.getTime() - reactor.seconds() <= 2000
reactor.callLater(0.2, ring, "late")
Deferred().addTimeout(0.2, reactor).addErrback(lambda _: ring("deferred"))
loop = LoopingCall(ring, "loop")
loop.start(0.1, now=False)

def set_clock():
    global ahead
    ahead = float(sys.argv[2])

reactor.callWhenRunning(set_clock)
reactor.run()
early.cancel()
print(*sorted(set(rang)))
"""


@pytest.mark.parametrize("step", [-DAY, DAY])
@pytest.mark.parametrize("kind", ["epollreactor", "pollreactor", "selectreactor", "asyncioreactor"])
@pytest_twisted.ensureDeferred
async def test_every_timer_of_a_reactor_fires_in_time_whatever_is_done_to_the_clock(kind: str, step: float) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    env = {"PATH": os.environ["PATH"]}
    ended = await run(
        reactor, [sys.executable, "-c", SCRIPT, kind, str(step)], env=env, limits=ProcessLimits(timeout=60)
    )
    assert (ended.status, ended.stdout.decode()) == (0, "deferred early late loop\n"), ended.stderr.decode()


# -- the journal ------------------------------------------------------------------

Open = Callable[..., Coroutine[Any, Any, Harness]]


@pytest_twisted.async_yield_fixture
async def harness(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens harnesses over one state directory, one after the other."""
    opened: list[Harness] = []

    async def open_one(ahead: float = 0.0, **arguments: Any) -> Harness:
        if opened:
            await opened[-1].close()
        opened.append(Harness(tmp_path, retry_for=1000.0, start=False, **arguments))
        opened[-1].ahead = ahead
        opened[-1].dispatch._backlog._clock_offset += ahead
        await opened[-1].dispatch.recover()
        return opened[-1]

    yield open_one
    await opened[-1].close()


class Flaky:
    """A handler that fails so many times."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls: list[str] = []

    @on("*")
    def handle(self, event: Any) -> None:
        self.calls.append(event.delivery)
        if len(self.calls) <= self.failures:
            raise OSError("not yet")


@pytest.mark.parametrize("step", STEPS)
@pytest_twisted.ensureDeferred
async def test_a_retry_comes_in_its_time_though_the_clock_was_set(harness: Any, step: float) -> None:
    flaky = Flaky(3)
    one = await harness(mine=flaky)
    await one.take()
    await one.quiet()
    one.ahead = step
    for calls, delay in enumerate([1, 2, 4], start=1):
        await one.pass_time(delay - 0.1)
        assert len(flaky.calls) == calls, "not before its time"
        await one.pass_time(0.1)
        await one.quiet()
        assert len(flaky.calls) == calls + 1
        one.ahead -= step / 3
    assert len(one.outcomes("handled")) == 1


@pytest.mark.parametrize("step", STEPS)
@pytest_twisted.ensureDeferred
async def test_the_retries_of_all_handlers_come_in_their_time(harness: Any, step: float) -> None:
    soon, late = Flaky(1), Flaky(4)
    one = await harness(soon=soon, late=late)
    await one.take()
    await one.quiet()
    for delay in (1, 2, 4):
        await one.pass_time(delay)
        await one.quiet()
    assert (len(soon.calls), len(late.calls)) == (2, 4)
    one.ahead = step
    soon.failures = len(soon.calls) + 1
    await one.take(delivery="later")  # its first try fails for both, and is looked at while the other waits
    await one.quiet()
    await one.pass_time(1)
    await one.quiet()
    assert soon.calls[-2:] == ["later", "later"]
    assert late.calls.count("d1") == 4
    await one.pass_time(7)
    await one.quiet()
    assert late.calls.count("d1") == 5


@pytest.mark.parametrize("step", STEPS)
@pytest_twisted.ensureDeferred
async def test_what_came_before_the_clock_was_set_and_waits_in_the_journal_is_handled(
    harness: Any, step: float
) -> None:
    running: list[Deferred[None]] = []
    seen: list[str] = []

    @on("*")
    def handle(event: Any) -> Deferred[None]:
        seen.append(event.delivery)
        running.append(Deferred())
        return running[-1]

    one = await harness(mine=handle)
    for number in range(100):  # more than are kept in memory
        await one.take(delivery=f"before{number}")
    one.ahead = step
    for number in range(100):
        await one.take(delivery=f"after{number}")
    for _ in range(200):
        await one.until(lambda: bool(running))
        running.pop().callback(None)
        await one.quiet()
    assert seen == [f"{when}{number}" for when in ("before", "after") for number in range(100)]


@pytest.mark.parametrize("tried", [False, True])
@pytest.mark.parametrize("step", [-YEAR, -DAY])
@pytest_twisted.ensureDeferred
async def test_what_is_pending_from_the_future_is_due_at_the_start(harness: Any, step: float, tried: bool) -> None:
    @on("*")
    def handle(event: Any) -> Deferred[None]:
        if tried:
            raise OSError("not yet")
        return Deferred()

    one = await harness(mine=handle)
    await one.take()
    await one.quiet()
    two = await harness(ahead=step, mine=Flaky(0))
    await two.quiet()
    assert len(two.outcomes("handled")) == 1


@pytest_twisted.ensureDeferred
async def test_the_retry_time_that_people_are_shown_goes_by_their_clock(harness: Any) -> None:
    one = await harness(mine=Flaky(9))
    taken = await one.take()
    for delay in (0, 1, 2, 4):
        await one.pass_time(delay)
    one.ahead = DAY
    await one.take(delivery="another")
    await one.quiet()
    receipt = await one.journal.receipt(taken.id)
    [handling] = receipt.handlings
    assert handling.next_at == pytest.approx(one.wall() + 8, abs=0.1)


# -- mirrors ----------------------------------------------------------------------


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    made = Upstream(tmp_path / "upstream")
    made.advance()
    return made


@pytest.fixture
def tunables() -> Tunables:
    return Tunables()


@pytest_twisted.async_yield_fixture
async def mirrors(tmp_path: Path, upstream: Upstream, tunables: Tunables) -> AsyncIterator[Mirrors]:
    made = Mirrors(tmp_path / "state", managed(upstream), interval=0, tunables=tunables)
    await made.worker().sync("start")
    await made.worker().rounds.idle()
    yield made
    await made.stop()


@pytest.mark.parametrize("expected", [True, False])
@pytest.mark.parametrize("step", STEPS)
@pytest_twisted.ensureDeferred
async def test_a_push_is_not_done_by_a_round_that_began_before_it(
    mirrors: Mirrors, upstream: Upstream, step: float, expected: bool
) -> None:
    mirrors.ahead = step
    main = "refs/heads/main"
    before = upstream.refs()[main]
    suspect = pushed(mirrors, "1" * 40, "2" * 40, ref="refs/heads/unseen")
    after = upstream.advance()
    event = pushed(mirrors, before, after)
    if expected:
        mirrors.mirror.stackit_expect(event)
    await mirrors.push(event)
    assert refs(mirrors.path())[main] == after
    rounds = len(mirrors.fetches())
    # What the mirror cannot judge by itself has to be asked for by a round of its own.
    await mirrors.worker().rounds.idle()
    unseen = pushed(mirrors, None, None, ref=None)
    if expected:
        mirrors.mirror.stackit_expect(unseen)
    await mirrors.push(unseen)
    assert len(mirrors.fetches()) == rounds + 1
    assert suspect.received_at <= mirrors.app.now()


@pytest_twisted.ensureDeferred
async def test_pushes_before_and_after_the_clock_was_set_are_told_apart(mirrors: Mirrors, upstream: Upstream) -> None:
    earlier = pushed(mirrors, None, None, ref=None)
    await mirrors.worker().sync("manual")
    done = len(mirrors.fetches())
    await mirrors.push(earlier)
    assert len(mirrors.fetches()) == done, "the round began after it"
    mirrors.ahead = DAY
    unknown = pushed(mirrors, None, None, ref=None)
    mirrors.ahead = 0.0
    await mirrors.push(unknown)
    assert len(mirrors.fetches()) == done + 1


@pytest.mark.parametrize("tunables", [Tunables(ask_again_after=())])
@pytest.mark.parametrize("step", [-DAY, DAY])
@pytest_twisted.ensureDeferred
async def test_a_push_that_the_remote_does_not_show_is_not_given_up_because_the_clock_was_set(
    mirrors: Mirrors, upstream: Upstream, step: float
) -> None:
    event = pushed(mirrors, upstream.refs()["refs/heads/main"], "1" * 40)
    for ahead in (0.0, step):
        mirrors.ahead = ahead
        with pytest.raises(StackitError, match="stale upstream"):
            await mirrors.push(event)
        assert mirrors.named("notice")[1:] == []


@pytest.mark.parametrize("step", STEPS)
@pytest_twisted.ensureDeferred
async def test_how_long_a_push_took_does_not_depend_on_who_sets_the_clock(
    mirrors: Mirrors, upstream: Upstream, step: float
) -> None:
    event = pushed(mirrors, upstream.refs()["refs/heads/main"], upstream.advance())
    mirrors.mirror.stackit_expect(event)
    mirrors.ahead = step
    await mirrors.push(event)
    [told] = mirrors.named("visible")
    assert 0 <= (told.seconds or -1) < 60
    [visible_at] = mirrors.seen.values()
    assert visible_at == pytest.approx(mirrors.app.now(), abs=60), "which is for people"


@pytest.mark.parametrize("step", STEPS)
def test_a_remote_that_failed_is_left_alone_for_as_long_as_planned(step: float) -> None:
    clock, ahead = Clock(), [YEAR]
    status = SyncStatus(clock, lambda: clock.seconds() + ahead[0], first_pause=5.0)
    pause = status.failed("broken", "throttled", 60.0)
    ahead[0] += step
    clock.advance(59)
    assert (status.paused(), status.silenced()) == (True, True)
    clock.advance(2)
    assert not status.silenced()
    clock.advance(pause - 61)
    assert not status.paused()


def test_a_time_of_the_wall_clock_is_known_until_somebody_sets_it() -> None:
    clock, ahead = Clock(), [1000.0]
    converter = ClockConverter(clock, lambda: clock.seconds() + ahead[0])
    clock.advance(100)
    assert converter.to_monotonic(1040) == 40
    assert converter.to_monotonic(900) == -100, "before the machine started"
    assert converter.to_monotonic(5000) == 100, "nothing comes from the future"
    ahead[0] = 5000.0
    assert converter.to_monotonic(1040) == 100, "perhaps of the clock before"
    clock.advance(50)
    assert converter.to_monotonic(5120) == 120
    assert converter.to_monotonic(5090) == 150, "before it was known that the clock was set"
