"""What is written: each function is one operation inside a commit of the writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from stackit.events import RefChange
from stackit.journal.records import REFS_EVENT, Appended, Record, Work, encode_changes, repo_key

_KNOWN = """
    SELECT (SELECT id FROM events WHERE kind = 'delivery' AND delivery = ?1 AND hook = ?2),
           (SELECT delivery FROM events WHERE digest = ?3 ORDER BY id LIMIT 1)
"""
_ADD_EVENT = """
    INSERT INTO events (kind, hook, delivery, event, action, repo, repo_key, digest, size, received_at, replay_of)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_CHANGE_EVENT = """
    UPDATE events SET event = ?, action = ?, repo = ?, repo_key = ?, digest = ?, size = ?, replay_of = ? WHERE id = ?
"""
_ADD_BODY = "INSERT INTO bodies (event_id, body) VALUES (?, ?)"
_ADD_HANDLING = "INSERT INTO handlings (event_id, subscriber, repo_key, state, next_at) VALUES (?, ?, ?, 'pending', ?)"
_MAKE_DUE = """
    UPDATE handlings SET state = 'pending', attempts = ?, error = ?, next_at = ?, finished_at = NULL WHERE id = ?
"""
_SET_REF = """
    INSERT INTO refs (repo_key, ref, oid) VALUES (?, ?, ?) ON CONFLICT (repo_key, ref) DO UPDATE SET oid = excluded.oid
"""


def append(connection: sqlite3.Connection, record: Record) -> Appended:
    """Write a delivery down, or find what is left to do of it where it was here before."""
    hook, delivery = _storable(record.hook), _storable(record.delivery)
    known, first = connection.execute(_KNOWN, (delivery, hook, record.digest)).fetchone()
    if known is not None:
        return _append_again(connection, known, record, first)
    what = _what(record)
    event_id = connection.execute(_ADD_EVENT, ("delivery", hook, delivery, *what, record.received_at, first)).lastrowid
    assert event_id is not None  # noqa: S101 - for the type checker
    subscribers = _wanted(record, first)
    if subscribers:
        connection.execute(_ADD_BODY, (event_id, record.body))
    works = _add_handlings(
        connection, event_id, subscribers, record.received_at, repo_key(record.repo), len(record.body)
    )
    return Appended(event_id, "new", works, first)


def _what(record: Record) -> tuple[object, ...]:
    """What a delivery says, in the order of ``_ADD_EVENT`` and ``_CHANGE_EVENT``."""
    action = None if record.action is None else _storable(record.action)
    return _storable(record.event), action, record.repo, repo_key(record.repo), record.digest, len(record.body)


def _append_again(connection: sqlite3.Connection, event_id: int, record: Record, first: str | None) -> Appended:
    """``first`` is the delivery under which the body at hand came first."""
    key, size, digest, replay_of = connection.execute(
        "SELECT repo_key, size, digest, replay_of FROM events WHERE id = ?", (event_id,)
    ).fetchone()
    rows = connection.execute(
        "SELECT id, subscriber, state, attempts, error FROM handlings WHERE event_id = ? ORDER BY id", (event_id,)
    ).fetchall()
    if not rows:
        if replay_of is None and digest != record.digest:
            replay_of = first
        subscribers = _wanted(record, replay_of)
        if not subscribers:
            return Appended(event_id, "duplicate", (), replay_of)
        # Nobody wanted it the first time, so its body was not kept. What is at hand is what will be handled, and
        # as what it comes now: the header that names the event is not signed, and may have been another one.
        connection.execute(_CHANGE_EVENT, (*_what(record), replay_of, event_id))
        connection.execute("INSERT OR REPLACE INTO bodies (event_id, body) VALUES (?, ?)", (event_id, record.body))
        key, size = repo_key(record.repo), len(record.body)
        works = _add_handlings(connection, event_id, subscribers, record.received_at, key, size)
        return Appended(event_id, "again", works, replay_of)
    open_works = []
    for handling, subscriber, state, attempts, error in rows:
        if state == "done" or (state == "pending" and not attempts):
            continue  # done, or still to be tried for the first time: nothing failed that could be done again
        tried = 0 if state == "dead" else attempts
        connection.execute(_MAKE_DUE, (tried, error, record.received_at, handling))
        open_works.append(Work(handling, event_id, subscriber, key, tried, size))
    return Appended(event_id, "again" if open_works else "duplicate", tuple(open_works), replay_of)


def _wanted(record: Record, replay_of: str | None) -> tuple[str, ...]:
    """Whom the delivery is for, now that it is known whether its body came before."""
    return () if record.refuse_replay and replay_of is not None else record.subscribers


def _add_handlings(
    connection: sqlite3.Connection, event_id: int, subscribers: Iterable[str], at: float, key: str, size: int
) -> tuple[Work, ...]:
    works = []
    for subscriber in subscribers:
        handling = connection.execute(_ADD_HANDLING, (event_id, subscriber, key, at)).lastrowid
        assert handling is not None  # noqa: S101 - for the type checker
        works.append(Work(handling, event_id, subscriber, key, 0, size))
    return tuple(works)


