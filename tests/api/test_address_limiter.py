"""A rate limit by address: so many at once, then so many a minute, and nobody pays for another."""

from __future__ import annotations

from twisted.internet.task import Clock

from stackit.api.address_limiter import AddressLimiter


def test_an_address_is_let_in_so_often_and_told_when_to_come_again() -> None:
    clock = Clock()
    limiter = AddressLimiter(clock.seconds, burst=3, per_minute=6, counted="questions")
    answers = [limiter.admit("192.0.2.1") for _ in range(10)]
    assert answers[:3] == [None] * 3
    waiting = answers[-1]
    assert waiting is not None
    assert (waiting.status, waiting.headers) == (429, {"Retry-After": "10"})
    assert waiting.body == {"error": "too many questions from this address: come again later"}
    assert limiter.admit("192.0.2.2") is None
    clock.advance(10)  # those that had to wait were not counted
    assert [limiter.admit("192.0.2.1") is None for _ in range(2)] == [True, False]


def test_what_is_refused_costs_nothing_where_it_is_spent_apart() -> None:
    limiter = AddressLimiter(Clock().seconds, burst=1, per_minute=6)
    assert [limiter.refusal("192.0.2.1") for _ in range(5)] == [None] * 5
    limiter.spend("192.0.2.1")
    assert limiter.refusal("192.0.2.1") is not None


def test_an_ipv6_network_is_one_address() -> None:
    limiter = AddressLimiter(Clock().seconds, burst=1, per_minute=6)
    assert limiter.admit("2001:db8::1") is None
    assert limiter.admit("2001:db8::2") is not None
    assert limiter.admit("2001:db8:1::1") is None
