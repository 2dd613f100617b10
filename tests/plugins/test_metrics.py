"""Metrics: each name as Prometheus scrapes it, after occurrences as stackit observes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from plugin_maker import plugin
from prometheus_client import Counter as PrometheusCounter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from scraping import NOW, WIDGET, Scraped

from stackit import ManagedRepo, Occurrence, PluginError, RefChange, Repo, StackitError, hookimpl
from stackit.plugins.metrics import Metrics
from stackit.plugins.mirror.sync.status import STATES


def test_the_route_answers_in_prometheus_format(scraped: Scraped) -> None:
    response = scraped.response()
    assert (scraped.route.method, scraped.route.path, response.status) == ("GET", "/metrics", 200)
    assert response.content_type.startswith("text/plain; version=")
    assert scraped.value("stackit_info", version="1.2.3") == 1


def test_refused_requests_are_counted_by_reason(scraped: Scraped) -> None:
    for reason in ("signature", "signature", "rate"):
        scraped.observe(name="refused", reason=reason, status=401)
    assert scraped.value("stackit_requests_refused_total", reason="signature") == 2
    assert scraped.value("stackit_requests_refused_total", reason="rate") == 1


def test_deliveries_are_counted_by_event_and_outcome(scraped: Scraped) -> None:
    scraped.observe(name="accepted", event="push", outcome="queued")
    scraped.observe(name="accepted", event="ping", outcome="unhandled")
    scraped.observe(name="duplicate", event="push")
    scraped.observe(name="replayed", event="push", reason="17")
    assert scraped.value("stackit_deliveries_total", event="push", outcome="queued") == 1
    assert scraped.value("stackit_deliveries_total", event="ping", outcome="unhandled") == 1
    assert scraped.value("stackit_deliveries_total", event="push", outcome="duplicate") == 1
    assert scraped.value("stackit_deliveries_replayed_total") == 1


def test_deliveries_are_counted_by_the_secret_by_which_they_verified(scraped: Scraped) -> None:
    old, new = "/run/credentials/stackit.service/old", "/etc/geheim/für GitHub " + "x" * 100
    for name, by in (("accepted", old), ("accepted", new), ("duplicate", new), ("refused", new), ("refused", None)):
        scraped.observe(name=name, reason="signature", outcome="queued", verified_by=by)
    assert scraped.value("stackit_deliveries_verified_total", secret=old) == 1
    assert scraped.value("stackit_deliveries_verified_total", secret=new) == 3


def test_handlings_are_counted_and_timed_by_subscriber(scraped: Scraped) -> None:
    scraped.observe(name="failed", subscriber="deploy", seconds=1.0, error="no", attempts=1)
    scraped.observe(name="handled", subscriber="deploy", seconds=2.0, attempts=2)
    scraped.observe(name="dead", subscriber="mail:send", seconds=0.5, error="no", attempts=9)
    for subscriber, outcome in (("deploy", "failed"), ("deploy", "done"), ("mail:send", "dead")):
        assert scraped.value("stackit_handlings_total", subscriber=subscriber, outcome=outcome) == 1
    assert scraped.value("stackit_handling_seconds_count", subscriber="deploy") == 2
    assert scraped.value("stackit_handling_seconds_sum", subscriber="deploy") == 3.0


def test_what_is_pending_is_read_at_each_scrape(scraped: Scraped) -> None:
    scraped.pending = {"deploy": 3, "mirror": 0}
    assert scraped.value("stackit_handlings_pending", subscriber="deploy") == 3
    scraped.pending = {"deploy": 1}
    assert scraped.value("stackit_handlings_pending", subscriber="deploy") == 1
    assert scraped.labels("stackit_handlings_pending") == [{"subscriber": "deploy"}]


def test_how_long_a_subscriber_has_stood_still_is_read_at_each_scrape(scraped: Scraped) -> None:
    scraped.stalled = {"deploy": 12.5, "mirror": 0.0}
    assert scraped.value("stackit_handlings_stalled_seconds", subscriber="deploy") == 12.5
    assert scraped.value("stackit_handlings_stalled_seconds", subscriber="mirror") == 0


def test_the_backstops_last_success_is_a_time_and_a_failure_does_not_move_it(scraped: Scraped) -> None:
    scraped.observe(name="backstop", plugin="mirror", outcome="failed", seconds=1.0, error="no")
    assert scraped.value("stackit_backstop_last_success_timestamp_seconds") == 0
    scraped.observe(name="backstop", plugin="mirror", outcome="done", seconds=1.0)
    assert scraped.value("stackit_backstop_last_success_timestamp_seconds") == NOW


def test_times_are_those_of_all_nodes_of_a_fleet(scraped: Scraped) -> None:
    scraped.offset = 120.0
    scraped.observe(name="backstop", plugin="mirror", outcome="done", seconds=1.0)
    scraped.observe(name="synced", repo=WIDGET, cause="backstop", outcome="unchanged", state="in_step", seconds=0.1)
    assert scraped.value("stackit_backstop_last_success_timestamp_seconds") == NOW + 120
    assert scraped.value("stackit_mirror_verified_timestamp_seconds", repo="octo/widget") == NOW + 120


def test_every_name_of_the_contract_is_there(scraped: Scraped) -> None:
    scraped.pending, scraped.stalled = {"deploy": 0}, {"deploy": 0.0}
    scraped.observe(name="refused", reason="signature")
    scraped.observe(name="accepted", event="push", outcome="queued")
    scraped.observe(name="handled", subscriber="deploy", seconds=0.1)
    scraped.observe(name="synced", repo=WIDGET, cause="backstop", outcome="changed", state="in_step", seconds=0.1)
    change = RefChange("refs/heads/a", "0" * 40, "1" * 40, "created")
    scraped.observe(name="refs_changed", repo=WIDGET, cause="push", changes=(change,))
    wanted = {
        "stackit_requests_refused_total": {"reason"},
        "stackit_deliveries_total": {"event", "outcome"},
        "stackit_handlings_total": {"subscriber", "outcome"},
        "stackit_handling_seconds_count": {"subscriber"},
        "stackit_handlings_pending": {"subscriber"},
        "stackit_handlings_stalled_seconds": {"subscriber"},
        "stackit_mirror_syncs_total": {"cause", "outcome"},
        "stackit_mirror_sync_seconds_count": set(),
        "stackit_push_visible_seconds_count": set(),
        "stackit_mirror_verified_timestamp_seconds": {"repo"},
        "stackit_mirror_state": {"repo", "state"},
        "stackit_mirror_healed_total": set(),
        "stackit_mirror_ref_changes_total": {"kind"},
        "stackit_backstop_found_total": set(),
        "stackit_backstop_last_success_timestamp_seconds": set(),
    }
    found = {sample.name: set(sample.labels) for sample in scraped.samples()}
    assert {name: found.get(name) for name in wanted} == wanted


@pytest.mark.parametrize("hostile", ["", "x" * 101, 'a"} 1\nb', "é", "a b", None])
def test_a_label_that_is_no_plain_word_is_other(scraped: Scraped, hostile: Any) -> None:
    scraped.observe(name="accepted", event=hostile, outcome="queued")
    assert scraped.value("stackit_deliveries_total", event="other", outcome="queued") == 1


def test_no_stream_of_new_names_makes_ever_more_series(scraped: Scraped) -> None:
    scraped.observe(name="accepted", event="push", outcome="queued")
    for n in range(5000):
        scraped.observe(name="accepted", event=f"event_{n}", outcome="queued")
        scraped.observe(name="refused", reason=f"reason_{n}")
        scraped.observe(name="synced", repo=Repo("octo", f"r{n}"), cause="start", outcome="changed", seconds=0.1)
    scraped.observe(name="accepted", event="push", outcome="queued")
    counts = Counter(sample.name for sample in scraped.samples())
    assert max(counts.values()) <= 110  # 100 values, "other", and what begins at 0
    assert scraped.value("stackit_deliveries_total", event="push", outcome="queued") == 2
    assert scraped.labels("stackit_mirror_verified_timestamp_seconds") == [{"repo": "octo/widget"}]


def test_what_strangers_choose_for_one_metric_leaves_the_others_alone(scraped: Scraped) -> None:
    for n in range(200):
        scraped.observe(name="accepted", event="push", outcome=f"outcome_{n}")
    scraped.observe(name="handled", subscriber="deploy", seconds=0.1)
    assert scraped.value("stackit_handlings_total", subscriber="deploy", outcome="done") == 1


def test_two_instances_share_nothing() -> None:
    first, second = Scraped(), Scraped()
    first.observe(name="refused", reason="signature")
    assert second.value("stackit_requests_refused_total", reason="signature") == 0


def test_occurrences_before_the_routes_are_asked_for_are_counted(scraped: Scraped) -> None:
    metrics = Metrics()
    metrics.stackit_observe(Occurrence(name="refused", reason="signature", status=401))
    metrics.stackit_observe(Occurrence(name="notice", reason="hello"))
    (scraped.route,) = metrics.stackit_routes(scraped.app)
    assert scraped.value("stackit_requests_refused_total", reason="signature") == 1
    assert scraped.value("stackit_occurrences_total", occurrence="notice") == 1


def test_what_has_no_metric_of_its_own_is_counted_by_its_name(scraped: Scraped) -> None:
    scraped.observe(name="notice", reason="x")
    scraped.observe(name="deployed", repo=WIDGET)
    assert scraped.value("stackit_occurrences_total", occurrence="notice") == 1
    assert scraped.value("stackit_occurrences_total", occurrence="deployed") == 1
    assert scraped.value("stackit_occurrences_total", occurrence="recovered") == 0


def test_a_scrape_of_thousands_of_repositories_lets_the_reactor_have_its_turns(scraped: Any) -> None:
    names = [f"octo/r{n}" for n in range(2000)]
    many = [ManagedRepo(repo=Repo.parse(name), url="https://github.com/") for name in names]
    scraped.app.repos._managed |= {each.repo.key: each for each in many}
    turns: list[None] = []

    def turn() -> None:
        turns.append(None)
        if not scraped.answers:
            scraped.clock.callLater(0, turn)

    scraped.clock.callLater(0, turn)
    body = scraped.response().body.decode()
    assert len(turns) > 10
    assert body.count("# TYPE stackit_mirror_state gauge\n") == 1
    (family,) = [each for each in text_string_to_metric_families(body) if each.name == "stackit_mirror_state"]
    wanted = [(name, state) for name in ("octo/widget", *names) for state in STATES]
    assert [(each.labels["repo"], each.labels["state"]) for each in family.samples] == wanted


# -- the metrics of plugins -------------------------------------------------------


class Kitchen:
    """A plugin as a third party writes it."""

    def __init__(self) -> None:
        self.burnt = PrometheusCounter("kitchen_burnt", "Burnt dishes.", ["dish"], registry=None)

    @hookimpl
    def stackit_metrics(self) -> list[Any]:
        return [self.burnt]


class Unlucky(Collector):
    """A collector that raises from some scrape on, or returns something that is no metric."""

    def __init__(self, returned: Callable[[], Any]) -> None:
        self.returned: Callable[[], Any] = list
        self.later = returned

    def collect(self) -> Any:
        return self.returned()

    @hookimpl
    def stackit_metrics(self) -> list[Any]:
        return [self]


def _raise() -> Any:
    raise SystemExit(3)


def _odd_sample() -> Any:
    family = GaugeMetricFamily("kitchen_heat", "Heat.", labels=["plate"])
    family.add_metric([7], "hot")  # type: ignore[list-item, arg-type]  # wrong on purpose
    return [family]


def test_the_metrics_of_a_plugin_are_served_beside_the_others() -> None:
    kitchen = Kitchen()
    scraped = Scraped(kitchen=kitchen)
    kitchen.burnt.labels("soup").inc()
    assert scraped.value("kitchen_burnt_total", dish="soup") == 1
    assert scraped.value("stackit_info", version="1.2.3") == 1
    assert scraped.value("stackit_mirror_healed_total") == 0


@pytest.mark.parametrize("returned", [_raise, lambda: [5], lambda: None, _odd_sample])
def test_a_plugin_whose_metrics_cannot_be_read_takes_no_others_away_and_is_told_of_once(returned: Any) -> None:
    seen = []

    class Watcher:
        @hookimpl
        def stackit_observe(self, occurrence: Occurrence) -> None:
            seen.append((occurrence.name, occurrence.plugin, occurrence.reason))

    unlucky, kitchen = Unlucky(returned), Kitchen()
    scraped = Scraped(unlucky=unlucky, kitchen=kitchen, watcher=Watcher())
    kitchen.burnt.labels("soup").inc()
    unlucky.returned = unlucky.later
    assert scraped.value("kitchen_burnt_total", dish="soup") == 1
    assert scraped.value("stackit_info", version="1.2.3") == 1
    assert seen == [("notice", "unlucky", "metrics cannot be read")]


@pytest.mark.parametrize(("name", "owner"), [("stackit_handlings", "metrics"), ("stackit_mirror_healed", "mirror")])
def test_a_metric_that_two_plugins_have_is_an_error_that_names_both(name: Any, owner: Any) -> None:
    class Copycat:
        @hookimpl
        def stackit_metrics(self) -> list[Any]:
            return [PrometheusCounter(name, "The same again.", registry=None)]

    with pytest.raises(StackitError, match=f"plugin copycat: the metric {name} is there already, from plugin {owner}"):
        Scraped(copycat=Copycat())


@pytest.mark.parametrize("result", [5, [5], "text", {"a": 1}])
def test_what_is_no_list_of_collectors_names_its_plugin(result: Any) -> None:
    @hookimpl
    def stackit_metrics() -> Any:
        return result

    with pytest.raises(PluginError, match=r"plugin odd: stackit_metrics returned .*, expected a list of collectors"):
        Scraped(odd=plugin(stackit_metrics))
