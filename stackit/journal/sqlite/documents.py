"""Small documents by collection and key, and the announced refs that go from one repository's key to another's."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

_PUT = """
    INSERT INTO documents (collection, key, document) VALUES (?, ?, ?)
    ON CONFLICT (collection, key) DO UPDATE SET document = excluded.document
"""
_DELETE = "DELETE FROM documents WHERE collection = ? AND key = ?"
_FORGET_REFS = "DELETE FROM refs WHERE repo_key = ?"
_MOVE_REFS = "UPDATE refs SET repo_key = ? WHERE repo_key = ?"


def put(connection: sqlite3.Connection, collection: str, documents: Mapping[str, bytes | None]) -> None:
    """Put and delete documents of a collection."""
    there = [(collection, key, document) for key, document in documents.items() if document is not None]
    connection.executemany(_PUT, there)
    connection.executemany(_DELETE, [(collection, key) for key, document in documents.items() if document is None])


def rename(
    connection: sqlite3.Connection,
    renames: Sequence[tuple[str, str]],
    collection: str,
    documents: Mapping[str, bytes | None],
) -> None:
    """Give announced refs to other keys, by way of keys that no repository has, and put documents."""
    connection.executemany(_MOVE_REFS, [(_between(at), old) for at, (old, _) in enumerate(renames)])
    connection.executemany(_FORGET_REFS, [(new,) for _, new in renames])
    connection.executemany(_MOVE_REFS, [(new, _between(at)) for at, (_, new) in enumerate(renames)])
    put(connection, collection, documents)


def _between(at: int) -> str:
    return f"\n{at}"
