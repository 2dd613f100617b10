"""All of stackit as one Twisted service: the composition root. Read ``Stackit`` from top to bottom."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit import forges
from stackit.api.app import App
from stackit.api.commands import check_commands
from stackit.api.errors import StackitError, describe
from stackit.api.forge import Forges
from stackit.api.hookspecs import (
    stackit_admit,
    stackit_client,
    stackit_commands,
    stackit_metrics,
    stackit_mirror,
    stackit_public_routes,
    stackit_routes,
    stackit_service,
)
from stackit.api.occurrences import Occurrence
from stackit.api.reactor import Reactor
from stackit.api.repos import Repos
from stackit.api.stop import Stop
from stackit.api.version import VERSION
from stackit.bus.backstop import Backstop
from stackit.bus.bus import Bus
from stackit.bus.health import plugin_problems
from stackit.bus.loader import load_plugins
from stackit.bus.services import PluginServices
from stackit.bus.timeouts import end_within
from stackit.cli.commands import COMMANDS
from stackit.condition import dead_letters, in_hand, vitals
from stackit.config import checks
from stackit.config.model import Config
from stackit.config.redactor import redactor
from stackit.dispatch.dispatch import Dispatch
from stackit.dispatch.stalls import StallDetector
from stackit.introduction import introduce, left_out
from stackit.journal import EventId
from stackit.journal.pruner import Pruner
from stackit.journal.sqlite import SQLiteJournal
from stackit.ports import Ports
from stackit.reload.parts import backoff, handler_limits, register_parts
from stackit.reload.reloader import Reloader
from stackit.reload.reports import ReportedReloads
from stackit.runtime.activation import Sockets
from stackit.runtime.cannot_start import cannot_start
from stackit.runtime.heartbeat import Heartbeat
from stackit.runtime.signals import stop_on_signals
from stackit.runtime.storage import Storage, measure
from stackit.runtime.waiting import StopWaits
from stackit.runtime.watchdog import Watchdog
from stackit.secrets.redactor import Redactor
from stackit.web.admin.deliveries import delivery_routes
from stackit.web.admin.readyz import readyz
from stackit.web.admin.site import admin_site
from stackit.web.admin.status import status
from stackit.web.public import public_site

_log = Logger(namespace="stackit")

_STOP_GRACES = 3
"""Graces that the service of a plugin, or the journal, has to stop; what it leaves undone is for the next start."""

_IDLE = 1.0
"""Seconds for which a connection stays open at a stop after it was made, or after a response, for a last request."""

_LAST_REQUESTS = 2.0
"""Seconds that requests have at least which came in last, when everything else has ended."""


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
        self._waits = StopWaits(reactor)
        self._ports = Ports(config, reactor, sockets)
        self._closers: list[Callable[[], object]] = []  # of what was opened, in the order in which it was
        self._stopped: Deferred[None] | None = None

        self.redact = redactor(config, reactor) if redact is None else redact
        self.bus = Bus(self.redact)
        for name, plugin in plugins.items():
            self.bus.register(name, plugin)
        self.left_out = load_plugins(
            self.bus,
            config.plugins,
            directory=config.source.parent if config.source else Path.cwd(),
            source=config.source,
            on_secret=self._use_secret,
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
            self._make_dispatch()
            self._make_app()
            self._make_sites()
            self._make_reloader()
            self._listen()
            self._give_notice()
            self._start_plugins()
            self._start_work()
        except BaseException as problem:
            self._stopped = Deferred.fromCoroutine(self._close())
            if not isinstance(problem, StackitError):
                raise
            raise cannot_start(problem, self.redact) from None
        self._closers.append(self._finish_work)
        Service.startService(self)
        stop_on_signals(self.reactor, self._waits.hurry)

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
        self._closers.append(self._close_journal)
        self.heartbeat = Heartbeat(reactor=reactor, threads=self.journal.threads())
        self._closers.append(self.heartbeat.stopService)
        self.storage = Storage(reactor=reactor, look=partial(measure, config.state_dir, self.journal.files()))
        self.watchdog = Watchdog(
            reactor=reactor,
            environ=os.environ,
            pid=os.getpid(),
            stuck=self.heartbeat.stuck,
            notice=self._notice,
        )
        self._closers.insert(0, self.watchdog.stopService)  # its signs of life go on until all else is closed

    def _make_dispatch(self) -> None:
        config, reactor = self.config, self.reactor
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
        self.stalls = StallDetector(
            reactor=reactor, dispatch=self.dispatch, display=self.bus.display, notice=self._notice
        )
        self.backstop = Backstop(reactor=reactor, bus=self.bus, interval=config.sync.interval, grace=config.grace)

    def _make_app(self) -> None:
        """Make what plugins are given of stackit, and the plugins' services of it."""
        config = self.config
        self.app = App(
            reactor=self.reactor,
            now=self.now,
            version=VERSION,
            state_dir=config.state_dir,
            repos=Repos(config.repos),
            sync_interval=config.sync.interval,
            grace=config.grace,
            observe=self.bus.observe,
            announced=lambda repo: self.journal.announced(repo.key),
            announce=self.dispatch.announce,
            mirror=partial(self.bus.first, stackit_mirror),
            visible=lambda event_id, at: self.journal.visible(EventId(event_id), at),
            pending=self.dispatch.pending,
            stalled=self.stalls.seconds,
            dropped_lines=self.dropped_lines,
            vitals=lambda: vitals(self.heartbeat, self.journal, self.storage, self.public),
            collectors=[
                (plugin, each) for plugin, collectors in self.bus.collect(stackit_metrics) for each in collectors
            ],
            redact=self.redact,
            stop=self.stop,
        )
        check_commands([*COMMANDS, *self.bus.collect_items(stackit_commands)])
        self._plugin_services = PluginServices(self.bus.collect(stackit_service, self.app), self.redact)

    def _make_sites(self) -> None:
        config = self.config
        self.public = public_site(
            config,
            forges=self.forges,
            admit=partial(self.bus.first, stackit_admit),
            client_of=partial(self.bus.first, stackit_client),
            observe=self.bus.observe,
            take=self.dispatch.take,
            reactor=self.reactor,
            now=self.now,
            stuck=self.heartbeat.stuck,
            plugin_routes=self.bus.collect_items(stackit_public_routes, self.app),
            redact=self.redact,
        )
        own_routes = [
            *delivery_routes(
                self.journal,
                self.dispatch,
                self.bus,
                is_managed=lambda repo: self.app.repos.get(repo) is not None,
                now=self.now,
            ),
            readyz(self._problems),
            status(
                started_at=self.started_at,
                checks=self._problems,
                pending=self.dispatch.pending,
                dead=partial(dead_letters, self.bus, self.journal),
                repos=lambda: len(self.app.repos),
            ),
        ]
        routes = [*own_routes, *self.bus.collect_items(stackit_routes, self.app)]
        self.admin = admin_site(
            config, routes, self.reactor, client_of=partial(self.bus.first, stackit_client), redact=self.redact
        )

    def _make_reloader(self) -> None:
        self.reloader = Reloader(self.config)
        register_parts(
            self.reloader,
            bus=self.bus,
            redact=self.redact,
            public=self.public,
            admin=self.admin,
            dispatch=self.dispatch,
            journal=self.journal,
            repos=self.app.repos,
            notice=self._notice,
            on_secret=self._use_secret,
            set_log_level=self.set_log_level,
            check_token=self._ports.check_token,
        )
        self.reloads = ReportedReloads(
            self.reloader, watchdog=self.watchdog, observe=self.bus.observe, redact=self.redact
        )

    def _listen(self) -> None:
        self._closers.append(self._ports.close)
        self._ports.listen(self.public, self.admin)

    def _start_plugins(self) -> None:
        """Start the plugins' services. What they announce already finds the queues of its subscribers."""
        self._closers.append(self.stop.begin)  # for a start that fails
        self._closers.append(self.dispatch.stop)
        self.dispatch.open_queues()
        self._closers.append(self._stop_plugins)
        self._plugin_services.start()

    def _start_work(self) -> None:
        """Hand on what the last process left, look for what was missed, and watch over it."""
        Deferred.fromCoroutine(self.dispatch.recover())
        self._closers.append(self.backstop.stop)
        self.backstop.startService()
        for each in (self.pruner, self.stalls, self.storage):
            self._closers.append(each.stopService)
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
        if self._stopped is None:
            self._stopped = Deferred.fromCoroutine(self._close())
        return self._stopped

    async def _close(self) -> None:
        """Close everything that was opened, in reverse order; what is closed already stays as it is."""
        while self._closers:
            await maybeDeferred(self._closers.pop()).addErrback(self._not_closed)

    async def _finish_work(self) -> None:
        """Begin nothing new, and let requests, handlers and the backstop end within the grace, side by side.

        What is delivered meanwhile is made durable, for the next process: only then are the ports closed.
        """
        self.watchdog.stopping()
        self.stalls.stopService()
        grace, began = self.config.grace, self.reactor.seconds()
        hand = partial(in_hand, self.dispatch, self.backstop, [self.public, self.admin])
        ending = [Deferred.fromCoroutine(each.stop()) for each in (self.dispatch, self.backstop)]
        self.stop.begin()  # dispatch and the backstop know of the stop, and take what ends by it for no failure
        ending += [side.wind_down(grace, idle=_IDLE) for side in (self.public, self.admin)]
        await self._waits.wait(ending, hand, within=grace)
        await self._ports.close()
        left = min(grace, max(_LAST_REQUESTS, began + grace - self.reactor.seconds()))
        ending = [side.wind_down(left, idle=_IDLE) for side in (self.public, self.admin)]
        await self._waits.wait(ending, hand, within=left)

    def _not_closed(self, failure: Failure) -> None:
        _log.error("not everything was closed: {problem}", problem=describe(failure.value))

    async def _stop_plugins(self) -> None:
        """Stop the plugins' services, all at once."""
        within = _STOP_GRACES * (1.0 if self._waits.hurried else max(self.config.grace, 1.0))
        stopping = self._plugin_services.stop(self.reactor, within)

        def running() -> list[str]:
            return [f"the service of {plugin}" for plugin, stopped in stopping.items() if not stopped.called]

        await self._waits.wait([*stopping.values()], running, within=within)

    async def _close_journal(self) -> None:
        closing = Deferred.fromCoroutine(self.journal.close())
        within = _STOP_GRACES * max(self.config.grace, 1.0)
        await end_within(self.reactor, closing, within, "the journal was not closed, which loses nothing")

    def _use_secret(self, file: Path) -> Callable[[], None]:
        """Keep a plugin's secret out of all texts, a new one from the moment at which the plugin reads it.

        Raises ValueError for a file that holds none.
        """
        checks.secret_file(file)
        self.redact.add_files([file])
        return partial(self.redact.refresh, file)

    # -- reports ------------------------------------------------------------------

    async def _problems(self) -> list[str]:
        own = [*self.heartbeat.stuck(), *self.journal.problems(), *self.stalls.problems()]
        return [*own, *await plugin_problems(self.bus, self.reactor)]

    def _journal_changed(self, problem: str | None) -> None:
        self._notice(problem or "the journal can be written again")
        if problem is None:
            self.dispatch.look_again()

    def _notice(self, reason: str) -> None:
        self.bus.observe(Occurrence(name="notice", reason=reason))


def _no_log(_level: str | Mapping[str, str]) -> None:
    """Change nothing: another program keeps the log."""
