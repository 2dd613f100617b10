"""The command line of the shell: the arguments of every command."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from stackit.api.commands import Command
from stackit.api.errors import PluginError, describe
from stackit.api.version import VERSION
from stackit.text.escape import escape
from stackit.text.units import Duration

PROGRAM = "stackit"


class _TopParser(argparse.ArgumentParser):
    """Names the plugins that were left out where a command line is wrong: it may be right with their commands."""

    left_out: Sequence[PluginError] = ()

    def error(self, message: str) -> NoReturn:
        super().error(
            message + "".join(f"\nstackit: {escape(str(each))}; its commands are missing" for each in self.left_out)
        )


class _CommandParser(argparse.ArgumentParser):
    """Takes a last argument that may be missing behind the options, too, where argparse itself has given it up."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, left = super().parse_known_args(args, namespace)
        for action in self._get_positional_actions():
            missing = action.nargs == argparse.OPTIONAL and getattr(found, action.dest) is action.default
            if missing and left and (left[0] == "-" or not left[0].startswith("-")):
                setattr(found, action.dest, self._get_values(action, [left.pop(0)]))
        return found, left


def config_option(arguments: Sequence[str]) -> str | None:
    """Return the value of ``--config``, which is needed before the commands of plugins are known."""
    first = argparse.ArgumentParser(prog=PROGRAM, add_help=False, allow_abbrev=False)
    first.add_argument("--config", metavar="FILE")
    found: str | None = first.parse_known_args(arguments)[0].config
    return found


def parser(commands: Mapping[str, Command], left_out: Sequence[PluginError] = ()) -> argparse.ArgumentParser:
    """Return the parser of these commands. Raises PluginError for one whose own arguments cannot be added."""
    top = _TopParser(prog=PROGRAM, description="Ask the running stackit, and help to run it.", allow_abbrev=False)
    top.left_out = left_out
    top.add_argument("--version", action="version", version=f"stackit {VERSION}")
    _add_common(top)
    adding = top.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=_CommandParser)
    for command in commands.values():
        own = adding.add_parser(
            command.name,
            help=command.help.replace("%", "%%"),
            description=_literal(command.help),
            epilog=_literal(_examples(command)),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        _add_common(own, default=argparse.SUPPRESS)
        try:
            command.arguments(own)
        except BaseException as fault:  # foreign code: named
            reason = f"the arguments of the command {command.name} cannot be added: {describe(fault)}"
            raise PluginError(command.plugin or "stackit", reason) from fault
    return top


def _add_common(parser: argparse.ArgumentParser, **given: Any) -> None:
    """Add the options of every command, which stand before or behind its name.

    ``given`` is a default for all: behind the name, one that is not there must not undo what stands before.
    """
    adding = parser.add_argument_group("options of every command")

    def add(name: str, default: Any = None, **settings: Any) -> None:
        adding.add_argument(name, **{"default": default, **given, **settings})

    add("--admin-url", metavar="URL", help="where the admin side is, or unix:PATH (default: as configured)")
    add("--config", metavar="FILE", help="the configuration file (default: twistd.conf, if it is there)")
    add("--token-file", metavar="FILE", help="the bearer token (default: STACKIT_API_TOKEN)")
    add("--timeout", 600.0, type=_duration, metavar="TIME", help="how long to wait (default: 10m)")
    add("--json", False, action="store_true", help="print JSON instead of a table")
    add("--no-color", False, action="store_true", help="no color, also on a terminal (as does NO_COLOR)")


def parse(
    arguments: Sequence[str], commands: Mapping[str, Command], left_out: Sequence[PluginError] = ()
) -> argparse.Namespace:
    """Return the parsed command line; ``command`` is the name of the command.

    Exits with status 2, and a line that names the reason, where it makes no sense. Raises PluginError as ``parser``.
    """
    top = parser(commands, left_out)
    options = top.parse_args(arguments)
    if options.command is None:
        top.error("a COMMAND is missing: stackit --help lists them")
    try:
        commands[options.command].check(options)
    except ValueError as problem:
        top.error(str(problem))
    return options


def _examples(command: Command) -> str:
    lines = command.example.splitlines()
    heading = ["example:" if len(lines) == 1 else "examples:"] if lines else []
    return "\n".join([*heading, *(f"  {line}" for line in lines)])


def _literal(text: str) -> str:
    """Return a text that argparse shows as ``text`` at the top or the end of a help: there it formats only some."""
    return text.replace("%", "%%") if "%(prog)" in text else text


def _duration(text: str) -> float:
    try:
        duration = Duration.parse(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None
    if duration <= 0:
        raise argparse.ArgumentTypeError("must be more than 0")
    return duration
