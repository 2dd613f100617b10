"""``stackit deliveries``: list deliveries."""

from __future__ import annotations

import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Mapping
from typing import Any

from stackit.api.commands import Command, Shell
from stackit.cli.commands.delivery import add_parts, show
from stackit.cli.event_name import event_name
from stackit.text.times import parse_time

_PAGE = 200
_FILTERS = ("state", "event", "repo", "subscriber", "delivery", "since", "until")


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", nargs="?", help="show the receipt of this one, as `delivery ID` does")
    add_parts(parser)
    parser.add_argument("--state", choices=("pending", "done", "dead"), help="at any handler, or at --subscriber")
    parser.add_argument("--event", metavar="NAME", help="an event name, such as push")
    parser.add_argument("--repo", metavar="OWNER/NAME")
    parser.add_argument("--subscriber", metavar="NAME", help="a plugin, or plugin:function")
    parser.add_argument("--delivery", metavar="GUID", help="GitHub's id of the delivery")
    parser.add_argument(
        "--since", type=_time, metavar="TIME", help="received then or later: 2h, or 2026-11-23T18:00:00Z"
    )
    parser.add_argument("--until", type=_time, metavar="TIME", help="received before then")
    parser.add_argument("--limit", type=_count, default=50, metavar="N", help="at most so many (50)")


def _check(options: Namespace) -> None:
    if options.id is None and (options.payload or options.traceback):
        raise ValueError("--payload and --traceback are for one delivery: name its ID")
    if options.id is not None and any(getattr(options, name) is not None for name in _FILTERS):
        raise ValueError("deliveries takes an ID, or filters")


async def _run(shell: Shell) -> None:
    options = shell.options
    if options.id is not None:
        await show(shell)
        return
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
        [
            each["id"],
            shell.printer.ago(each["received_at"]),
            event_name(each),
            each["repo"],
            each["state"],
            each["delivery"],
            _not_done_at(each),
        ]
        for each in found
    ]
    shell.printer.table(
        {"deliveries": found, "next": cursor},
        ["ID", "RECEIVED", "EVENT", "REPO", "STATE", "DELIVERY", "NOT DONE AT"],
        rows,
        empty="no deliveries",
        note=f"(more: --limit {options.limit} reached)" if cursor is not None else "",
    )


def _not_done_at(delivery: Mapping[str, Any]) -> str:
    """Return the handlers at which a delivery is pending or dead: ``deploy (dead), mirror (pending)``."""
    open_ones = [each for each in delivery["handlings"] if each["state"] != "done"]
    return ", ".join(sorted(f"{each['subscriber']} ({each['state']})" for each in open_ones))


def _time(text: str) -> str:
    """Return a time as it is, for the service to read by its own clock."""
    try:
        parse_time(text, time.time())
    except ValueError as problem:
        raise ArgumentTypeError(str(problem)) from None
    return text


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text) >= 1):
        raise ArgumentTypeError("expected a whole number of at least 1")
    return int(text)


COMMAND = Command(
    name="deliveries",
    help="List deliveries, newest first.",
    run=_run,
    arguments=_arguments,
    check=_check,
    example="stackit deliveries --state dead --subscriber deploy\nstackit deliveries --repo octo/widget --since 2h",
)
