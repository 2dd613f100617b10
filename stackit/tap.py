"""``twistd stackit``: its options, and the service they make. Read ``Stackit`` from top to bottom."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

import stackit
from stackit.api.app import App
from stackit.api.errors import PluginError, StackitError, describe
from stackit.api.hookspecs import stackit_admit, stackit_routes, stackit_service
from stackit.api.occurrences import Occurrence
from stackit.api.reactor import Reactor
from stackit.api.repos import Repos
from stackit.bus.backstop import Backstop
from stackit.bus.bus import Bus
from stackit.bus.health import plugin_problems
from stackit.bus.loader import load_plugins
from stackit.bus.timeouts import call, with_timeout
from stackit.config.model import Config, load, secret_files
from stackit.dispatch.backoff import Backoff
from stackit.dispatch.dispatch import Dispatch, Limits
from stackit.dispatch.stalls import StallDetector
from stackit.journal import Journal
from stackit.journal.pruner import Pruner
from stackit.runtime import logs
from stackit.runtime.clocks import use_monotonic_time
from stackit.runtime.gc import freeze_startup_objects
from stackit.runtime.heartbeat import Heartbeat
from stackit.runtime.listen import address, listen
from stackit.runtime.signals import stop_on_signals
from stackit.runtime.watchdog import Watchdog
from stackit.secrets.redactor import Redactor, proxy_passwords
from stackit.web.admin.deliveries import delivery_routes
from stackit.web.admin.rules import readyz
from stackit.web.admin.site import admin_site
from stackit.web.public import public_site, webhook_secrets

_log = Logger(namespace="stackit")

_PATIENCE = 3
"""Graces that the service of a plugin, or the journal, has to stop; what it leaves undone is for the next start."""


class Options(usage.Options):
    """The command line. Every option has a setting in the file, most have a variable in the environment."""

    optParameters = (
        ("config", None, None, "TOML file (default: twistd.conf in the current directory, if it is there)."),
        ("listen", None, None, "Endpoint of the public side, such as tcp:8080:interface=127.0.0.1."),
        ("admin-listen", None, None, "Endpoint of the admin side."),
        ("state-dir", None, None, "Directory of the journal and the mirrors."),
        ("sync-interval", None, None, "How often the backstop looks, such as 5m; 0 for never."),
    )
    optFlags = (("demo", None, "Show stackit at work beside a pretend GitHub: no account, network or configuration."),)

    config: Config | None = None

    def postOptions(self) -> None:
        """Read the configuration. Raises CannotStart."""
        if self["demo"]:
            if self["config"] or self["state-dir"] or self["sync-interval"]:
                raise CannotStart("stackit: --demo brings its own configuration: leave the other options out")
            return
        given = {name.replace("-", "_"): self[name] for name, *_ in self.optParameters}
        try:
            self.config = load(given, os.environ, cwd=Path.cwd())
        except StackitError as problem:
            raise CannotStart(f"stackit: {problem}") from None


class CannotStart(SystemExit, Exception):
    """One line for the person who started stackit.

    As a SystemExit it is printed without a traceback and makes the exit status 1; as an
    Exception it lets twistd remove its PID file on the way out.
    """


def makeService(options: Options) -> Service:
    """The service that ``twistd stackit`` runs. Raises CannotStart."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it, which is twistd's to do

    use_monotonic_time(reactor)
    reactor.callWhenRunning(freeze_startup_objects)
    if options.config is None:
        from stackit.demo import Demo  # noqa: PLC0415 - nobody else needs the pretend GitHub

        demo = Demo(reactor, listen=options["listen"], admin_listen=options["admin-listen"])
        return logs.LoggedService(demo, options.parent, "quiet", reactor)
    try:
        service = Stackit(options.config, reactor)
    except StackitError as problem:
        raise CannotStart(_redactor(options.config, reactor)(f"stackit: {problem}")) from None
    logged = logs.LoggedService(service, options.parent, options.config.log_format, reactor, service.redact)
    service.dropped_lines = logged.dropped_lines
    return logged


