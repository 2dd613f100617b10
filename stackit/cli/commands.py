"""The shell commands: ``python -m stackit deliveries``, ``replay`` and so on.

They ask the running service; the reading and writing of the journal is its alone.
Exit status: 0 done, 1 not done, 2 not understood.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

from stackit.api.errors import ConfigError, StackitError
from stackit.api.events import Repo
from stackit.api.reactor import Reactor
from stackit.cli.client import AdminSide, find
from stackit.text.tables import plain, table
from stackit.text.units import Duration

_PAGE = 200
_SHORT_ID = 12
_FILTERS = ("state", "event", "repo", "subscriber", "delivery")


def parser() -> argparse.ArgumentParser:
    """The arguments of every command."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--admin-url", metavar="URL", help="where the admin side is (default: as configured)")
    common.add_argument(
        "--config", metavar="FILE", help="the configuration file (default: twistd.conf, if it is there)"
    )
    common.add_argument("--token-file", metavar="FILE", help="the bearer token (default: STACKIT_API_TOKEN)")
    common.add_argument("--timeout", type=_duration, default=600.0, metavar="TIME", help="how long to wait (10m)")
    common.add_argument("--json", action="store_true", help="print JSON instead of a table")

    top = argparse.ArgumentParser(prog="python -m stackit", description="Ask the running stackit.", allow_abbrev=False)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, summary: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=summary, description=summary, parents=[common], allow_abbrev=False)

    listing = command("deliveries", "List deliveries, newest first.")
    listing.add_argument("--state", choices=("pending", "done", "dead"))
    listing.add_argument("--event", help="an event name, such as push")
    listing.add_argument("--repo", metavar="OWNER/NAME")
    listing.add_argument("--subscriber", metavar="NAME", help="a plugin, or plugin:function")
    listing.add_argument("--delivery", metavar="GUID", help="GitHub's id of the delivery")
    listing.add_argument("--limit", type=_count, default=50, metavar="N", help="at most so many (50)")

    one = command("delivery", "Show what became of one delivery.")
    one.add_argument("id", metavar="ID")
    one.add_argument("--payload", action="store_true", help="show its payload too")

    replay = command("replay", "Hand a delivery, or all dead ones of a subscriber, to subscribers again.")
    replay.add_argument("id", metavar="ID", nargs="?")
    replay.add_argument("--dead", action="store_true", help="all dead deliveries of the subscriber")
    replay.add_argument("--subscriber", metavar="NAME", help="only to this one")

    command("repos", "List the managed repositories.")
    sync = command("sync", "Sync a repository now, and show which refs changed.")
    sync.add_argument(
        "repo", metavar="OWNER/NAME", type=_repo, help="after -- where it begins with a hyphen: sync -- -octo/widget"
    )
    sync.add_argument("--accept-deletions", action="store_true", help="delete what the remote deleted, however much")
    return top


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The parsed command line. Exits with status 2, and a line that says why, where it makes no sense."""
    top = parser()
    options = top.parse_args(arguments)
    if options.command == "replay":
        if options.dead and (options.id is not None or options.subscriber is None):
            top.error("replay --dead takes --subscriber NAME and no ID")
        if not options.dead and options.id is None:
            top.error("replay takes an ID, or --dead --subscriber NAME")
    return options


async def run(
    reactor: Reactor, options: argparse.Namespace, *, environ: Mapping[str, str], cwd: Path, out: TextIO, err: TextIO
) -> int:
    """Do one command; returns the exit status."""
    try:
        side = find(
            url=options.admin_url, config=options.config, token_file=options.token_file, environ=environ, cwd=cwd
        )
        try:
            answer, shown = await _COMMANDS[options.command](reactor, side, options)
        except (KeyError, TypeError, ValueError) as problem:
            # The contract fixes these shapes: this is another service, or a stackit of another age.
            raise StackitError(
                f"{side.url} answered with something that this version cannot read: {problem!r}"
            ) from None
    except StackitError as problem:
        err.write(f"stackit: {plain(problem)}\n")
        return 2 if isinstance(problem, ConfigError) else 1
    out.write(_json(answer) if options.json else shown)
    return 0


async def _deliveries(reactor: Reactor, side: AdminSide, options: argparse.Namespace) -> tuple[Any, str]:
    query = {name: getattr(options, name) for name in _FILTERS if getattr(options, name) is not None}
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page_query = {**query, "limit": str(min(_PAGE, options.limit - len(found)))}
        if cursor is not None:
            page_query["cursor"] = cursor
        page = await side.ask(reactor, "GET", "/deliveries", page_query, patience=options.timeout)
        found += page["deliveries"]
        cursor = page["next"]
        if cursor is None or len(found) >= options.limit:
            break
    rows = [
        [each["id"], each["received_at"], _event(each), each["repo"], each["state"], each["delivery"]] for each in found
    ]
    shown = table(["ID", "RECEIVED", "EVENT", "REPO", "STATE", "DELIVERY"], rows) if rows else "no deliveries\n"
    if cursor is not None:
        shown += f"(more: --limit {options.limit} reached)\n"
    return {"deliveries": found, "next": cursor}, shown


async def _delivery(reactor: Reactor, side: AdminSide, options: argparse.Namespace) -> tuple[Any, str]:
    query = {"payload": "1"} if options.payload else {}
    found = await side.ask(reactor, "GET", f"/deliveries/{quote(options.id, safe='')}", query, patience=options.timeout)
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
        shown += "\n" + (_json(found["payload"]) if found["payload"] is not None else "its payload is not kept\n")
    return found, shown


async def _replay(reactor: Reactor, side: AdminSide, options: argparse.Namespace) -> tuple[Any, str]:
    query = {} if options.subscriber is None else {"subscriber": options.subscriber}
    if options.dead:
        query["state"] = "dead"
    path = "/deliveries/replay" if options.dead else f"/deliveries/{quote(options.id, safe='')}/replay"
    answer = await side.ask(reactor, "POST", path, query, patience=options.timeout)
    count = answer["replayed"]
    return answer, f"{count} handling{'' if count == 1 else 's'} will run again\n"


async def _repos(reactor: Reactor, side: AdminSide, options: argparse.Namespace) -> tuple[Any, str]:
    answer = await side.ask(reactor, "GET", "/repos", patience=options.timeout)
    rows = [
        [each["name"], each["state"], each["verified_at"], each["next_at"], each["error"]] for each in answer["repos"]
    ]
    header = ["NAME", "STATE", "VERIFIED", "NEXT", "ERROR"]
    return answer, table(header, rows) if rows else "no repositories are managed; add [[repos]] to the configuration\n"


async def _sync(reactor: Reactor, side: AdminSide, options: argparse.Namespace) -> tuple[Any, str]:
    path = f"/repos/{options.repo.owner}/{options.repo.name}/sync"
    query = {"accept": "deletions"} if options.accept_deletions else {}
    answer = await side.ask(reactor, "POST", path, query, patience=options.timeout)
    rows = [
        [
            each["kind"] + (" (forced)" if each["forced"] else ""),
            each["old"][:_SHORT_ID],
            each["new"][:_SHORT_ID],
            each["ref"],
        ]
        for each in answer["changes"]
    ]
    return answer, table(["CHANGE", "OLD", "NEW", "REF"], rows) if rows else "in step; nothing changed\n"


_COMMANDS = {"deliveries": _deliveries, "delivery": _delivery, "replay": _replay, "repos": _repos, "sync": _sync}


def _event(delivery: Mapping[str, Any]) -> str:
    return f"{delivery['event']}.{delivery['action']}" if delivery["action"] else str(delivery["event"])


def _json(value: Any) -> str:
    # ASCII only: escapes in a payload stay escapes, whatever the terminal.
    return json.dumps(value, indent=2) + "\n"


def _duration(text: str) -> float:
    try:
        duration = Duration.parse(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None
    if duration <= 0:
        raise argparse.ArgumentTypeError("must be more than 0")
    return duration


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text) >= 1):
        raise argparse.ArgumentTypeError("expected a whole number of at least 1")
    return int(text)


def _repo(text: str) -> Repo:
    try:
        return Repo.parse(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None
