"""From entry points and configuration to registered plugins.

A plugin that the configuration names must work, or stackit does not start. One that
merely happens to be installed is left out with its reason, and the others go on.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from stackit.api.errors import ConfigError, PluginError, StackitError, describe
from stackit.bus.bus import Bus
from stackit.bus.implementations import plugin_fault
from stackit.bus.plugin_files import import_file
from stackit.bus.plugin_settings import OnSecret, PluginTable, decode_settings, plugin_table, setting_error
from stackit.config.mistakes import AT_ONCE, Mistakes
from stackit.config.values import told
from stackit.secrets.redactor import Redact
from stackit.text.escape import escape

GROUP = "stackit"


def load_plugins(
    bus: Bus,
    tables: Mapping[str, Mapping[str, Any]],
    *,
    directory: Path,
    source: Path | None = None,
    installed: Iterable[EntryPoint] | None = None,
    strict: bool = True,
    mistakes: Mistakes = AT_ONCE,
    on_secret: OnSecret = lambda _: None,
) -> list[PluginError]:
    """Register every plugin that is installed or configured, and not disabled.

    ``tables`` are the ``[plugins.NAME]`` tables, ``directory`` what relative paths in them are
    relative to, ``source`` the file that they come from, ``installed`` the entry points
    (default: those of this environment). Returns the faults of plugins that nobody named. For one that the
    configuration names PluginError is raised, and ConfigError for a table that cannot be right; without ``strict``
    these are returned as well. ``mistakes`` may collect what else would be raised. ``on_secret`` is told of the file of
    each secret in the plugins' settings.
    """
    problems: list[PluginError] = []
    found, clashes = _installed(entry_points(group=GROUP) if installed is None else installed)
    problems += clashes
    for name in sorted({*found, *tables}):
        named = name in tables
        where = table_name(name, source)
        try:
            table = plugin_table(where, tables.get(name, {}))
            if table.enabled:
                target = _target(name, where, table, found, directory, bus.redact)
                decode = partial(decode_settings, where, target, tables.get(name, {}))
                decode = partial(decode, directory=directory, on_secret=on_secret)
                bus.register(name, _instance(name, where, target, tables.get(name, {}), decode, bus.redact))
        except StackitError as problem:
            if isinstance(problem.__cause__, KeyboardInterrupt):  # Ctrl-C
                raise
            if named and strict:
                mistakes.note(problem)
                continue
            problems.append(problem if isinstance(problem, PluginError) else PluginError(name, str(problem)))
    return problems


def table_name(plugin: str, source: Path | None) -> str:
    """Return the place of a plugin's table, for a message."""
    return f"{source}: plugins.{plugin}" if source else f"plugins.{plugin}"


def _installed(points: Iterable[EntryPoint]) -> tuple[dict[str, EntryPoint], list[PluginError]]:
    found: dict[str, EntryPoint] = {}
    clashes = []
    # stackit's own come first, so that no other package takes a bundled plugin's name.
    for point in sorted(points, key=lambda each: (not each.value.startswith("stackit."), each.name, each.value)):
        earlier = found.setdefault(point.name, point)
        if earlier.value != point.value:
            clashes.append(PluginError(point.name, f"{point.value} has the name of {earlier.value}, and is left out"))
    return found, clashes


def _target(
    name: str,
    where: str,
    table: PluginTable,
    found: Mapping[str, EntryPoint],
    directory: Path,
    redact: Redact,
) -> object:
    if table.file is not None and table.module is not None:
        raise ConfigError(f"{where}: has both module and file, expected one of them")
    if table.file is not None:
        file, _, attribute = table.file.partition(":")
        if not (directory / file).is_file():
            raise ConfigError(escape(f"{where}.file: there is no file {directory / file}{told('file', table.file)}"))
        return _imported(name, table.file, lambda: _from_file(name, directory / file, attribute), redact)
    if table.module is not None:
        point = EntryPoint(name=name, value=table.module, group=GROUP)
        if EntryPoint.pattern.match(table.module) is None:
            expected = "expected 'package.module' or 'package.module:Object'"
            raise ConfigError(escape(f"{where}.module: {expected}{told('module', table.module)}"))
        return _imported(name, table.module, point.load, redact)
    if name in found:
        return _imported(name, found[name].value, found[name].load, redact)
    raise ConfigError(
        f"{where}: no installed package has a plugin of that name (there are: {', '.join(found)}); "
        "install it, or say module = or file ="
    )


def _from_file(name: str, path: Path, attribute: str) -> object:
    module = import_file(name, path)
    return getattr(module, attribute) if attribute else module


def _imported(name: str, source: str, load: Callable[[], object], redact: Redact) -> object:
    try:
        return load()
    except BaseException as fault:  # foreign code, which may raise anything at import
        raise plugin_fault(name, f"{source} cannot be imported", fault, redact) from fault


def _instance(
    name: str, where: str, target: Any, table: Mapping[str, Any], decode: Callable[[], Any], redact: Redact
) -> object:
    """Return the plugin. A class is instantiated, with its settings if it declares ``Settings``."""
    try:
        settings = decode()
        if not inspect.isclass(target):
            return target
        make: Callable[..., object] = target
        return make() if settings is None else make(settings)
    except StackitError:
        raise
    except ValueError as fault:  # documented: a value that makes no sense to the plugin
        reason = describe(fault, redact)
        wrong = setting_error(where, table, reason.partition(": ")[2])
        raise wrong or PluginError(name, f"cannot be set up: {reason}") from None
    except BaseException as fault:  # foreign code, which may raise anything when made
        raise plugin_fault(name, "cannot be set up", fault, redact) from fault
