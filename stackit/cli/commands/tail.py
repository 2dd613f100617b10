"""``stackit tail``: watch what happens."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any, cast

from stackit.api.commands import Command, Shell
from stackit.api.errors import StackitError
from stackit.api.reactor import sleep
from stackit.cli.event_stream import EventClient, ServerEvent
from stackit.cli.output import OutputError
from stackit.text.logfmt import KeyValues
from stackit.text.tables import Tone

_PAUSE = 2.0
"""Seconds before the stream is asked for again."""
_TONES: Mapping[str, Tone] = {"warn": "doubtful", "error": "bad"}
_NOT_FIELDS = ("time", "level", "logger", "message", "occurrence")


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--repo", metavar="OWNER/NAME", action="append", help="only of this one; may be repeated")
    parser.add_argument(
        "--name", metavar="NAME", action="append", help="only this kind, such as accepted or dead; may be repeated"
    )


async def _run(shell: Shell) -> None:
    options = shell.options
    query = {name: ",".join(found) for name in ("repo", "name") if (found := getattr(options, name))}
    tail = _Tail(shell)
    client = cast("EventClient", shell.admin)
    last_id = await client.watch("/events", query, tail.show)
    while True:
        await sleep(shell.reactor, _PAUSE)
        try:
            last_id = await client.watch("/events", query, tail.show, last_id)
            tail.unreachable = None
        except OutputError:
            raise
        except StackitError as problem:
            tail.tell_unreachable(problem)


class _Tail:
    """What is shown. ``unreachable`` is the problem that was told last, while stackit does not answer."""

    def __init__(self, shell: Shell) -> None:
        self.unreachable: str | None = None
        self._printer = shell.printer

    def show(self, event: ServerEvent) -> None:
        """Print an event: a line."""
        self.unreachable = None
        data: dict[str, Any] = json.loads(event.data)
        if event.name == "reset":
            skipped = data.get("skipped")
            what = "events are missing here" if skipped is None else f"{skipped} events left out here: too many at once"
            self._printer.line({"occurrence": "reset", **data}, f"({what})", "doubtful")
            return
        fields = {name: value for name, value in data.items() if name not in _NOT_FIELDS}
        said = KeyValues.of(data["message"], fields).text()
        self._printer.line(data, f"{data['time']} {data['level']:<5} {said}", _TONES.get(data["level"]))

    def tell_unreachable(self, problem: StackitError) -> None:
        """Say once why nothing comes."""
        if str(problem) != self.unreachable:
            self.unreachable = str(problem)
            answer = {"occurrence": "unreachable", "error": str(problem)}
            self._printer.line(answer, f"(nothing comes, and is asked for again: {problem})", "doubtful")


COMMAND = Command(
    name="tail",
    help="Watch what happens, until you stop it (Ctrl-C).",
    run=_run,
    arguments=_arguments,
    example="stackit tail\nstackit tail --repo octo/widget --name accepted --name visible",
)
