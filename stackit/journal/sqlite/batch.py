"""One commit: a batch of writes in one transaction, each with a result of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from twisted.python.failure import Failure

from stackit.api.errors import JournalError
from stackit.journal.sqlite.schema import Connection

T = TypeVar("T")
Item = TypeVar("Item")
Operation = Callable[[Connection], T]
BatchOperation = Callable[[Connection, Sequence[Item]], Sequence[T]]
"""Works on many items of one kind, and returns a result for each, in their order."""

# Faults of one operation, which the others in its commit do not share.
_OWN_FAULTS = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError, sqlite3.InterfaceError)


class PendingWrite:
    """A write that waits for its commit: an operation on one item, alone or together with others of its kind.

    ``done`` is called with the result once that is durable, or with a Failure. With ``notify_later`` it may be called
    when the next commit, if there is one, waits for the disk.
    """

    __slots__ = ("alone", "batch_operation", "done", "item", "notify_later", "size")

    def __init__(
        self,
        batch_operation: BatchOperation[Any, Any],
        item: Any,
        size: int,
        done: Callable[[Any], object],
        *,
        alone: bool = False,
        notify_later: bool = False,
    ) -> None:
        self.batch_operation = batch_operation
        self.item = item
        self.size = size
        self.done = done
        self.alone = alone
        self.notify_later = notify_later


def run_batch(connection: Connection, batch: list[PendingWrite], before_commit: Callable[[], object]) -> list[Any]:
    """Run all writes of a batch in one transaction, commit it, and return their results.

    A write that is at fault itself has a Failure for its result; the others are run once more without it. (A savepoint
    around each would cost a tenth of the throughput, for a fault that hardly ever comes.) ``before_commit`` is called
    when nothing is left to do but to commit. Raises sqlite3.Error where nothing could be written: all is undone then.
    """
    faults: dict[int, Failure] = {}
    one_by_one = False
    while True:
        connection.execute("BEGIN IMMEDIATE")
        results: list[Any] = [faults.get(number) for number in range(len(batch))]
        for numbers in _steps(batch, faults, one_by_one=one_by_one):
            fault = _step(connection, batch, numbers, results)
            if fault is None:
                continue
            if len(numbers) == 1:
                faults[numbers[0]] = fault
            one_by_one = True  # run each by itself, to find the one at fault
            connection.undo()
            break
        else:
            before_commit()
            connection.execute("COMMIT")
            return results


def _steps(batch: list[PendingWrite], faults: Mapping[int, Failure], *, one_by_one: bool) -> list[list[int]]:
    """Return the numbers of the writes that are run in one call each; no write moves past one that is alone."""
    steps: list[list[int]] = []
    open_steps: dict[Any, list[int]] = {}
    for number, write in enumerate(batch):
        if number in faults:
            continue
        if write.alone or one_by_one:
            steps.append([number])
            open_steps.clear()
        elif write.batch_operation in open_steps:
            open_steps[write.batch_operation].append(number)
        else:
            open_steps[write.batch_operation] = [number]
            steps.append(open_steps[write.batch_operation])
    return steps


def _step(connection: Connection, batch: list[PendingWrite], numbers: list[int], results: list[Any]) -> Failure | None:
    """Fill in the results of one step, or return the Failure of a write that is at fault itself."""
    try:
        done = batch[numbers[0]].batch_operation(connection, [batch[number].item for number in numbers])
        for number, result in zip(numbers, done, strict=True):
            results[number] = result
    except _OWN_FAULTS as error:
        return Failure(JournalError(f"the journal refused a record: {error}"))
    except (sqlite3.Error, MemoryError):
        raise
    except Exception:  # noqa: BLE001 - one operation's fault must not fail the others in its commit
        return Failure()
    return None


def beat(_connection: Connection, items: Sequence[None]) -> Sequence[None]:
    """Do nothing: a write that costs no commit, and whose result alone counts."""
    return items
