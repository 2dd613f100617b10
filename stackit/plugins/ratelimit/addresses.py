"""Addresses as clients and proxies write them, and the one bucket that all addresses of a customer share."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

UNIX = "unix"
"""What stands for the address of every client of a unix socket."""

_LONGEST = 100
"""Characters of an address: longer than any, with zone and port, and so short that some may be remembered."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@lru_cache(maxsize=1024)
def bucket(text: str) -> str:
    """Whose bucket it is: a customer has a whole /64 of IPv6, and so 2**64 addresses to choose from."""
    address = address_of(text)
    if address is None:
        return text
    return str(address) if address.version == 4 else f"{int(address) >> 64:x}::/64"


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text.strip())
    except ValueError as problem:
        raise ValueError(f"trusted_proxies: not a network such as '10.0.0.0/8': {problem}") from None


def address_of(text: str) -> Address | None:
    """An address as proxies write it: perhaps with a port, brackets or a zone."""
    return _read(text) if len(text) <= _LONGEST else None


@lru_cache(maxsize=1024)
def _read(text: str) -> Address | None:
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
