"""The plugins' part of a reload: each takes its own table by ``stackit_reload``, or it needs a restart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from stackit.api.errors import ConfigError, StackitError, describe
from stackit.api.hookspecs import stackit_reload
from stackit.bus.bus import Bus
from stackit.bus.loader import table_name
from stackit.bus.plugin_settings import OnSecret, decode_settings, plugin_table
from stackit.config.model import Config
from stackit.reload.reloader import Prepare, Step

Tables = Mapping[str, Mapping[str, Any]]


def prepare_plugins(bus: Bus, on_secret: OnSecret) -> Prepare:
    """Return the part of the settings ``plugins``. ``on_secret`` is told of the file of each secret in them."""

    def decode(name: str, config: Config) -> Any:
        directory = config.source.parent if config.source else Path.cwd()
        table = config.plugins.get(name, {})
        where = table_name(name, config.source)
        try:
            return decode_settings(where, bus.kind(name), table, directory=directory, on_secret=on_secret)
        except StackitError:
            raise
        except BaseException as fault:  # foreign code: a struct of settings may raise anything
            raise ConfigError(f"{where}: {describe(fault, bus.redact)}") from fault

    def prepare(old: Config, new: Config, _: Sequence[str]) -> Sequence[Step]:
        fixed: list[str] = []
        steps: list[Step] = []
        for name in sorted({*old.plugins, *new.plugins}):
            before, after = old.plugins.get(name, {}), new.plugins.get(name, {})
            if before == after:
                continue
            where = table_name(name, new.source)
            enabled = plugin_table(where, after).enabled
            if plugin_table(where, before) != plugin_table(where, after):
                fixed.append(name)
            elif bus.kind(name) is None:
                fixed += [name] if enabled else []  # a disabled one has no use for settings
            elif bus.has(stackit_reload, name):
                steps.append(_step(bus, name, where, decode(name, old), decode(name, new)))
            else:
                decode(name, new)  # or the next start would find what is wrong
                fixed.append(name)
        restart = [f"plugins.{name}" for name in fixed]
        kept = _kept(old.plugins, new.plugins, fixed)
        return [*steps, Step(restart=restart, keep={"plugins": kept})]

    return prepare


def _kept(old: Tables, new: Tables, fixed: Sequence[str]) -> Tables:
    """Return the tables as they hold now: those that need a restart are as they were."""
    return {name: table for name, table in new.items() if name not in fixed} | {
        name: old[name] for name in fixed if name in old
    }


def _step(bus: Bus, name: str, where: str, old: object, new: object) -> Step:
    return Step(
        apply=partial(_tell, bus, name, where, new),
        undo=partial(_tell, bus, name, where, old),
        changes=[f"plugins.{name}"],
    )


def _tell(bus: Bus, name: str, where: str, settings: object) -> None:
    try:
        bus.tell(stackit_reload, name, settings)
    except Exception as fault:
        raise ConfigError(f"{where}: the plugin refuses it: {describe(fault, bus.redact)}") from fault
