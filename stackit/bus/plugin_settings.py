"""The table of a plugin in the configuration: stackit's own keys, and the plugin's settings as its typed struct."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import msgspec.inspect

from stackit.api.errors import ConfigError
from stackit.api.secret_file import SecretFile
from stackit.config import checks
from stackit.config.toml import in_words, shown_key
from stackit.config.values import told
from stackit.text.escape import escape
from stackit.text.units import decode_unit

OnSecret = Callable[[Path], Callable[[], object] | None]
"""Called with the file of a secret in a plugin's settings; may return a function to call whenever the plugin reads it.

May raise ValueError for a file that holds none.
"""


# msgspec's texts about a key, which it has in the text itself, and ours.
_FIELDS = {
    re.compile(r"Object missing required field `([^`]+)`"): "missing",
    re.compile(r"Object contains unknown field `([^`]+)`"): "unknown key",
}
_STEP = re.compile(r"\.([^.\[\]]+)|\[([^\]]*)\]")


class PluginTable(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """The keys of ``[plugins.NAME]`` that are stackit's own; all others are the plugin's settings.

    ``module`` is ``package.module`` or ``package.module:Object``, ``file`` is ``notes.py`` or ``notes.py:Object``.
    """

    enabled: bool = True
    module: str | None = None
    file: str | None = None


def plugin_table(where: str, table: Mapping[str, Any]) -> PluginTable:
    """Return stackit's own keys of a plugin's table. Raises ConfigError."""
    try:
        return msgspec.convert(dict(table), PluginTable)
    except msgspec.ValidationError as problem:
        raise _mistake(where, table, problem) from None


def decode_settings(
    where: str, target: object, table: Mapping[str, Any], *, directory: Path, on_secret: OnSecret
) -> Any:
    """Return the settings of a plugin in its table, as ``target.Settings``; None for a plugin that takes none.

    ``target`` is the plugin's class, or the plugin where it is none. Relative paths start at ``directory``. Raises
    ConfigError that begins with ``where`` and the key, and whatever ``Settings`` raises.
    """
    settings = {key: value for key, value in table.items() if key not in PluginTable.__struct_fields__}
    wanted = getattr(target, "Settings", None) if inspect.isclass(target) else None
    if wanted is None:
        if settings:
            raise ConfigError(escape(f"{where}: has {', '.join(settings)}, but the plugin takes no settings"))
        return None
    fields = _fields(wanted)
    unknown = settings.keys() - fields.keys()
    if unknown:
        raise ConfigError(escape(f"{where}.{min(unknown)}: unknown key (there are: {', '.join(sorted(fields))})"))

    def decode(kind: type, value: Any) -> Any:
        if kind is Path:
            return checks.path(value, directory)
        if kind is SecretFile:
            file = checks.path(value, directory)
            on_read = on_secret(file)
            return SecretFile(file) if on_read is None else SecretFile(file, on_read)
        return decode_unit(kind, value)

    # A default path is no other than one that is given.
    defaults = {name: str(each.default) for name, each in fields.items() if isinstance(each.default, Path)}
    try:
        return msgspec.convert({**defaults, **settings}, wanted, dec_hook=decode)
    except msgspec.ValidationError as problem:
        raise _mistake(where, table, problem) from None


def setting_error(where: str, table: Mapping[str, Any], text: str) -> ConfigError | None:
    """Return the error for a text that begins with a key of the table, as in ``burst: must be at least 1``."""
    key, colon, problem = text.partition(": ")
    if not colon or key not in table:
        return None
    return ConfigError(escape(f"{where}.{shown_key(key)}: {problem}{told(key, table[key], problem)}"))


def _mistake(where: str, table: Mapping[str, Any], problem: msgspec.ValidationError) -> ConfigError:
    """Return the error with the key first; msgspec has it last: ``Expected `int`, got `str` - at `$.concurrency```."""
    text, _, path = str(problem).partition(" - at `$")
    place = path.rstrip("`")
    for pattern, said in _FIELDS.items():
        field = pattern.fullmatch(text)
        if field is not None:
            return ConfigError(escape(f"{where}{place}.{field[1]}: {said}"))
    named = setting_error(where, table, text) if not place else None
    if named is not None:
        return named
    words = in_words(text)
    return ConfigError(escape(f"{where}{place}: {words}{_told_at(table, place, words)}"))


def _told_at(table: Mapping[str, Any], place: str, problem: str) -> str:
    """Return the value at a place as msgspec has it, such as ``.inner.names[2]``, for the end of a message."""
    keys = ""
    value: Any = table
    for key, index in _STEP.findall(place):
        try:
            value = value[key] if key else value[int(index)]
        except (LookupError, TypeError, ValueError):
            return ""  # msgspec does not tell the key of a table that may have any
        keys += f" {key}"
    return told(keys, value, problem) if keys else ""


def _fields(settings: type) -> dict[str, msgspec.inspect.Field]:
    """Return the fields of a ``Settings`` by key. msgspec ignores all other keys, unless its author forbids them."""
    described = msgspec.inspect.type_info(settings)
    if not isinstance(described, msgspec.inspect.StructType | msgspec.inspect.DataclassType):
        raise TypeError("Settings must be a msgspec.Struct or a dataclass")
    return {field.encode_name: field for field in described.fields}
