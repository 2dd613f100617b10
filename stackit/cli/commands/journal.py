"""``stackit journal copy``: all of the journal, from SQLite into PostgreSQL or back.

It reads and writes both itself: no stackit may run on either.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from stackit.api.commands import Command, Shell
from stackit.api.errors import StackitError
from stackit.cli.long_work import Progress, in_thread
from stackit.config.fleet import FleetConfig, missing_package
from stackit.config.load import fleet_database

if TYPE_CHECKING:
    from stackit.journal.transfer.contents import Contents

_KINDS = ("sqlite", "postgres")


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("what", choices=["copy"], metavar="copy")
    parser.add_argument("--from", dest="source", choices=_KINDS, help="default: the other one")
    parser.add_argument("--to", dest="target", choices=_KINDS, help="default: the other one, or else postgres")
    parser.add_argument("--state-dir", metavar="DIR", help="the state directory (default: as configured)")


async def _run(shell: Shell) -> None:
    source = shell.options.source
    target = shell.options.target or ("sqlite" if source == "postgres" else "postgres")
    if source == target:
        raise StackitError(f"a journal is copied from {' to '.join(_KINDS)}, or back: --from and --to are the same")
    options = {"config": shell.options.config, "state_dir": shell.options.state_dir}
    fleet, directory = fleet_database(options, shell.environ, cwd=shell.cwd)
    progress = Progress()
    copied = await in_thread(shell.reactor, lambda: _copy(target, fleet, directory, progress), progress)
    place = "the database of the fleet" if target == "postgres" else str(directory)
    text = (
        f"{place}: {copied.events} events, {copied.pending} handlings pending, {copied.dead} dead, {copied.refs} refs, "
        f"{copied.documents} documents\nnothing was changed where they come from"
    )
    if copied.damaged:
        text += f"\n{copied.damaged} events had a damaged body, and have none now"
    shell.printer.show({"to": target, **msgspec.to_builtins(copied)}, text)


def _copy(target: str, fleet: FleetConfig, directory: Path, progress: Progress) -> Contents:
    """Copy in a thread. Raises StackitError."""
    try:
        # Their packages are an extra, for fleets alone.
        from stackit.journal.postgres.connection import Server  # noqa: PLC0415
        from stackit.journal.transfer.to_postgres import to_postgres  # noqa: PLC0415
        from stackit.journal.transfer.to_sqlite import to_sqlite  # noqa: PLC0415
    except ImportError as problem:
        raise StackitError(missing_package(problem)) from None
    server = Server(fleet.postgres or "", fleet.lease)
    if target == "postgres":
        return to_postgres(directory, server, shards=fleet.shards, progress=progress)
    return to_sqlite(server, directory, progress=progress)


COMMAND = Command(
    name="journal",
    help="Copy the journal from SQLite into PostgreSQL or back, while stackit is stopped.",
    run=_run,
    arguments=_arguments,
    example="stackit journal copy --to postgres",
)
