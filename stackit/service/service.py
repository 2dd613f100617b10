"""The composition root: which parts stackit has, and the order in which they start. Read it from top to bottom."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from stackit import forges
from stackit.api import hookspecs
from stackit.api.address_limiter import AddressLimiter
from stackit.api.admin import Response
from stackit.api.app import App
from stackit.api.commands import check_commands
from stackit.api.errors import JournalError, StackitError
from stackit.api.events import RefChange, Repo
from stackit.api.forge import GITHUB, Forges
from stackit.api.occurrences import Occurrence
from stackit.api.reactor import Reactor
from stackit.api.repos import ManagedRepo
from stackit.api.stop import Stop
from stackit.api.version import VERSION
from stackit.bus.backstop import Backstop
from stackit.bus.bus import Bus
from stackit.bus.loader import load_plugins
from stackit.bus.services import PluginServices
from stackit.cli.commands import COMMANDS
from stackit.config.access import Access
from stackit.config.model import Config
from stackit.config.redactor import add_secret_file, redactor
from stackit.dispatch.dispatch import Dispatch
from stackit.dispatch.metrics import PauseMetrics
from stackit.dispatch.pauses import Pauses
from stackit.dispatch.routes import control_routes
from stackit.dispatch.stalls import StallDetector
from stackit.dispatch.tallies import Tallies
from stackit.history.history import History
from stackit.history.routes import history_routes
from stackit.journal import EventId
from stackit.journal.pruner import Pruner
from stackit.journal.sqlite import SQLiteJournal
from stackit.live.feed import Feed
from stackit.live.metrics import LiveMetrics
from stackit.live.places import Places
from stackit.live.routes import live_routes
from stackit.registry import Registry
from stackit.registry.catalog import Build
from stackit.registry.metrics import RegistryMetrics
from stackit.registry.routes import registry_routes
from stackit.reload.parts import backoff, handler_limits, register_parts
from stackit.reload.reloader import Reloader
from stackit.reload.reports import ReportedReloads
from stackit.runtime.activation import Sockets
from stackit.runtime.cannot_start import cannot_start
from stackit.runtime.heartbeat import Heartbeat
from stackit.runtime.signals import stop_on_signals
from stackit.runtime.storage import Storage, measure
from stackit.runtime.watchdog import Watchdog
from stackit.secrets.redactor import Redactor
from stackit.service.condition import Condition
from stackit.service.github import GitHubParts
from stackit.service.introduction import introduce, left_out
from stackit.service.ports import Ports
from stackit.service.repositories import builder, requested
from stackit.service.signers import Signers
from stackit.service.stop import Closers, StopSteps
from stackit.web.about import config_route
from stackit.web.admin.audit import Audit
from stackit.web.admin.deliveries import delivery_routes
from stackit.web.admin.openapi import openapi_route
from stackit.web.admin.site import admin_site
from stackit.web.pages.audit import audit_page
from stackit.web.pages.deliveries import delivery_pages
from stackit.web.pages.plugins import plugins_page
from stackit.web.pages.site import Pages
from stackit.web.pages.static_files import static_files
from stackit.web.public import public_site
from stackit.web.sessions.entrance import Entrance
from stackit.web.sessions.pages import LoginWay
from stackit.web.sessions.routes import people_routes
from stackit.web.sessions.sessions import Sessions

_PLUGINS = "plugins/"
"""Begins the names of the collections of documents that are plugins' own."""


