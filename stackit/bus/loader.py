"""From entry points and configuration to registered plugins.

A plugin that the configuration names must work, or stackit does not start. One that
merely happens to be installed is left out with its reason, and the others go on.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import msgspec
import msgspec.inspect

from stackit.api.errors import ConfigError, PluginError, StackitError, describe
from stackit.bus.bus import Bus
from stackit.config.toml import in_words
from stackit.text.units import decode_unit

GROUP = "stackit"


class PluginTable(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """The keys of ``[plugins.NAME]`` that are stackit's own; all others are the plugin's settings.

    ``module`` is ``package.module`` or ``package.module:Object``, ``file`` is ``notes.py`` or ``notes.py:Object``.
    """

    enabled: bool = True
    module: str | None = None
    file: str | None = None


def load_plugins(
    bus: Bus,
    tables: Mapping[str, Mapping[str, Any]],
    *,
    directory: Path,
    source: Path | None = None,
    installed: Iterable[EntryPoint] | None = None,
    strict: bool = True,
) -> list[PluginError]:
    """Register every plugin that is installed or configured, and not disabled.

    ``tables`` are the ``[plugins.NAME]`` tables, ``directory`` what a relative ``file`` is
    relative to, ``source`` the file that they come from, ``installed`` the entry points
    (default: those of this environment). Returns the faults of plugins that nobody named. For one that the
    configuration names PluginError is raised, and ConfigError for a table that cannot be right; without ``strict``
    these are returned as well.
    """
    problems: list[PluginError] = []
    found, clashes = _installed(entry_points(group=GROUP) if installed is None else installed)
    problems += clashes
    for name in sorted({*found, *tables}):
        named = name in tables
        where = f"{source}: plugins.{name}" if source else f"plugins.{name}"
        try:
            table = _table(where, tables.get(name, {}))
            if table.enabled:
                target = _target(name, where, table, found, directory)
                bus.register(name, _instance(name, where, target, tables.get(name, {})))
        except StackitError as problem:
            if (named and strict) or isinstance(problem.__cause__, KeyboardInterrupt):  # Ctrl-C
                raise
            problems.append(problem if isinstance(problem, PluginError) else PluginError(name, str(problem)))
    return problems


def _installed(points: Iterable[EntryPoint]) -> tuple[dict[str, EntryPoint], list[PluginError]]:
    found: dict[str, EntryPoint] = {}
    clashes = []
    # stackit's own come first, so that no other package takes a bundled plugin's name.
    for point in sorted(points, key=lambda each: (not each.value.startswith("stackit."), each.name, each.value)):
        earlier = found.setdefault(point.name, point)
        if earlier.value != point.value:
            clashes.append(PluginError(point.name, f"{point.value} has the name of {earlier.value}, and is left out"))
    return found, clashes


def _table(where: str, table: Mapping[str, Any]) -> PluginTable:
    try:
        return msgspec.convert(dict(table), PluginTable)
    except msgspec.ValidationError as problem:
        raise _mistake(where, problem) from None


def _target(name: str, where: str, table: PluginTable, found: Mapping[str, EntryPoint], directory: Path) -> object:
    if table.file is not None and table.module is not None:
        raise ConfigError(f"{where}: has both module and file, expected one of them")
    if table.file is not None:
        file, _, attribute = table.file.partition(":")
        return _imported(name, table.file, lambda: _from_file(name, directory / file, attribute))
    if table.module is not None:
        point = EntryPoint(name=name, value=table.module, group=GROUP)
        if EntryPoint.pattern.match(table.module) is None:
            raise ConfigError(f"{where}.module: expected 'package.module' or 'package.module:Object'")
        return _imported(name, table.module, point.load)
    if name in found:
        return _imported(name, found[name].value, found[name].load)
    raise ConfigError(
        f"{where}: no installed package has a plugin of that name (there are: {', '.join(found)}); "
        "install it, or say module = or file ="
    )


def _from_file(name: str, path: Path, attribute: str) -> object:
    spec = importlib.util.spec_from_file_location(f"stackit_plugin_{name}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses and msgspec look up the names in annotations
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return getattr(module, attribute) if attribute else module


def _imported(name: str, source: str, load: Callable[[], object]) -> object:
    try:
        return load()
    except BaseException as fault:  # foreign code, which may raise anything at import
        raise PluginError(name, f"{source} cannot be imported: {describe(fault)}") from fault


def _instance(name: str, where: str, target: Any, table: Mapping[str, Any]) -> object:
    """Return the plugin. A class is instantiated, with its settings if it declares ``Settings``."""
    settings = {key: value for key, value in table.items() if key not in PluginTable.__struct_fields__}
    try:
        wanted = getattr(target, "Settings", None) if inspect.isclass(target) else None
        if wanted is None and settings:
            raise ConfigError(f"{where}: has {', '.join(settings)}, but the plugin takes no settings")
        if not inspect.isclass(target):
            return target
        make: Callable[..., object] = target
        if wanted is None:
            return make()
        unknown = settings.keys() - _keys(wanted)
        if unknown:
            known = ", ".join(sorted(_keys(wanted)))
            raise ConfigError(f"{where}.{min(unknown)}: unknown key (there are: {known})")
        return make(msgspec.convert(settings, wanted, dec_hook=decode_unit))
    except msgspec.ValidationError as problem:
        raise _mistake(where, problem) from None
    except StackitError:
        raise
    except BaseException as fault:  # foreign code, which may raise anything when made
        raise PluginError(name, f"cannot be set up: {describe(fault)}") from fault


def _keys(settings: type) -> set[str]:
    """Return the keys of a ``Settings``. msgspec ignores all others, unless its author forbids them."""
    described = msgspec.inspect.type_info(settings)
    if not isinstance(described, msgspec.inspect.StructType | msgspec.inspect.DataclassType):
        raise TypeError("Settings must be a msgspec.Struct or a dataclass")
    return {field.encode_name for field in described.fields}


def _mistake(where: str, problem: msgspec.ValidationError) -> ConfigError:
    """Return the error with the key first; msgspec has it last: ``Expected `int`, got `str` - at `$.concurrency```."""
    text, _, path = str(problem).partition(" - at `$")
    key = path.rstrip("`")
    return ConfigError(f"{where}{key}: {in_words(text)}")
