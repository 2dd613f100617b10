"""stackit's own commands: ``deliveries``, ``delivery`` and ``replay``.

They ask the running service, which alone reads and writes the journal.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from stackit.api.commands import Command, Shell
from stackit.text.tables import plain, table

_PAGE = 200
_FILTERS = ("state", "event", "repo", "subscriber", "delivery")


def _deliveries_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--state", choices=("pending", "done", "dead"))
    parser.add_argument("--event", help="an event name, such as push")
    parser.add_argument("--repo", metavar="OWNER/NAME")
    parser.add_argument("--subscriber", metavar="NAME", help="a plugin, or plugin:function")
    parser.add_argument("--delivery", metavar="GUID", help="GitHub's id of the delivery")
    parser.add_argument("--limit", type=_count, default=50, metavar="N", help="at most so many (50)")


async def _deliveries(shell: Shell) -> None:
    options = shell.options
    query = {name: getattr(options, name) for name in _FILTERS if getattr(options, name) is not None}
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page_query = {**query, "limit": str(min(_PAGE, options.limit - len(found)))}
        if cursor is not None:
            page_query["cursor"] = cursor
        page = await shell.admin.ask("GET", "/deliveries", page_query)
        found += page["deliveries"]
        cursor = page["next"]
        if cursor is None or len(found) >= options.limit:
            break
    rows = [
        [each["id"], each["received_at"], _event(each), each["repo"], each["state"], each["delivery"]] for each in found
    ]
    shown = table(["ID", "RECEIVED", "EVENT", "REPO", "STATE", "DELIVERY"], rows) if rows else "no deliveries"
    if cursor is not None:
        shown += f"(more: --limit {options.limit} reached)"
    shell.printer.show({"deliveries": found, "next": cursor}, shown)


def _delivery_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID")
    parser.add_argument("--payload", action="store_true", help="show its payload too")


async def _delivery(shell: Shell) -> None:
    options = shell.options
    query = {"payload": "1"} if options.payload else {}
    found = await shell.admin.ask("GET", f"/deliveries/{quote(options.id, safe='')}", query)
    lines = {
        "id": found["id"],
        "delivery": found["delivery"],
        "hook": found["hook"],
        "event": _event(found),
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


def _replay_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", nargs="?")
    parser.add_argument("--dead", action="store_true", help="all dead deliveries of the subscriber")
    parser.add_argument("--subscriber", metavar="NAME", help="only to this one")


def _check_replay(options: Namespace) -> None:
    if options.dead and (options.id is not None or options.subscriber is None):
        raise ValueError("replay --dead takes --subscriber NAME and no ID")
    if not options.dead and options.id is None:
        raise ValueError("replay takes an ID, or --dead --subscriber NAME")


async def _replay(shell: Shell) -> None:
    options = shell.options
    query = {} if options.subscriber is None else {"subscriber": options.subscriber}
    if options.dead:
        query["state"] = "dead"
    path = "/deliveries/replay" if options.dead else f"/deliveries/{quote(options.id, safe='')}/replay"
    answer = await shell.admin.ask("POST", path, query)
    count = answer["replayed"]
    shell.printer.show(answer, f"{count} handling{'' if count == 1 else 's'} will run again")


COMMANDS = (
    Command(name="deliveries", help="List deliveries, newest first.", run=_deliveries, arguments=_deliveries_arguments),
    Command(name="delivery", help="Show the receipt of one delivery.", run=_delivery, arguments=_delivery_arguments),
    Command(
        name="replay",
        help="Hand a delivery, or all dead ones of a subscriber, to subscribers again.",
        run=_replay,
        arguments=_replay_arguments,
        check=_check_replay,
    ),
)


def _event(delivery: Mapping[str, Any]) -> str:
    return f"{delivery['event']}.{delivery['action']}" if delivery["action"] else str(delivery["event"])


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text) >= 1):
        raise ArgumentTypeError("expected a whole number of at least 1")
    return int(text)
