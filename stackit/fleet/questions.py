"""What a node asks of the database, and tells it: functions for the thread of the session."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from stackit.fleet import statements
from stackit.fleet.session import Link
from stackit.fleet.view import Member, ShardRow
from stackit.journal import Shard
from stackit.journal.postgres.clock import Reading
from stackit.journal.postgres.ownership import row_of, shard_at


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """What a node tells of itself. ``lease`` are seconds, ``schema`` is the version of the tables that it writes."""

    name: str
    address: str
    version: str
    schema: int
    roles: tuple[str, ...]
    lease: float


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What a beat found.

    ``me`` is the incarnation, None where it is dead: ``namesake`` is the address of the node that has its name now, if
    there is one. ``reading`` is of the database's clock. ``shards`` are None where nothing changed since the look with
    the same ``stamp``. ``buried`` are the names of those whose lease was over.
    """

    me: int | None
    namesake: str | None = None
    reading: Reading | None = None
    members: Sequence[Member] = ()
    stamp: str = ""
    shards: Mapping[Shard, ShardRow] | None = None
    buried: Sequence[str] = ()


def register(link: Link, candidate: Candidate, older: int, *, draining: bool, made: Callable[[int], object]) -> Look:
    """Enter the fleet as a new incarnation. ``older`` is the last one: who took the name from that keeps it.

    With ``draining`` it goes on to drain, as the last one did. ``made`` is called with the new one before it enters, so
    that an attempt that fails half way is not taken for a node that has the name, too.
    """
    if older and (out := _out(link, candidate.name, older)).namesake is not None:
        return out
    ((me,),) = link.rows(
        statements.REGISTER,
        name=candidate.name,
        address=candidate.address,
        version=candidate.version,
        schema=candidate.schema,
        roles=list(candidate.roles),
    )
    made(me)
    state = "draining" if draining else "up"
    reading = _renewed(link, statements.ENTER, me=me, name=candidate.name, lease=candidate.lease, state=state)
    return _look(link, me, candidate.lease, "", reading)


def beat(link: Link, candidate: Candidate, me: int, stamp: str, *, leaves: bool) -> Look:
    """Renew the lease, and look at the fleet."""
    if leaves:
        link.rows(statements.LEAVE, me=me, state="leaving")
    reading = _renewed(link, statements.BEAT, me=me, lease=candidate.lease)
    if reading is None:
        return _out(link, candidate.name, me)
    return _look(link, me, candidate.lease, stamp, reading)


def _renewed(link: Link, statement: str, **values: object) -> Reading | None:
    """Renew the lease, and return what the database's clock showed then; None where the incarnation is dead."""
    before = link.seconds()
    for shown, *_ in link.rows(statement, **values):
        return Reading(before, shown, link.seconds())
    return None


def _look(link: Link, me: int, lease: float, stamp: str, reading: Reading | None) -> Look:
    # Where the server was away, all leases are over: each member gets the time to renew its own.
    buried = link.rows(statements.BURY) if link.connected_for >= lease else []
    ((now,),) = link.rows(statements.SHARDS_STAMP)
    return Look(
        me=me,
        reading=reading,
        members=_members(link),
        stamp=now,
        shards=None if now == stamp else _shards(link),
        buried=sorted(name for name, _ in buried),
    )


def take(link: Link, me: int, name: str, shards: Collection[Shard]) -> dict[Shard, int]:
    """Take shards that nobody owns; returns the epochs of those that are one's own now."""
    spaces, numbers = _columns(shards)
    rows = link.rows(statements.TAKE, me=me, name=name, spaces=spaces, numbers=numbers)
    return {shard_at(space, number): epoch for space, number, epoch, _ in rows}


def give(link: Link, me: int, heirs: Mapping[Shard, int | None]) -> dict[Shard, int | None]:
    """Give shards to other incarnations, or to nobody (None); returns who has them now."""
    spaces, numbers = _columns(heirs)
    rows = link.rows(statements.GIVE, me=me, spaces=spaces, numbers=numbers, heirs=list(heirs.values()))
    return {shard_at(space, number): owner for space, number, owner, _ in rows}


def prepared(link: Link, me: int, numbers: Collection[int]) -> None:
    """Tell that copies of all mirrors of these shards are here."""
    link.rows(statements.PREPARED, me=me, numbers=list(numbers))


def unprepared(link: Link, me: int, numbers: Collection[int]) -> None:
    """Tell that copies of the mirrors of these shards are kept here no more: they are not to come any more."""
    link.rows(statements.UNPREPARED, me=me, numbers=list(numbers))


def drain(link: Link, name: str, *, back: bool) -> Sequence[Member]:
    """Have a node give its work away, or take some again; returns the members then, none where it is not at work."""
    changed = link.rows(statements.DRAIN, name=name, state="up" if back else "draining")
    return _members(link) if changed else ()


def leave(link: Link, me: int, taken_out: str | None) -> None:
    """End an incarnation: it is dead, and what it owns is free. ``taken_out`` is its name if it is not to come back."""
    link.rows(statements.GONE, me=me)
    if taken_out is not None:
        link.rows(statements.TAKEN_OUT, name=taken_out)


def begin_round(link: Link, me: int, name: str, interval: float) -> bool:
    """Begin what is done once in an interval; returns False where it is not yet time."""
    return bool(link.rows(statements.ROUND, me=me, name=name, interval=interval))


def _out(link: Link, name: str, me: int) -> Look:
    """Return the look of an incarnation that is out of the fleet: who has its name now, and the database's clock."""
    before = link.seconds()
    ((shown, namesake),) = link.rows(statements.NAMESAKE, name=name, me=me)
    return Look(me=None, namesake=namesake, reading=Reading(before, shown, link.seconds()))


def _members(link: Link) -> list[Member]:
    return [_member(row) for row in link.rows(statements.MEMBERS)]


def _member(row: tuple[object, ...]) -> Member:
    incarnation, name, address, version, roles, state, since, left = row
    return msgspec.convert(
        {
            "incarnation": incarnation,
            "name": name,
            "address": address,
            "version": version,
            "roles": roles,
            "state": state,
            "since": since,
            "left": left,
        },
        Member,
    )


def _shards(link: Link) -> dict[Shard, ShardRow]:
    found = {}
    for space, number, owner, epoch, since, home, heir in link.rows(statements.SHARDS):
        shard = shard_at(space, number)
        found[shard] = ShardRow(shard=shard, owner=owner, epoch=epoch, since=since, home=home, heir=heir)
    return found


def _columns(shards: Collection[Shard]) -> tuple[list[str], list[int]]:
    rows = [row_of(shard) for shard in shards]
    return [space for space, _ in rows], [number for _, number in rows]
