"""Recovery as a part of the running stackit: its hooks, its settings, and the changes of a reload."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from prometheus_client.registry import Collector

from stackit.api.admin import Route
from stackit.api.occurrences import Occurrence
from stackit.api.reactor import Timers
from stackit.config.model import Config
from stackit.github.api import ApiClient
from stackit.github.apps import Apps
from stackit.github.event_types import PING
from stackit.github.recovery.api_source import DAY, LARGEST, ApiSource
from stackit.github.recovery.hook import Documents
from stackit.github.recovery.recovery import Recovery
from stackit.github.recovery.routes import recovery_routes
from stackit.github.recovery.source import DeliverySource
from stackit.github.recovery.taking import SpeaksFor, Take, Taker, Verify
from stackit.github.recovery.walk import Wanted
from stackit.github.scopes import APP, scope

_PATIENCE = 60.0
"""Seconds that a request waits for a limit by itself; one that would wait longer fails until the next walk."""


class ReadableHook(msgspec.Struct, frozen=True, kw_only=True):
    """The hook of an organization or a repository, with its id and a client that may see it.

    ``scope`` is that of its secret, ``route`` the route of the API with the hooks of its owner, ``values`` its values.
    """

    scope: str
    id: int
    client: ApiClient
    route: str
    values: Mapping[str, Any]


class RecoveryPart:
    """Recovery of the deliveries of every App's hook, and of the hooks of organizations and repositories."""

    name = "recovery"
    settings = (
        "recovery.enabled",
        "recovery.interval",
        "recovery.pause",
        "recovery.retention",
        "webhook.max_body",
        "apps",
    )

    def __init__(
        self,
        config: Config,
        apps: Apps,
        *,
        reactor: Timers,
        now: Callable[[], float],
        journal: Documents,
        take: Take,
        wanted: Wanted,
        speaks_for: SpeaksFor,
        verify: Verify,
        reconcile: Callable[[], Awaitable[bool]],
        others: Callable[[], Awaitable[Sequence[ReadableHook]]],
        observe: Callable[[Occurrence], None],
    ) -> None:
        """``take`` is dispatch's, ``others`` returns hooks beside those of Apps.

        The other functions are described where they are used.
        """
        self._config = config
        self._apps = apps
        self._now = now
        self._others = others
        self._observe = observe
        taker = Taker(
            take=take,
            observe=observe,
            now=now,
            speaks_for=speaks_for,
            verify=verify,
            max_body=lambda: int(self._config.webhook.max_body),
        )
        self.recovery = Recovery(
            reactor=reactor,
            now=now,
            journal=journal,
            taker=taker,
            wanted=lambda name, action: name != PING and wanted(name, action),
            sources=self._sources,
            reconcile=reconcile,
            observe=observe,
            interval=config.recovery.interval,
            pause=config.recovery.pause,
        )

    async def _sources(self) -> list[DeliverySource]:
        """Return the hooks whose deliveries can be listed."""
        if not self._config.recovery.enabled:
            return []
        return [*self._of_apps(), *map(self._source, await self._others())]

    def _source(self, known: ReadableHook) -> DeliverySource:
        return ApiSource(
            f"{known.scope}/{known.id}",
            known.client,
            signer=known.scope,
            route=known.route + "/{hook_id}/deliveries",
            values={**known.values, "hook_id": known.id},
            hook=str(known.id),
            retention=self._config.recovery.retention,
        )

    def _of_apps(self) -> Iterator[DeliverySource]:
        for app in self._apps:
            client = self._apps.clients.client(
                app.config.api_url, app.client.credential, patience=_PATIENCE, largest=LARGEST
            )
            name = scope(APP, app.config.name)
            yield ApiSource(
                name,
                client,
                signer=name,
                route="/app/hook/deliveries",
                retention=self._config.recovery.retention,
                refused=app.refused,
            )

    def start(self) -> None:
        """Look for what was missed while stackit was down, and again on the interval."""
        keep_for = self._config.journal.keep_for
        longest = max((each.retention for each in self._of_apps()), default=0.0)
        if keep_for < longest:
            reason = (
                f"journal.keep_for is shorter than the {longest / DAY:g} days for which GitHub lists deliveries: after "
                "an outage that is longer, some that came before it may be handled twice"
            )
            self._observe(Occurrence(name="notice", reason=reason))
        self.recovery.start()

    async def stop(self) -> None:
        """End what runs."""
        await self.recovery.stop()

    def status(self) -> Any:
        """Return the state of each hook."""
        return self.recovery.status()

    def problems(self) -> Sequence[str]:
        """Return the times whose deliveries are lost, while not everything was compared with GitHub since."""
        return self.recovery.losses.problems()

    def routes(self) -> Sequence[Route]:
        """Return the route of ``stackit recover``."""
        return recovery_routes(self.recovery, self._now)

    def collectors(self) -> Sequence[Collector]:
        """Return the metrics."""
        return [self.recovery.metrics]

    def plugin(self) -> object | None:
        """Return None: no event concerns it."""
        return None

    def change(self, new: Config) -> Callable[[], None]:
        """Return what takes the settings of a configuration, and looks at the hooks that it has."""

        def apply() -> None:
            self._config = new
            self.recovery.change(interval=new.recovery.interval, pause=new.recovery.pause)

        return apply
