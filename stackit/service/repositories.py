"""Managed repositories made of the registry's records, with the credentials that the configuration has for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from stackit.api.errors import ConfigError
from stackit.api.events import Repo
from stackit.api.forge import Forge
from stackit.api.repos import ManagedRepo
from stackit.config.access import Access, RepoTable
from stackit.config.model import Config
from stackit.registry.catalog import Build
from stackit.registry.records import Record

Bind = Callable[[Sequence[ManagedRepo]], Sequence[ManagedRepo]]


def builder(access: Access, forge: Forge, bind: Bind) -> Build:
    """Return what makes managed repositories of records.

    ``access`` are the credentials of the configuration, ``bind`` gives repositories the tokens of their Apps.
    """

    def build(record: Record) -> ManagedRepo | None:
        managed = _added(record, access, forge) if record.source == "people" else _discovered(record, access)
        return bind([managed])[0]

    return build


class ConfiguredRepos:
    """The managed repositories of a configuration, and what makes those that are not in it."""

    def __init__(self, forge: Forge, bind: Bind) -> None:
        """``forge`` and ``bind`` are those of ``builder``."""
        self._forge = forge
        self._bind = bind
        self._built: tuple[Access, Build] | None = None

    def of(self, config: Config) -> tuple[Sequence[ManagedRepo], Build]:
        """Return both. While the credentials stay as they are it is the same builder: another has all made anew."""
        if self._built is None or self._built[0] != config.access:
            self._built = (config.access, builder(config.access, self._forge, self._bind))
        return self._bind(config.repos), self._built[1]


def requested(access: Access, forge: Forge, name: str, url: str | None) -> tuple[Repo, str]:
    """Return the repository and the URL that a person asks for. Raises ConfigError as for one in the configuration."""
    managed = access.repo(RepoTable(name=name, url=url), forge, "the repository")
    return managed.repo, managed.url


def _added(record: Record, access: Access, forge: Forge) -> ManagedRepo:
    try:
        managed = access.repo(RepoTable(name=str(record.repo), url=record.url), forge, str(record.repo))
    except ConfigError:  # the tables of today have a token that may not travel over this URL
        managed = ManagedRepo(repo=record.repo, url=record.url)
    app = record.app if managed.app is None and managed.token_file is None else managed.app
    if app is not None and access.app(app, record.url) is None:
        app = None
    return msgspec.structs.replace(managed, app=app, **_identity(record))


def _discovered(record: Record, access: Access) -> ManagedRepo:
    app = None if record.app is None else access.app(record.app, record.url)
    return ManagedRepo(
        repo=record.repo,
        url=record.url,
        refspecs=record.refspecs,
        keep_forced=record.keep_forced,
        token_file=Path(record.token_file) if record.token_file and app is None else None,
        app=None if app is None else app.name,
        **_identity(record),
        **access.tls(record.url),
    )


def _identity(record: Record) -> dict[str, Any]:
    by = record.added_by if record.source == "people" else record.rule
    return {
        "id": record.id,
        "realm": record.realm,
        "source": record.source,
        "added_by": by,
        "former": record.former,
    }
