"""Addresses of clients, and the network that they are counted by."""

from __future__ import annotations

import pytest

from stackit import client_network, parse_address


def test_all_of_an_ipv6_network_is_one_client() -> None:
    assert (
        client_network("2001:db8:1:2::1") == client_network("2001:db8:1:2:ffff::") != client_network("2001:db8:1:3::1")
    )
    assert client_network("::ffff:192.0.2.1") == client_network("192.0.2.1") == "192.0.2.1"
    assert client_network("fe80::1%eth0") == client_network("fe80::2%eth1")
    assert client_network("local") == "local"


@pytest.mark.parametrize(
    "text", ["192.0.2.1", " 192.0.2.1 ", "192.0.2.1:80", "::ffff:192.0.2.1", "[::ffff:192.0.2.1]:80"]
)
def test_an_address_is_read_as_proxies_write_it(text: str) -> None:
    assert str(parse_address(text)) == "192.0.2.1"
    assert client_network(text) == "192.0.2.1"


@pytest.mark.parametrize("text", ["", "local", "unix", "192.0.2", "1" * 5000, "[", "::1::"])
def test_what_is_no_address_is_its_own_network(text: str) -> None:
    assert parse_address(text) is None
    assert client_network(text) == text
