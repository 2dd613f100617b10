"""All GitHub Apps, and the tokens that the repositories get from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import msgspec
from prometheus_client.registry import Collector
from twisted.internet.defer import Deferred, DeferredList

from stackit.api.errors import StackitError
from stackit.api.reactor import Reactor
from stackit.api.repos import ManagedRepo
from stackit.config.apps import AppConfig
from stackit.github.api import ApiClients
from stackit.github.apps.app import GitHubApp
from stackit.github.apps.metrics import AppCounts, AppMetrics
from stackit.github.apps.sources import AppTokenSource, SourceKey
from stackit.secrets.redactor import Redactor
from stackit.text.times import rfc3339

ROUTES = ("/app/installations", "/app/installations/{installation_id}/access_tokens")
"""The routes that every App asks."""


class Apps:
    """The Apps of the configuration, by name."""

    def __init__(
        self,
        configs: Iterable[AppConfig],
        *,
        reactor: Reactor,
        now: Callable[[], float],
        clients: ApiClients,
        redact: Redactor,
        notice: Callable[[str], None],
        recovered: Callable[[GitHubApp], None] = lambda _: None,
    ) -> None:
        """``recovered`` is called with an App that can make tokens again, of one installation or of all."""
        self.clients = clients
        self._reactor = reactor
        self._now = now
        self._redact = redact
        self._notice = notice
        self._recovered = recovered
        self._counts = AppCounts()
        self._apps: dict[str, GitHubApp] = {}
        self._sources: WeakValueDictionary[SourceKey, AppTokenSource] = WeakValueDictionary()
        self._stopping: set[Deferred[None]] = set()
        self.change(configs)

    def __iter__(self) -> Iterator[GitHubApp]:
        return iter(tuple(self._apps.values()))

    def __len__(self) -> int:
        return len(self._apps)

    def get(self, name: str) -> GitHubApp | None:
        """Return the App of a name, in any letter case."""
        return self._apps.get(name.lower())

    def named(self, name: str) -> GitHubApp:
        """Return the App of a name. Raises StackitError where there is none."""
        app = self.get(name)
        if app is None:
            known = ", ".join(sorted(each.name for each in self)) or "none"
            raise StackitError(f"no [[apps]] is called {name} (there are: {known})")
        return app

    def is_anothers(self, app: str, owner: str) -> bool:
        """Return whether, as far as is known, another App is installed for an owner, and this one is not."""
        own = self.get(app)
        if own is not None and own.find(owner) is not None:
            return False
        return any(each is not own and each.find(owner) is not None for each in self)

    def source(self, app: str, owner: str, repository: str) -> AppTokenSource:
        """Return the source of tokens for a repository: one for each installation, or each repository, of an App."""
        alone = app.lower() in self._per_repository
        key = (app.lower(), owner.lower(), repository.lower() if alone else None)
        source = self._sources.get(key)
        if source is None:
            source = self._sources[key] = AppTokenSource(self, app, owner, repository if alone else None)
        return source

    def bound(self, managed: ManagedRepo) -> ManagedRepo:
        """Return a repository with the source of its tokens, if it has an App."""
        if managed.app is None:
            return managed
        source = self.source(managed.app, managed.repo.owner, managed.repo.name)
        return msgspec.structs.replace(managed, token_source=source)

    def expect(self, configs: Iterable[AppConfig]) -> None:
        """Make sources for these Apps from now on: they will be there when the sources are used."""
        self._per_repository = {
            each.name.lower()
            for each in configs
            if each.token_per == "repository"  # noqa: S105 - no secret
        }

    def change(self, configs: Iterable[AppConfig]) -> None:
        """Have these Apps instead. One whose settings are the same keeps its tokens."""
        configs = tuple(configs)
        self.expect(configs)
        if configs:
            self.clients.counts.declare(*ROUTES)
        before, self._apps = self._apps, {}
        for config in configs:
            name = config.name.lower()
            old = before.get(name)
            if old is not None and _is_same(old.config, config):
                old.config = config
                self._apps[name] = before.pop(name)
            else:
                self._apps[name] = GitHubApp(
                    config,
                    reactor=self._reactor,
                    now=self._now,
                    clients=self.clients,
                    counts=self._counts,
                    redact=self._redact,
                    notice=self._notice,
                    recovered=self._recovered,
                    is_wanted=self._is_wanted,
                )
        for old in before.values():
            stopping = Deferred.fromCoroutine(old.stop())
            self._stopping.add(stopping)
            stopping.addBoth(partial(self._stopped, stopping))

    def _stopped(self, stopping: Deferred[None], _: object) -> None:
        self._stopping.discard(stopping)

    async def stop(self) -> None:
        """End what runs in the background."""
        stopping = [*self._stopping, *(Deferred.fromCoroutine(each.stop()) for each in self)]
        await DeferredList(stopping, consumeErrors=True)

    def collectors(self) -> list[Collector]:
        """Return the metrics."""
        return [AppMetrics(lambda: self, self._counts)]

    def problems(self) -> list[str]:
        """Return what an operator has to know: Apps that GitHub refuses, and installations that are needed."""
        lines = [app.problem for app in self if app.problem is not None]
        lines += [
            each.reason
            for app in self
            for each in app
            if each.state != "active" and self._is_wanted(app, each.account.login.lower())
        ]
        return lines

    def status(self) -> list[dict[str, Any]]:
        """Return the Apps and their installations, of plain values."""
        return [
            {
                "name": app.name,
                "issuer": app.config.issuer,
                "api_url": app.config.api_url,
                "problem": app.problem,
                "listed_at": None if app.listed_at is None else rfc3339(app.listed_at),
                "installations": [
                    {
                        "id": each.id,
                        "account": each.account.login,
                        "account_id": each.account.id,
                        "state": each.standing,
                        "reason": each.reason or None,
                        "permissions": dict(each.record.permissions),
                        "repository_selection": each.record.repository_selection,
                        "token_expires_at": None if (expires := each.token().expires_at) is None else rfc3339(expires),
                    }
                    for each in app
                ],
            }
            for app in self
        ]

    def _is_wanted(self, app: GitHubApp, owner: str) -> bool:
        return any(key[:2] == (app.name.lower(), owner) for key in list(self._sources.keys()))


def _is_same(old: AppConfig, new: AppConfig) -> bool:
    """Return True where a change of the settings does not touch tokens."""
    return (old.name, old.issuer, old.private_key_file, old.api_url) == (
        new.name,
        new.issuer,
        new.private_key_file,
        new.api_url,
    )
