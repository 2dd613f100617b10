"""The composition root: which parts stackit has, and the order in which they start. Read it from top to bottom."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from stackit import forges
from stackit.api import hookspecs
from stackit.api.app import App
from stackit.api.commands import check_commands
from stackit.api.errors import JournalError, StackitError, describe
from stackit.api.events import RefChange, Repo
from stackit.api.forge import GITHUB, Forges
from stackit.api.metrics import Collector
from stackit.api.occurrences import Occurrence
from stackit.api.peers import NoAffinity, no_copies
from stackit.api.reactor import Reactor
from stackit.api.stop import Stop
from stackit.api.version import VERSION
from stackit.bus.backstop import Backstop
from stackit.bus.bus import Bus
from stackit.bus.loader import load_plugins
from stackit.bus.services import PluginServices
from stackit.cli.commands import COMMANDS
from stackit.config.model import Config
from stackit.config.redactor import add_secret_file, redactor
from stackit.dispatch.dispatch import Dispatch
from stackit.dispatch.metrics import PauseMetrics
from stackit.dispatch.pauses import COLLECTION as PAUSES
from stackit.dispatch.pauses import Pauses
from stackit.dispatch.stalls import StallDetector
from stackit.dispatch.step_file import NAME as STEPS
from stackit.dispatch.step_file import StepFile
from stackit.dispatch.tallies import Tallies
from stackit.github.hooks.secret_files import SecretFiles
from stackit.journal import EventId
from stackit.journal.errands import Errands
from stackit.journal.pruner import Pruner
from stackit.registry import Registry
from stackit.registry.metrics import RegistryMetrics
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
from stackit.service import shared_secrets
from stackit.service.admin_side import make_admin_side
from stackit.service.condition import Condition
from stackit.service.github import GitHubParts
from stackit.service.introduction import introduce, left_out
from stackit.service.journal import open_journal
from stackit.service.live import LiveParts
from stackit.service.people import People
from stackit.service.plugin_documents import PluginDocuments
from stackit.service.ports import Ports
from stackit.service.repositories import ConfiguredRepos
from stackit.service.signers import Signers
from stackit.service.start_loads import StartLoads
from stackit.service.stop import Closers, StopSteps
from stackit.web.pages.static_files import static_files
from stackit.web.public import public_site


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
        self.dropped_lines: Callable[[], int] = int
        self.set_log_level: Callable[[str | Mapping[str, str]], None] = _no_log
        self.stop = Stop()
        self.stop_steps = StopSteps(reactor, config.grace)
        self._ports = Ports(config, reactor, sockets)
        self._loads = StartLoads(reactor, lambda: self.journal.documents(PAUSES), at_once=config.fleet.is_configured)
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
            self._make_forges()
            self._make_rounds()
            self._make_dispatch()
            self._make_people()
            self._make_peers()
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
        """Open the journal, and take this process's place among those that share it."""
        self.journal, self.node = open_journal(
            self.config, reactor=self.reactor, now=self.now, on_change=self._journal_changed, notice=self._notice
        )
        self.started_at = self.node.now()
        self._closers.add(self.node.release)
        self._closers.add(self._loads.stop)
        self._closers.add(partial(self.stop_steps.close_journal, self.journal))

    def _make_watchdog(self) -> None:
        """Make what watches over the threads and the disk, and tells systemd."""
        reactor = self.reactor
        self.heartbeat = Heartbeat(reactor=reactor, threads=self.node.threads())
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

    def _make_forges(self) -> None:
        """Make the forges with their webhook secrets: in a fleet, those of all nodes."""
        config = self.config
        if config.fleet.is_configured:
            self._loads.load(
                "the webhook secrets of the fleet",
                partial(shared_secrets.load, SecretFiles(config.state_dir), self.journal),
            )
        self._know_secrets()
        self.forges = forges.with_secrets(config, self._notice)
        self._senders = Forges(forge for forge, _ in self.forges)

    def _make_rounds(self) -> None:
        """Make what is done in rounds, in a fleet by one node or by all, and what nodes have each other do."""
        config, reactor, nodes = self.config, self.reactor, self.node.nodes
        # What goes is gone: no clock that is ahead decides alone, neither this machine's nor a fleet's database's.
        self.pruner = Pruner(
            reactor=reactor, now=lambda: min(self.node.now(), self.now()), journal=self.journal, nodes=nodes
        )
        self.backstop = Backstop(
            reactor=reactor, bus=self.bus, interval=config.sync.interval, grace=config.grace, nodes=nodes
        )
        self.errands = Errands(
            self.journal, nodes, reactor=reactor, now=self.node.now, shared=config.fleet.is_configured
        )
        self._closers.add(self.errands.stop)

    def _make_dispatch(self) -> None:
        """Make what hands events to handlers, and what is known and decided about these."""
        config, reactor = self.config, self.reactor
        steps = StepFile(config.state_dir / STEPS, self._notice)
        self._closers.add(steps.end)
        self.dispatch = Dispatch(
            reactor=reactor,
            now=self.node.now,
            bus=self.bus,
            journal=self.journal,
            backoff=backoff(config),
            limits=handler_limits(config),
            restore=partial(forges.restore, self._senders),
            is_ping=self._senders.is_ping,
            steps=steps,
        )
        self.pauses = Pauses(self.journal, self.dispatch, self.bus, reactor=reactor, now=self.node.now)
        self._closers.add(self.pauses.stop)
        self._tallies = Tallies(self.node.now)
        self.bus.register("stackit.tallies", self._tallies, own=True)
        self.stalls = StallDetector(
            reactor=reactor, dispatch=self.dispatch, display=self.bus.display, notice=self._notice
        )

    def _make_people(self) -> None:
        """Make what knows the people on the admin side, and what they did."""
        self.people = People(
            self.config,
            self.journal,
            reactor=self.reactor,
            now=self.node.now,
            observe=self.bus.observe,
            redact=self.redact,
            node=self.node.nodes.here,
            guard=lambda: self.admin.guard,
        )
        for what, each in (("the sessions", self.people.sessions), ("the audit", self.people.audit)):
            self._closers.add(partial(self.stop_steps.write_down, each.stop))
            self._loads.load(what, each.load)

    def _make_peers(self) -> None:
        """Make what this node asks of others, and does for them."""
        mirror_copy = partial(self.bus.first, hookspecs.stackit_mirror_copy)
        self.peers = self.node.make_peers(lambda: self.config, mirror_copy)
        if self.peers is not None:
            self._closers.add(self.peers.stop)

    def _make_github(self) -> None:
        """Make what works at GitHub. Its handlers of events are plugins of the bus."""
        self.github = GitHubParts(
            self.config, reactor=self.reactor, now=self.node.now, redact=self.redact, notice=self._notice
        )
        self.stop.when_begun(self.github.clients.limits.be_impatient)
        self._configured = ConfiguredRepos(self.forges[0][0], self.github.bind)
        file, build = self._configured.of(self.config)
        self.registry = Registry(
            file,
            build=build,
            journal=self.journal,
            reactor=self.reactor,
            now=self.node.now,
            notice=self._notice,
            source=str(self.config.source or "the configuration"),
            nodes=self.node.nodes,
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
            entrance=self.people.entrance,
            stylesheet=static_files()["style.css"].path,
            nodes=self.node.nodes,
            errands=self.errands,
            affinity=NoAffinity() if self.peers is None else self.peers.peers.affinity,
        )
        for name, plugin in self.github.plugins().items():
            self.bus.register(name, plugin)

    def _make_live(self) -> None:
        """Make what tells people and programs of what happens, as it happens."""
        self.live = LiveParts(
            self.journal, reactor=self.reactor, now=self.node.now, redact=self.redact, node=self.node.nodes.here
        )
        self.stop.when_begun(self.live.feed.stop)
        self.bus.register("stackit.live", self.live.feed, own=True)
        self._loads.load("the last hour", self.live.history.load)
        self.bus.register("stackit.history", self.live.history, own=True)

    def _make_app(self) -> None:
        """Make what plugins are given of stackit, and the plugins' services of it."""
        config, documents = self.config, PluginDocuments(self.journal)
        self.condition = Condition(
            reactor=self.reactor,
            bus=self.bus,
            journal=self.journal,
            dispatch=self.dispatch,
            stalls=self.stalls,
            heartbeat=self.heartbeat,
            storage=self.storage,
            github=self.github.problems,
            node=self.node.problems,
            paused=lambda: [name for name, is_paused in self.pauses.states().items() if is_paused],
            now=self.node.now,
        )
        self.app = App(
            reactor=self.reactor,
            now=self.now,
            clock_offset=lambda: self.node.now() - self.now(),
            version=VERSION,
            state_dir=config.state_dir,
            repos=self.registry.repos,
            sync_interval=config.sync.interval,
            grace=config.grace,
            observe=self.bus.observe,
            nodes=self.node.nodes,
            announced=lambda repo: self.journal.announced(repo.key),
            announce=self._announce,
            mirror=partial(self.bus.first, hookspecs.stackit_mirror),
            copy_at=no_copies if self.peers is None else self.peers.peers.copy_at,
            github=self.github.client,
            documents=documents.read_now,
            keep=documents.put,
            kept=documents.read,
            watch=documents.watch,
            visible=lambda event_id, at: self.journal.visible(EventId(event_id), at),
            pending=self.dispatch.pending,
            stalled=self.stalls.seconds,
            dropped_lines=self.dropped_lines,
            vitals=lambda: self.condition.vitals(self.public.webhooks),
            collectors=self._collectors(),
            redact=self.redact,
            stop=self.stop,
        )
        check_commands([*COMMANDS, *self.bus.collect_items(hookspecs.stackit_commands)])
        self._plugin_services = PluginServices(self.bus.collect(hookspecs.stackit_service, self.app), self.redact)

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
            now=self.node.now,
            stuck=self.heartbeat.stuck,
            receives=self.node.receives,
            is_closed=self.node.is_closed,
            plugin_routes=self.bus.collect_items(hookspecs.stackit_public_routes, self.app),
            redact=self.redact,
        )

    def _make_admin_side(self) -> None:
        self.admin = make_admin_side(
            lambda: self.config,
            app=self.app,
            bus=self.bus,
            journal=self.journal,
            dispatch=self.dispatch,
            pauses=self.pauses,
            tallies=self._tallies,
            left_out=self.left_out,
            condition=self.condition,
            started_at=self.started_at,
            registry=self.registry,
            forge=self.forges[0][0],
            people=self.people,
            github=self.github,
            live=self.live,
            node=self.node,
            peers=self.peers,
            redact=self.redact,
        )

    def _make_reloader(self) -> None:
        self.reloader = Reloader(self.config)
        register_parts(
            self.reloader,
            bus=self.bus,
            redact=self.redact,
            public=self.public,
            admin=self.admin,
            sessions=self.people.sessions,
            dispatch=self.dispatch,
            journal=self.journal,
            registry=self.registry,
            configured=self._configured.of,
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

    def _give_notice(self) -> None:
        """Tell what an operator should know of this start."""
        for fault in self.left_out:
            self.bus.observe(left_out(fault, self.redact))
        for line in (*self.bus.doubts(self._senders.doubt), *forges.notices(self.config, self.forges)):
            self._notice(line)

    def _start_plugins(self) -> None:
        """Start the plugins' services. What they announce already finds the queues of its subscribers."""
        self._closers.add(self.stop.begin)  # for a start that fails
        self._closers.add(self.dispatch.stop)
        self.dispatch.open_queues()
        self._loads.load("the pauses", self._load_pauses)
        self._closers.add(partial(self.stop_steps.stop_plugins, self._plugin_services))
        self._plugin_services.start()

    def _start_work(self) -> None:
        """Hand on what the last process left, look for what was missed, and watch over it."""
        self._closers.add(self.github.stop)
        self.github.start()
        Deferred.fromCoroutine(self.dispatch.recover())
        self._closers.add(self.node.stop)
        self.node.start(self.dispatch)
        self._closers.add(self.backstop.stop)
        self.backstop.startService()
        self.people.sessions.start()
        self._closers.add(partial(self.stop_steps.write_down, self.live.history.stopService))
        self.live.history.startService()
        for each in (self.pruner, self.stalls, self.storage, self.condition.watch):
            self._closers.add(each.stopService)
            each.startService()
        self.heartbeat.startService()
        self.watchdog.startService()

    # -- what the parts ask of each other -------------------------------------------

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

    def _collectors(self) -> list[tuple[str, Collector]]:
        """Return the metrics of plugins and of all parts, each with a name of whose they are."""
        of_plugins = [(plugin, each) for plugin, found in self.bus.collect(hookspecs.stackit_metrics) for each in found]
        own = [("registry", RegistryMetrics(self.registry.counts)), ("pauses", PauseMetrics(self.pauses.states))]
        return [*of_plugins, *own, *self.live.collectors(), *self.node.collectors(), *self.github.collectors()]

    async def _announce(self, repo: Repo, changes: tuple[RefChange, ...], cause: str, delivery: str | None) -> None:
        """Announce moved refs, but not while the repository gets another name."""
        await self.registry.settled(repo)
        await self.dispatch.announce(repo, changes, cause, delivery)

    def _load_pauses(self) -> None:
        """Have paused handlers begin nothing; and none at all while it is not known which they are."""
        try:
            self.pauses.load()
        except JournalError as problem:
            self.dispatch.hold("unknown", str(problem))
            raise
        except Exception as fault:
            self.dispatch.hold("unknown", describe(fault))
            raise
        self.dispatch.release("unknown")

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
        await self.stop_steps.finish_work(self.stop, self.dispatch, self.backstop, self.node, sides, self._ports)

    # -- reports ------------------------------------------------------------------

    def _journal_changed(self, problem: str | None) -> None:
        self._notice(problem or "the journal can be written again")
        self.node.journal_changed(problem)
        if problem is None:
            self._loads.try_again()
            self.dispatch.look_again()

    def _notice(self, reason: str) -> None:
        self.bus.observe(Occurrence(name="notice", reason=reason))


def _no_log(_level: str | Mapping[str, str]) -> None:
    """Change nothing: another program keeps the log."""
