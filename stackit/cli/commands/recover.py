"""``stackit recover``: look for missed deliveries in GitHub's own list, and take them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from stackit.api.commands import Command, Shell
from stackit.api.errors import StackitError


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--since", metavar="TIME", help="look back to this time, such as 2h or 2026-11-23T18:43:29Z")
    parser.add_argument("--dry-run", action="store_true", help="show what was missed, and take nothing")
    parser.add_argument("--acknowledge", action="store_true", help="you know of the deliveries that are lost")


def _check(options: Namespace) -> None:
    if options.acknowledge and (options.since is not None or options.dry_run):
        raise ValueError("recover --acknowledge goes with nothing else")


async def _run(shell: Shell) -> None:
    options = shell.options
    if options.acknowledge:
        answer = await shell.admin.ask("POST", "/recover", {"acknowledge": "1"})
        count = answer["acknowledged"]
        text = f"{count} time{'' if count == 1 else 's'} of lost deliveries acknowledged"
        shell.printer.show(answer, text if count else "no delivery is lost, as far as stackit knows")
        return
    query = {} if options.since is None else {"since": options.since}
    if options.dry_run:
        query["dry_run"] = "1"
    answer = await shell.admin.ask("POST", "/recover", query)
    rows = [
        [each["delivered_at"], hook["hook"], _event(each), each["delivery"], each["status_code"]]
        for hook in answer["hooks"]
        for each in hook["deliveries"]
    ]
    notes = [f"{hook['hook']}: {_outcome(hook, dry_run=options.dry_run)}" for hook in answer["hooks"]]
    shell.printer.table(
        answer,
        ["DELIVERED", "HOOK", "EVENT", "DELIVERY", "STATUS"],
        rows,
        empty=_nothing(answer["hooks"]),
        note="\n".join(notes),
    )
    unread = sum(hook["error"] is not None for hook in answer["hooks"])
    if unread:
        raise StackitError(f"the deliveries of {unread} of {len(answer['hooks'])} webhooks could not be listed")


def _nothing(hooks: list[dict[str, Any]]) -> str:
    """Return what an empty list of missed deliveries means."""
    if not hooks:
        return "there is no webhook whose deliveries could be listed"
    known = [hook for hook in hooks if hook["error"] is None]
    if not known:
        return "whether deliveries were missed is not known"
    return "no other delivery was missed" if any(hook["left"] for hook in known) else "no delivery was missed"


def _event(delivery: dict[str, Any]) -> str:
    return f"{delivery['event']}.{delivery['action']}" if delivery["action"] else str(delivery["event"])


def _outcome(hook: dict[str, Any], *, dry_run: bool) -> str:
    """Return what was found of a hook, in words."""
    if hook["error"] is not None:
        return f"its deliveries cannot be listed: {hook['error']}"
    if hook["running"] and not hook["listed"]:
        return f"deliveries are being taken already, {hook['left']} are left"
    said = f"{hook['listed']} entries read, {hook['missed']} missed"
    if hook["unwanted"]:
        said += f", {hook['unwanted']} events that no plugin handles"
    if hook["missed"] and not dry_run:
        said += "; they are taken now, oldest first (stackit deliveries)"
    if hook["lost"] is not None:
        said += f"; what was delivered from {hook['lost']['from']} to {hook['lost']['to']} may be lost"
    return said


COMMAND = Command(
    name="recover",
    help="Take deliveries that were missed from GitHub's own list.",
    run=_run,
    arguments=_arguments,
    check=_check,
    example="stackit recover --since 2d --dry-run\nstackit recover",
)
