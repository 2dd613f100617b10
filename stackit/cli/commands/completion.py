"""``stackit completion``: print the script by which a shell completes the command line of ``stackit``."""

from __future__ import annotations

from argparse import ArgumentParser

from stackit.api.commands import Command, Shell
from stackit.cli.completion import SHELLS, completion
from stackit.cli.parser import parser


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=f"one of {', '.join(SHELLS)}")


def _run(shell: Shell) -> None:
    script = completion(parser(shell.commands), shell.options.shell)
    shell.printer.show({"shell": shell.options.shell, "script": script}, script)


COMMAND = Command(
    name="completion",
    help="Print the completion script of a shell, with the commands of plugins.",
    run=_run,
    arguments=_arguments,
    example="stackit completion bash",
)
