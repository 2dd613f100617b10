"""The configuration read from its sources: command line, environment, file, defaults, in this order of precedence.

Every mistake is a ConfigError of one line that names where the value came from and what is expected.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from stackit.api.errors import ConfigError
from stackit.api.forge import GITHUB
from stackit.config import checks
from stackit.config.access import access, managed_repos
from stackit.config.apps import UnknownAppError, configured_apps
from stackit.config.discover import discover_tables
from stackit.config.fleet import FleetConfig, fleet_table
from stackit.config.forges import BUILT_IN, load_forges
from stackit.config.login import login_table
from stackit.config.mistakes import AT_ONCE, Mistakes
from stackit.config.model import FILE_NAME, Config, FileTable, Settings, place
from stackit.config.scopes import scoped_secrets
from stackit.config.secret import Secret
from stackit.config.setting import Setting, Where, check_settings, checked, fields, settings
from stackit.config.toml import decode_table, decode_value, read_toml, shown_key
from stackit.config.values import told
from stackit.text.escape import escape


def load(
    options: Mapping[str, str | None], environ: Mapping[str, str], *, cwd: Path, mistakes: Mistakes = AT_ONCE
) -> Config:
    """Return the configuration. Raises ConfigError.

    Where mistakes are collected, the configuration is what is left without them, and good for nothing but further
    checks.

    ``options`` may have ``config``, ``listen``, ``admin_listen``, ``state_dir`` and ``sync_interval``; None means not
    given. An empty variable counts as unset. Relative paths in the file start at the file's directory, all others at
    ``cwd``; ``~`` has no meaning.
    """
    source = _find_file(options, environ, cwd)
    origins: dict[str, str] = {}

    def where(setting: str) -> str:
        return place(setting, source, origins)

    file = FileTable()
    if source is not None:
        file = decode_table(read_toml(source), FileTable, source, source.parent, mistakes=mistakes)
    for name, setting in settings(FileTable):
        for origin, text in _overrides(setting, options, environ):
            if text is not None:
                origins[name] = origin
                with mistakes.noted():
                    file = _override(file, name, text, origin, cwd)
                break

    check_settings(file, where, mistakes=mistakes)
    secrets = _secrets(environ, mistakes)
    as_given: dict[str, Any] = {
        name: getattr(file, name)
        for name in Settings.__struct_fields__
        if name not in ("api_prefixes", "login", "fleet")
    }
    forges, broken_forges = load_forges(file.forges, environ, source, mistakes=mistakes)
    api_prefixes: tuple[str, ...] = ()
    with suppress(ValueError):  # it is noted already
        api_prefixes = checks.prefixes(file.api_prefixes)
    by_name = {GITHUB: BUILT_IN.load()(), **{each.forge.name: each.forge for each in forges}}
    noted = len(mistakes.found)
    apps = configured_apps(file.apps, environ, cwd, where, mistakes)
    has_all_apps = None not in file.apps and len(mistakes.found) == noted
    given = access(file.owners, file.hosts, where, mistakes, apps=apps)
    config = Config(
        **as_given,
        forges=tuple(forges),
        broken_forges=tuple(broken_forges),
        scoped_secrets=scoped_secrets(file.repos, file.owners, apps, by_name),
        **secrets,
        api_prefixes=api_prefixes,
        state_dir=file.state_dir or _default_state_dir(environ, cwd),
        repos=managed_repos(file.repos, given, where, by_name, mistakes),
        owners=given.owners,
        hosts=given.hosts,
        apps=apps,
        login=login_table(file.login, apps, where, mistakes),
        fleet=fleet_table(file.fleet, _own_address(file), where, mistakes),
        discover=discover_tables(file.discover, apps, where, mistakes),
        plugins=_plugin_tables(file, where, mistakes),
        source=source,
        origins=origins,
    )
    with mistakes.noted(), suppress(ValueError):  # of an endpoint, which is noted already
        check_admin(config, where)
    if not has_all_apps:
        mistakes.drop(UnknownAppError)
    return config


def _own_address(file: FileTable) -> str | None:
    """Return where the admin side is reached, as far as its own settings tell."""
    if file.admin.url is not None:
        return file.admin.url
    with suppress(ValueError):  # it is noted already
        return checks.endpoint(file.admin.listen).url
    return None


def load_only(
    names: Collection[str], options: Mapping[str, str | None], environ: Mapping[str, str], *, cwd: Path
) -> tuple[FileTable, Where]:
    """Return the settings of these dotted names, unchecked, and where each came from.

    Nothing else of the configuration is looked at, so it works also for a person who may not read the secrets that the
    file names. All other settings have their defaults. Raises ConfigError.
    """
    source = _find_file(options, environ, cwd)
    origins: dict[str, str] = {}
    file = FileTable()
    if source is not None:
        file = decode_table(_only(names, read_toml(source)), FileTable, source, source.parent)
    for name, setting in settings(FileTable):
        for origin, text in _overrides(setting, options, environ) if name in names else ():
            if text is not None:
                origins[name] = origin
                file = _override(file, name, text, origin, cwd)
                break
    return file, lambda setting: place(setting, source, origins)


def _only(names: Collection[str], tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables without everything else. What should be a table and is none stays, for an error."""
    found: dict[str, Any] = {}
    for name in names:
        section, _, key = name.rpartition(".")
        table = tables.get(section, {}) if section else tables
        if not isinstance(table, dict):
            found[section] = table
        elif key in table:
            (found.setdefault(section, {}) if section else found)[key] = table[key]
    return found


