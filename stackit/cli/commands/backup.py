"""``stackit backup`` and ``stackit restore``: the journal in a file, and back.

They read and write the state directory themselves: a backup needs no running stackit, and a restore may not have one.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from stackit.api.commands import Command, Shell
from stackit.api.reactor import Reactor
from stackit.config.load import state_directory
from stackit.journal.sqlite import backup

T = TypeVar("T")
_PAUSE = 2.0
"""Seconds between two lines of progress."""


class _Cancelled(Exception):
    """The person who gave the command does not want it any more."""


class _Progress:
    """Tells on standard error how far a copy is, every ``pause`` seconds; ends it once it is cancelled."""

    def __init__(self, pause: float = _PAUSE) -> None:
        self.is_cancelled = False
        self._pause = pause
        self._told = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Take so many pages of so many as copied."""
        if self.is_cancelled:
            raise _Cancelled
        now = time.monotonic()
        if now - self._told >= self._pause and done < total:
            self._told = now
            sys.stderr.write(f"stackit: {100 * done // total} % copied\n")


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--state-dir", metavar="DIR", help="the state directory (default: as configured)")


def _backup_arguments(parser: ArgumentParser) -> None:
    _arguments(parser)
    parser.add_argument("--force", action="store_true", help="replace FILE")


def _restore_arguments(parser: ArgumentParser) -> None:
    _arguments(parser)
    parser.add_argument("--force", action="store_true", help="set a journal that is there aside")


async def _backup(shell: Shell) -> None:
    directory, file, progress = _directory(shell), shell.cwd / shell.options.file, _Progress()
    made = await _in_thread(
        shell.reactor,
        lambda: backup.back_up(directory, file, replace=shell.options.force, progress=progress),
        progress,
    )
    answer = {"file": str(file), "bytes": made.size, "deliveries": made.deliveries, "pending": made.pending}
    shell.printer.show(answer, f"{file}: {_what(made)}")


async def _restore(shell: Shell) -> None:
    directory, file, progress = _directory(shell), shell.cwd / shell.options.file, _Progress()
    found, before = await _in_thread(
        shell.reactor,
        lambda: backup.restore(directory, file, replace=shell.options.force, progress=progress),
        progress,
    )
    answer = {
        "state_dir": str(directory),
        "bytes": found.size,
        "deliveries": found.deliveries,
        "pending": found.pending,
        "replaced": str(before) if before is not None else None,
    }
    text = f"{directory}: {_what(found)}"
    if before is not None:
        text += f"\nthe journal that was there is {before} now"
    shell.printer.show(answer, text)


def _directory(shell: Shell) -> Path:
    options = {"config": shell.options.config, "state_dir": shell.options.state_dir}
    return state_directory(options, shell.environ, cwd=shell.cwd)


def _what(contents: backup.Contents) -> str:
    return f"{contents.deliveries} deliveries, {contents.pending} handlings pending, {contents.size / 2**20:.1f} MiB"


async def _in_thread(reactor: Reactor, work: Callable[[], T], progress: _Progress) -> T:
    """Return what ``work``, which blocks, returns; raise what it raises. Cancelling ends it, and waits for its end."""
    waiting: Deferred[T] = Deferred()
    ended: Deferred[None] = Deferred()

    def run() -> None:
        outcome: T | Failure
        try:
            outcome = work()
        except BaseException:  # noqa: BLE001 - whatever ends it is its outcome
            outcome = Failure()
        reactor.callFromThread(finish, outcome)

    def finish(outcome: Any) -> None:
        ended.callback(None)
        waiting.callback(outcome)  # a Failure goes down the errbacks

    Thread(target=run, name="stackit copy", daemon=True).start()
    try:
        return await waiting
    except CancelledError:
        progress.is_cancelled = True
        await ended
        raise


COMMANDS = (
    Command(
        name="backup",
        help="Copy the journal to a file, while stackit runs or not.",
        run=_backup,
        arguments=_backup_arguments,
        example="stackit backup /var/backups/stackit/monday.sqlite3",
    ),
    Command(
        name="restore",
        help="Make a backup the journal again, while stackit is stopped.",
        run=_restore,
        arguments=_restore_arguments,
        example="stackit restore /var/backups/stackit/monday.sqlite3",
    ),
)
