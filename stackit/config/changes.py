"""Two configurations compared: the settings that differ, and those of them that only a restart changes."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import msgspec

from stackit.config.model import Config, FileTable
from stackit.config.setting import fields, is_table, settings

_NO_SETTINGS = {"source", "origins", "broken_forges"}
"""Fields of Config that tell where it came from."""


def all_settings(struct: type[msgspec.Struct] = Config, prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of every setting of a configuration; ``repos``, ``plugins`` and ``forges`` are one each."""
    for name, field in fields(struct).items():
        if is_table(field.kind):
            yield from all_settings(field.kind, f"{prefix}{name}.")
        elif f"{prefix}{name}" not in _NO_SETTINGS:
            yield f"{prefix}{name}"


def fixed_settings() -> frozenset[str]:
    """Return the settings that only a restart changes: those whose annotation says so."""
    return frozenset(name for struct in (FileTable, Config) for name, each in settings(struct) if each.restart)


def differing(old: Config, new: Config) -> list[str]:
    """Return the settings that are not the same in both."""
    return [name for name in all_settings() if attrgetter(name)(old) != attrgetter(name)(new)]


def replaced(config: Config, name: str, value: Any) -> Config:
    """Return the configuration with another value of the setting ``name``."""
    section, _, key = name.rpartition(".")
    if not section:
        return msgspec.structs.replace(config, **{key: value})
    table = msgspec.structs.replace(getattr(config, section), **{key: value})
    return msgspec.structs.replace(config, **{section: table})
