"""From a command line to an exit status: 0 done, 1 not done, 2 not understood."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Awaitable, Callable, Mapping, Sequence
from inspect import isawaitable
from pathlib import Path
from typing import TextIO

from stackit.api.commands import Command, Printer, Shell
from stackit.api.errors import ConfigError, ConfigErrors, NotServedError, PluginError, StackitError, describe
from stackit.api.reactor import Reactor
from stackit.api.tracebacks import describe_with_place
from stackit.cli.client import HTTPAdminClient, find
from stackit.cli.commands import COMMANDS
from stackit.cli.loading import load_commands
from stackit.cli.output import OutputError
from stackit.cli.parser import config_option, parse
from stackit.text.tables import plain

_NEED_NO_PLUGIN = frozenset({"-h", "--help", "--version"})


async def _at_once() -> None:
    """Wait for nothing."""


async def run(
    reactor: Reactor,
    arguments: Sequence[str],
    *,
    environ: Mapping[str, str],
    cwd: Path,
    out: TextIO,
    err: TextIO,
    now: Callable[[], float] = time.time,
    ready: Callable[[], Awaitable[None]] = _at_once,
) -> int:
    """Do one command; returns the exit status. Raises SystemExit where the command line makes no sense.

    ``now`` is the wall clock. ``ready`` is awaited when the command is known, before it begins.
    """
    try:
        commands, left_out = load_commands(config_option(arguments), environ, cwd)
        options = parse(arguments, commands, left_out)
    except OutputError as problem:
        return tell(problem, err)
    except StackitError as problem:
        if not _NEED_NO_PLUGIN.isdisjoint(arguments):
            parse(arguments, {each.name: each for each in COMMANDS})  # which shows the help, or the version
        return tell(problem, err, 2)
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

    printer = Printer(out, as_json=options.json, color=_has_color(options, environ, out), now=now)
    shell = Shell(
        reactor=reactor,
        options=options,
        printer=printer,
        environ=environ,
        cwd=cwd,
        connect=connect,
        commands=commands,
    )
    command = commands[options.command]
    await ready()
    try:
        running = command.run(shell)
        if isawaitable(running):
            await running
    except NotServedError as problem:
        return tell(await _not_served(command, clients, problem), err)
    except StackitError as problem:
        return tell(problem, err, 2 if isinstance(problem, ConfigError) else 1)
    except Exception as fault:  # noqa: BLE001 - foreign code: a command may be a plugin's
        return tell(_failure(command, fault, clients), err)
    return 0


async def _not_served(command: Command, clients: Sequence[HTTPAdminClient], problem: NotServedError) -> StackitError:
    """Return why the running stackit does not serve what a command asks for: it may lack the plugin of the command."""
    if not clients:
        return problem
    url = clients[0].url
    if command.plugin is None:
        return StackitError(
            f"the stackit at {url} serves nothing that stackit {command.name} asks for: see its version"
        )
    try:
        there = await clients[0].ask("GET", "/plugins")
    except StackitError:
        return problem
    if any(each["name"] == command.plugin for each in there["plugins"]):
        return problem
    needs = f"stackit {command.name} needs the plugin {command.plugin} in the stackit at {url}, which does not have it"
    broken = next((each["reason"] for each in there["left_out"] if each["name"] == command.plugin), None)
    return StackitError(f"{needs}: {broken or f'see enabled in its [plugins.{command.plugin}]'}")


def tell(problem: StackitError, err: TextIO, status: int = 1) -> int:
    """Say what went wrong, in a line for each mistake of a configuration and in one line else.

    Returns the exit status: ``status``, or that of the output's failure.
    """
    if isinstance(problem, OutputError):
        status = problem.status
        if problem.is_silent:
            return status
    lines = problem.lines if isinstance(problem, ConfigErrors) else (problem,)
    err.writelines(f"stackit: {plain(line)}\n" for line in lines)
    return status


def _has_color(options: Namespace, environ: Mapping[str, str], out: TextIO) -> bool:
    """Return whether tables have color: only on a terminal that knows it, and unless it is not wanted."""
    unwanted = options.no_color or bool(environ.get("NO_COLOR"))
    return not unwanted and environ.get("TERM", "dumb") != "dumb" and out.isatty()


def _failure(command: Command, fault: Exception, clients: Sequence[HTTPAdminClient]) -> StackitError:
    if isinstance(fault, KeyError | TypeError | ValueError) and clients and clients[0].answered:
        # The contract fixes the shapes of answers: this is another service, or a stackit of another age.
        url = clients[0].url
        return StackitError(f"{url} answered with something that this version cannot read: {describe(fault)}")
    return PluginError(command.plugin or "stackit", f"the command {command.name} failed: {describe_with_place(fault)}")
