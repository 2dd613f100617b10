"""``stackit discover``: read all listings of repositories now, or say what that would change."""

from __future__ import annotations

from argparse import ArgumentParser

from stackit.api.commands import Command, Shell
from stackit.api.errors import StackitError


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="change nothing; say what would be done, and why")
    parser.add_argument(
        "--accept-removals", action="store_true", help="mirror no more what vanished, however much that is"
    )


async def _run(shell: Shell) -> None:
    options = shell.options
    query = {"dry_run": "1"} if options.dry_run else {}
    query |= {"accept": "removals"} if options.accept_removals else {}
    answer = await shell.admin.ask("POST", "/discover", query)
    rows = [
        [
            each["name"],
            "yes" if each["mirrored"] else "no",
            "" if each["change"] == "none" else each["change"],
            each["reason"],
        ]
        for listing in answer["listings"]
        for each in sorted(listing["repos"], key=lambda each: each["name"].lower())
    ]
    problems = [
        text if text.startswith("App ") else f"{each['listing']}: {text}"
        for each in answer["listings"]
        if (text := each["problem"] or each["held"])
    ]
    empty = "no repositories could be listed" if problems else "no repositories are listed"
    shell.printer.table(answer, ["NAME", "MIRRORED", "CHANGE", "REASON"], rows, empty=empty)
    if problems:
        raise StackitError("; ".join(problems))


COMMAND = Command(
    name="discover",
    help="Find repositories now, and show which rule decides on each.",
    run=_run,
    arguments=_arguments,
    example="stackit discover --dry-run\nstackit discover --accept-removals",
)