def state_directory(options: Mapping[str, str | None], environ: Mapping[str, str], *, cwd: Path) -> Path:
    """Return the directory of the journal in SQLite, by a configuration of which nothing else is looked at.

    ``options`` may have ``config`` and ``state_dir``. Raises ConfigError, also for a node of a fleet: a journal in its
    state directory is one of before.
    """
    file, where = load_only(("state_dir", "fleet.postgres"), options, environ, cwd=cwd)
    if file.fleet.is_configured:
        raise ConfigError(
            f"{where('fleet.postgres')}: the journal is in that database, which pg_dump and the like back up; for one "
            "in SQLite, name a configuration without it (--config)"
        )
    return file.state_dir or _default_state_dir(environ, cwd)


def fleet_database(
    options: Mapping[str, str | None], environ: Mapping[str, str], *, cwd: Path
) -> tuple[FleetConfig, Path]:
    """Return the database of a fleet and the state directory, of a configuration of which nothing else is looked at.

    ``options`` may have ``config`` and ``state_dir``. Of the table, only what is about the database is set. Raises
    ConfigError, also where no database is named.
    """
    file, where = load_only(("state_dir", "fleet.postgres", "fleet.shards", "fleet.lease"), options, environ, cwd=cwd)
    check_settings(file.fleet, where, "fleet.")
    if file.fleet.postgres is None:
        raise ConfigError(f"{where('fleet.postgres')}: missing; say where the database is")
    return file.fleet, file.state_dir or _default_state_dir(environ, cwd)


def _find_file(options: Mapping[str, str | None], environ: Mapping[str, str], cwd: Path) -> Path | None:
    for origin, text in (
        ("--config", options.get("config")),
        ("STACKIT_CONFIG", environ.get("STACKIT_CONFIG") or None),
    ):
        if text is not None:
            source: Path = checked(origin, checks.path, text, cwd)
            checked(origin, checks.configuration_file, source)
            return source
    return default_file(cwd)


def default_file(cwd: Path) -> Path | None:
    """Return ``twistd.conf`` in a directory, None if there is none. Raises ConfigError where that cannot be known."""
    # A dangling link is an error to report, so the name counts and not the file behind it.
    default = cwd / FILE_NAME
    try:
        return default if default.exists() or default.is_symlink() else None
    except OSError as problem:
        raise ConfigError(
            f"{default}: cannot be looked for: {problem.strerror}; name a file with --config, or change to a directory "
            "that you may read"
        ) from None


def _overrides(
    setting: Setting, options: Mapping[str, str | None], environ: Mapping[str, str]
) -> Iterator[tuple[str, str | None]]:
    """Yield the sources that come before the file: each with its text, None if there is none."""
    if setting.option is not None:
        yield f"--{setting.option}", options.get(setting.option.replace("-", "_"))
    if setting.variable is not None:
        yield setting.variable, environ.get(setting.variable) or None


def _override(file: FileTable, setting: str, text: str, origin: str, cwd: Path) -> FileTable:
    section, _, key = setting.rpartition(".")
    table = getattr(file, section) if section else file
    table = msgspec.structs.replace(table, **{key: decode_value(text, type(table), key, origin, cwd)})
    return msgspec.structs.replace(file, **{section: table}) if section else table


def check_admin(config: Config, where: Where) -> None:
    """Check that the admin side has a port of its own, and keeps out whom it has to.

    It needs a token, or people who log in, where others than this machine reach it, or where everybody may look.
    """
    public, admin = checks.endpoint(config.listen), checks.endpoint(config.admin.listen)
    keeps_out = config.has_tokens or config.login.app is not None
    if public.overlaps(admin):
        own = "path" if admin.socket is not None else "port"
        said = told("listen", config.admin.listen)
        raise ConfigError(
            escape(f"{where('admin.listen')}: the same address as listen; it needs a {own} of its own{said}")
        )
    if not admin.local and not keeps_out:
        if admin.socket is not None:
            open_to, otherwise = f"open to others (mode {admin.socket.mode:o})", "leave its mode out (600)"
        else:
            open_to, otherwise = "not only on loopback", "listen on interface=127.0.0.1"
        raise ConfigError(
            escape(
                f"{where('admin.listen')}: {open_to}, so it needs a token: set STACKIT_API_TOKEN or "
                f"admin.token_files, or {otherwise}{told('listen', config.admin.listen)}"
            )
        )
    if config.login.anonymous == "read" and not keeps_out:
        raise ConfigError(
            escape(
                f"{where('login.anonymous')}: everybody could look and nobody do anything: set STACKIT_API_TOKEN, "
                "admin.token_files or login.app"
            )
        )


def _plugin_tables(file: FileTable, where: Where, mistakes: Mistakes) -> Mapping[str, Mapping[str, Any]]:
    tables = {}
    for name, table in file.plugins.items():
        if isinstance(table, dict):
            tables[name] = table
        else:
            at = f"{where('plugins')}.{shown_key(name)}"
            mistakes.note(ConfigError(escape(f"{at}: expected a table, [plugins.NAME]{told(name, table)}")))
    return tables


def _default_state_dir(environ: Mapping[str, str], cwd: Path) -> Path:
    """Return the first of systemd's ``$STATE_DIRECTORY``, else ``var`` in the current directory."""
    first = environ.get("STATE_DIRECTORY", "").split(":")[0]
    return cwd / (first or "var")


def _secrets(environ: Mapping[str, str], mistakes: Mistakes) -> dict[str, Any]:
    """Return the fields of Config that come from the environment alone."""
    found: dict[str, Any] = {}
    for name, field in fields(Config).items():
        if field.kind == Secret | None and (setting := field.setting) is not None and setting.variable is not None:
            text = environ.get(setting.variable, "").strip()
            found[name] = None
            with mistakes.noted():
                found[name] = Secret(checked(setting.variable, setting.check or str, text)) if text else None
    return found
