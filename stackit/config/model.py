"""The configuration: command line, environment, file and defaults, as one typed, frozen Config.

``load`` reads the sources in that order of precedence; ``config_file`` turns TOML tables
into the structs below, ``config_checks`` knows what a right value looks like. Every
mistake is a ConfigError of one line that names where the value came from and what would
be right. twistd.conf documents each setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from stackit.api.errors import ConfigError
from stackit.api.repos import ManagedRepo
from stackit.config import checks
from stackit.config.access import HostTable, OwnerTable, RepoTable, Where, checked, managed_repos
from stackit.config.toml import decode_table, decode_value, read_toml, shown_key
from stackit.text.escape import escape
from stackit.text.units import Duration, Size

FILE_NAME = "twistd.conf"

LogFormat = Literal["text", "json"]


class Secret(str):
    """Text that does not show in a repr, and so in no traceback or printed Config."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(…)"


class AdminConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[admin]``: the second listener. ``hosts`` are names it answers to beside its own."""

    listen: str = "tcp:8081:interface=127.0.0.1"
    hosts: tuple[str, ...] = ()
    token_files: tuple[Path, ...] = ()


class WebhookConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[webhook]``: what a delivery may be. ``deadline`` bounds the whole request."""

    secret_files: tuple[Path, ...] = ()
    content_type: Literal["any", "json", "form"] = "any"
    max_body: Size = Size(25 * 2**20)
    deadline: Duration = Duration(30)
    refuse_replays: bool = False


class SyncConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[sync]``: the backstop; an ``interval`` of 0 turns it off."""

    interval: Duration = Duration(300)


class JournalConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[journal]``: how long, and up to which size, what is handled is kept."""

    keep_for: Duration = Duration(7 * 86400)
    keep_bytes: Size = Size(2**30)


class HandlersConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[handlers]``: defaults for handlers of events, which ``on(...)`` may replace."""

    timeout: Duration = Duration(60)
    retry_for: Duration = Duration(86400)
    concurrency: int = 16


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in the file as it does in Config."""

    listen: str = "tcp:8080:interface=127.0.0.1"
    api_prefixes: tuple[str, ...] = ("/api/v1", "/api")
    grace: Duration = Duration(10)
    log_format: LogFormat = "text"
    admin: AdminConfig = AdminConfig()
    webhook: WebhookConfig = WebhookConfig()
    sync: SyncConfig = SyncConfig()
    journal: JournalConfig = JournalConfig()
    handlers: HandlersConfig = HandlersConfig()


class Config(Settings, frozen=True, kw_only=True):
    """Everything stackit was told, checked.

    Paths are absolute. ``api_prefixes`` have no slash at the end ("" is the root).
    ``plugins`` are the tables of ``[plugins.NAME]`` as they stand in the file.
    ``source`` is the file, None where there was none.
    """

    state_dir: Path
    repos: tuple[ManagedRepo, ...] = ()
    plugins: Mapping[str, Mapping[str, Any]] = {}
    webhook_secret: str | None = None
    api_token: str | None = None
    source: Path | None = None


class FileTable(Settings, frozen=True, kw_only=True):
    """The whole file."""

    state_dir: Path | None = None
    repos: tuple[RepoTable, ...] = ()
    owners: tuple[OwnerTable, ...] = ()
    hosts: tuple[HostTable, ...] = ()
    plugins: dict[str, Any] = {}


# The setting, its option on the command line, its variable in the environment.
_OVERRIDES = (
    ("listen", "listen", "STACKIT_LISTEN"),
    ("admin.listen", "admin_listen", "STACKIT_ADMIN_LISTEN"),
    ("state_dir", "state_dir", "STACKIT_STATE_DIR"),
    ("sync.interval", "sync_interval", "STACKIT_SYNC_INTERVAL"),
    ("log_format", None, "STACKIT_LOG_FORMAT"),
)


