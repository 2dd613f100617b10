"""Discovery: finds the repositories that the configuration asks for, and follows them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any

from prometheus_client.registry import Collector

from stackit.api.admin import Route
from stackit.api.background import Background
from stackit.api.errors import StackitError
from stackit.api.reactor import Reactor
from stackit.api.token_file import read_token
from stackit.config.model import Config
from stackit.github.api import ApiClients, TokenCredential
from stackit.github.apps import Apps
from stackit.github.discovery.events import DiscoveryEvents, Place
from stackit.github.discovery.listings import (
    AppListing,
    Listing,
    OwnerListing,
    rules_at,
    rules_of_apps,
    rules_of_owners,
    without_listing,
)
from stackit.github.discovery.metrics import DiscoveryMetrics
from stackit.github.discovery.orphans import orphans
from stackit.github.discovery.reconcile import Reconcile, read_all
from stackit.github.discovery.report import ListingReport
from stackit.github.discovery.routes import discovery_routes
from stackit.github.discovery.rules import Rule, named
from stackit.github.discovery.source import Source, Standing
from stackit.github.discovery.status import problems_of, removed_last, status_of
from stackit.github.discovery.view import Played
from stackit.registry import Registry


class Discovery:
    """The sources of listings of the configuration, each read by itself: no App waits for another."""

    name = "discovery"
    settings = ("discover", "apps", "discovery.interval", "discovery.max_removals", "discovery.min_repos")

    def __init__(
        self,
        config: Config,
        *,
        registry: Registry,
        apps: Apps,
        clients: ApiClients,
        reactor: Reactor,
        now: Callable[[], float],
        notice: Callable[[str], None],
        tell_leader: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        """``now`` is the wall clock. ``tell_leader`` has the leader of a fleet ``look_at`` what a text says."""
        self._tell_leader = tell_leader
        self._is_running = False
        self._registry = registry
        self._apps = apps
        self._clients = clients
        self._reactor = reactor
        self._now = now
        self._notice = notice
        self._background = Background()
        self._of_apps: dict[str, Source] = {}
        self._of_owners: dict[str, list[Source]] = {}
        self._events = DiscoveryEvents(self.look_at)
        self._metrics = DiscoveryMetrics(self._sources, self._events.uses, lambda: self._is_running)
        self._take(config)

    def _take(self, config: Config) -> None:
        self._config = config
        self._settings = config.discovery
        self._rules = named(config.discover)
        self._places = {rule.name: place for place, rule in enumerate(self._rules)}
        self._of_apps = {
            name.lower(): self._source(f"App {name}", rules, partial(self._listings_of_app, name, rules))
            for name, rules in rules_of_apps(self._rules).items()
        }
        self._of_owners = {}
        for rules in rules_of_owners(self._rules):
            listing = self._listing_of_owner(rules)
            source = self._source(listing.name, rules, partial(_only, listing))
            self._of_owners.setdefault(listing.login.lower(), []).append(source)

    def _source(
        self, name: str, rules: Sequence[Rule], listings: Callable[[], Coroutine[Any, Any, Sequence[Listing]]]
    ) -> Source:
        intervals = [rule.table.interval for rule in rules if rule.table.interval is not None]
        return Source(
            name,
            reactor=self._reactor,
            now=self._now,
            interval=min(intervals, default=self._settings.interval),
            listings=listings,
            read=self._read,
            changed=self._changed,
        )

    async def _listings_of_app(self, name: str, rules: Sequence[Rule]) -> Sequence[Listing]:
        app = self._apps.named(name)
        return [
            AppListing(app, installation, own)
            for installation in await app.installations()
            if installation.state == "active" and (own := rules_at(rules, installation.account.login))
        ]

    def _listing_of_owner(self, rules: Sequence[Rule]) -> OwnerListing:
        table = rules[0].table
        file = table.token_file
        assert file is not None  # noqa: S101 - the configuration was checked
        credential = TokenCredential(str(file), partial(read_token, file))
        return OwnerListing(self._clients.client(table.api_url, credential), rules)

    # -- the life of it -----------------------------------------------------------

    def start(self) -> None:
        """Read every listing soon; nothing waits for it."""
        if not self._is_running:
            self._take(self._config)  # whatever is old of the sources here is no trouble of today
        self._is_running = True
        if self._rules or any(record.source == "discover" for record in self._registry.records()):
            self._background.run(self._remove_orphans())
        for source in self._sources():
            source.start()

    async def stop(self) -> None:
        """End the readings. A start after that begins anew."""
        self._is_running = False
        await self._stop(list(self._sources()))
        await self._background.stop()
        self._take(self._config)

    async def _stop(self, sources: Iterable[Source]) -> None:
        for source in sources:
            await source.stop()

    def change(self, new: Config) -> Callable[[], None]:
        """Return what takes other tables: it reads the listings anew."""

        def apply() -> None:
            self._background.run(self._stop(list(self._sources())))
            self._take(new)
            if self._is_running:
                self.start()

        return apply

    async def _remove_orphans(self) -> None:
        """Mirror no more what no table lists now."""
        for batch in orphans(self._registry.records(), self._rules):
            try:
                await self._registry.discovered(batch)
            except StackitError as problem:
                self._notice(f"repositories that no [[discover]] lists any more stay until the next start: {problem}")

    # -- looks --------------------------------------------------------------------

    def look_at_app(self, name: str) -> None:
        """Have the listings of an App read soon, where this node reads them."""
        source = self._of_apps.get(name.lower())
        if source is not None and self._is_running:
            source.look()

    async def look_at(self, place: Place) -> bool:
        """Have listings read soon, by this node or by the leader; return False where no table wants them.

        Raises StackitError where the leader cannot be told.
        """
        sources = self._at(place)
        if sources and not self._is_running and self._tell_leader is not None:
            await self._tell_leader(place.text())
        elif self._is_running:
            for source in sources:
                source.look(place.installation)
        return bool(sources)

    async def look_as_told(self, text: str) -> bool:
        """Have listings read soon of which another node was told."""
        place = Place.parse(text)
        for source in self._at(place) if self._is_running else ():
            source.look(place.installation)
        return self._is_running

    def _at(self, place: Place) -> list[Source]:
        if place.app is not None:
            return [each for name, each in self._of_apps.items() if name == place.app.lower()]
        if place.owner is not None:
            return self._of_owners.get(place.owner.lower(), [])
        return list(self._sources())

    async def look_now(self, *, accept: bool, dry: bool) -> list[ListingReport]:
        """Read all listings now, and return what each showed; a source that cannot be asked is in it, too."""
        reports: list[ListingReport] = []
        for source in self._sources():
            try:
                reports += await source.look_now(accept=accept, dry=dry)
            except StackitError as problem:
                reports.append(ListingReport(listing=source.name, problem=str(problem)))
        return reports

    async def look_for(self, *, accept: bool, dry: bool) -> list[ListingReport]:
        """Do that for a person, who is told of installations without a listing, too."""
        reports = await self.look_now(accept=accept, dry=dry)
        failed = {report.listing for report in reports}
        for name, rules in rules_of_apps(self._rules).items():
            if f"App {name}" not in failed:
                reports += without_listing(self._apps.named(name), rules)
        return reports

    async def reconcile(self) -> bool:
        """Read all listings now; return whether all of them were complete."""
        return all(report.problem is None for report in await self.look_now(accept=False, dry=False))

    async def _read(self, listings: Sequence[Listing], accept: bool, dry: bool) -> Sequence[ListingReport]:
        seen: set[int] = set()
        played = Played() if dry else None
        return await read_all(
            [
                Reconcile(
                    listing,
                    self._registry,
                    self._settings,
                    places=self._places,
                    now=self._now,
                    accept=accept,
                    seen=seen,
                    played=played,
                )
                for listing in listings
            ]
        )

    def _changed(self, before: Standing | None, now: Standing) -> None:
        """Tell people of what begins or ends with a reading."""
        report = now.report
        if report.held is not None and (before is None or before.report.held is None):
            self._notice(report.held)
        if report.problem is not None and now.failures == 1:
            self._notice(f"the listing of {report.listing} is not complete, so nothing is removed: {report.problem}")
        elif report.problem is None and before is not None and before.failures:
            self._notice(f"the listing of {report.listing} is complete again")

    # -- what others see ----------------------------------------------------------

    def _sources(self) -> Iterable[Source]:
        yield from self._of_apps.values()
        for sources in self._of_owners.values():
            yield from sources

    def status(self) -> Any:
        """Return the sources with their listings, and the repositories that were removed last."""
        return {"sources": status_of(self._sources()), "removed": removed_last(self._registry.records())}

    def problems(self) -> Sequence[str]:
        """Return the listings that cannot be read, and the repositories that wait for a person."""
        return problems_of(self._sources())

    def routes(self) -> Sequence[Route]:
        """Return ``POST {prefix}/discover``."""
        return discovery_routes(self.look_for)

    def collectors(self) -> Sequence[Collector]:
        """Return the metrics."""
        return [self._metrics]

    def plugin(self) -> object | None:
        """Return what is told of events."""
        return self._events if self._apps or self._rules else None


async def _only(listing: Listing) -> Sequence[Listing]:
    return [listing]
