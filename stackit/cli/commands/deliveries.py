"""``stackit deliveries``: list deliveries."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from stackit.api.commands import Command, Shell
from stackit.cli.event_name import event_name
from stackit.text.tables import table

_PAGE = 200
_FILTERS = ("state", "event", "repo", "subscriber", "delivery")


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--state", choices=("pending", "done", "dead"))
    parser.add_argument("--event", help="an event name, such as push")
    parser.add_argument("--repo", metavar="OWNER/NAME")
    parser.add_argument("--subscriber", metavar="NAME", help="a plugin, or plugin:function")
    parser.add_argument("--delivery", metavar="GUID", help="GitHub's id of the delivery")
    parser.add_argument("--limit", type=_count, default=50, metavar="N", help="at most so many (50)")


async def _run(shell: Shell) -> None:
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
        [each["id"], each["received_at"], event_name(each), each["repo"], each["state"], each["delivery"]]
        for each in found
    ]
    shown = table(["ID", "RECEIVED", "EVENT", "REPO", "STATE", "DELIVERY"], rows) if rows else "no deliveries"
    if cursor is not None:
        shown += f"(more: --limit {options.limit} reached)"
    shell.printer.show({"deliveries": found, "next": cursor}, shown)


COMMAND = Command(
    name="deliveries",
    help="List deliveries, newest first.",
    run=_run,
    arguments=_arguments,
    example="stackit deliveries --state dead --subscriber deploy",
)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text) >= 1):
        raise ArgumentTypeError("expected a whole number of at least 1")
    return int(text)
