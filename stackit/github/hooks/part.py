"""All that stackit does about webhooks at GitHub, as one part of the service."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from prometheus_client.registry import Collector

from stackit.api.admin import Route
from stackit.api.errors import StackitError
from stackit.api.events import Event, Repo
from stackit.api.hookimpl import hookimpl, on
from stackit.api.occurrences import Occurrence
from stackit.api.reactor import Reactor
from stackit.api.repos import Repos
from stackit.config.model import Config
from stackit.github.api import ApiClient, ApiClients
from stackit.github.apps import Apps
from stackit.github.hooks.access import HookAccess
from stackit.github.hooks.alarms import HookAlarms
from stackit.github.hooks.commands import HookCommands
from stackit.github.hooks.deliveries import DeliveryWatch
from stackit.github.hooks.monitor import HookMonitor
from stackit.github.hooks.rotation import Rotations
from stackit.github.hooks.secret_files import SecretFiles
from stackit.github.hooks.silence import Silence
from stackit.github.hooks.target import HookTarget
from stackit.github.hooks.wanted import WantedHook, wanted_hook
from stackit.github.hooks.watched import Documents, WatchedHooks


class HooksPart:
    """Watches webhooks, and serves the commands for them.

    ``config`` returns the configuration of now. ``patterns`` returns the event names that handlers wait for, None for
    any. ``refresh`` has the receiver take the secrets that are in the files now.
    """

    name = "hooks"
    settings: Sequence[str] = ("public_url", "hooks.interval")

    def __init__(
        self,
        *,
        reactor: Reactor,
        now: Callable[[], float],
        apps: Apps,
        clients: ApiClients,
        repos: Repos,
        config: Callable[[], Config],
        journal: Documents,
        patterns: Callable[[], Iterable[str | None]],
        refresh: Callable[[], None],
        notice: Callable[[str], None],
    ) -> None:
        self._config = config
        self._patterns = patterns
        self._repos = repos
        files = SecretFiles(config().state_dir)
        self._access = access = HookAccess(apps, clients, repos, config)
        self._notice = notice
        self._alarms = HookAlarms(notice)
        self._watched = WatchedHooks(journal, files, config)
        self._deliveries = DeliveryWatch(reactor)
        self._silence = Silence(repos, reactor.seconds, config().sync.interval)
        self._rotations = Rotations(
            reactor,
            files,
            self._deliveries,
            home=lambda target: files.home(target, config().scoped_secrets),
            refresh=refresh,
            notice=notice,
        )
        self._monitor = HookMonitor(
            reactor,
            now,
            watched=self._watched,
            access=access,
            alarms=self._alarms,
            silence=self._silence,
            wanted=self._wanted,
            app_of=self._app_of,
            notice=notice,
        )
        self._commands = HookCommands(
            config=config,
            wanted=self._wanted,
            watched=self._watched,
            access=access,
            monitor=self._monitor,
            rotations=self._rotations,
            files=files,
            deliveries=self._deliveries,
            refresh=refresh,
        )

    async def readable(self) -> list[tuple[HookTarget, int, ApiClient]]:
        """Return each webhook of an organization or a repository, its id, and a client that may see it.

        One of which nobody here may is left out: the look at it raises its alarm.
        """
        found = []
        try:
            targets = list(self._watched.targets().values())
        except StackitError:
            return []  # the look at all of them says so
        for target in targets:
            known = self._watched.id_of(target)
            if known is not None:
                with suppress(StackitError):
                    found.append((target, known, await self._access.client(target)))
        return found

    def start(self) -> None:
        """Begin to look at the webhooks."""
        try:
            self._rotations.start()
        except StackitError as problem:
            self._notice(f"changes of webhook secrets are not taken up: {problem}")
        self._monitor.start(self._config().hooks.interval)

    async def stop(self) -> None:
        """End everything that it began."""
        self._rotations.stop()
        await self._monitor.stop()

    def status(self) -> Any:
        """Return the webhooks as they were at the last look."""
        try:
            targets = self._watched.targets()
        except StackitError as problem:
            return {"problem": str(problem)}
        states = self._monitor.states
        return [self._commands.shown(target, states.get(key)) for key, target in targets.items()]

    def problems(self) -> Sequence[str]:
        """Return the alarms."""
        return self._alarms.problems()

    def routes(self) -> Sequence[Route]:
        """Return the routes of the commands."""
        return self._commands.routes()

    def collectors(self) -> Sequence[Collector]:
        """Return the metrics."""
        return [self._alarms]

    def plugin(self) -> object:
        """Return what is told of deliveries."""
        return _Observer(self._deliveries, self._silence, self._rotations, self._monitor)

    def change(self, new: Config) -> Callable[[], None]:
        """Return a function that takes another interval; the rest is looked up when it is needed."""
        return lambda: self._monitor.start(new.hooks.interval)

    def _wanted(self) -> WantedHook:
        config = self._config()
        return wanted_hook(config.public_url, config.api_prefixes, config.webhook.content_type, self._patterns())

    def _app_of(self, repo: Repo) -> str | None:
        managed = self._repos.get(repo)
        return None if managed is None else managed.app


class _Named(msgspec.Struct, frozen=True):
    login: str = ""
    type: str = ""


class _Deleted(msgspec.Struct, frozen=True):
    """The body of a ``meta`` event, as far as it is read. ``hook.type`` is App, Organization or Repository."""

    hook_id: int | None = None
    hook: _Named = _Named()
    organization: _Named = _Named()


class _Observer:
    """The plugin of this part."""

    def __init__(self, deliveries: DeliveryWatch, silence: Silence, rotations: Rotations, monitor: HookMonitor) -> None:
        self._deliveries = deliveries
        self._silence = silence
        self._rotations = rotations
        self._monitor = monitor

    @hookimpl
    def stackit_observe(self, occurrence: Occurrence) -> None:
        self._deliveries.observe(occurrence)
        self._silence.observe(occurrence)
        self._rotations.observe(occurrence)
        self._monitor.observe(occurrence)

    @on("meta.deleted")
    async def deleted(self, event: Event) -> None:
        """Look at a webhook that told of its end."""
        try:
            body = msgspec.json.decode(event.body, type=_Deleted)
        except msgspec.DecodeError:
            body = _Deleted()
        target = _target_of(event, body)
        if target is not None:
            await self._monitor.deleted(target, body.hook_id)


def _target_of(event: Event, body: _Deleted) -> HookTarget | None:
    if body.hook.type == "App" or event.signer.startswith("app:"):
        text = event.signer  # a webhook tells of its own end alone
    elif event.repo is not None:
        text = f"repo:{event.repo}"
    else:
        text = f"owner:{body.organization.login}"
    try:
        return HookTarget.parse(text)
    except ValueError:
        return None  # it tells of nothing that has a webhook
