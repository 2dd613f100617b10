"""The settings of stackit, each as one annotated field, and the configuration that is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from stackit.api.repos import ManagedRepo
from stackit.config import checks
from stackit.config.access import Access, HostTable, Labelled, OwnerTable, RepoTable, homes
from stackit.config.apps import AppConfig, AppTable
from stackit.config.discover import DiscoverTable, DiscoveryConfig
from stackit.config.fleet import FleetConfig
from stackit.config.forges import ForgeConfig
from stackit.config.login import LoginConfig
from stackit.config.recovery import RecoveryConfig
from stackit.config.scopes import ScopedSecret
from stackit.config.secret import Secret
from stackit.config.setting import Setting
from stackit.text.units import Duration, Size

FILE_NAME = "twistd.conf"


class AdminConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[admin]``: the second listener."""

    listen: Annotated[
        str,
        Setting(
            "where the admin side listens, as a Twisted endpoint",
            checks.endpoint,
            "admin-listen",
            "STACKIT_ADMIN_LISTEN",
            restart=True,
        ),
    ] = "tcp:8081:interface=127.0.0.1"
    hosts: Annotated[
        tuple[str, ...], Setting("names that it answers to, beside `localhost` and its own address", checks.hosts)
    ] = ()
    url: Annotated[
        str | None, Setting("where a browser reaches it, if not at the address of `listen`", checks.base_url)
    ] = None
    # An empty file is a mistake here: it would leave a door open. An empty webhook secret is none, and closes one.
    token_files: Annotated[tuple[Path, ...], Setting("files with one bearer token each", checks.token_files)] = ()
    cors_origins: Annotated[
        tuple[str, ...], Setting("origins whose pages may ask the API and read its answers (CORS)", checks.origins)
    ] = ()


class WebhookConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[webhook]``: the bounds of a delivery."""

    secret_files: Annotated[tuple[Path, ...], Setting("files with one secret each", checks.readable_files)] = ()
    content_type: Annotated[
        Literal["any", "json", "form"], Setting("the content type that your hooks are set to at GitHub")
    ] = "any"
    max_body: Annotated[Size, Setting("larger bodies are answered `413`", checks.positive)] = Size(25 * 2**20)
    deadline: Annotated[
        Duration, Setting("the time for a whole request, from its first byte to its last", checks.positive)
    ] = Duration(30)
    refuse_replays: Annotated[
        bool, Setting("whether a signed body that comes back under a new delivery id is answered `409`")
    ] = False


class HooksConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[hooks]``: the webhooks as they are at GitHub."""

    interval: Annotated[
        Duration,
        Setting("how often the webhooks at GitHub are compared with what they should be; `0` never", checks.interval),
    ] = Duration(600)


class SyncConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[sync]``: the backstop."""

    interval: Annotated[
        Duration,
        Setting(
            "how often the backstop looks for what webhooks missed; `0` turns it off",
            checks.interval,
            option="sync-interval",
            variable="STACKIT_SYNC_INTERVAL",
            restart=True,
        ),
    ] = Duration(300)


class JournalConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[journal]``: the bounds of what is kept."""

    keep_for: Annotated[
        Duration, Setting("how long a delivery is kept after it came, once it is handled or dead", checks.positive)
    ] = Duration(7 * 86400)
    keep_bytes: Annotated[
        Size, Setting("the size that the journal is kept within; the oldest deliveries go first", checks.positive)
    ] = Size(2**30)


class HandlersConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[handlers]``: defaults for handlers of events, which ``on(...)`` may replace."""

    timeout: Annotated[
        Duration, Setting("a handler that takes longer is cancelled, and counts as failed", checks.positive)
    ] = Duration(60)
    retry_for: Annotated[
        Duration,
        Setting("how long a failing event is tried again before it is a dead letter", checks.not_negative),
    ] = Duration(86400)
    concurrency: Annotated[int, Setting("how many events a handler may be working on at once", checks.at_least_one)] = (
        16
    )


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that are the same in the file and in Config."""

    listen: Annotated[
        str,
        Setting(
            "where the public side listens, as a Twisted endpoint",
            checks.endpoint,
            option="listen",
            variable="STACKIT_LISTEN",
            restart=True,
        ),
    ] = "tcp:8080:interface=127.0.0.1"
    public_url: Annotated[
        str | None, Setting("where GitHub reaches the public side, without a path for the webhook", checks.base_url)
    ] = None
    api_prefixes: Annotated[
        tuple[str, ...],
        Setting("the webhook is at `{prefix}/webhooks/github`, for every prefix", checks.prefixes, restart=True),
    ] = ("/api/v1", "/api")
    read_only: Annotated[bool, Setting("whether the admin side refuses every request that changes something")] = False
    grace: Annotated[
        Duration,
        Setting("how long running work may take to end when stackit is stopped", checks.not_negative, restart=True),
    ] = Duration(10)
    log_format: Annotated[
        Literal["text", "json"],
        Setting('`"text"` for people, `"json"` for one object a line', variable="STACKIT_LOG_FORMAT", restart=True),
    ] = "text"
    log_level: Annotated[
        str | dict[str, str],
        Setting(
            "from what level on lines are logged, or a table with a level for each logger",
            checks.log_level,
            variable="STACKIT_LOG_LEVEL",
        ),
    ] = "info"
    admin: AdminConfig = AdminConfig()
    login: LoginConfig = LoginConfig()
    webhook: WebhookConfig = WebhookConfig()
    hooks: HooksConfig = HooksConfig()
    discovery: DiscoveryConfig = DiscoveryConfig()
    recovery: RecoveryConfig = RecoveryConfig()
    sync: SyncConfig = SyncConfig()
    journal: JournalConfig = JournalConfig()
    handlers: HandlersConfig = HandlersConfig()
    fleet: FleetConfig = FleetConfig()


