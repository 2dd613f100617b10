"""IP addresses as sockets and proxies write them, and the network that a client belongs to."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TypeAlias

UNIX = "unix"
"""The address of every client of a unix socket."""

_LONGEST = 100
"""Characters of an address: longer than any with zone and port, and short enough to remember a thousand."""

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


@lru_cache(maxsize=1024)
def client_network(text: str) -> str:
    """Return the key by which the addresses of one client are counted together.

    An IPv4 address is its own. Of IPv6 a customer has a whole /64, and so 2**64 addresses to choose from: ``…::/64``.
    A text that is no address is returned as it is.
    """
    address = parse_address(text)
    if address is None:
        return text
    return str(address) if address.version == 4 else f"{int(address) >> 64:x}::/64"


def parse_address(text: str) -> Address | None:
    """Parse an address that may have a port, brackets or a zone; None for anything else.

    An IPv4 address in IPv6 form (``::ffff:192.0.2.1``) is returned as IPv4.
    """
    return _parse(text) if len(text) <= _LONGEST else None


@lru_cache(maxsize=1024)
def _parse(text: str) -> Address | None:
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
