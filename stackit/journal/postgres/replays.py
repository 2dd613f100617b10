"""Replays: handlings of an event, or the dead ones of a subscriber, pending from the first attempt on.

From any node: the owner of a handling is told of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from stackit.journal.postgres import work
from stackit.journal.postgres.arrays import Int8s
from stackit.journal.postgres.commit import Commit
from stackit.journal.postgres.subscribers import MOST
from stackit.journal.records import DueHandling

# Locked, so that nobody prunes the event before its handlings are pending.
_EVENT = "SELECT repo_key, size FROM events WHERE id = %b FOR NO KEY UPDATE"
_EVENTS = "SELECT id, repo_key, size FROM events WHERE id = ANY (%b::int8[]) ORDER BY id FOR NO KEY UPDATE"
_HANDLED = """
    SELECT id & 4095 FROM work WHERE id BETWEEN %(first)b AND %(last)b
    UNION SELECT id & 4095 FROM outcomes WHERE id BETWEEN %(first)b AND %(last)b ORDER BY 1
"""
_DEAD = "SELECT id FROM outcomes WHERE state = 'x' AND id & 4095 = %b AND id > %b ORDER BY id LIMIT %b"
_STILL_DEAD = "SELECT id FROM outcomes WHERE state = 'x' AND id = ANY (%b::int8[])"


class Revived(msgspec.Struct, frozen=True):
    """A step of a replay: the handlings that are this process's, the last event it looked at, and whether it is all."""

    handlings: list[DueHandling]
    last: int
    is_all: bool


def replay(commit: Commit, *, event: int, subscribers: Sequence[str] | None, now: float) -> list[DueHandling]:
    """Make handlings of an event pending from the first attempt on; return those that are this process's.

    Raises LookupError for an unknown event, ValueError for one that never had a handling, and so has no body.
    """
    found = commit.connection.execute(_EVENT, (event,), binary=True).fetchone()
    if found is None:
        raise LookupError("there is no such delivery")
    group, size = found
    first, last = work.handlings_of(event)
    handled = commit.connection.execute(_HANDLED, {"first": first, "last": last}, binary=True).fetchall()
    there = [number for (number,) in handled]
    if not there:
        raise ValueError(f"the payload of delivery {event} is not kept: nothing handled it when it came")
    if subscribers is None:
        subscribers = [commit.subscribers.key(commit.connection, number) for number in there]
    return work.add(commit, [work.Row(event, each, group, size) for each in dict.fromkeys(subscribers)], now)


def replay_dead(commit: Commit, *, subscriber: str, now: float, after: int, limit: int) -> Revived:
    """Make dead handlings of a subscriber pending: the oldest of those behind the event ``after``."""
    number = commit.numbers((subscriber,))[subscriber]
    values = (number, after * MOST + MOST - 1, limit)
    dead = [id_ for (id_,) in commit.connection.execute(_DEAD, values, binary=True).fetchall()]
    if not dead:
        return Revived([], after, is_all=True)
    events = commit.connection.execute(_EVENTS, (Int8s([id_ // MOST for id_ in dead]),), binary=True).fetchall()
    still = {id_ // MOST for (id_,) in commit.connection.execute(_STILL_DEAD, (Int8s(dead),), binary=True).fetchall()}
    rows = [work.Row(event, subscriber, group, size) for event, group, size in events if event in still]
    handlings = work.add(commit, rows, now)
    return Revived(handlings, dead[-1] // MOST, is_all=len(dead) < limit)
