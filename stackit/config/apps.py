"""The table of GitHub Apps, and the App that the environment names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec

from stackit.api.errors import ConfigError
from stackit.config import checks, files
from stackit.config.mistakes import AT_ONCE, AlreadyNoted, Mistakes
from stackit.config.setting import Setting, Where, check_settings, checked
from stackit.text.escape import escape

GITHUB_API = "https://api.github.com"
APP_ID = "STACKIT_GITHUB_APP_ID"
PRIVATE_KEY_FILE = "STACKIT_GITHUB_APP_PRIVATE_KEY_FILE"
FROM_ENVIRONMENT = "github"
"""The name of the App that the environment names."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", re.ASCII)
_CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{4,100}", re.ASCII)
_GHE_COM = re.compile(r"api\.([a-z0-9-]+\.ghe\.com)")

TokenPer = Literal["installation", "repository"]
"""The repositories that one token may read: all of an installation, or a single one."""


def app_name(name: str) -> None:
    """Check the name by which the rest of the configuration speaks of an App."""
    if not _NAME.fullmatch(name):
        raise ValueError("expected a short name of letters, digits, - and _, such as main")


def client_id(text: str) -> None:
    """Check a client id, which is no number."""
    if text.isdigit() or not _CLIENT_ID.fullmatch(text):
        raise ValueError("expected a client id such as Iv23liAbCdEf01234567; a number is an app_id")


def api_url(text: str) -> None:
    """Check the base URL of an API: https://, or http:// on this machine."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or "@" in text:
        raise ValueError("expected https://api.github.com, https://HOST/api/v3 or https://api.SUBDOMAIN.ghe.com")
    if parts.scheme == "http" and not checks.is_loopback(parts.hostname):
        raise ValueError("tokens would travel unencrypted over http://; use https://")
    if parts.scheme == "https" and parts.hostname == "github.com":
        raise ValueError("the API of github.com is at https://api.github.com")


class AppTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[[apps]]``: a GitHub App."""

    name: Annotated[str, Setting('`"main"`: the name that the other tables call it by', app_name)]
    app_id: Annotated[int | None, Setting("the App's id", checks.at_least_one)] = None
    client_id: Annotated[str | None, Setting("the App's client id, in place of `app_id`", client_id)] = None
    private_key_file: Annotated[Path, Setting("a file with a private key of the App, in PEM", files.rsa_key)]
    secret_files: Annotated[
        tuple[Path, ...], Setting("files with one secret each of the App's webhook", checks.readable_files)
    ] = ()
    api_url: Annotated[str, Setting("the base of GitHub's API", api_url)] = GITHUB_API
    token_per: Annotated[
        TokenPer, Setting("what one token may read: all repositories of an installation, or a single one")
    ] = "installation"  # noqa: S105 - no secret


class AppConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A GitHub App, checked.

    ``issuer`` is its id or client id, by which it signs. ``api_url`` and ``web_url`` have no slash at the end; below
    ``web_url`` are the repositories for git.
    """

    name: str
    issuer: str
    private_key_file: Path
    secret_files: tuple[Path, ...] = ()
    api_url: str = GITHUB_API
    web_url: str = "https://github.com"
    token_per: TokenPer = "installation"  # noqa: S105 - as above


def web_url(api: str) -> str:
    """Return the URL below which the repositories of an API's GitHub are, for git and for people."""
    parts = urlsplit(api)
    host = parts.netloc.lower()
    if host == "api.github.com":
        return "https://github.com"
    if own := _GHE_COM.fullmatch(host):
        return f"https://{own[1]}"
    return f"{parts.scheme}://{host}"


class UnknownAppError(ConfigError):
    """A table names an App that there is no table of."""


def app_called(name: str, apps: Mapping[str, AppConfig], place: str) -> AppConfig:
    """Return the App of a name; ``apps`` are by name in small letters. Raises UnknownAppError."""
    app = apps.get(name.lower())
    if app is None:
        known = ", ".join(sorted(each.name for each in apps.values())) or "none"
        raise UnknownAppError(escape(f"{place}: no [[apps]] is called {name[:40]!r} (there are: {known})"))
    return app


def configured_apps(
    tables: Sequence[AppTable | None],
    environ: Mapping[str, str],
    base: Path,
    where: Where,
    mistakes: Mistakes = AT_ONCE,
) -> tuple[AppConfig, ...]:
    """Return the Apps of the tables, and that of the environment. Raises ConfigError.

    None stands for a table that could not be read. A relative path in the environment starts at ``base``.
    """
    found: dict[str, AppConfig] = {}
    for number, table in enumerate(tables, 1):
        if table is None:
            continue
        place = where(f"apps[{number}]")
        with mistakes.noted():
            if table.name.lower() in found:
                raise ConfigError(escape(f"{place}.name: {table.name} is there twice (letter case does not count)"))
            found[table.name.lower()] = _app(table, place, mistakes)
    with mistakes.noted():
        own = _of_environment(environ, base)
        if own is not None and own.name in found:
            raise ConfigError(
                f"{APP_ID}: makes an App called {FROM_ENVIRONMENT}, and [[apps]] has one of that name; rename that "
                "one, or unset the variable"
            )
        if own is not None:
            found[own.name] = own
    return tuple(found.values())


def _app(table: AppTable, place: str, mistakes: Mistakes) -> AppConfig:
    noted = len(mistakes.found)
    check_settings(table, lambda setting: f"{place}.{setting}", mistakes=mistakes)
    if len(mistakes.found) > noted:
        raise AlreadyNoted
    if (table.app_id is None) == (table.client_id is None):
        said = "has neither an app_id nor a client_id" if table.app_id is None else "has both app_id and client_id"
        raise ConfigError(f"{place}: {said}; expected one of them")
    base = table.api_url.rstrip("/")
    return AppConfig(
        name=table.name,
        issuer=str(table.app_id) if table.client_id is None else table.client_id,
        private_key_file=table.private_key_file,
        secret_files=table.secret_files,
        api_url=base,
        web_url=web_url(base),
        token_per=table.token_per,
    )


def _of_environment(environ: Mapping[str, str], base: Path) -> AppConfig | None:
    issuer, key = (environ.get(each, "").strip() for each in (APP_ID, PRIVATE_KEY_FILE))
    if not issuer and not key:
        return None
    for variable, text, other in ((APP_ID, issuer, PRIVATE_KEY_FILE), (PRIVATE_KEY_FILE, key, APP_ID)):
        if not text:
            raise ConfigError(f"{variable}: is not set, and {other} is; set both, or neither")
    if not issuer.isdecimal():
        checked(APP_ID, client_id, issuer)
    file: Any = checked(PRIVATE_KEY_FILE, checks.path, key, base)
    checked(PRIVATE_KEY_FILE, files.rsa_key, file)
    return AppConfig(name=FROM_ENVIRONMENT, issuer=issuer, private_key_file=file)
