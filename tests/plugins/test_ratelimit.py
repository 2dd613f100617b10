"""The limiter: spends on what fails verification, for each client, in bounded memory."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import pytest
from twisted.internet.task import Clock

from stackit import Buckets, Occurrence, RequestHead
from stackit.plugins.ratelimit import RateLimit


class Limited:
    """A limiter at work: every request that it lets pass fails verification."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.plugin = RateLimit(RateLimit.Settings(**settings), clock=self.clock.seconds)

    def head(self, client: Any, forwarded: Any = ()) -> Any:
        values = tuple(text.encode("latin-1") for text in ([forwarded] if isinstance(forwarded, str) else forwarded))
        headers = {b"x-forwarded-for": values} if values else {}
        return RequestHead(client=client, method=b"POST", path=b"/api/webhooks/github", headers=headers)

    def admit(self, client: Any, forwarded: Any = ()) -> Any:
        return self.plugin.stackit_admit(self.head(client, forwarded))

    def refused(self, client: Any, forwarded: Any = (), *, status: Any = 401, reason: Any = "signature") -> None:
        request = self.head(client, forwarded)
        occurrence = Occurrence(name="refused", status=status, reason=reason, client=client, request=request)
        self.plugin.stackit_observe(occurrence)

    def flood(self, client: Any, times: Any, forwarded: Any = ()) -> Any:
        """How many of so many unsigned requests were admitted."""
        admitted = 0
        for _ in range(times):
            refusal = self.admit(client, forwarded)
            if refusal is None:
                admitted += 1
                self.refused(client, forwarded)
            else:
                self.refused(client, forwarded, status=429, reason="rate")
        return admitted


def test_an_address_may_have_a_burst_of_failures_and_then_is_told_when_to_come_back() -> None:
    limited = Limited(burst=3, per_minute=6)
    assert limited.flood("192.0.2.1", 10) == 3
    refusal = limited.admit("192.0.2.1")
    assert (refusal.status, refusal.reason, refusal.retry_after) == (429, "rate", 10)
    limited.clock.advance(refusal.retry_after)
    assert limited.admit("192.0.2.1") is None


def test_a_refusal_waits_for_the_signature_so_that_a_verified_delivery_passes() -> None:
    limited = Limited(burst=1)
    limited.refused("192.0.2.1")
    assert limited.admit("192.0.2.1").unless_verified


def test_one_address_does_not_limit_another() -> None:
    limited = Limited(burst=1)
    limited.flood("192.0.2.1", 5)
    assert limited.admit("192.0.2.2") is None


def test_a_flood_that_goes_on_gets_its_rate_and_no_more() -> None:
    limited = Limited(burst=5, per_minute=60)
    admitted = 0
    for _ in range(600):
        admitted += limited.flood("192.0.2.1", 10)
        limited.clock.advance(0.1)
    assert admitted == pytest.approx(5 + 60, abs=2)


def test_a_bucket_is_never_fuller_than_its_burst() -> None:
    limited = Limited(burst=3)
    limited.flood("192.0.2.1", 3)
    limited.clock.advance(1_000_000)
    assert limited.flood("192.0.2.1", 10) == 3


@pytest.mark.parametrize(
    ("status", "reason"),
    [(400, "malformed"), (401, "signature"), (405, "method"), (408, "deadline"), (413, "too_large"), (415, "encoding")],
)
def test_whatever_fails_before_verification_spends(status: Any, reason: Any) -> None:
    limited = Limited(burst=1)
    limited.refused("192.0.2.1", status=status, reason=reason)
    assert limited.admit("192.0.2.1") is not None


@pytest.mark.parametrize(("status", "reason"), [(503, "journal"), (404, "disabled"), (429, "rate")])
def test_what_is_no_fault_of_the_client_spends_nothing(status: Any, reason: Any) -> None:
    limited = Limited(burst=1)
    limited.refused("192.0.2.1", status=status, reason=reason)
    assert limited.admit("192.0.2.1") is None


