"""The metrics plugin and others on a bus, scraped as Prometheus does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clocks import as_reactor
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock

from stackit import AdminRequest, App, ManagedRepo, Occurrence, Repo, Repos
from stackit.api import hookspecs
from stackit.bus.bus import Bus
from stackit.bus.timeouts import call
from stackit.config.model import Config
from stackit.dispatch.metrics import PauseMetrics
from stackit.github.api import TokenExpiries
from stackit.github.api.counts import RequestCounts
from stackit.github.api.limits import Limits
from stackit.github.apps.metrics import AppCounts, AppMetrics
from stackit.github.apps.personal import PersonalTokens
from stackit.github.discovery.metrics import DiscoveryMetrics
from stackit.github.hooks.alarms import HookAlarms
from stackit.github.recovery.metrics import RecoveryMetrics
from stackit.live.feed import Feed
from stackit.live.metrics import LiveMetrics
from stackit.live.places import Places
from stackit.plugins.metrics import Metrics
from stackit.plugins.mirror import Mirror
from stackit.registry.metrics import RegistryMetrics

WIDGET = Repo("octo", "widget")
NOW = 1_700_000_000.0


async def never(*_: Any) -> Any:
    raise AssertionError("metrics only look")


class Scraped:
    """``metrics`` serves what it counts itself, and collectors of the mirror, GitHub's parts and ``plugins``."""

    def __init__(self, **plugins: object) -> None:
        self.metrics = Metrics()
        self.pending: dict[str, int] = {}
        self.stalled: dict[str, float] = {}
        self.offset = 0.0
        self.clock = clock = Clock()
        clock.advance(NOW)
        mirror = Mirror()
        self.bus = Bus()
        for name, plugin in {"metrics": self.metrics, "mirror": mirror, **plugins}.items():
            self.bus.register(name, plugin)
        self.app = app = App(
            reactor=as_reactor(clock),
            now=clock.seconds,
            clock_offset=lambda: self.offset,
            version="1.2.3",
            state_dir=Path("/nowhere"),
            repos=Repos([ManagedRepo(repo=WIDGET, url="https://github.com/octo/widget.git")]),
            sync_interval=300,
            grace=10,
            observe=self.bus.observe,
            announced=never,
            announce=never,
            visible=never,
            pending=lambda: self.pending,
            stalled=lambda: self.stalled,
            collectors=[
                *((name, each) for name, them in self.bus.collect(hookspecs.stackit_metrics) for each in them),
                ("github-hooks", HookAlarms(print)),
                ("pauses", PauseMetrics(lambda: {"deploy": True, "mirror": False})),
                ("github-apps", AppMetrics(lambda: (), AppCounts())),
                ("github-personal_tokens", self._personal_tokens()),
                ("github-recovery", RecoveryMetrics({}, clock.seconds)),
                ("registry", RegistryMetrics(lambda: {"managed": 1, "held": 0, "removed": 0})),
                ("live", LiveMetrics(Feed(reactor=clock, now=clock.seconds, redact=str), Places())),
                ("github-api", RequestCounts(Limits(clock))),
                ("github-discovery", DiscoveryMetrics(tuple, {"looked": 0, "ignored": 0}, lambda: True)),
            ],
        )
        mirror._metrics.repos.begin(app, lambda _: ("cloning", 0.0))
        (self.route,) = self.metrics.stackit_routes(app)

    def _personal_tokens(self) -> PersonalTokens:
        config = Config(state_dir=Path("/nowhere"))
        return PersonalTokens(config, (), TokenExpiries(), reactor=self.clock, now=self.clock.seconds, notice=print)

    def observe(self, **fields: Any) -> None:
        self.bus.observe(Occurrence(**fields))

    def response(self) -> Any:
        """The answer to a scrape. What the reactor has to do meanwhile is done."""
        request = AdminRequest(method="GET", path="/metrics", args={}, query={}, body=b"")
        self.answers: list[Any] = []
        call(self.route.handler, request).addBoth(self.answers.append)
        while not self.answers:
            self.clock.advance(0)
        return self.answers[0]

    def samples(self) -> list[Any]:
        families = text_string_to_metric_families(self.response().body.decode())
        return [sample for family in families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        (value,) = [float(each.value) for each in self.samples() if each.name == name and each.labels == labels]
        return value

    def labels(self, name: str) -> list[dict[str, str]]:
        return [each.labels for each in self.samples() if each.name == name]