class Stackit(Service):
    """All of stackit, from ``startService`` to ``stopService``.

    ``addresses`` are where the public and the admin side listen, as URLs.
    """

    def __init__(
        self,
        config: Config,
        reactor: Reactor,
        plugins: Mapping[str, object] = MappingProxyType({}),
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``plugins`` are there beside those that are installed or configured; ``now`` is the wall clock.

        Raises StackitError for a configured plugin that is broken.
        """
        self.config = config
        self.reactor = reactor
        self.now = now
        self.ports: list[Any] = []
        self.addresses: list[str] = []
        self.dropped_lines: Callable[[], int] = int

        self.redact = _redactor(config, reactor)
        self.bus = Bus(self.redact)
        for name, plugin in plugins.items():
            self.bus.register(name, plugin)
        self.left_out = load_plugins(
            self.bus,
            config.plugins,
            directory=config.source.parent if config.source else Path.cwd(),
            source=config.source,
        )

    def startService(self) -> None:
        """Raises CannotStart: a port that is taken, a journal that is held, a plugin that fails at start."""
        try:
            self._assemble()
            self._listen()
            Service.startService(self)
            stop_on_signals(self.reactor)
            self._run()
        except StackitError as problem:
            raise CannotStart(self.redact(f"stackit: {problem}")) from None

    def _assemble(self) -> None:
        config, reactor, now = self.config, self.reactor, self.now

        self.journal = Journal.open(
            config.state_dir,
            reactor=reactor,
            keep_for=config.journal.keep_for,
            keep_bytes=config.journal.keep_bytes,
            on_change=self._journal_changed,
            on_behind=self._journal_behind,
        )
        self.heartbeat = Heartbeat(reactor=reactor, threads=self.journal.threads())
        self.watchdog = Watchdog(
            reactor=reactor,
            environ=os.environ,
            pid=os.getpid(),
            stuck=self.heartbeat.stuck,
            notice=self._notice,
        )
        self.dispatch = Dispatch(
            reactor=reactor,
            now=now,
            bus=self.bus,
            journal=self.journal,
            backoff=Backoff(config.handlers.retry_for, Random()),  # noqa: S311 - jitter, not a secret
            limits=Limits(
                timeout=config.handlers.timeout,
                concurrency=config.handlers.concurrency,
                grace=config.grace,
                refuse_replays=config.webhook.refuse_replays,
            ),
        )
        self.backstop = Backstop(reactor=reactor, bus=self.bus, interval=config.sync.interval, grace=config.grace)
        self.pruner = Pruner(reactor=reactor, now=now, journal=self.journal)

        self.stalls = StallDetector(
            reactor=reactor, dispatch=self.dispatch, display=self.bus.display, notice=self._notice
        )

        self.app = App(
            reactor=reactor,
            now=now,
            version=stackit.__version__,
            state_dir=config.state_dir,
            repos=Repos(config.repos),
            sync_interval=config.sync.interval,
            grace=config.grace,
            observe=self.bus.observe,
            announced=lambda repo: self.journal.announced(repo.key),
            announce=self.dispatch.announce,
            visible=lambda event_id, at: self.journal.visible(int(event_id), at),
            pending=self.dispatch.pending,
            stalled=self.stalls.seconds,
            dropped_lines=self.dropped_lines,
            redact=self.redact,
        )
        self.plugin_services: list[tuple[str, Any]] = self.bus.collect(stackit_service, self.app)

        self.secrets = webhook_secrets(config, self._notice)
        self.public = public_site(
            config,
            secrets=self.secrets,
            admit=partial(self.bus.first, stackit_admit),
            observe=self.bus.observe,
            take=self.dispatch.take,
            reactor=reactor,
            now=now,
            stuck=self.heartbeat.stuck,
        )
        own_routes = [*delivery_routes(self.journal, self.dispatch, self.bus), readyz(self._problems)]
        self.admin = admin_site(config, [*own_routes, *self.bus.collect_items(stackit_routes, self.app)], reactor)

    def _listen(self) -> None:
        for what, endpoint, site in (
            ("public side", self.config.listen, self.public),
            ("admin side", self.config.admin.listen, self.admin),
        ):
            port = listen(self.reactor, endpoint, site, what)
            self.ports.append(port)
            self.addresses.append(address(port, endpoint))
            _log.info("{what} on {address}", what=what, address=self.addresses[-1])

    def _run(self) -> None:
        _log.info("plugins: {names}", names=", ".join(self.bus.plugins()))
        for problem in self.left_out:
            self._notice(f"{problem}; it is left out")
        for doubt in self.bus.doubts():
            self._notice(doubt)
        if not self.secrets:
            self._notice("no webhook secret is configured: the webhook endpoint answers 404")
        for doubt in self.secrets.doubts():
            self._notice(doubt)
        self.dispatch.open_queues()
        for plugin, service in self.plugin_services:
            self._start(plugin, service)
        Deferred.fromCoroutine(self.dispatch.recover())
        self.backstop.startService()
        self.pruner.startService()
        self.stalls.startService()
        self.heartbeat.startService()
        self.watchdog.startService()

    def _start(self, plugin: str, service: Any) -> None:
        try:
            service.startService()
        except BaseException as fault:  # foreign code: named, and the start stops
            raise PluginError(plugin, f"its service cannot be started: {describe(fault)}") from fault

    def stopService(self) -> Deferred[None]:
        """Take nothing new, let what runs end within the grace, and leave the rest to the next start."""
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self.watchdog.stopping()
        for port in self.ports:
            await maybeDeferred(port.stopListening)
        self.stalls.stopService()
        self.pruner.stopService()
        stopping = [self.public.drain(self.config.grace), self.admin.drain(self.config.grace)]
        stopping += [Deferred.fromCoroutine(each.stop()) for each in (self.backstop, self.dispatch)]
        await DeferredList(stopping)
        await DeferredList([self._end(plugin, service) for plugin, service in reversed(self.plugin_services)])
        self.heartbeat.stopService()
        await self._bounded(
            Deferred.fromCoroutine(self.journal.close()), "the journal was not closed, which loses nothing"
        )
        self.watchdog.stopService()

    def _end(self, plugin: str, service: Any) -> Deferred[None]:
        """Stop a plugin's service. One that fails, or does not end in several times the grace, keeps nobody from it."""
        return self._bounded(call(service.stopService), f"plugin {plugin}: its service did not stop")

    def _bounded(self, ending: Deferred[Any], otherwise: str) -> Deferred[None]:
        """Wait for an end, within several times the grace; say ``otherwise`` where it does not come."""

        def failed(failure: Failure) -> None:
            _log.error("{otherwise}: {problem}", otherwise=otherwise, problem=describe(failure.value))

        return with_timeout(self.reactor, ending, _PATIENCE * max(self.config.grace, 1.0)).addErrback(failed)

    async def _problems(self) -> list[str]:
        own = [*self.heartbeat.stuck(), *self.journal.problems(), *self.stalls.problems()]
        return [*own, *await plugin_problems(self.bus, self.reactor)]

    def _journal_changed(self, problem: str | None) -> None:
        self._notice(problem or "the journal can be written again")
        if problem is None:
            self.dispatch.look_again()

    def _journal_behind(self, problem: str | None) -> None:
        self._notice(problem or "the journal's log is brought into the journal's file again")

    def _notice(self, reason: str) -> None:
        self.bus.observe(Occurrence(name="notice", reason=reason))


def _redactor(config: Config, reactor: Reactor) -> Redactor:
    own = (secret for secret in (config.webhook_secret, config.api_token) if secret)
    return Redactor((*own, *proxy_passwords(os.environ)), secret_files(config), reactor.seconds)
