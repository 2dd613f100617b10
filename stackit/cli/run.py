"""From a command line to an exit status: 0 done, 1 not done, 2 not understood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import isawaitable
from pathlib import Path
from typing import TextIO

from stackit.api.commands import Command, Printer, Shell
from stackit.api.errors import ConfigError, PluginError, StackitError, describe
from stackit.api.reactor import Reactor
from stackit.cli.client import HTTPAdminClient, find
from stackit.cli.loading import load_commands
from stackit.cli.parser import config_option, parse
from stackit.text.tables import plain


async def run(
    reactor: Reactor, arguments: Sequence[str], *, environ: Mapping[str, str], cwd: Path, out: TextIO, err: TextIO
) -> int:
    """Do one command; returns the exit status. Raises SystemExit where the command line makes no sense."""
    try:
        commands, left_out = load_commands(config_option(arguments), environ, cwd)
        options = parse(arguments, commands, left_out)
    except StackitError as problem:
        err.write(f"stackit: {plain(problem)}\n")
        return 2
    clients: list[HTTPAdminClient] = []

    def connect() -> HTTPAdminClient:
        clients.append(
            find(
                reactor,
                url=options.admin_url,
                config=options.config,
                token_file=options.token_file,
                timeout=options.timeout,
                environ=environ,
                cwd=cwd,
            )
        )
        return clients[0]

    printer = Printer(out, as_json=options.json)
    shell = Shell(reactor=reactor, options=options, printer=printer, environ=environ, cwd=cwd, connect=connect)
    command = commands[options.command]
    try:
        running = command.run(shell)
        if isawaitable(running):
            await running
    except StackitError as problem:
        err.write(f"stackit: {plain(problem)}\n")
        return 2 if isinstance(problem, ConfigError) else 1
    except Exception as fault:  # noqa: BLE001 - foreign code: a command may be a plugin's
        err.write(f"stackit: {plain(_failure(command, fault, clients))}\n")
        return 1
    return 0


def _failure(command: Command, fault: Exception, clients: Sequence[HTTPAdminClient]) -> StackitError:
    if isinstance(fault, KeyError | TypeError | ValueError) and clients and clients[0].answered:
        # The contract fixes the shapes of answers: this is another service, or a stackit of another age.
        url = clients[0].url
        return StackitError(f"{url} answered with something that this version cannot read: {describe(fault)}")
    return PluginError(command.plugin or "stackit", f"the command {command.name} failed: {describe(fault)}")
