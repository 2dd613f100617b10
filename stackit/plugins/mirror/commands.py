"""The mirror's commands of the shell: ``repos`` and ``sync``."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace

from stackit import Command, NotServedError, Repo, Shell, StackitError

_SHORT_ID = 12


def _repos_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("add", "remove"), help="have one mirrored, or no more")
    parser.add_argument("repo", metavar="OWNER/NAME", nargs="?", type=_repo, help="the repository to add or remove")
    parser.add_argument("--url", metavar="URL", help="where git fetches one that is added (default: on GitHub)")


def _check_repos(options: Namespace) -> None:
    if options.action is not None and options.repo is None:
        raise ValueError(f"repos {options.action}: OWNER/NAME is missing")
    if options.url is not None and options.action != "add":
        raise ValueError("--url goes with repos add")


async def _repos(shell: Shell) -> None:
    if shell.options.action == "add":
        await _add(shell)
    elif shell.options.action == "remove":
        await _remove(shell)
    else:
        await _list(shell)


async def _add(shell: Shell) -> None:
    try:
        await shell.admin.ask("GET", f"/repos/{shell.options.repo.path}")
    except NotServedError:  # it would be added, and mirrored by nobody
        raise
    except StackitError:
        pass  # it is not there yet
    wanted = {"name": str(shell.options.repo), "url": shell.options.url}
    added = await shell.admin.ask("POST", "/repos", body=wanted)
    shell.printer.show(added, f"{added['name']} is mirrored from now on, from {added['url']}")


async def _remove(shell: Shell) -> None:
    removed = await shell.admin.ask("DELETE", f"/repos/{shell.options.repo.path}")
    at = [f"node {removed['node']}"] if "node" in removed else []
    at += [removed["mirror"]] if removed["mirror"] is not None else []
    kept = f"; its mirror stays at {', '.join(at)}" if at else ""
    shell.printer.show(removed, f"{removed['name']} is mirrored no more{kept}")


async def _list(shell: Shell) -> None:
    answer = await shell.admin.ask("GET", "/repos")
    is_fleet = any(each["node"] for each in answer["repos"])
    rows = [
        [
            each["name"],
            *([each["node"]] if is_fleet else []),
            each["state"],
            each["added_by"] or each["source"],
            shell.printer.ago(each["verified_at"]),
            shell.printer.ago(each["next_at"]),
            each["error"],
        ]
        for each in answer["repos"]
    ]
    empty = "no repositories are managed; add [[repos]] to the configuration, or: stackit repos add OWNER/NAME"
    columns = ["NAME", *(["NODE"] if is_fleet else []), "STATE", "FROM", "VERIFIED", "NEXT", "ERROR"]
    shell.printer.table(answer, columns, rows, empty=empty)


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
    Command(
        name="repos",
        help="List the managed repositories; add one, or remove one that was added.",
        run=_repos,
        arguments=_repos_arguments,
        check=_check_repos,
        example="stackit repos\nstackit repos add octo/widget\nstackit repos remove octo/widget",
    ),
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