class Config(Settings, frozen=True, kw_only=True):
    """The whole configuration, checked.

    Paths are absolute. ``api_prefixes`` have no slash at the end ("" is the root). ``plugins`` are the tables of
    ``[plugins.NAME]`` as they are in the file. ``forges`` are those beside GitHub; ``broken_forges`` has a line for
    each that is installed and cannot be used. ``scoped_secrets`` are the webhook secrets that speak for an owner, a
    repository or an App alone. ``source`` is the file, None if there is none; ``origins`` are the
    options and variables that settings came from instead, by the name of the setting. The secrets come from the
    environment alone.
    """

    state_dir: Path
    repos: tuple[ManagedRepo, ...] = ()
    owners: Mapping[str, Labelled] = {}
    hosts: Mapping[str, Labelled] = {}
    apps: tuple[AppConfig, ...] = ()
    discover: tuple[DiscoverTable, ...] = ()
    plugins: Mapping[str, Mapping[str, Any]] = {}
    forges: tuple[ForgeConfig, ...] = ()
    broken_forges: tuple[str, ...] = ()
    scoped_secrets: tuple[ScopedSecret, ...] = ()
    webhook_secret: Annotated[
        Secret | None,
        Setting("a secret of the webhook", checks.utf8, variable="STACKIT_GITHUB_WEBHOOK_SECRET", restart=True),
    ] = None
    api_token: Annotated[
        Secret | None,
        Setting("a bearer token of the admin side", checks.token, variable="STACKIT_API_TOKEN", restart=True),
    ] = None
    source: Path | None = None
    origins: Mapping[str, str] = {}

    @property
    def has_tokens(self) -> bool:
        """Whether the admin side has bearer tokens."""
        return self.api_token is not None or bool(self.admin.token_files)

    @property
    def access(self) -> Access:
        """The access to repositories that are not in the file."""
        apps = {each.name.lower(): each for each in self.apps}
        return Access(self.owners, self.hosts, apps, homes(self.repos, self.owners))

    def where(self, setting: str) -> str:
        """Return where the value of a setting such as ``admin.listen`` came from, for a message."""
        return place(setting, self.source, self.origins)


def place(setting: str, source: Path | None, origins: Mapping[str, str]) -> str:
    """Return the option, the variable, or the file and the key that a setting came from."""
    return origins.get(setting) or (f"{source}: {setting}" if source else setting)


class FileTable(Settings, frozen=True, kw_only=True):
    """The whole file."""

    state_dir: Annotated[
        Path | None,
        Setting(
            "the directory of the journal and the mirrors",
            option="state-dir",
            variable="STACKIT_STATE_DIR",
            restart=True,
        ),
    ] = None
    repos: tuple[RepoTable, ...] = ()
    owners: tuple[OwnerTable, ...] = ()
    hosts: tuple[HostTable, ...] = ()
    apps: tuple[AppTable, ...] = ()
    discover: tuple[DiscoverTable, ...] = ()
    plugins: dict[str, Any] = {}
    forges: dict[str, Any] = {}


def secret_files(config: Config) -> tuple[Path, ...]:
    """Return every file that holds a secret or a token."""
    tables = (place.table for place in (*config.owners.values(), *config.hosts.values()))
    tokens = (each.token_file for each in (*config.repos, *tables) if each.token_file is not None)
    of_forges = (file for each in config.forges for file in each.secret_files)
    scoped = (each.file for each in config.scoped_secrets)
    of_apps = (each.private_key_file for each in config.apps)
    of_listings = (each.token_file for each in config.discover if each.token_file is not None)
    of_login = (config.login.client_secret_file,) if config.login.client_secret_file is not None else ()
    others = (*of_forges, *scoped, *of_apps, *of_listings, *of_login, *tokens)
    return tuple(dict.fromkeys((*config.webhook.secret_files, *config.admin.token_files, *others)))


def secrets(config: Config) -> tuple[str, ...]:
    """Return every secret and token that the environment holds."""
    found = (config.webhook_secret, config.api_token, *(each.secret for each in config.forges))
    return tuple(secret for secret in found if secret)
