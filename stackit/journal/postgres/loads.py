"""Events that are asked for one by one, and read together: those that are asked for while a question is answered."""

from __future__ import annotations

from collections import deque
from functools import partial

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from stackit.api.errors import Permanent
from stackit.journal.postgres import events
from stackit.journal.postgres.connection import Connection
from stackit.journal.postgres.reader import Reader
from stackit.journal.records import StoredEvent

_AT_ONCE = 64
"""Events that are read together, at most; those with a large body are read one by one."""

Answers = dict[int, StoredEvent | Permanent | None]


class Loads:
    """Questions for an event and its body, by its row."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._waiting: deque[tuple[int, Deferred[StoredEvent | None]]] = deque()
        self._is_asking = False

    def load(self, row: int) -> Deferred[StoredEvent | None]:
        """Return an event with its body, or None. Fails with Permanent for a damaged one, else as the reader does."""
        answer: Deferred[StoredEvent | None] = Deferred()
        self._waiting.append((row, answer))
        if not self._is_asking:
            self._is_asking = True
            self._ask()
        return answer

    def _ask(self) -> None:
        asked = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
        rows = list(dict.fromkeys(row for row, _ in asked))
        self._reader.ask(partial(_load, rows=rows)).addBoth(self._answer, asked)

    def _answer(self, found: Answers | Failure, asked: list[tuple[int, Deferred[StoredEvent | None]]]) -> None:
        # Those who get an answer may ask for the next, which the next question has all together.
        left = []
        for row, answer in asked:
            if isinstance(found, Failure):
                answer.errback(found)
            elif row not in found:
                left.append((row, answer))
            elif isinstance(result := found[row], Permanent):
                answer.errback(result)
            else:
                answer.callback(result)
        self._waiting.extendleft(reversed(left))
        if self._waiting:
            self._ask()
        else:
            self._is_asking = False


def _load(connection: Connection, rows: list[int]) -> Answers:
    """Return all events with small bodies, and one of the others: the rest of these is to be asked for again."""
    answers: Answers = dict(events.load_small(connection, rows)) if len(rows) > 1 else {}
    other = next((row for row in rows if row not in answers), None)
    if other is not None:
        try:
            answers[other] = events.load(connection, other)
        except Permanent as damaged:
            answers[other] = damaged
    return answers
