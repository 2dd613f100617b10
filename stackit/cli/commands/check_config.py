"""``stackit check-config``: what a start would say of the configuration, without a start."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from stackit.api.commands import Command, Shell
from stackit.api.errors import ConfigError, ConfigErrors, JournalError, StackitError
from stackit.api.forge import Forges
from stackit.bus.bus import Bus
from stackit.bus.loader import load_plugins
from stackit.config.fleet import missing_package
from stackit.config.load import load
from stackit.config.mistakes import Mistakes
from stackit.config.model import Config, secret_files, secrets
from stackit.config.redactor import add_secret_file
from stackit.secrets.redactor import Redactor, proxy_passwords


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a check: ``mistakes`` stop a start, ``notices`` are lines that the log of a start would have.

    ``listings`` are the tables ``[[discover]]``, which find more repositories than ``repos``. ``connected`` tells that
    the database of a fleet was tried, and can be used.
    """

    file: str | None
    plugins: list[str] = []
    repos: int = 0
    listings: int = 0
    connected: bool = False
    mistakes: list[str] = []
    notices: list[str] = []


def check(config: str | None, environ: Mapping[str, str], cwd: Path, *, connect: bool = False) -> Checked:
    """Read a configuration, its plugins' tables and all that it names. ``config`` is the value of ``--config``.

    With ``connect``, the database of a fleet is tried, too. Blocks.
    """
    mistakes = Mistakes(collect=True)
    loaded: Config | None = None
    with mistakes.noted():
        loaded = load({"config": config}, environ, cwd=cwd, mistakes=mistakes)
    if loaded is None:
        return Checked(file=config, mistakes=[str(each) for each in mistakes.found])
    redact = Redactor((*secrets(loaded), *proxy_passwords(os.environ)), secret_files(loaded))
    of_file = [str(each) for each in mistakes.found]
    bus = Bus(redact)
    source = loaded.source

    left_out = load_plugins(
        bus,
        loaded.plugins,
        directory=source.parent if source else cwd,
        source=source,
        mistakes=mistakes,
        on_secret=partial(add_secret_file, redact),
    )
    doubts: list[str] = []
    if loaded.fleet.is_configured:
        with mistakes.noted():
            doubts = _check_database(loaded, connect=connect)
    return Checked(
        file=str(source) if source else None,
        plugins=bus.plugins(),
        repos=len(loaded.repos),
        listings=len(loaded.discover),
        connected=connect and loaded.fleet.is_configured and not mistakes.found,
        # Texts of plugins may hold a secret; those of stackit's own checks do not.
        mistakes=[*of_file, *(redact(str(each)) for each in mistakes.found[len(of_file) :])],
        notices=[] if mistakes.found else [redact(each) for each in [*_notices(loaded, bus, left_out), *doubts]],
    )


def _check_database(config: Config, *, connect: bool) -> list[str]:
    """Check where the database of a fleet is, as far as that can be told without it; return what is doubtful.

    With ``connect``, try what a node does with it, and change nothing. Raises ConfigError.
    """
    try:
        # Their packages are an extra, for fleets alone.
        from stackit.journal.postgres.connection import Server  # noqa: PLC0415
        from stackit.journal.postgres.opening import examine  # noqa: PLC0415
    except ImportError as problem:
        raise ConfigError(f"{config.where('fleet.postgres')}: {missing_package(problem)}") from None
    server = Server(config.fleet.postgres or "", float(config.fleet.lease))
    try:
        server.parameters()
        return examine(server, config.fleet.shards) if connect else []
    except JournalError as problem:
        raise ConfigError(f"{config.where('fleet.postgres')}: {problem}") from None


def _notices(config: Config, bus: Bus, left_out: Sequence[StackitError]) -> list[str]:
    from stackit import forges  # noqa: PLC0415 - no other command needs what it imports

    lines: list[str] = []
    try:
        found = forges.with_secrets(config, lines.append)
    except StackitError as problem:  # whoever checks may not be the one who runs it
        return [f"the webhook secrets that stackit made cannot be looked at: {problem}"]
    lines += [f"{problem}; it is left out" for problem in left_out]
    lines += bus.doubts(Forges(forge for forge, _ in found).doubt)
    return lines + forges.notices(config, found)


def _run(shell: Shell) -> None:
    checked = check(shell.options.config, shell.environ, shell.cwd, connect=shell.options.connect)
    if checked.mistakes:
        if shell.options.json:
            shell.printer.show(msgspec.to_builtins(checked), "")
        raise ConfigErrors(checked.mistakes)
    file = checked.file or "no configuration file"
    more = " and those that [[discover]] finds" if checked.listings else ""
    lines = [f"{file}: no mistakes; repositories: {checked.repos}{more}; plugins: {', '.join(checked.plugins)}"]
    if checked.connected:
        lines.append("the database of the fleet can be used")
    lines += [f"notice: {each}" for each in checked.notices]
    shell.printer.show(msgspec.to_builtins(checked), "\n".join(lines))


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--connect", action="store_true", help="try the database of a fleet, too, and change nothing")


COMMAND = Command(
    name="check-config",
    help="Say what a start would say of the configuration, without a start.",
    run=_run,
    arguments=_arguments,
    example="stackit check-config --config /etc/stackit/twistd.conf",
)
