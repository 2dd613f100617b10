"""``stackit plugins``, ``pause`` and ``resume``: how the plugins do, and handlers that are to wait."""

from __future__ import annotations

from argparse import ArgumentParser
from functools import partial
from typing import Literal
from urllib.parse import quote

from stackit.api.commands import Command, Shell


async def _plugins(shell: Shell) -> None:
    answer = await shell.admin.ask("GET", "/plugins")
    rows = []
    for plugin in answer["plugins"]:
        for each in plugin["handlers"]:
            state = "paused" if each["paused"] else "running"
            mean = None if each["mean_seconds"] is None else f"{each['mean_seconds']:.3f}"
            counts = [each["pending"], each["dead"], each["handled"], each["failed"]]
            rows.append([plugin["name"], each["subscriber"], state, *counts, mean, each["last_error"]])
        if not plugin["handlers"]:
            rows.append([plugin["name"], *[None] * 8])
    for each in answer["unloaded"]:
        state = "paused, not loaded" if each["paused"] else "not loaded"
        rows.append([None, each["subscriber"], state, each["pending"], each["dead"], *[None] * 4])
    shell.printer.table(
        answer,
        ["PLUGIN", "SUBSCRIBER", "STATE", "PENDING", "DEAD", "HANDLED", "FAILED", "SECONDS", "LAST ERROR"],
        rows,
        empty="no plugin is loaded",
        note="\n".join(f"{each['name']} is left out: {each['reason']}" for each in answer["left_out"]),
    )


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("subscriber", metavar="SUBSCRIBER")


async def _change(shell: Shell, *, what: Literal["pause", "resume"]) -> None:
    path = f"/subscribers/{quote(shell.options.subscriber, safe='')}/{what}"
    answer = await shell.admin.ask("POST", path)
    pending = answer["pending"]
    waiting = f"{pending} event{'' if pending == 1 else 's'} pending"
    state = "paused: its events wait in the journal" if answer["paused"] else "running"
    shell.printer.show(answer, f"{answer['subscriber']} is {state} ({waiting})")


COMMANDS = (
    Command(
        name="plugins",
        help="Show the plugins, and how their handlers do.",
        run=_plugins,
        example="stackit plugins",
    ),
    Command(
        name="pause",
        help="Let the events of a subscriber wait in the journal, also over a restart.",
        run=partial(_change, what="pause"),
        arguments=_arguments,
        example="stackit pause deploy",
    ),
    Command(
        name="resume",
        help="Hand a paused subscriber its events again, oldest first.",
        run=partial(_change, what="resume"),
        arguments=_arguments,
        example="stackit resume deploy",
    ),
)
