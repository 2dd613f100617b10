"""The commands of the shell: stackit's own, and those of the plugins that are installed or configured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from stackit.api.commands import Command, check_commands
from stackit.api.errors import ConfigError, PluginError
from stackit.api.hookspecs import stackit_commands
from stackit.bus.bus import Bus
from stackit.bus.loader import load_plugins
from stackit.cli.commands import COMMANDS
from stackit.config.load import default_file
from stackit.config.toml import read_toml


def load_commands(
    config: str | None, environ: Mapping[str, str], cwd: Path
) -> tuple[dict[str, Command], list[PluginError]]:
    """Return every command by its name, and the plugins that cannot be used, whose commands are missing.

    Nothing of the configuration but the tables of plugins is looked at, and nothing is started. Raises ConfigError for
    a file that cannot be read, PluginError for commands that cannot be given or have the name of another.
    """
    named = config or environ.get("STACKIT_CONFIG")
    file = cwd / named if named else default_file(cwd)
    tables = _plugin_tables(file) if file is not None else {}
    bus = Bus()
    left_out = load_plugins(bus, tables, directory=file.parent if file else cwd, source=file, strict=False)
    left_out += [
        PluginError(name, f"it is not enabled in {file}")
        for name, each in tables.items()
        if each.get("enabled") is False
    ]
    commands = [*COMMANDS, *bus.collect_items(stackit_commands)]
    check_commands(commands)
    return {each.name: each for each in commands}, left_out


def _plugin_tables(file: Path) -> dict[str, dict[str, Any]]:
    try:
        return msgspec.convert(read_toml(file).get("plugins", {}), dict[str, dict[str, Any]])
    except msgspec.ValidationError:
        raise ConfigError(f"{file}: plugins: expected tables such as [plugins.mirror]") from None
