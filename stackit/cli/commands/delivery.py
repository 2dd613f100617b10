"""``stackit delivery``: show the receipt of one delivery."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from urllib.parse import quote

from stackit.api.commands import Command, Shell
from stackit.cli.event_name import event_name


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID")
    parser.add_argument("--payload", action="store_true", help="show its payload too")


async def _run(shell: Shell) -> None:
    options = shell.options
    query = {"payload": "1"} if options.payload else {}
    found = await shell.admin.ask("GET", f"/deliveries/{quote(options.id, safe='')}", query)
    lines = {
        "id": found["id"],
        "delivery": found["delivery"],
        "hook": found["hook"],
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
    payload = ""
    if options.payload:
        payload = "its payload is not kept" if found["payload"] is None else json.dumps(found["payload"], indent=2)
    shell.printer.report(found, lines, header, rows, empty="no plugin handles it", note=payload)


def _time(shell: Shell, time: str | None) -> str | None:
    return None if time is None else f"{time} ({shell.printer.ago(time)})"


COMMAND = Command(
    name="delivery",
    help="Show the receipt of one delivery.",
    run=_run,
    arguments=_arguments,
    example="stackit delivery 17 --payload",
)
