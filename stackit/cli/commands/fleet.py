"""``stackit fleet``: the nodes that share the work, and a node that gives its part away."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any
from urllib.parse import quote

from stackit.api.commands import Command, Shell
from stackit.api.errors import NotServedError, StackitError
from stackit.text.units import counted


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", choices=["drain", "undrain"], metavar="drain|undrain")
    parser.add_argument("node", nargs="?", metavar="NODE")


async def _run(shell: Shell) -> None:
    what, node = shell.options.what, shell.options.node
    if what is None:
        await _show(shell)
    elif node is None:
        raise StackitError(f"which node? stackit fleet {what} NODE; stackit fleet lists them")
    else:
        try:
            answer = await shell.admin.ask("POST", f"/fleet/nodes/{quote(node, safe='')}/{what}")
        except NotServedError:
            await shell.admin.ask("GET", "/fleet")  # which says that there is no fleet
            raise
        given = answer.get("warning") or "it finishes what it has in hand; its work goes to others"
        told = f"is draining: {given}" if answer["draining"] else "takes its part of the work again"
        shell.printer.show(answer, f"{answer['node']} {told}")


async def _show(shell: Shell) -> None:
    answer = await shell.admin.ask("GET", "/fleet")
    shell.printer.table(
        answer,
        ["NODE", "STATE", "ROLES", "HANDLERS", "MIRRORS", "VERSION", "SINCE", "ADDRESS"],
        [_row(shell, each) for each in answer["nodes"]],
        empty="no node is known yet",
        note="\n".join(_notes(answer)),
    )


def _row(shell: Shell, node: dict[str, Any]) -> list[Any]:
    state = f"away for {node['away_for']:.0f} s" if node["state"] == "away" else node["state"]
    marks = [mark for mark, holds in (("here", node["here"]), ("leader", node["leader"])) if holds]
    named = f"{node['name']} ({', '.join(marks)})" if marks else node["name"]
    mirrors = str(node["mirrors"])
    if node["homes"] > node["mirrors"]:
        mirrors += f" (+{node['homes'] - node['mirrors']} wait)"
    return [
        named,
        state,
        " ".join(node["roles"]),
        node["handlers"],
        mirrors,
        node["version"],
        shell.printer.ago(node["since"]),
        node["address"],
    ]


def _notes(answer: dict[str, Any]) -> list[str]:
    notes = list(answer["problems"])
    if len(answer["nodes"]) > 1 and any(node["state"] == "out" for node in answer["nodes"]):
        notes.append("the other nodes are shown as this one saw them last")
    database = answer["database"]
    if database is None:
        notes.append("the database does not answer this node")
    else:
        standbys = database["standbys"]
        lag = "" if database["lag"] is None else f", {database['lag']:.3f} s behind"
        seen = "standbys cannot be seen" if standbys is None else counted(standbys, "synchronous standby") + lag
        notes.append(f"PostgreSQL {database['server']}, {database['size'] / 2**20:.0f} MiB, {seen}")
    for kind, number in answer["unowned"].items():
        if number:
            notes.append(f"{number} of {answer['shards']} shards of {kind} without an owner now")
    return notes


COMMAND = Command(
    name="fleet",
    help="Show the nodes that share the work, or have one give its part away.",
    run=_run,
    arguments=_arguments,
    example="stackit fleet\nstackit fleet drain b",
)
