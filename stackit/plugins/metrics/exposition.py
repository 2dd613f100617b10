"""The text of a scrape, made piece by piece: the lines of ten thousand repositories take a second."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Metric, generate_latest

from stackit import Reactor, sleep

_TURN = 32 * 2**10
"""Bytes after which the reactor has a turn: some 400 lines, which take 5 ms."""


def text_of(family: Metric, *, goes_on: bool = False) -> bytes:
    """Return the lines of a metric. ``goes_on``: the piece before was of the same metric, and had its head."""
    lines = generate_latest(_Families(family))
    return b"".join(each for each in lines.splitlines(True) if not each.startswith(b"#")) if goes_on else lines


async def joined(pieces: Iterable[bytes], reactor: Reactor) -> bytes:
    """Return all pieces in one, and let the reactor have a turn after some of them."""
    found: list[bytes] = []
    size = 0
    for piece in pieces:
        found.append(piece)
        size += len(piece)
        if size > _TURN:
            size = 0
            await sleep(reactor, 0)
    return b"".join(found)


class _Families:
    """A registry with one metric."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return [self._family]
