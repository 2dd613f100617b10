"""Many requests, few rounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock

from stackit import StackitError
from stackit.plugins.mirror.sync.coalescer import Coalescer
from stackit.plugins.mirror.sync.requests import Stopping


class Bench:
    """A coalescer whose rounds end when the test says so."""

    def __init__(self, debounce: float = 0, *, turns: bool = False) -> None:
        self.clock = Clock()
        self.rounds: list[tuple[list[str], Deferred[str]]] = []
        self.turns: list[Deferred[Callable[[], None]]] = []
        self.given_back = 0
        self._wait_for_turns = turns
        self.coalescer: Coalescer[str, str] = Coalescer(self.clock, self._work, self._turn, debounce)

    async def _work(self, asked: list[str]) -> str:
        round_: Deferred[str] = Deferred()
        self.rounds.append((asked, round_))
        return await round_

    def _turn(self) -> Deferred[Callable[[], None]]:
        if not self._wait_for_turns:
            return succeed(self._give_back)
        self.turns.append(Deferred())
        return self.turns[-1]

    def _give_back(self) -> None:
        self.given_back += 1

    def ask(self, what: str, *, urgent: bool = False) -> list[Any]:
        """Asks; the list receives the answer."""
        answer: list[object] = []
        self.coalescer.ask(what, urgent=urgent).addBoth(answer.append)
        return answer

    @property
    def asked(self) -> list[list[str]]:
        return [asked for asked, _ in self.rounds]


def test_a_request_to_an_idle_coalescer_starts_a_round_at_once() -> None:
    bench = Bench()
    answer = bench.ask("a")
    assert bench.asked == [["a"]]
    assert answer == []
    bench.rounds[0][1].callback("done")
    assert answer == ["done"]
    assert not bench.coalescer.busy
    assert bench.given_back == 1


def test_what_is_asked_during_a_round_shares_exactly_one_more() -> None:
    bench = Bench()
    bench.ask("a")
    answers = [bench.ask(str(number)) for number in range(200)]
    bench.rounds[0][1].callback("first")
    assert answers == [[]] * 200
    assert len(bench.rounds) == 2
    bench.rounds[1][1].callback("second")
    assert answers == [["second"]] * 200
    assert len(bench.rounds) == 2


def test_a_request_made_from_an_answer_starts_a_round_of_its_own() -> None:
    bench = Bench()
    bench.coalescer.ask("a").addCallback(lambda _: bench.ask("b"))
    bench.rounds[0][1].callback("done")
    assert bench.asked == [["a"], ["b"]]
    bench.rounds[1][1].callback("done")
    assert not bench.coalescer.busy


def test_a_round_that_runs_tells_what_it_is_for_and_can_be_joined() -> None:
    bench = Bench()
    answers: list[object] = []
    assert bench.coalescer.running == []
    bench.ask("a")
    bench.ask("b")
    assert bench.coalescer.running == ["a"]
    bench.coalescer.join().addBoth(answers.append)
    bench.rounds[0][1].callback("done")
    assert answers == ["done"]
    assert bench.asked == [["a"], ["b"]]
    bench.rounds[1][1].callback("done")
    assert bench.coalescer.running == []


def test_requests_that_come_while_a_round_waits_for_its_turn_join_it() -> None:
    bench = Bench(turns=True)
    bench.ask("a")
    bench.ask("b")
    assert bench.rounds == []
    bench.turns[0].callback(bench._give_back)
    assert bench.asked == [["a", "b"]]
    bench.rounds[0][1].callback("done")
    assert len(bench.turns) == 1


def test_a_failing_round_fails_those_who_share_it_and_no_others() -> None:
    bench = Bench()
    first = bench.ask("a")
    second = bench.ask("b")
    bench.rounds[0][1].errback(StackitError("broken"))
    assert isinstance(first[0].value, StackitError)
    bench.rounds[1][1].callback("done")
    assert second == ["done"]
    assert bench.given_back == 2


def test_giving_up_waiting_ends_neither_the_round_nor_the_wait_of_others() -> None:
    bench = Bench()
    impatient = bench.coalescer.ask("a")
    impatient.addErrback(lambda failure: failure.trap(CancelledError) and None)
    bench.ask("b")
    impatient.cancel()
    bench.rounds[0][1].callback("first")
    assert bench.asked == [["a"], ["b"]]
    bench.rounds[1][1].callback("second")


def test_a_quiet_window_gathers_requests() -> None:
    bench = Bench(debounce=2)
    bench.ask("a")
    bench.clock.advance(1.5)
    bench.ask("b")
    bench.clock.advance(1.5)
    assert bench.rounds == []
    bench.clock.advance(0.5)
    assert bench.asked == [["a", "b"]]


def test_a_stream_that_never_falls_quiet_is_answered_all_the_same() -> None:
    bench = Bench(debounce=1)
    for _ in range(25):
        bench.ask("a")
        bench.clock.advance(0.5)
    assert len(bench.asked[0]) == 20


def test_an_urgent_request_does_not_wait_for_quiet() -> None:
    bench = Bench(debounce=60)
    bench.ask("a")
    bench.ask("by hand", urgent=True)
    assert bench.asked == [["a", "by hand"]]
    assert bench.clock.getDelayedCalls() == []


def test_stopping_answers_who_waits_and_lets_the_round_end() -> None:
    bench = Bench()
    first, second = bench.ask("a"), bench.ask("b")
    bench.coalescer.stop()
    third = bench.ask("c")
    assert first == []
    assert [type(answer[0].value) for answer in (second, third)] == [Stopping, Stopping]
    idle: list[None] = []
    bench.coalescer.idle().addCallback(idle.append)
    assert idle == []
    bench.rounds[0][1].callback("done")
    assert first == ["done"]
    assert idle == [None]
    assert len(bench.rounds) == 1


def test_cancelling_ends_the_round_that_runs() -> None:
    bench = Bench()
    answer = bench.ask("a")
    bench.coalescer.stop()
    bench.coalescer.cancel()
    assert answer[0].check(CancelledError)
    assert bench.given_back == 1
    assert bench.coalescer.idle().called


def test_cancelling_a_round_that_waits_for_its_turn_answers_who_asked() -> None:
    bench = Bench(turns=True)
    answer = bench.ask("a")
    bench.coalescer.cancel()
    assert answer[0].check(CancelledError)
    assert not bench.coalescer.busy


@pytest.mark.parametrize("count", [1, 3])
def test_an_idle_coalescer_is_idle_at_once(count: int) -> None:
    bench = Bench()
    assert all(bench.coalescer.idle().called for _ in range(count))


def test_a_stop_ends_a_round_that_waits_for_its_turn() -> None:
    bench = Bench(turns=True)
    ended: list[object] = []
    bench.coalescer.ask("a").addErrback(lambda failure: ended.append(failure.type))
    assert bench.coalescer.busy
    bench.coalescer.stop()
    assert ended == [Stopping]
    assert not bench.coalescer.busy
    assert bench.coalescer.idle().called
    assert bench.rounds == []
    bench.coalescer.ask("b").addErrback(lambda failure: ended.append(failure.type))
    assert ended == [Stopping, Stopping]
