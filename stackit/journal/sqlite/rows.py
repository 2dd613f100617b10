"""Many rows in one statement.

Every statement hands the interpreter from the writer's thread to the reactor's and back, which costs more than a row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any, TypeVar

T = TypeVar("T")

_MOST = 64


def pieces(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield ``rows`` in pieces of 64, 32, 16 … 1, so that a few prepared statements serve any number of them."""
    at = 0
    while at < len(rows):
        size = min(_MOST, 1 << ((len(rows) - at).bit_length() - 1))
        yield rows[at : at + size]
        at += size


def insert(connection: sqlite3.Connection, into: str, rows: Sequence[Sequence[Any]]) -> list[int]:
    """Insert rows (all of one length) ``into`` a table and its columns; return their ids, which follow each other."""
    ids: list[int] = []
    for piece in pieces(rows):
        statement = _insert(into, len(piece[0]), len(piece))
        last = connection.execute(statement, tuple(chain.from_iterable(piece))).lastrowid
        assert last is not None  # noqa: S101 - for the type checker
        ids += range(last - len(piece) + 1, last + 1)
    return ids


@cache
def _insert(into: str, columns: int, rows: int) -> str:
    row = f"({','.join('?' * columns)})"
    return f"INSERT INTO {into} VALUES {','.join([row] * rows)}"  # noqa: S608 - ``into`` is a constant of ours


@cache
def marked(statement: str, rows: int, row: str = "?") -> str:
    """Return ``statement`` with placeholders for the values of so many rows instead of its ``{}``."""
    return statement.format(",".join([row] * rows))
