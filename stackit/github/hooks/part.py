"""All that stackit does about webhooks at GitHub, as one part of the service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client.registry import Collector

from stackit.api.admin import Route
from stackit.api.background import Background
from stackit.api.errors import JournalError, StackitError
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
from stackit.github.hooks.heard import Heard, heard
from stackit.github.hooks.monitor import HookMonitor, WasTold
from stackit.github.hooks.rotation import Rotations, Share
from stackit.github.hooks.secret_files import SecretFiles
from stackit.github.hooks.silence import Silence, is_find
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
        tell_leader: Callable[[str], Awaitable[None]] | None = None,
        tell_what_was_heard: Callable[[str], Awaitable[None]] | None = None,
        share: Share | None = None,
        was_told: WasTold | None = None,
    ) -> None:
        """``tell_leader`` has the leader of a fleet be told of a webhook's end (``told_of_end``), as a text says.

        ``share`` gives the secrets in files to the other nodes; None where there are none. ``tell_what_was_heard`` has
        the leader be told of it (``hear``). ``was_told`` is the monitor's.
        """
        self._tell_what_was_heard = tell_what_was_heard
        self._background = Background()
        self.files = files = SecretFiles(config().state_dir, shared=share is not None)
        share = _share_with_nobody if share is None else share
        self._tell_leader = tell_leader
        self._is_running = False
        self._was_running = False
        self._config = config
        self._patterns = patterns
        self._repos = repos
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
            share=share,
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
            was_told=was_told,
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
            share=share,
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
        """Begin to look at the webhooks. After a stop, all that is known of them is read anew."""
        if self._was_running:
            self._watched.begin_anew()
        self._is_running = self._was_running = True
        try:
            self._rotations.start()
        except StackitError as problem:
            self._notice(f"changes of webhook secrets are not taken up: {problem}")
        self._monitor.start(self._config().hooks.interval)

    async def stop(self) -> None:
        """End everything that it began."""
        self._is_running = False
        await self._rotations.stop()
        await self._monitor.stop()
        await self._background.stop()
        self._alarms.forget(())  # the leader of a fleet has them from now on

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
        return _Observer(self._observe, self._deleted)

    def change(self, new: Config) -> Callable[[], None]:
        """Return a function that takes another interval; the rest is looked up when it is needed."""

        def apply() -> None:
            if self._is_running:
                self._monitor.start(new.hooks.interval)

        return apply

    def _observe(self, occurrence: Occurrence) -> None:
        self._deliveries.observe(occurrence)
        self._silence.observe(occurrence)
        self._rotations.observe(occurrence)
        self._monitor.observe(occurrence)
        if self._tell_what_was_heard is not None and not self._is_running:
            told = heard(occurrence, self.files.directory)
            if told is None and is_find(occurrence) and occurrence.repo is not None:
                told = Heard(repo=str(occurrence.repo), is_found=True)
            if told is not None:
                self._background.run(self._tell(msgspec.json.encode(told).decode()))

    async def _tell(self, text: str) -> None:
        with suppress(JournalError):  # who waits for it asks again
            if self._tell_what_was_heard is not None:
                await self._tell_what_was_heard(text)

    async def hear(self, text: str) -> bool:
        """Take note of what another node has heard."""
        try:
            told = msgspec.json.decode(text, type=Heard)
        except msgspec.DecodeError:  # of another version
            return False
        occurrence = told.occurrence(self.files.directory)
        if told.is_found and occurrence.repo is not None:
            self._silence.found(occurrence.repo)
        self._deliveries.observe(occurrence)
        self._rotations.observe(occurrence)
        self._monitor.observe(occurrence)
        return True

    async def _deleted(self, target: HookTarget, hook: int | None) -> None:
        """Look at a webhook that told of its end, at the node that looks at webhooks."""
        if self._is_running or self._tell_leader is None:
            await self._monitor.deleted(target, hook)
        else:
            await self._tell_leader(f"{target.text} {hook or 0}")

    async def told_of_end(self, text: str) -> bool:
        """Look at a webhook of whose end another node was told."""
        name, _, hook = text.partition(" ")
        await self._monitor.deleted(HookTarget.parse(name), int(hook) or None)
        return True

    def _wanted(self) -> WantedHook:
        config = self._config()
        return wanted_hook(config.public_url, config.api_prefixes, config.webhook.content_type, self._patterns())

    def _app_of(self, repo: Repo) -> str | None:
        managed = self._repos.get(repo)
        return None if managed is None else managed.app


async def _share_with_nobody(_: Sequence[Path]) -> None:
    """Do nothing: there are no other nodes."""


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

    def __init__(
        self,
        observe: Callable[[Occurrence], None],
        deleted: Callable[[HookTarget, int | None], Awaitable[None]],
    ) -> None:
        self._observe = observe
        self._deleted = deleted

    @hookimpl
    def stackit_observe(self, occurrence: Occurrence) -> None:
        self._observe(occurrence)

    @on("meta.deleted")
    async def deleted(self, event: Event) -> None:
        """Look at a webhook that told of its end."""
        try:
            body = msgspec.json.decode(event.body, type=_Deleted)
        except msgspec.DecodeError:
            body = _Deleted()
        target = _target_of(event, body)
        if target is not None:
            await self._deleted(target, body.hook_id)


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
