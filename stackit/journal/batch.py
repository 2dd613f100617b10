"""One commit: all that waits, done in one transaction, and each with a result of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from twisted.python.failure import Failure

from stackit.api.errors import JournalError
from stackit.journal.schema import Connection

T = TypeVar("T")
Item = TypeVar("Item")
Operation = Callable[[Connection], T]
Joint = Callable[[Connection, Sequence[Item]], Sequence[T]]
"""An operation on many items of one kind, with a result for each."""

# Faults of one operation, which the others in its commit do not share.
_OWN_FAULTS = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError, sqlite3.InterfaceError)


class Asked:
    """One thing to do: an operation on one item, alone in its step or with others of its kind.

    ``done`` is called with its result once that is durable, or with a Failure; of a ``late`` one, when there is time.
    """

    __slots__ = ("alone", "done", "item", "joint", "late", "size")

    def __init__(
        self,
        joint: Joint[Any, Any],
        item: Any,
        size: int,
        done: Callable[[Any], object],
        *,
        alone: bool = False,
        late: bool = False,
    ) -> None:
        self.joint = joint
        self.item = item
        self.size = size
        self.done = done
        self.alone = alone
        self.late = late


def run_together(connection: Connection, batch: list[Asked]) -> list[Any]:
    """The results of all that was asked, durable in one commit, a Failure for what is at fault itself.

    The rest is run once more without it: a savepoint around each would cost a tenth of the
    throughput, for a fault that hardly ever comes.
    """
    faults: dict[int, Failure] = {}
    apart = False
    while True:
        connection.execute("BEGIN IMMEDIATE")
        results: list[Any] = [faults.get(number) for number in range(len(batch))]
        for numbers in _steps(batch, faults, apart=apart):
            fault = _step(connection, batch, numbers, results)
            if fault is None:
                continue
            if len(numbers) == 1:
                faults[numbers[0]] = fault
            apart = True  # which of them it is shows when each is run by itself
            connection.undo()
            break
        else:
            connection.execute("COMMIT")
            return results


def _steps(batch: list[Asked], faults: Mapping[int, Failure], *, apart: bool) -> list[list[int]]:
    """What of the batch is run in one call; nothing moves past what is alone."""
    steps: list[list[int]] = []
    open_steps: dict[Any, list[int]] = {}
    for number, asked in enumerate(batch):
        if number in faults:
            continue
        if asked.alone or apart:
            steps.append([number])
            open_steps.clear()
        elif asked.joint in open_steps:
            open_steps[asked.joint].append(number)
        else:
            open_steps[asked.joint] = [number]
            steps.append(open_steps[asked.joint])
    return steps


def _step(connection: Connection, batch: list[Asked], numbers: list[int], results: list[Any]) -> Failure | None:
    """Fill in the results of one step; or what went wrong with it, where that is its own fault."""
    try:
        done = batch[numbers[0]].joint(connection, [batch[number].item for number in numbers])
        for number, result in zip(numbers, done, strict=True):
            results[number] = result
    except _OWN_FAULTS as error:
        return Failure(JournalError(f"the journal refused a record: {error}"))
    except (sqlite3.Error, MemoryError):
        raise
    except Exception:  # noqa: BLE001 - one operation's fault must not fail the others in its commit
        return Failure()
    return None
