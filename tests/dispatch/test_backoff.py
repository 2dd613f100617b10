"""Backoff: the delays between tries, and the end of trying."""

from __future__ import annotations

from random import Random

import pytest

from stackit.dispatch.backoff import LONGEST_DELAY, Backoff


class Longest(Random):
    def uniform(self, _a: float, b: float) -> float:
        return b


def delays(retry_for: float, random: Random) -> list[float]:
    retries = Backoff(retry_for, random)
    found: list[float] = []
    while (delay := retries.delay(len(found) + 1)) is not None:
        found.append(delay)
    return found


def test_delays_double_from_a_second_to_an_hour() -> None:
    found = delays(86400, Longest())
    assert found[:5] == [1, 2, 4, 8, 16]
    assert found[-2:] == [LONGEST_DELAY, LONGEST_DELAY]
    assert found == sorted(found)


@pytest.mark.parametrize("retry_for", [1, 60, 3600, 86400, 30 * 86400])
def test_the_retries_end_when_their_delays_would_exceed_the_limit(retry_for: float) -> None:
    found = delays(retry_for, Longest())
    assert retry_for - LONGEST_DELAY <= sum(found) <= retry_for
    assert retry_for < 2 * sum(found) + 2


def test_without_a_limit_to_spend_there_is_no_second_try() -> None:
    assert delays(0, Random(1)) == []


def test_what_failed_together_does_not_come_back_together() -> None:
    retries = Backoff(86400, Random(1))
    found = [retries.delay(10) for _ in range(100)]
    assert len(set(found)) == 100
    assert all(delay is not None and 256 <= delay <= 512 for delay in found)


def test_a_number_of_attempts_from_an_old_configuration_is_just_too_many() -> None:
    assert Backoff(86400, Random(1)).delay(5000) is None