def announce(
    connection: sqlite3.Connection,
    repo: str,
    changes: Sequence[RefChange],
    cause: str,
    delivery: str | None,
    received_at: float,
    subscribers: Sequence[str],
) -> Appended:
    """Move the announced refs of a repository, and write down that they moved: both or neither."""
    key = repo_key(repo)
    gone = [change.ref for change in changes if change.kind == "deleted"]
    connection.executemany("DELETE FROM refs WHERE repo_key = ? AND ref = ?", ((key, ref_bytes(ref)) for ref in gone))
    there = ((key, ref_bytes(change.ref), change.new) for change in changes if change.kind != "deleted")
    connection.executemany(_SET_REF, there)
    body = encode_changes(changes, cause)
    event_id = connection.execute(
        _ADD_EVENT, ("refs", "", delivery, REFS_EVENT, None, repo, key, None, len(body), received_at, None)
    ).lastrowid
    assert event_id is not None  # noqa: S101 - for the type checker
    if subscribers:
        connection.execute(_ADD_BODY, (event_id, body))
    works = _add_handlings(connection, event_id, subscribers, received_at, key, len(body))
    return Appended(event_id, "new", works)


def ref_bytes(ref: str) -> bytes:
    """A ref as git has it."""
    return ref.encode("utf-8", "surrogateescape")


def start(connection: sqlite3.Connection, handling: int, at: float) -> None:
    """An attempt began."""
    connection.execute("UPDATE handlings SET started_at = ? WHERE id = ?", (at, handling))


def finish(connection: sqlite3.Connection, handling: int, at: float) -> None:
    """An attempt succeeded: done."""
    connection.execute(
        "UPDATE handlings SET state = 'done', attempts = attempts + 1, error = NULL, next_at = NULL, finished_at = ?"
        " WHERE id = ?",
        (at, handling),
    )


def fail(connection: sqlite3.Connection, handling: int, at: float, error: str, next_at: float | None) -> None:
    """An attempt failed: again at ``next_at``, or dead."""
    dead = next_at is None
    connection.execute(
        "UPDATE handlings SET state = ?, attempts = attempts + 1, error = ?, next_at = ?, finished_at = ? WHERE id = ?",
        ("dead" if dead else "pending", _storable(error), next_at, at if dead else None, handling),
    )


def _storable(text: str) -> str:
    """Text of foreign origin, without what cannot be UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def visible(connection: sqlite3.Connection, event_id: int, at: float) -> bool:
    """The pushed commit is in the mirror; the first time counts. Whether it was the first."""
    changed = connection.execute("UPDATE events SET visible_at = ? WHERE id = ? AND visible_at IS NULL", (at, event_id))
    return changed.rowcount > 0


def replay(connection: sqlite3.Connection, event_id: int, subscribers: Sequence[str] | None, now: float) -> list[Work]:
    """Have an event handled once more, from the first attempt on.

    Raises LookupError for an event that is not there, ValueError for one without a body.
    """
    event = connection.execute("SELECT repo_key, size FROM events WHERE id = ?", (event_id,)).fetchone()
    if event is None:
        raise LookupError(f"no delivery {event_id}")
    if connection.execute("SELECT 1 FROM bodies WHERE event_id = ?", (event_id,)).fetchone() is None:
        raise ValueError(f"the payload of delivery {event_id} is not kept: nothing handled it when it came")
    key, size = event
    there = dict(connection.execute("SELECT subscriber, id FROM handlings WHERE event_id = ? ORDER BY id", (event_id,)))
    works = []
    for subscriber in there if subscribers is None else dict.fromkeys(subscribers):
        if subscriber in there:
            connection.execute(_MAKE_DUE, (0, None, now, there[subscriber]))
            works.append(Work(there[subscriber], event_id, subscriber, key, 0, size))
        else:
            works += _add_handlings(connection, event_id, [subscriber], now, key, size)
    return works


def replay_dead(connection: sqlite3.Connection, subscriber: str, now: float, after: int, limit: int) -> list[Work]:
    """Have the dead handlings of a subscriber tried again: the oldest beyond the event ``after``."""
    rows = connection.execute(
        "SELECT h.id, h.event_id, h.repo_key, e.size FROM handlings AS h CROSS JOIN events AS e ON e.id = h.event_id"
        " WHERE h.state <> 'done' AND h.state = 'dead' AND h.event_id > ? AND h.subscriber = ?"
        " ORDER BY h.event_id LIMIT ?",
        (after, subscriber, limit),
    ).fetchall()
    connection.executemany(_MAKE_DUE, [(0, None, now, handling) for handling, _, _, _ in rows])
    return [Work(handling, event_id, subscriber, key, 0, size) for handling, event_id, key, size in rows]


def remove(connection: sqlite3.Connection, event_ids: Sequence[int]) -> int:
    """Forget events with all that belongs to them, but none that someone still has to handle."""
    removed = 0
    for event_id in event_ids:
        pending = "SELECT 1 FROM handlings WHERE event_id = ? AND state = 'pending'"
        if connection.execute(pending, (event_id,)).fetchone() is None:
            connection.execute("DELETE FROM handlings WHERE event_id = ?", (event_id,))
            connection.execute("DELETE FROM bodies WHERE event_id = ?", (event_id,))
            removed += connection.execute("DELETE FROM events WHERE id = ?", (event_id,)).rowcount
    return removed
