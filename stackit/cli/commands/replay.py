"""``stackit replay``: hand deliveries to subscribers again."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from urllib.parse import quote

from stackit.api.commands import Command, Shell


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", nargs="?")
    parser.add_argument("--dead", action="store_true", help="all dead deliveries of the subscriber")
    parser.add_argument("--subscriber", metavar="NAME", help="only to this one")


def _check(options: Namespace) -> None:
    if options.dead and (options.id is not None or options.subscriber is None):
        raise ValueError("replay --dead takes --subscriber NAME and no ID")
    if not options.dead and options.id is None:
        raise ValueError("replay takes an ID, or --dead --subscriber NAME")


async def _run(shell: Shell) -> None:
    options = shell.options
    query = {} if options.subscriber is None else {"subscriber": options.subscriber}
    if options.dead:
        query["state"] = "dead"
    path = "/deliveries/replay" if options.dead else f"/deliveries/{quote(options.id, safe='')}/replay"
    answer = await shell.admin.ask("POST", path, query)
    count = answer["replayed"]
    shell.printer.show(answer, f"{count} handling{'' if count == 1 else 's'} will run again")


COMMAND = Command(
    name="replay",
    help="Hand a delivery, or all dead ones of a subscriber, to subscribers again.",
    run=_run,
    arguments=_arguments,
    check=_check,
    example="stackit replay 17 --subscriber deploy\nstackit replay --dead --subscriber deploy",
)