def test_other_occurrences_spend_nothing() -> None:
    limited = Limited(burst=1)
    limited.plugin.stackit_observe(Occurrence(name="accepted", client="192.0.2.1", request=limited.head("192.0.2.1")))
    limited.plugin.stackit_observe(Occurrence(name="refused", status=401, reason="signature"))
    assert limited.admit("192.0.2.1") is None


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("192.0.2.1", "::c000:201", False),
        ("", "192.0.2.1", False),
        ("/run/stackit.sock", "/run/stackit.sock", True),
    ],
)
def test_an_ipv6_client_is_its_64_and_a_mapped_address_is_ipv4(first: Any, second: Any, same: Any) -> None:
    limited = Limited(burst=1)
    limited.refused(first)
    assert (limited.admit(second) is not None) == same


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "198.51.100.7, 10.0.0.2", "198.51.100.7"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.7, 10.0.0.2", "198.51.100.7"),
        ("10.0.0.1", ["1.1.1.1", "198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", "198.51.100.7:4711", "198.51.100.7"),
        ("10.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
        ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("2001:db8:ffff::1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "198.51.100.7, nonsense", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7, nonsense, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", (), "10.0.0.1"),
        ("203.0.113.9", "198.51.100.7", "203.0.113.9"),
        ("10.0.0.1", "\xff\x00,,,", "10.0.0.1"),
    ],
)
def test_behind_trusted_proxies_the_client_is_the_nearest_hop_that_is_none(
    peer: Any, forwarded: Any, client: Any
) -> None:
    limited = Limited(burst=1, trusted_proxies=("10.0.0.0/8", "2001:db8:ffff::/48"))
    limited.refused(peer, forwarded)
    others = {"198.51.100.7", "2001:db8::7", "203.0.113.9", "1.1.1.1", "10.0.0.1", "10.0.0.2", "10.0.0.3"} - {client}
    assert limited.admit(client) is not None
    assert all(limited.admit(other) is None for other in others)


def test_a_proxy_behind_a_unix_socket_is_trusted_where_the_settings_say_so() -> None:
    limited = Limited(burst=1, trusted_proxies=("unix", "10.0.0.0/8"))
    limited.refused("unix", "198.51.100.7, 10.0.0.2")
    assert limited.admit("unix", "198.51.100.7") is not None
    assert limited.admit("unix", "203.0.113.9") is None
    assert limited.admit("unix") is None
    for settings in ({}, {"trusted_proxies": ("10.0.0.0/8",)}):
        limited = Limited(burst=1, **settings)
        limited.refused("unix", "198.51.100.7")
        assert limited.admit("unix", "203.0.113.9") is not None


def test_nobody_comes_by_a_unix_socket_who_only_says_so() -> None:
    limited = Limited(burst=1, trusted_proxies=("unix", "10.0.0.0/8"))
    limited.refused("10.0.0.1", "198.51.100.7, unix")
    assert limited.admit("10.0.0.1") is not None
    assert limited.admit("198.51.100.7") is None


def test_what_looks_like_an_address_and_goes_on_is_none_and_is_not_remembered() -> None:
    limited = Limited(burst=1_000_000, trusted_proxies=("10.0.0.0/8",))
    tracemalloc.start()
    for number in range(300):
        for hop in (f"[2001:db8::{number:x}]", f"2001:db8::{number:x}%"):
            limited.refused("10.0.0.1", hop + "x" * 8000)
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert left < 200_000


def test_without_trusted_proxies_nobodys_header_is_believed() -> None:
    limited = Limited(burst=2)
    assert sum(limited.flood("192.0.2.1", 1, f"198.51.100.{n}") for n in range(100)) == 2


def test_a_made_up_chain_of_any_length_does_not_escape_the_limit() -> None:
    limited = Limited(burst=2, trusted_proxies=("10.0.0.0/8",))
    made_up = ", ".join(f"10.1.{n % 256}.{n // 256}" for n in range(2000))
    assert sum(limited.flood("10.0.0.1", 1, f"{made_up}, 198.51.100.7") for _ in range(100)) == 2


def test_a_million_addresses_take_no_more_than_their_share_of_memory() -> None:
    buckets = Buckets(burst=2, seconds_per_token=1.0, most=1000)
    for n in range(1_000_000):
        buckets.spend(f"{n:x}::/64", now=n / 100_000)
    assert len(buckets) <= 1000


def test_changing_addresses_does_not_make_the_limiter_forget_another() -> None:
    limited = Limited(burst=2, per_minute=1, max_addresses=100)
    limited.flood("192.0.2.1", 2)
    for n in range(10_000):
        limited.flood(f"198.51.{n % 256}.{n // 256}", 1)
    assert limited.admit("192.0.2.1") is not None


def test_while_the_table_is_full_newcomers_share_one_allowance_and_afterwards_they_do_not() -> None:
    limited = Limited(burst=2, per_minute=60, max_addresses=10)
    assert sum(limited.flood(f"198.51.100.{n}", 1) for n in range(100)) == 10 + 2
    assert limited.admit("192.0.2.1") is not None
    limited.clock.advance(2)
    assert sum(limited.flood(f"203.0.113.{n}", 1) for n in range(10)) == 10


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"trusted_proxies": ("10.0.0.0/8", "10.0.0.1/8")}, "item 2: .* the network is '10.0.0.0/8'"),
        ({"trusted_proxies": ("proxy.example.org",)}, "item 1: expected a network"),
        ({"burst": 0}, "burst: "),
        ({"per_minute": 0}, "per_minute: "),
        ({"max_addresses": 0}, "max_addresses: "),
    ],
)
def test_a_wrong_setting_is_named(settings: Any, named: Any) -> None:
    with pytest.raises(ValueError, match=named):
        RateLimit.Settings(**settings)


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="bursts"):
        msgspec.convert({"bursts": 3}, RateLimit.Settings)
