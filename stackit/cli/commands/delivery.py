"""``stackit delivery``: show the receipt of one delivery."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from stackit.api.commands import Command, Shell
from stackit.cli.event_name import event_name


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID")
    add_parts(parser)


def add_parts(parser: ArgumentParser) -> None:
    """Add the options for what is shown beside the receipt."""
    parser.add_argument("--payload", action="store_true", help="show its payload too")
    parser.add_argument("--traceback", action="store_true", help="show the traceback of each handler's last failure")


async def show(shell: Shell) -> None:
    """Show the receipt of the delivery ``shell.options.id``."""
    options = shell.options
    query = {part: "1" for part in ("payload", "traceback") if getattr(options, part)}
    found = await shell.admin.ask("GET", f"/deliveries/{quote(options.id, safe='')}", query)
    lines = {
        "id": found["id"],
        "delivery": found["delivery"],
        "hook": found["hook"],
        "via": found["via"],
        "event": event_name(found),
        "repo": found["repo"],
        "received": _time(shell, found["received_at"]),
        "visible": _time(shell, found["visible_at"]),
        "state": found["state"],
    }
    rows = [
        [
            each["subscriber"],
            each["state"],
            each["attempts"],
            shell.printer.ago(each["finished_at"]),
            shell.printer.ago(each["next_at"]),
            each["error"],
        ]
        for each in found["handlings"]
    ]
    header = ["SUBSCRIBER", "STATE", "ATTEMPTS", "FINISHED", "NEXT", "ERROR"]
    notes = []
    if options.traceback:
        tracebacks = [_traceback(each) for each in found["handlings"] if each["traceback"] is not None]
        notes += tracebacks or ["no handler failed"]
    if options.payload:
        notes.append("its payload is not kept" if found["payload"] is None else json.dumps(found["payload"], indent=2))
    shell.printer.report(found, lines, header, rows, empty="no plugin handles it", note="\n\n".join(notes))


def _traceback(handling: Mapping[str, Any]) -> str:
    return "\n  ".join([f"{handling['subscriber']} failed with", *handling["traceback"].split("\n")])


def _time(shell: Shell, time: str | None) -> str | None:
    return None if time is None else f"{time} ({shell.printer.ago(time)})"


COMMAND = Command(
    name="delivery",
    help="Show the receipt of one delivery.",
    run=show,
    arguments=_arguments,
    example="stackit delivery 17 --traceback",
)
