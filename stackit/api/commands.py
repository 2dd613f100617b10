"""A command of the shell: ``stackit NAME``."""

from __future__ import annotations

import json
import re
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TextIO

import msgspec

from stackit.api.errors import PluginError
from stackit.api.reactor import Reactor
from stackit.text.escape import escape
from stackit.text.tables import Tone, fields, table, toned
from stackit.text.times import parse_rfc3339, relative

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", re.ASCII)


class AdminClient(Protocol):
    """A client of the admin side of the running stackit."""

    async def ask(self, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None) -> Any:
        """Return the decoded JSON of the answer to a request; ``path`` is below the API prefix, such as ``/repos``.

        ``body`` is sent as JSON, where it is not None.
        Raises StackitError, with the way out, where stackit does not answer or answers with an error: NotFoundError for
        404.
        """


class Printer:
    """Prints the answer of a command, as text or, after ``--json``, as JSON.

    Control characters are escaped, so nothing in an answer can move the cursor of a terminal.
    """

    def __init__(
        self, out: TextIO, *, as_json: bool, color: bool = False, now: Callable[[], float] = time.time
    ) -> None:
        """``color`` is for a terminal, ``now`` is the wall clock."""
        self._out = out
        self._as_json = as_json
        self._color = color
        self._now = now

    def show(self, answer: Any, text: str) -> None:
        """Print ``answer`` as JSON, or the lines of ``text``."""
        if self._as_json:
            # ASCII only: escapes in a payload stay escapes, whatever the terminal.
            self._out.write(json.dumps(answer, indent=2) + "\n")
        else:
            self._out.write("".join(f"{escape(line)}\n" for line in text.removesuffix("\n").split("\n")))
            self._out.flush()  # the command may go on for a while

    def line(self, answer: Any, text: str, tone: Tone | None = None) -> None:
        """Print one of many answers on a line of its own: as JSON, or as ``text`` in the color of its ``tone``."""
        if self._as_json:
            self._out.write(json.dumps(answer) + "\n")
        else:
            self._out.write(toned(escape(text), tone if self._color else None) + "\n")
        self._out.flush()

    def table(
        self, answer: Any, header: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str, note: str = ""
    ) -> None:
        """Print ``answer`` as JSON, or ``rows`` as a table.

        ``empty`` is the line for no rows, ``note`` one below the table. A column STATE has the colors of its states.
        """
        self.report(answer, {}, header, rows, empty=empty, note=note)

    def report(
        self,
        answer: Any,
        values: Mapping[str, object],
        header: Sequence[str] = (),
        rows: Sequence[Sequence[object]] = (),
        *,
        empty: str = "",
        note: str = "",
    ) -> None:
        """Print ``answer`` as JSON, or ``values`` line by line, and below them ``rows`` as ``table`` does."""
        if self._as_json:
            self.show(answer, "")
            return
        parts = [fields(values, color=self._color)] if values else []
        if rows:
            parts.append(table(header, rows, color=self._color))
        elif empty:
            parts.append(f"{escape(empty)}\n")
        if note:
            parts.append("".join(f"{escape(line)}\n" for line in note.split("\n")))
        self._out.write("\n".join(parts) if values else "".join(parts))

    def ago(self, time: str | None) -> str | None:
        """Return how far a time of an answer is from now: ``3 minutes ago``, ``in 2 hours``; None for None.

        Raises ValueError for a text that is no time in RFC 3339.
        """
        return None if time is None else relative(parse_rfc3339(time), self._now())


class Shell:
    """The surroundings of a command: ``options`` are its parsed arguments, ``printer`` is its output.

    ``environ`` and ``cwd`` are the environment and the current directory of the person who gave it, ``commands`` all
    commands by their names.
    """

    def __init__(
        self,
        *,
        reactor: Reactor,
        options: Namespace,
        printer: Printer,
        environ: Mapping[str, str],
        cwd: Path,
        connect: Callable[[], AdminClient],
        commands: Mapping[str, Command] = MappingProxyType({}),
    ) -> None:
        """``connect`` makes the admin client, for a command that wants one."""
        self.reactor = reactor
        self.options = options
        self.printer = printer
        self.environ = environ
        self.cwd = cwd
        self.commands = commands
        self._connect = connect

    @cached_property
    def admin(self) -> AdminClient:
        """The client of the running stackit. Raises ConfigError where the settings do not tell its address."""
        return self._connect()


def _none(_: Any) -> None:
    """Do nothing."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """One command of the shell.

    ``name`` is lower-case letters, digits and hyphens, ``help`` one line. ``arguments`` adds the command's arguments to
    its parser; ``--json``, ``--timeout`` and those that find the running stackit are there already. ``check`` raises
    ValueError for arguments that do not go together. ``run`` may be async; a StackitError of it is one line on stderr
    and exit status 1. ``example`` is a command line such as ``stackit repos``, or several, one a line: the end of the
    help. ``plugin``, the plugin that brings it, is filled in by stackit.
    """

    name: str
    help: str
    run: Callable[[Shell], Awaitable[None] | None]
    arguments: Callable[[ArgumentParser], None] = _none
    check: Callable[[Namespace], None] = _none
    example: str = ""
    plugin: str | None = None


def check_commands(commands: Iterable[Command]) -> None:
    """Raise PluginError for a command that cannot be given, or whose name another one has."""
    first: dict[str, Command] = {}
    for command in commands:
        plugin = command.plugin or "stackit"
        if not (isinstance(command.name, str) and _NAME.fullmatch(command.name)):
            raise PluginError(
                plugin, f"{str(command.name)[:80]!r} is no name of a command: use a-z, digits and hyphens"
            )
        if not all(isinstance(text, str) for text in (command.help, command.example)):
            raise PluginError(plugin, f"the help and the example of the command {command.name} must be texts")
        if not all(map(callable, (command.run, command.arguments, command.check))):
            raise PluginError(plugin, f"the run, arguments and check of the command {command.name} must be functions")
        other = first.setdefault(command.name, command)
        if other is not command:
            owner = f"plugin {other.plugin}" if other.plugin else "stackit itself"
            raise PluginError(plugin, f"the command {command.name} is there already, from {owner}")