def load(options: Mapping[str, str | None], environ: Mapping[str, str], *, cwd: Path) -> Config:
    """The configuration that holds, given these options, this environment and what the file says.

    ``options`` may have ``config``, ``listen``, ``admin_listen``, ``state_dir`` and
    ``sync_interval``; None is "not given". An empty variable counts as unset. Relative
    paths in the file start at the file's directory, all others at ``cwd``; ``~`` has no
    meaning. Raises ConfigError.
    """
    source = _find_file(options, environ, cwd)
    origins: dict[str, str] = {}

    def where(setting: str) -> str:
        return origins.get(setting) or (f"{source}: {setting}" if source else setting)

    file = FileTable()
    if source is not None:
        file = decode_table(read_toml(source), FileTable, source, source.parent)
    for setting, option, variable in _OVERRIDES:
        for origin, text in (
            (f"--{option}".replace("_", "-"), options.get(option) if option else None),
            (variable, environ.get(variable) or None),
        ):
            if text is not None:
                origins[setting] = origin
                file = _override(file, setting, text, origin, cwd)
                break

    _check_settings(file, where)
    token = _secret(environ, "STACKIT_API_TOKEN", checks.token)
    _check_admin(file, where, has_token=token is not None or bool(file.admin.token_files))
    settings = {name: getattr(file, name) for name in Settings.__struct_fields__}
    settings["api_prefixes"] = checked(where("api_prefixes"), checks.prefixes, file.api_prefixes)
    return Config(
        **settings,
        state_dir=file.state_dir or _default_state_dir(environ, cwd),
        repos=managed_repos(file.repos, file.owners, file.hosts, where),
        plugins=_plugin_tables(file, where),
        webhook_secret=_secret(environ, "STACKIT_GITHUB_WEBHOOK_SECRET", checks.utf8),
        api_token=token,
        source=source,
    )


def secret_files(config: Config) -> tuple[Path, ...]:
    """Every file that holds a secret or a token, of which none may show anywhere."""
    tokens = (repo.token_file for repo in config.repos if repo.token_file is not None)
    return tuple(dict.fromkeys((*config.webhook.secret_files, *config.admin.token_files, *tokens)))


def _find_file(options: Mapping[str, str | None], environ: Mapping[str, str], cwd: Path) -> Path | None:
    for origin, text in (
        ("--config", options.get("config")),
        ("STACKIT_CONFIG", environ.get("STACKIT_CONFIG") or None),
    ):
        if text is not None:
            source: Path = checked(origin, checks.path, text, cwd)
            checked(origin, checks.readable_files, (source,))
            return source
    # A dangling link is a mistake to be told of, so what counts is the name, not what it leads to.
    default = cwd / FILE_NAME
    return default if default.exists() or default.is_symlink() else None


def _override(file: FileTable, setting: str, text: str, origin: str, cwd: Path) -> FileTable:
    section, _, key = setting.rpartition(".")
    table = getattr(file, section) if section else file
    table = msgspec.structs.replace(table, **{key: decode_value(text, type(table), key, origin, cwd)})
    return msgspec.structs.replace(file, **{section: table}) if section else table


def _check_settings(file: FileTable, where: Where) -> None:
    for setting, check, value in (
        ("listen", checks.endpoint, file.listen),
        ("admin.listen", checks.endpoint, file.admin.listen),
        ("grace", checks.not_negative, file.grace),
        ("webhook.max_body", checks.positive, file.webhook.max_body),
        ("webhook.deadline", checks.positive, file.webhook.deadline),
        ("sync.interval", checks.interval, file.sync.interval),
        ("journal.keep_for", checks.positive, file.journal.keep_for),
        ("journal.keep_bytes", checks.positive, file.journal.keep_bytes),
        ("handlers.timeout", checks.positive, file.handlers.timeout),
        ("handlers.retry_for", checks.not_negative, file.handlers.retry_for),
        ("handlers.concurrency", checks.at_least_one, file.handlers.concurrency),
        ("admin.hosts", checks.hosts, file.admin.hosts),
        # An empty webhook secret is no secret: the endpoint is then not there. An empty token would
        # be a door left open, so that is a mistake.
        ("webhook.secret_files", checks.readable_files, file.webhook.secret_files),
        ("admin.token_files", checks.token_files, file.admin.token_files),
    ):
        checked(where(setting), check, value)


def _check_admin(file: FileTable, where: Where, *, has_token: bool) -> None:
    public, admin = checks.endpoint(file.listen), checks.endpoint(file.admin.listen)
    if public.overlaps(admin):
        raise ConfigError(f"{where('admin.listen')}: the same address as listen; it needs a port of its own")
    if not admin.local and not has_token:
        raise ConfigError(
            f"{where('admin.listen')}: not only on loopback, so it needs a token: set STACKIT_API_TOKEN or "
            "admin.token_files, or listen on interface=127.0.0.1"
        )


def _plugin_tables(file: FileTable, where: Where) -> Mapping[str, Mapping[str, Any]]:
    for name, table in file.plugins.items():
        if not isinstance(table, dict):
            raise ConfigError(escape(f"{where('plugins')}.{shown_key(name)}: expected a table, [plugins.NAME]"))
    return file.plugins


def _default_state_dir(environ: Mapping[str, str], cwd: Path) -> Path:
    """The first of systemd's ``$STATE_DIRECTORY``, else ``var`` in the current directory."""
    first = environ.get("STATE_DIRECTORY", "").split(":")[0]
    return cwd / (first or "var")


def _secret(environ: Mapping[str, str], variable: str, check: Any) -> Secret | None:
    text = environ.get(variable, "").strip()
    return Secret(checked(variable, check, text)) if text else None
