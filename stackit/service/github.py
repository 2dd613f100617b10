"""What stackit does at GitHub itself, beside the deliveries that it receives: the Apps, and the parts that use them.

A part is made in ``assemble``, and has the members of ``Part``. It finds the Apps in ``apps``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client.registry import Collector

from stackit.api.admin import AdminRequest, Response, Route
from stackit.api.events import Repo
from stackit.api.github import GitHubClient
from stackit.api.nodes import Alone, Nodes
from stackit.api.pages import Page, Panel
from stackit.api.peers import Affinity
from stackit.api.reactor import Reactor
from stackit.api.repos import ManagedRepo, Repos
from stackit.bus.bus import Bus
from stackit.config.model import Config
from stackit.github.api import ApiClients
from stackit.github.apps import Apps, GitHubApp
from stackit.github.apps.part import AppsPart
from stackit.github.apps.personal import PersonalTokens
from stackit.github.apps.repository_client import RepositoryClient
from stackit.github.console.pages import github_pages
from stackit.github.discovery.discovery import Discovery
from stackit.github.hooks.part import HooksPart
from stackit.github.login.entrance import Entrance
from stackit.github.login.part import LoginPart
from stackit.github.recovery.part import ReadableHook, RecoveryPart
from stackit.github.recovery.taking import SpeaksFor, Take, Verify
from stackit.github.setup.part import SetupPart
from stackit.http.client.tls import TlsFiles
from stackit.journal import JournalProtocol
from stackit.journal.errands import Errands
from stackit.registry import Registry
from stackit.reload.reloader import Step
from stackit.secrets.redactor import Redactor
from stackit.service.github_status import GitHubStatus
from stackit.service.leading import AtLeader
from stackit.service.part import Part
from stackit.service.shared_secrets import SharedSecrets


class GitHubParts:
    """All parts, in the order in which they start; they stop in reverse."""

    def __init__(
        self,
        config: Config,
        *,
        reactor: Reactor,
        now: Callable[[], float],
        redact: Redactor,
        notice: Callable[[str], None],
    ) -> None:
        """``now`` is the wall clock, in a fleet that of all nodes."""
        self._started: list[Part | AtLeader] = []
        self._config = config
        self._reactor = reactor
        self._now = now
        self._redact = redact
        self._notice = notice
        self._access = config.access
        self.clients = ApiClients(
            reactor,
            now,
            clock_of="the fleet's database" if config.fleet.is_configured else "this machine",
            notice=notice,
            redact=redact,
            tls_files=self._tls_files,
        )
        """Clients of GitHub's API, which share connections, limits and clocks."""
        self.apps = Apps(
            config.apps,
            reactor=reactor,
            now=now,
            clients=self.clients,
            redact=redact,
            notice=notice,
            recovered=self._recovered,
        )
        self.parts: list[Part] = []
        self._to_start: list[Part | AtLeader] = []
        self._repos = Repos()
        self._nodes: Nodes = Alone()

    def assemble(
        self,
        registry: Registry,
        *,
        config: Callable[[], Config],
        journal: JournalProtocol,
        bus: Bus,
        take: Take,
        speaks_for: SpeaksFor,
        verify: Verify,
        refresh: Callable[[], None],
        compare: Callable[[], Awaitable[bool]],
        entrance: Entrance,
        stylesheet: str,
        nodes: Nodes,
        errands: Errands,
        affinity: Affinity,
    ) -> None:
        """Make the parts, for the repositories of a registry.

        ``config`` returns the configuration of now. ``take`` is dispatch's, ``compare`` the backstop's. ``refresh`` has
        the receiver take the webhook secrets that are in the files now. ``entrance`` is the door for people,
        ``stylesheet`` the path of that of the admin side. In a fleet of ``nodes``, ``errands`` have others do what is
        theirs, and by ``affinity`` people go on with what they began at another one. The other functions are described
        where they are used.
        """
        self._repos = registry.repos
        self._nodes = nodes
        apps, clients, reactor, now, notice = self.apps, self.clients, self._reactor, self._now, self._notice
        personal = PersonalTokens(
            self._config, registry.repos, clients.expiries, reactor=reactor, now=now, notice=notice
        )
        self.discovery = discovery = Discovery(
            self._config,
            registry=registry,
            apps=apps,
            clients=clients,
            reactor=reactor,
            now=now,
            notice=notice,
            tell_leader=partial(errands.tell_leader, "discovery"),
        )

        async def compare_here(_: str) -> bool:
            return await compare()

        async def reconcile() -> bool:
            """Compare every listing and every mirror with GitHub; return whether all of them could be compared."""
            listed = await discovery.reconcile()
            return await errands.ask_all("compare", "") and listed

        hooks = HooksPart(
            reactor=reactor,
            now=now,
            apps=apps,
            clients=clients,
            repos=registry.repos,
            config=config,
            journal=journal,
            patterns=partial(_event_names, bus),
            refresh=refresh,
            notice=notice,
            tell_leader=partial(errands.tell_leader, "webhook"),
            tell_what_was_heard=partial(errands.tell_leader, "heard") if nodes.here else None,
            share=self._share if nodes.here else None,
            was_told=partial(_was_told, journal) if nodes.here else None,
        )
        self.secrets = SharedSecrets(
            hooks.files, journal, nodes, errands, reactor=reactor, refresh=refresh, notice=notice
        )
        recovery = RecoveryPart(
            self._config,
            apps,
            reactor=reactor,
            now=now,
            journal=journal,
            take=take,
            wanted=bus.wants,
            speaks_for=speaks_for,
            verify=verify,
            reconcile=reconcile,
            others=partial(_readable, hooks),
            observe=bus.observe,
        )
        setup = SetupPart(
            reactor=reactor,
            now=now,
            clients=clients,
            config=config,
            redact=self._redact,
            notice=notice,
            nodes=nodes,
            affinity=affinity,
        )
        self.login = LoginPart(
            config,
            reactor=reactor,
            now=now,
            apps=apps,
            clients=clients,
            journal=journal,
            entrance=entrance,
            notice=notice,
            stylesheet=stylesheet,
            nodes=nodes,
            affinity=affinity,
        )
        of_apps = AppsPart(self._config, apps, tell_all=partial(errands.tell_all, "installation"))
        self.parts = [of_apps, personal, discovery, recovery, hooks, setup, self.login]
        at_leader = (discovery, recovery, hooks)
        self._to_start = [AtLeader(each, nodes) if each in at_leader else each for each in self.parts]
        errands.on("discovery", discovery.look_as_told)
        errands.on("webhook", hooks.told_of_end)
        errands.on("heard", hooks.hear)
        errands.on("installation", of_apps.look_as_told)
        errands.on("compare", compare_here)

    async def _share(self, paths: Sequence[Path]) -> None:
        await self.secrets.share(paths)

    def bind(self, managed: Iterable[ManagedRepo]) -> tuple[ManagedRepo, ...]:
        """Return the repositories, each of an App with the source of its tokens."""
        return tuple(map(self.apps.bound, managed))

    def client(self, repo: Repo) -> GitHubClient:
        """Return a client of GitHub's API that asks as the App that is installed for a repository."""
        return RepositoryClient(self.apps, repo, self._repos.get)

    def _change_hosts(self, new: Config) -> None:
        self._access = new.access

    def _tls_files(self, host: str, port: int) -> TlsFiles:
        """Return the files for TLS with a host."""
        return TlsFiles(**self._access.tls(f"https://[{host}]:{port}/" if ":" in host else f"https://{host}:{port}/"))

    def _recovered(self, app: GitHubApp) -> None:
        """Tell of the sources that give tokens again, and look for what happened while they did not."""
        self.discovery.look_at_app(app.name)
        sources = {each.token_source for each in self._repos if each.app == app.name and each.token_source is not None}
        for source in sources:
            if source.problem is None:
                self._repos.access_returned(source)

    def start(self) -> None:
        """Start the parts."""
        for part in self._to_start:
            part.start()
            self._started.append(part)

    async def stop(self) -> None:
        """Stop those that were started, and close the connections."""
        while self._started:
            await self._started.pop().stop()
        await self.secrets.stop()
        await self.clients.close()

    def plugins(self) -> Mapping[str, object]:
        """Return the plugins of the parts by name: their handlers are told of events."""
        found = {f"github-{part.name}": part.plugin() for part in self.parts}
        return {name: plugin for name, plugin in found.items() if plugin is not None}

    def routes(self) -> list[Route]:
        """Return ``GET {prefix}/github``, and the routes of the parts."""
        return [
            Route(
                "GET",
                "{prefix}/github",
                self._show,
                query=(),
                node="leader",
                summary="Show what stackit does at GitHub, by its parts.",
                returns=GitHubStatus,
            ),
            *(route for part in self.parts for route in part.routes()),
        ]

    def pages(self) -> list[Page | Panel]:
        """Return the page about GitHub, and its panel; nothing where nothing is configured there."""
        config = self._config
        if not (config.apps or config.discover or config.owners):
            return []
        return github_pages(self.problems, self._nodes.leads, self._reactor)

    def collectors(self) -> list[tuple[str, Collector]]:
        """Return the metrics of the parts, each with a name of whose they are."""
        own = [("github-api", each) for each in self.clients.collectors()]
        return own + [(f"github-{part.name}", each) for part in self.parts for each in part.collectors()]

    def problems(self) -> list[str]:
        """Return what an operator has to know, a line each."""
        return [line for part in self.parts for line in part.problems()]

    def status(self) -> dict[str, Any]:
        """Return the clocks and limits of the API, the state of each part by its name, and the problems."""
        parts = {part.name: msgspec.to_builtins(part.status()) for part in self.parts}
        return {"api": self.clients.status(), **parts, "problems": self.problems()}

    def prepare(self, _: Config, new: Config, names: Sequence[str]) -> Sequence[Step]:
        """Return the steps of a reload, in which the settings of these names differ."""
        own = [(part, [each for each in names if each in part.settings]) for part in self.parts]
        hosts = Step(apply=partial(self._change_hosts, new), changes=["hosts"] if "hosts" in names else [])
        return [hosts, *(Step(apply=part.change(new), changes=changes) for part, changes in own if changes)]

    def _show(self, _: AdminRequest) -> Response:
        return Response(body=self.status())


def _event_names(bus: Bus) -> frozenset[str | None]:
    """Return the names of the events that webhooks have to tell of.

    Those of people are none of them: a webhook that does not tell of these has roles looked up a little later.
    """
    return bus.event_names(besides=f"github-{LoginPart.name}")


async def _readable(hooks: HooksPart) -> list[ReadableHook]:
    """Return the webhooks of organizations and repositories whose deliveries may be listed."""
    return [
        ReadableHook(scope=target.scope, id=hook, client=client, route=target.list_route, values=target.values)
        for target, hook, client in await hooks.readable()
    ]


async def _was_told(journal: JournalProtocol, repo: Repo, since: float) -> bool:
    """Return whether a webhook told of a push since a time, at any node. Raises JournalError."""
    page = await journal.listing(event="push", repo=str(repo), since=since)
    return any(each.via == "webhook" for each in page.deliveries)
