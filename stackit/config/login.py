"""The table ``[login]``: the people who may use the admin side, and for how long they stay logged in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from stackit.api.errors import ConfigError
from stackit.config import checks
from stackit.config.apps import AppConfig, app_called, client_id
from stackit.config.mistakes import AT_ONCE, Mistakes
from stackit.config.setting import Setting, Where
from stackit.text.units import Duration

_LOGIN = r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,98}[A-Za-z0-9_])?"
_MEMBERS = re.compile(rf"@?{_LOGIN}|{_LOGIN}/[A-Za-z0-9._-]{{1,100}}", re.ASCII)

_OF_AN_APP = ("viewers", "operators", "client_id", "client_secret_file")


def members(names: Sequence[str]) -> None:
    """Check names of organizations, teams and people."""
    for number, name in enumerate(names, 1):
        if not _MEMBERS.fullmatch(name):
            raise ValueError(
                f"item {number}: expected an organization ('octo'), a team ('octo/ops') or a person ('@octocat')"
            )


class LoginConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[login]``: people on the admin side.

    In a checked configuration, ``app`` is spelled as its table, and ``client_id`` is that of the App.
    """

    viewers: Annotated[
        tuple[str, ...], Setting("who may look: organizations, teams (`octo/ops`) and people (`@octocat`)", members)
    ] = ()
    operators: Annotated[tuple[str, ...], Setting("who may change things, too", members)] = ()
    anonymous: Annotated[Literal["none", "read"], Setting('`"read"`: everybody may look, without a login')] = "none"
    app: Annotated[str | None, Setting("the name of the App by which people log in with GitHub")] = None
    client_id: Annotated[str | None, Setting("the App's client id, if its own table has an `app_id`", client_id)] = None
    client_secret_file: Annotated[
        Path | None, Setting("a file with a client secret of the App", checks.secret_file)
    ] = None
    idle: Annotated[Duration, Setting("how long a login lasts without a request", checks.positive)] = Duration(28800)
    absolute: Annotated[Duration, Setting("how long a login lasts at most", checks.positive)] = Duration(86400)


def login_table(
    table: LoginConfig, apps: Sequence[AppConfig], where: Where, mistakes: Mistakes = AT_ONCE
) -> LoginConfig:
    """Return the table, checked against the Apps. Raises ConfigError."""
    if table.app is None:
        useless = next((name for name in _OF_AN_APP if getattr(table, name)), None)
        if useless is not None:
            with mistakes.noted():
                raise ConfigError(
                    f"{where(f'login.{useless}')}: of use with an App only; name one of [[apps]] in login.app, or "
                    "leave it out"
                )
        return table
    with mistakes.noted():
        app = app_called(table.app, {each.name.lower(): each for each in apps}, where("login.app"))
        if not table.viewers and not table.operators:
            raise ConfigError(
                f"{where('login.app')}: nobody could log in; name who may in login.viewers or login.operators"
            )
        own = table.client_id or (None if app.issuer.isdecimal() else app.issuer)
        if own is None:
            raise ConfigError(
                f"{where('login.client_id')}: missing; it stands on the page of the App at GitHub, beside the app_id"
            )
        return msgspec.structs.replace(table, app=app.name, client_id=own)
    return table