class Stackit(Service):
    """All of stackit, from ``startService`` to ``stopService``."""

    def __init__(
        self,
        config: Config,
        reactor: Reactor,
        plugins: Mapping[str, object] = MappingProxyType({}),
        *,
        now: Callable[[], float] = time.time,
        sockets: Sockets = MappingProxyType({}),
        redact: Redactor | None = None,
    ) -> None:
        """``plugins`` are registered beside those that are installed or configured; ``now`` is the wall clock.

        ``sockets`` were handed over, and are used in place of ports of the configuration. ``redact`` is that of the
        configuration, which learns the secrets of plugins.
        Raises StackitError for a configured plugin that is broken.
        """
        self.config = config
        self.reactor = reactor
        self.now = now
        self.started_at = now()
        self.dropped_lines: Callable[[], int] = int
        self.set_log_level: Callable[[str | Mapping[str, str]], None] = _no_log
        self.stop = Stop()
        self.stop_steps = StopSteps(reactor, config.grace)
        self._ports = Ports(config, reactor, sockets)
        self._builder: tuple[Access, Build] | None = None
        self._unread: list[Callable[[], None]] = []
        self._closers = Closers()  # each part that is opened or started is added at once

        self.redact = redactor(config, reactor) if redact is None else redact
        self.bus = Bus(self.redact)
        for name, plugin in plugins.items():
            self.bus.register(name, plugin)
        self.left_out = load_plugins(
            self.bus,
            config.plugins,
            directory=config.source.parent if config.source else Path.cwd(),
            source=config.source,
            on_secret=partial(add_secret_file, self.redact),
        )

    @property
    def addresses(self) -> list[str]:
        """Return where both sides listen, as URLs: the public side first."""
        return self._ports.addresses

    # -- start --------------------------------------------------------------------

    def startService(self) -> None:
        """Open the journal, listen, and start the plugins.

        Raises CannotStart: a port that is taken, a journal that is held, a plugin that fails at start. What was opened
        by then is closed again, in reverse order; the Deferred of ``stopService`` says when.
        """
        try:
            introduce(self.config, self.bus)
            self._open_journal()
            self._make_watchdog()
            self._make_dispatch()
            self._make_people()
            self._make_github()
            self._make_live()
            self._make_app()
            self._make_public_side()
            self._make_admin_side()
            self._make_reloader()
            self._listen()
            self._give_notice()
            self._start_plugins()
            self._start_work()
        except BaseException as problem:
            self._closers.close()
            if not isinstance(problem, StackitError):
                raise
            raise cannot_start(problem, self.redact) from None
        self._closers.add(self._finish_work)
        Service.startService(self)
        stop_on_signals(self.reactor, self.stop_steps.hurry)

    def _open_journal(self) -> None:
        config, reactor = self.config, self.reactor
        self.journal = SQLiteJournal.open(
            config.state_dir,
            reactor=reactor,
            keep_for=config.journal.keep_for,
            keep_bytes=config.journal.keep_bytes,
            on_change=self._journal_changed,
            notice=self._notice,
        )
        self._closers.add(partial(self.stop_steps.close_journal, self.journal))

    def _make_watchdog(self) -> None:
        """Make what watches over the threads and the disk, and tells systemd."""
        reactor = self.reactor
        self.heartbeat = Heartbeat(reactor=reactor, threads=self.journal.threads())
        self._closers.add(self.heartbeat.stopService)
        self.storage = Storage(reactor=reactor, look=partial(measure, self.config.state_dir, self.journal.files()))
        self.watchdog = Watchdog(
            reactor=reactor,
            environ=os.environ,
            pid=os.getpid(),
            stuck=self.heartbeat.stuck,
            notice=self._notice,
        )
        self._closers.add_last(self.watchdog.stopService)  # its signs of life go on until all else is closed

    def _make_dispatch(self) -> None:
        config, reactor = self.config, self.reactor
        self._know_secrets()
        self.forges = forges.with_secrets(config, self._notice)
        self._senders = Forges(forge for forge, _ in self.forges)
        self.pruner = Pruner(reactor=reactor, now=self.now, journal=self.journal)
        self.dispatch = Dispatch(
            reactor=reactor,
            now=self.now,
            bus=self.bus,
            journal=self.journal,
            backoff=backoff(config),
            limits=handler_limits(config),
            restore=partial(forges.restore, self._senders),
            is_ping=self._senders.is_ping,
        )
        self.pauses = Pauses(self.journal, self.dispatch, self.bus, now=self.now)
        self._tallies = Tallies(self.now)
        self.bus.register("stackit.tallies", self._tallies, own=True)
        self.stalls = StallDetector(
            reactor=reactor, dispatch=self.dispatch, display=self.bus.display, notice=self._notice
        )
        self.backstop = Backstop(reactor=reactor, bus=self.bus, interval=config.sync.interval, grace=config.grace)

    def _make_people(self) -> None:
        """Make what knows the people on the admin side, and what they did."""
        login = self.config.login
        self.sessions = Sessions(
            self.journal,
            reactor=self.reactor,
            now=self.now,
            idle=float(login.idle),
            absolute=float(login.absolute),
        )
        self.audit = Audit(self.journal, now=self.now, observe=self.bus.observe, redact=self.redact)
        self._closers.add(partial(self.stop_steps.write_down, self.sessions.stop))
        self._closers.add(partial(self.stop_steps.write_down, self.audit.stop))
        self._load(self.sessions.load)
        self._load(self.audit.load)
        self.entrance = Entrance(self.sessions, self.audit, guard=lambda: self.admin.guard, now=self.now)

    def _login_ways(self) -> list[LoginWay]:
        """Return the ways to log in beside a token."""
        return [LoginWay(label, path) for label, path in self.github.login.ways().items()]

    def _make_github(self) -> None:
        """Make what works at GitHub. Its handlers of events are plugins of the bus."""
        self.github = GitHubParts(
            self.config, reactor=self.reactor, now=self.now, redact=self.redact, notice=self._notice
        )
        self.stop.when_begun(self.github.clients.limits.be_impatient)
        file, build = self._configured(self.config)
        self.registry = Registry(
            file,
            build=build,
            journal=self.journal,
            reactor=self.reactor,
            now=self.now,
            notice=self._notice,
            source=str(self.config.source or "the configuration"),
        )
        self._closers.add(self.registry.stop)
        self.registry.load()
        self._signers = Signers(self.registry, self.github.apps.is_anothers)
        self.github.assemble(
            self.registry,
            config=lambda: self.config,
            journal=self.journal,
            bus=self.bus,
            take=self.dispatch.take,
            speaks_for=self._signers.speaks_for,
            verify=self._signed_by,
            refresh=self._refresh_secrets,
            compare=self.backstop.compare,
            entrance=self.entrance,
            stylesheet=static_files()["style.css"].path,
        )
        for name, plugin in self.github.plugins().items():
            self.bus.register(name, plugin)

    def _make_live(self) -> None:
        """Make what tells people and programs of what happens, as it happens."""
        self.live = Feed(reactor=self.reactor, now=self.now, redact=self.redact)
        self._live_places = Places()
        self.stop.when_begun(self.live.stop)
        self.bus.register("stackit.live", self.live, own=True)
        self.history = History(self.journal, reactor=self.reactor, now=self.now)
        self._load(self.history.load)
        self.bus.register("stackit.history", self.history, own=True)

    def _signed_by(self, body: bytes, digest: bytes) -> str | None:
        """Return the label of the secret of GitHub's webhook that signed a body."""
        return self.public.webhooks[GITHUB].signed_by(body, digest)

    def _know_secrets(self) -> None:
        """Keep the webhook secrets that stackit made out of all that is said."""
        self.redact.add_files(each.file for each in forges.made_secrets(self.config))

    def _refresh_secrets(self) -> None:
        """Have the receiver take the webhook secrets that are in the files now."""
        self._know_secrets()
        self.public.change(self.config, forges.with_secrets(self.config, self._notice))

    def _configured(self, config: Config) -> tuple[Sequence[ManagedRepo], Build]:
        """Return the repositories of a configuration, and what makes those that are not in it."""
        # Another way to make them has all of them made anew.
        if self._builder is None or self._builder[0] != config.access:
            self._builder = (config.access, builder(config.access, self.forges[0][0], self.github.bind))
        return self.github.bind(config.repos), self._builder[1]

    def _make_app(self) -> None:
        """Make what plugins are given of stackit, and the plugins' services of it."""
        config = self.config
        self.condition = Condition(
            self.reactor,
            self.bus,
            self.journal,
            self.dispatch,
            self.stalls,
            self.heartbeat,
            self.storage,
            self.github.problems,
            lambda: [name for name, is_paused in self.pauses.states().items() if is_paused],
            self.now,
        )
        self.app = App(
            reactor=self.reactor,
            now=self.now,
            version=VERSION,
            state_dir=config.state_dir,
            repos=self.registry.repos,
            sync_interval=config.sync.interval,
            grace=config.grace,
            observe=self.bus.observe,
            announced=lambda repo: self.journal.announced(repo.key),
            announce=self._announce,
            mirror=partial(self.bus.first, hookspecs.stackit_mirror),
            github=self.github.client,
            documents=lambda collection: self.journal.documents_now(_PLUGINS + collection),
            keep=lambda collection, documents: self.journal.put(_PLUGINS + collection, documents),
            visible=lambda event_id, at: self.journal.visible(EventId(event_id), at),
            pending=self.dispatch.pending,
            stalled=self.stalls.seconds,
            dropped_lines=self.dropped_lines,
            vitals=lambda: self.condition.vitals(self.public.webhooks),
            collectors=[
                (plugin, each)
                for plugin, collectors in self.bus.collect(hookspecs.stackit_metrics)
                for each in collectors
            ]
            + [("registry", RegistryMetrics(self.registry.counts))]
            + [("pauses", PauseMetrics(self.pauses.states))]
            + [("live", LiveMetrics(self.live, self._live_places))]
            + self.github.collectors(),
            redact=self.redact,
            stop=self.stop,
        )
        check_commands([*COMMANDS, *self.bus.collect_items(hookspecs.stackit_commands)])
        self._plugin_services = PluginServices(self.bus.collect(hookspecs.stackit_service, self.app), self.redact)

    def _requested(self, name: str, url: str | None) -> tuple[Repo, str]:
        return requested(self.config.access, self.forges[0][0], name, url)

    def _mirror_path(self, repo: Repo) -> Path | None:
        mirror = self.app.mirror(repo)
        return None if mirror is None or not mirror.exists else mirror.path

    async def _announce(self, repo: Repo, changes: tuple[RefChange, ...], cause: str, delivery: str | None) -> None:
        """Announce moved refs, but not while the repository gets another name."""
        await self.registry.settled(repo)
        await self.dispatch.announce(repo, changes, cause, delivery)

    def _make_public_side(self) -> None:
        self.public = public_site(
            self.config,
            forges=self.forges,
            admit=partial(self.bus.first, hookspecs.stackit_admit),
            client_of=partial(self.bus.first, hookspecs.stackit_client),
            observe=self.bus.observe,
            take=self.dispatch.take,
            speaks_for=self._signers.speaks_for,
            reactor=self.reactor,
            now=self.now,
            stuck=self.heartbeat.stuck,
            plugin_routes=self.bus.collect_items(hookspecs.stackit_public_routes, self.app),
            redact=self.redact,
        )

    def _make_admin_side(self) -> None:
        routes = [
            *delivery_routes(
                self.journal,
                self.dispatch,
                self.bus,
                is_managed=lambda repo: self.app.repos.get(repo) is not None,
                now=self.now,
            ),
            *self.condition.routes(
                started_at=self.started_at,
                repos=lambda: len(self.app.repos),
                read_only=lambda: self.config.read_only,
            ),
            *control_routes(self.bus, self.journal, self.dispatch, self.pauses, self._tallies, self.left_out),
            *registry_routes(self.registry, self._requested, self._mirror_path),
            *people_routes(
                self.entrance,
                self.audit,
                guard=lambda: self.admin.guard,
                slowdown=AddressLimiter(self.reactor.seconds, burst=10, per_minute=10),
                ways=self._login_ways,
            ),
            *self.github.routes(),
            *history_routes(self.history),
            *live_routes(self.live, self._live_places, self.sessions.when_ended),
            *self.bus.collect_items(hookspecs.stackit_routes, self.app),
        ]
        routes.append(config_route(lambda: self.config))
        routes.append(openapi_route(routes, self.config.api_prefixes))
        pages = self._pages()
        routes += pages.routes()
        client_of = partial(self.bus.first, hookspecs.stackit_client)
        self.admin = admin_site(
            self.config,
            routes,
            self.reactor,
            client_of=client_of,
            redact=self.redact,
            sessions=self.sessions,
            note=self.audit.note,
            problem_page=pages.problem,
        )

    def _pages(self) -> Pages:
        """Return the pages: stackit's own, and those of plugins."""
        plugins = self.bus.collect_items(hookspecs.stackit_pages, self.app)
        return Pages(
            [*delivery_pages(), *plugins, plugins_page(), *self.github.pages(), audit_page()],
            reactor=self.reactor,
            now=self.now,
            prefix=self.config.api_prefixes[0],
            call=self._call_api,
            read_only=lambda: self.config.read_only,
            redact=self.redact,
        )

    def _call_api(self, *asked: Any, **more: Any) -> Awaitable[Response]:
        """Ask a route of the admin side, which is made after its pages."""
        return self.admin.call(*asked, **more)

    def _make_reloader(self) -> None:
        self.reloader = Reloader(self.config)
        register_parts(
            self.reloader,
            bus=self.bus,
            redact=self.redact,
            public=self.public,
            admin=self.admin,
            sessions=self.sessions,
            dispatch=self.dispatch,
            journal=self.journal,
            registry=self.registry,
            configured=self._configured,
            notice=self._notice,
            on_secret=partial(add_secret_file, self.redact),
            set_log_level=self.set_log_level,
            check_token=self._ports.check_token,
            github=self.github.prepare,
        )
        self.reloads = ReportedReloads(
            self.reloader, watchdog=self.watchdog, observe=self.bus.observe, redact=self.redact
        )

    def _listen(self) -> None:
        self._closers.add(self._ports.close)
        self._ports.listen(self.public, self.admin)

    def _start_plugins(self) -> None:
        """Start the plugins' services. What they announce already finds the queues of its subscribers."""
        self._closers.add(self.stop.begin)  # for a start that fails
        self._closers.add(self.dispatch.stop)
        self.dispatch.open_queues()
        self._load(self.pauses.load)
        self._closers.add(partial(self.stop_steps.stop_plugins, self._plugin_services))
        self._plugin_services.start()

    def _start_work(self) -> None:
        """Hand on what the last process left, look for what was missed, and watch over it."""
        self._closers.add(self.github.stop)
        self.github.start()
        Deferred.fromCoroutine(self.dispatch.recover())
        self._closers.add(self.backstop.stop)
        self.backstop.startService()
        self.sessions.start()
        self._closers.add(partial(self.stop_steps.write_down, self.history.stopService))
        self.history.startService()
        for each in (self.pruner, self.stalls, self.storage, self.condition.watch):
            self._closers.add(each.stopService)
            each.startService()
        self.heartbeat.startService()
        self.watchdog.startService()

    def _give_notice(self) -> None:
        """Tell what an operator should know of this start."""
        for fault in self.left_out:
            self.bus.observe(left_out(fault, self.redact))
        for line in (*self.bus.doubts(self._senders.doubt), *forges.notices(self.config, self.forges)):
            self._notice(line)

    # -- reload -------------------------------------------------------------------

    def reload(self, load: Callable[[], Config]) -> None:
        """Take what the configuration says now: all of it or, where anything is wrong with it, nothing.

        The observers and systemd are told how it ended.
        """
        if not self.running:
            return  # it is stopping, and the next start reads the file
        self.reloads.reload(load)
        self.config = self.reloader.config

    # -- stop ---------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        """Let what runs end within the grace, and leave the rest to the next start.

        After a start that failed, the Deferred fires when everything that it opened is closed.
        """
        Service.stopService(self)
        return self._closers.close()

    async def _finish_work(self) -> None:
        self.watchdog.stopping()
        self.stalls.stopService()
        sides = (self.public, self.admin)
        await self.stop_steps.finish_work(self.stop, self.dispatch, self.backstop, sides, self._ports)

    # -- reports ------------------------------------------------------------------

    def _journal_changed(self, problem: str | None) -> None:
        self._notice(problem or "the journal can be written again")
        if problem is None:
            unread, self._unread = self._unread, []
            for each in unread:
                self._load(each)
            self.dispatch.look_again()

    def _load(self, load: Callable[[], None]) -> None:
        """Read what the journal keeps of the last process; where it cannot be opened yet, as soon as it is."""
        try:
            load()
        except JournalError:
            self._unread.append(load)

    def _notice(self, reason: str) -> None:
        self.bus.observe(Occurrence(name="notice", reason=reason))


def _no_log(_level: str | Mapping[str, str]) -> None:
    """Change nothing: another program keeps the log."""
