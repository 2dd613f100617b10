"""The forges: GitHub, and those that installed packages bring by entry points of the group ``stackit.forges``."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any

import msgspec

from stackit.api.errors import ConfigError, describe
from stackit.api.forge import GITHUB, Forge, check_forge, secret_variable
from stackit.config import checks
from stackit.config.mistakes import AT_ONCE, Mistakes
from stackit.config.secret import Secret
from stackit.config.setting import Setting, check_settings, checked
from stackit.config.toml import decode_table, shown_key
from stackit.config.values import told
from stackit.text.escape import escape

GROUP = "stackit.forges"
BUILT_IN = EntryPoint(name=GITHUB, value="stackit.github:GitHub", group=GROUP)
"""GitHub, found like any other forge, and there without being installed by itself."""


class ForgeTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[forges.NAME]``. Its other keys are the settings of the forge."""

    secret_files: Annotated[tuple[Path, ...], Setting("files with one webhook secret each", checks.readable_files)] = ()


class ForgeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A forge other than GitHub, with its secrets: that of the environment, and the files of the others.

    ``named`` tells that the configuration has a table of it; ``settings`` are the keys of the table that are the
    forge's own.
    """

    forge: Forge
    named: bool = False
    settings: Mapping[str, Any] = {}
    secret: Secret | None = None
    secret_files: tuple[Path, ...] = ()


def load_forges(
    tables: Mapping[str, Any],
    environ: Mapping[str, str],
    source: Path | None,
    installed: Iterable[EntryPoint] | None = None,
    mistakes: Mistakes = AT_ONCE,
) -> tuple[list[ForgeConfig], list[str]]:
    """Return the forges that are installed, and a line for each that is broken and not named in the file.

    ``tables`` are the ``[forges.NAME]`` of the file ``source``, ``installed`` the entry points (default: those of
    this environment). Raises ConfigError for a named forge that is missing or broken, for a table that is wrong, and
    for a variable that would be the secret of two forges.
    """
    points: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP) if installed is None else installed:
        points.setdefault(point.name, []).append(point)
    loaded: list[ForgeConfig] = []
    problems: list[str] = []
    for name in sorted({*points, *tables}):
        where = f"{source}: forges.{shown_key(name)}" if source else f"forges.{shown_key(name)}"
        try:
            loaded.append(_load(name, points, tables.get(name), environ, source, where))
        except ConfigError as problem:
            if name in tables:
                mistakes.note(problem)
            else:
                problems.append(str(problem))
    with mistakes.noted():
        _check_variables(loaded)
    return loaded, problems


def _check_variables(forges: Iterable[ForgeConfig]) -> None:
    """Raise ConfigError where two forges have one secret from the environment: each could sign for the other."""
    owners: dict[str, str] = {}
    for name in (each.forge.name for each in forges if each.secret):
        variable = secret_variable(name)
        other = owners.setdefault(variable, name)
        if other != name:
            raise ConfigError(
                f"{variable}: is the secret of two forges, {other} and {name}; unset it, and give each a secret of its "
                f"own: secret_files in [forges.{other}] and [forges.{name}]"
            )


def _load(
    name: str,
    points: Mapping[str, list[EntryPoint]],
    table: Any,
    environ: Mapping[str, str],
    source: Path | None,
    where: str,
) -> ForgeConfig:
    if name == GITHUB:
        raise ConfigError(f"{where}: GitHub is always there; its secrets are secret_files in [webhook]")
    if name not in points:
        there = ", ".join(sorted({GITHUB, *points}))
        raise ConfigError(f"{where}: no installed package has a forge of that name (there are: {there})")
    point = _only(points[name], where)
    if table is not None and not isinstance(table, dict):
        raise ConfigError(escape(f"{where}: expected a table, [forges.NAME]{told(name, table)}"))
    own = {key: value for key, value in (table or {}).items() if key in ForgeTable.__struct_fields__}
    settings = {key: value for key, value in (table or {}).items() if key not in own}
    base = source or Path("/")  # where there is no file, there is no table either
    known = decode_table(own, ForgeTable, base, base.parent, f"forges.{name}.")
    check_settings(known, lambda setting: f"{where}.{setting}")
    variable = secret_variable(name)
    secret = checked(variable, checks.utf8, environ.get(variable, "").strip())
    return ForgeConfig(
        forge=_forge(point, settings, base, where),
        named=table is not None,
        settings=settings,
        secret=Secret(secret) if secret else None,
        secret_files=known.secret_files,
    )


def _only(points: list[EntryPoint], where: str) -> EntryPoint:
    """Return the one entry point. Raises ConfigError where packages have different ones of the same name."""
    if len({each.value for each in points}) > 1:
        found = " and ".join(sorted(f"{each.value}{f' of {each.dist.name}' if each.dist else ''}" for each in points))
        raise ConfigError(f"{where}: several installed packages have a forge of that name: {found}; keep one of them")
    return points[0]


def _forge(point: EntryPoint, settings: Mapping[str, Any], file: Path, where: str) -> Forge:
    """Import a forge, and make it with its settings where it declares a struct ``Settings``."""
    try:
        target = point.load()
        wanted = getattr(target, "Settings", None) if inspect.isclass(target) else None
        if wanted is None and settings:
            raise ConfigError(f"{where}: has {', '.join(settings)}, but the forge takes no settings")
        if wanted is not None:
            target = target(decode_table(settings, wanted, file, file.parent, f"forges.{point.name}."))
        elif inspect.isclass(target):
            target = target()
        return check_forge(target, point.name)
    except ConfigError:
        raise
    except BaseException as fault:  # foreign code, which may raise anything
        raise ConfigError(f"{where}: {point.value} cannot be used: {describe(fault)}") from fault
