"""Since when something is wrong, as a watch over the problems knows it."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from stackit.service.problem_watch import INTERVAL, ProblemWatch


def test_a_problem_is_known_since_the_look_that_first_found_it_also_when_its_numbers_change() -> None:
    clock, problems = Clock(), ["the disk has 12 MiB"]

    async def checks() -> list[str]:
        return problems

    def looked() -> list[tuple[str, float]]:
        found: list[list[tuple[str, float]]] = []
        Deferred.fromCoroutine(watch.look()).addCallback(found.append)
        return found[0]

    watch = ProblemWatch(checks, reactor=clock, now=lambda: 1000 + clock.seconds())
    watch.startService()
    clock.advance(INTERVAL)
    problems[:] = ["the disk has 7.5 MiB", "mirror: it is slow"]
    clock.advance(INTERVAL)
    clock.advance(1)
    assert looked() == [("the disk has 7.5 MiB", 1000), ("mirror: it is slow", 1000 + 2 * INTERVAL)]
    del problems[1]
    clock.advance(INTERVAL)
    problems.append("mirror: it is slow")
    clock.advance(INTERVAL)
    assert looked()[1] == ("mirror: it is slow", 1001 + 4 * INTERVAL)
    watch.stopService()
    assert not clock.getDelayedCalls()


def test_a_look_that_hangs_ends_with_the_watch() -> None:
    clock = Clock()
    ended: list[Deferred[list[str]]] = []
    hanging: Deferred[list[str]] = Deferred(ended.append)
    watch = ProblemWatch(lambda: hanging, reactor=clock, now=clock.seconds)
    watch.startService()
    watch.stopService()
    assert ended == [hanging]
    assert not clock.getDelayedCalls()
