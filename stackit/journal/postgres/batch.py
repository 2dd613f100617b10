"""Writes that wait, and the steps in which the writer's thread takes them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import psycopg
from twisted.python.failure import Failure

from stackit.api.errors import JournalError
from stackit.journal.postgres.commit import Commit
from stackit.journal.postgres.connection import reason

T = TypeVar("T")
Item = TypeVar("Item")
Operation = Callable[[Commit], T]
Results = Generator[int, None, Sequence[Any]]
BatchOperation = Callable[[Commit, Sequence[Item]], Results]
"""Works on many items of one kind, and returns a result for each, in their order.

It yields twice: the number of its statements, once their arguments are encoded, and 0 once they are sent. All that is
sent meanwhile, also by others, is one transaction; what it reads behind that is durable.
"""

_ROWS = 64
"""Rows of one statement. Its joins are loops, which take four times as long for twice as many."""

_WRONG_TYPES = (TypeError, AttributeError, struct.error)
"""What encoding a value of another type than expected raises."""
_OWN_CLASSES = ("0A", "21", "22", "23", "44", "54", "XX")
"""The classes of errors (of SQLSTATE) that come of what is written: data, constraints, limits, damaged rows."""


class PendingWrite:
    """A write that waits: an operation on one item together with others of its kind, or one that is alone.

    ``done`` is called with the result once that is durable, or with a Failure. ``asked`` is when it was asked for; with
    ``is_urgent`` it fails rather than wait much longer than others would wait for it. What ``goes_first`` is sent
    before the others of its commit, which see what it has done.
    """

    __slots__ = (
        "asked",
        "batch_operation",
        "done",
        "goes_first",
        "is_urgent",
        "item",
        "operation",
        "size",
        "transaction",
    )

    def __init__(
        self,
        done: Callable[[Any], object],
        *,
        asked: float,
        batch_operation: BatchOperation[Any] | None = None,
        item: Any = None,
        operation: Operation[Any] | None = None,
        transaction: bool = True,
        size: int = 0,
        is_urgent: bool = False,
        goes_first: bool = False,
    ) -> None:
        self.done: Callable[[Any], object] | None = done
        self.asked = asked
        self.batch_operation = batch_operation
        self.item = item
        self.operation = operation
        self.transaction = transaction
        self.size = size
        self.is_urgent = is_urgent
        self.goes_first = goes_first


Step = Sequence[PendingWrite]
"""Writes that are one transaction: some with batch operations, or a single one that is alone."""


def steps(batch: Sequence[PendingWrite]) -> Iterator[list[PendingWrite]]:
    """Yield the steps of a batch; no write moves past one that is alone."""
    together: list[PendingWrite] = []
    for write in batch:
        if write.batch_operation is not None:
            together.append(write)
            continue
        if together:
            yield together
            together = []
        yield [write]
    if together:
        yield together


def pieces(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield items in pieces, each of so many as one statement may have."""
    for at in range(0, len(items), _ROWS):
        yield items[at : at + _ROWS]


def is_own_fault(error: psycopg.Error) -> bool:
    """Return True for the fault of one write, which no other shares, and which comes again where it is tried again."""
    if error.sqlstate is None:
        return isinstance(error, psycopg.DataError | psycopg.ProgrammingError | psycopg.NotSupportedError)
    return error.sqlstate[:2] in _OWN_CLASSES


def refused(error: Exception) -> Failure:
    """Return the result of a write that is at fault itself."""
    return Failure(JournalError(f"the journal refused a record: {reason(error)}"))


def run_step(commit: Commit, step: Step) -> list[Any]:
    """Run the writes of a step in one transaction, commit it, and return their results.

    A write that is at fault itself has a Failure for its result; the others are run once more without it, one by one.
    Raises psycopg.Error where nothing could be written, or it is not known what was.
    """
    try:
        first = step[0]
        results = _run_alone(commit, first) if first.operation is not None else _run_together(commit, step)
        commit.connection.check_confirmed()
    except _WRONG_TYPES as error:
        fault = refused(error)
    except psycopg.Error as error:
        if not is_own_fault(error):
            raise
        fault = refused(error)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - one operation's fault must not fail the others
        fault = Failure()
    else:
        return results
    return [fault] if len(step) == 1 else [run_step(commit, [write])[0] for write in step]


def _run_alone(commit: Commit, write: PendingWrite) -> list[Any]:
    assert write.operation is not None  # noqa: S101 - for the type checker
    if not write.transaction:
        return [write.operation(commit)]
    with commit.connection.transaction():
        return [write.operation(commit)]


def _run_together(commit: Commit, step: Step) -> list[Any]:
    numbers: dict[BatchOperation[Any], list[int]] = {}
    for number, write in sorted(enumerate(step), key=lambda each: not each[1].goes_first):
        if write.batch_operation is not None:
            numbers.setdefault(write.batch_operation, []).append(number)
    running = {each: each(commit, [step[number].item for number in numbers[each]]) for each in numbers}
    statements = sum([next(each) for each in running.values()])
    # A statement by itself is a transaction, and gets its answer in half the time.
    with commit.connection.pipeline() if statements > 1 or commit.in_doubt else nullcontext():
        if commit.in_doubt:
            commit.touch()  # what an earlier attempt has done is confirmed with this, though nothing is left to do
        for each in running.values():
            next(each)
    results: list[Any] = [None] * len(step)
    for operation, each in running.items():
        for number, result in zip(numbers[operation], _end(each), strict=True):
            results[number] = result
    return results


def _end(running: Results) -> Sequence[Any]:
    try:
        next(running)
    except StopIteration as end:
        ended: Sequence[Any] = end.value
        return ended
    raise RuntimeError("an operation yields twice")


def do_nothing(_: Commit) -> None:
    """Write nothing: a write whose turn alone counts."""
