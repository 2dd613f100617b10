"""The mirror's commands of the shell: ``repos`` and ``sync``."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError

from stackit import Command, Repo, Shell

_SHORT_ID = 12


async def _repos(shell: Shell) -> None:
    answer = await shell.admin.ask("GET", "/repos")
    rows = [
        [
            each["name"],
            each["state"],
            shell.printer.ago(each["verified_at"]),
            shell.printer.ago(each["next_at"]),
            each["error"],
        ]
        for each in answer["repos"]
    ]
    empty = "no repositories are managed; add [[repos]] to the configuration"
    shell.printer.table(answer, ["NAME", "STATE", "VERIFIED", "NEXT", "ERROR"], rows, empty=empty)


def _sync_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "repo", metavar="OWNER/NAME", type=_repo, help="after -- where it begins with a hyphen: sync -- -octo/widget"
    )
    parser.add_argument("--accept-deletions", action="store_true", help="delete what the remote deleted, however much")


async def _sync(shell: Shell) -> None:
    repo = shell.options.repo
    query = {"accept": "deletions"} if shell.options.accept_deletions else {}
    answer = await shell.admin.ask("POST", f"/repos/{repo.path}/sync", query)
    rows = [
        [
            each["kind"] + (" (forced)" if each["forced"] else ""),
            each["old"][:_SHORT_ID],
            each["new"][:_SHORT_ID],
            each["ref"],
        ]
        for each in answer["changes"]
    ]
    shell.printer.table(answer, ["CHANGE", "OLD", "NEW", "REF"], rows, empty="in step; nothing changed")


COMMANDS = (
    Command(name="repos", help="List the managed repositories.", run=_repos, example="stackit repos"),
    Command(
        name="sync",
        help="Sync a repository now, and show which refs changed.",
        run=_sync,
        arguments=_sync_arguments,
        example="stackit sync octo/widget\nstackit sync --accept-deletions octo/widget",
    ),
)


def _repo(text: str) -> Repo:
    try:
        return Repo.parse(text)
    except ValueError as problem:
        raise ArgumentTypeError(str(problem)) from None
