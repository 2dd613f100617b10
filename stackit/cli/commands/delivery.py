"""``stackit delivery``: show the receipt of one delivery."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from urllib.parse import quote

from stackit.api.commands import Command, Shell
from stackit.cli.event_name import event_name
from stackit.text.tables import plain, table


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
        "received": found["received_at"],
        "visible": found["visible_at"],
        "state": found["state"],
    }
    shown = "".join(f"{name + ':':<10}{plain(value)}\n" for name, value in lines.items())
    rows = [
        [each["subscriber"], each["state"], each["attempts"], each["finished_at"], each["next_at"], each["error"]]
        for each in found["handlings"]
    ]
    header = ["SUBSCRIBER", "STATE", "ATTEMPTS", "FINISHED", "NEXT", "ERROR"]
    shown += "\n" + (table(header, rows) if rows else "no plugin handles it\n")
    if options.payload:
        payload = found["payload"]
        shown += "\n" + (json.dumps(payload, indent=2) if payload is not None else "its payload is not kept")
    shell.printer.show(found, shown)


COMMAND = Command(
    name="delivery",
    help="Show the receipt of one delivery.",
    run=_run,
    arguments=_arguments,
    example="stackit delivery 17 --payload",
)
