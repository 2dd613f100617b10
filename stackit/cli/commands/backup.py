"""``stackit backup`` and ``stackit restore``: the journal in a file, and back.

They read and write the state directory themselves: a backup needs no running stackit, and a restore may not have one.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from stackit.api.commands import Command, Shell
from stackit.cli.long_work import Progress, in_thread
from stackit.config.load import state_directory
from stackit.journal.sqlite import backup


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
    directory, file, progress = _directory(shell), shell.cwd / shell.options.file, Progress()
    made = await in_thread(
        shell.reactor,
        lambda: backup.back_up(directory, file, replace=shell.options.force, progress=progress),
        progress,
    )
    answer = {"file": str(file), "bytes": made.size, "deliveries": made.deliveries, "pending": made.pending}
    shell.printer.show(answer, f"{file}: {_what(made)}")


async def _restore(shell: Shell) -> None:
    directory, file, progress = _directory(shell), shell.cwd / shell.options.file, Progress()
    found, before = await in_thread(
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
