"""The tables ``[[discover]]`` and ``[discovery]``: the repositories of Apps, organizations and users to mirror."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from stackit.api.errors import ConfigError
from stackit.api.repos import DEFAULT_REFSPECS
from stackit.config import checks, remotes
from stackit.config.apps import GITHUB_API, AppConfig, api_url, app_called
from stackit.config.mistakes import AT_ONCE, Mistakes
from stackit.config.setting import Setting, Where, check_settings
from stackit.text.units import Duration, Size

Visibility = Literal["public", "private", "internal"]

_GLOB = re.compile(r"(?:[A-Za-z0-9_*?-]{1,100}/)?[A-Za-z0-9._*?-]{1,100}", re.ASCII)
_TOPIC = re.compile(r"[a-z0-9][a-z0-9-]{0,49}", re.ASCII)


def globs(patterns: Sequence[str]) -> None:
    """Check patterns of repositories' names."""
    for number, pattern in enumerate(patterns, 1):
        if not _GLOB.fullmatch(pattern):
            raise ValueError(f"item {number}: expected a pattern such as 'octo/*', 'octo/tmp-?' or 'docs-*'")


def topics(names: Sequence[str]) -> None:
    """Check topics."""
    for number, name in enumerate(names, 1):
        if not _TOPIC.fullmatch(name):
            raise ValueError(f"item {number}: expected a topic such as 'mirror-me': small letters, digits and hyphens")


def share(value: float) -> None:
    """Check a share, from 0 to 1."""
    if not 0 <= value <= 1:
        raise ValueError("expected a share from 0 to 1")


def reconcile_interval(value: float) -> None:
    """Check the interval between two listings: each costs requests."""
    if 0 < value < 1:
        raise ValueError("expected 0 (off) or at least 1s")


class DiscoverTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[[discover]]``: repositories to find, and how they are mirrored."""

    app: Annotated[str | None, Setting("the name of an App: every repository of its installations")] = None
    installation: Annotated[
        str | None, Setting("beside `app`: its installation at this owner alone", remotes.owner)
    ] = None
    organization: Annotated[str | None, Setting("an organization, in place of `app`", remotes.owner)] = None
    user: Annotated[str | None, Setting("a user, in place of `app`", remotes.owner)] = None
    token_file: Annotated[
        Path | None, Setting("a file with one token, for an organization or a user", checks.token_file)
    ] = None
    api_url: Annotated[str, Setting("the base of GitHub's API, for an organization or a user", api_url)] = GITHUB_API
    include: Annotated[tuple[str, ...], Setting("names of repositories that are mirrored", globs)] = ("*",)
    exclude: Annotated[tuple[str, ...], Setting("names of repositories that are not", globs)] = ()
    forks: Annotated[bool, Setting("whether forks are mirrored")] = True
    archived: Annotated[bool, Setting("whether archived repositories are mirrored")] = True
    visibility: Annotated[
        tuple[Visibility, ...], Setting("mirrors only what is `public`, `private` or `internal`, as named")
    ] = ()
    topics: Annotated[tuple[str, ...], Setting("mirrors only what has at least one of these topics", topics)] = ()
    max_size: Annotated[
        Size | None, Setting("mirrors only what GitHub says is no larger than this", checks.positive)
    ] = None
    refspecs: Annotated[tuple[str, ...], Setting("which refs", remotes.refspecs)] = DEFAULT_REFSPECS
    keep_forced: Annotated[
        bool, Setting("whether the mirrors keep the old tip where a forced push replaces commits")
    ] = False
    on_removed: Annotated[
        Literal["keep", "delete"], Setting("what becomes of the mirror of a repository that is gone")
    ] = "keep"
    grace: Annotated[
        Duration, Setting('how long the mirror is kept before `on_removed = "delete"` deletes it', checks.positive)
    ] = Duration(7 * 86400)
    interval: Annotated[
        Duration | None, Setting("how often the listing is read, for this table alone", reconcile_interval)
    ] = None


class DiscoveryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[discovery]``: what holds for all tables ``[[discover]]``."""

    interval: Annotated[
        Duration,
        Setting("how often each listing is read; `0`: at the start and after events only", reconcile_interval),
    ] = Duration(3600)
    max_removals: Annotated[
        float, Setting("the share of a listing's repositories that may vanish at once without a person", share)
    ] = 0.2
    min_repos: Annotated[
        int, Setting("a listing with fewer repositories may lose any share of them", checks.at_least_one)
    ] = 10


def discover_tables(
    tables: Sequence[DiscoverTable | None], apps: Sequence[AppConfig], where: Where, mistakes: Mistakes = AT_ONCE
) -> tuple[DiscoverTable, ...]:
    """Return the tables, checked. Raises ConfigError. None stands for a table that could not be read."""
    by_name = {each.name.lower(): each for each in apps}
    found: list[DiscoverTable] = []
    for number, table in enumerate(tables, 1):
        if table is None:
            continue
        label = where(f"discover[{number}]")
        with mistakes.noted():
            check_settings(table, _within(label), mistakes=mistakes)
            found.append(_of_app(table, label, by_name) if table.app is not None else _of_owner(table, label))
    return tuple(found)


def _within(label: str) -> Where:
    return lambda setting: f"{label}.{setting}"


def _of_app(table: DiscoverTable, label: str, apps: Mapping[str, AppConfig]) -> DiscoverTable:
    """Return a table of an App, with the App's name as it is spelled there. Raises ConfigError."""
    name = table.app or ""
    for other in ("organization", "user"):
        if getattr(table, other) is not None:
            raise ConfigError(f"{label}.{other}: the table has an app, too; leave one of them out")
    if table.token_file is not None or table.api_url != GITHUB_API:
        other = "api_url" if table.token_file is None else "token_file"
        raise ConfigError(f"{label}.{other}: an App brings its own; leave it out")
    return msgspec.structs.replace(table, app=app_called(name, apps, f"{label}.app").name)


def _of_owner(table: DiscoverTable, label: str) -> DiscoverTable:
    """Return a table of an organization or a user. Raises ConfigError."""
    if (table.organization is None) is (table.user is None):
        said = "has both organization and user" if table.user is not None else "says nobody whose repositories to find"
        raise ConfigError(f"{label}: {said}; expected one of app, organization and user")
    if table.installation is not None:
        raise ConfigError(f"{label}.installation: of use beside an app only; leave it out")
    if table.token_file is None:
        raise ConfigError(f"{label}.token_file: missing; a listing needs a token")
    return msgspec.structs.replace(table, api_url=table.api_url.rstrip("/"))
