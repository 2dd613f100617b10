"""Metrics: each name as Prometheus scrapes it, after occurrences as stackit observes them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock

from stackit import AdminRequest, App, ManagedRepo, Occurrence, RefChange, Repo, Repos
from stackit.plugins.metrics import Metrics

WIDGET = Repo("octo", "widget")
NOW = 1_700_000_000.0


async def never(*_: Any) -> Any:
    raise AssertionError("metrics only look")


class Scraped:
    def __init__(self) -> None:
        self.metrics = Metrics()
        self.pending: dict[str, int] = {}
        self.stalled: dict[str, float] = {}
        clock = Clock()
        clock.advance(NOW)
        app = App(
            reactor=clock,
            now=clock.seconds,
            version="1.2.3",
            state_dir=Path("/nowhere"),
            repos=Repos([ManagedRepo(repo=WIDGET, url="https://github.com/octo/widget.git")]),
            sync_interval=300,
            grace=10,
            observe=self.metrics.stackit_observe,
            announced=never,
            announce=never,
            visible=never,
            pending=lambda: self.pending,
            stalled=lambda: self.stalled,
        )
        (self.route,) = self.metrics.stackit_routes(app)

    def observe(self, **fields: Any) -> None:
        self.metrics.stackit_observe(Occurrence(**fields))

    def response(self):
        return self.route.handler(AdminRequest(method="GET", path="/metrics", args={}, query={}, body=b""))

    def samples(self) -> list[Any]:
        families = text_string_to_metric_families(self.response().body.decode())
        return [sample for family in families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        (value,) = [each.value for each in self.samples() if each.name == name and each.labels == labels]
        return value

    def labels(self, name: str) -> list[dict[str, str]]:
        return [each.labels for each in self.samples() if each.name == name]


@pytest.fixture
def scraped() -> Scraped:
    return Scraped()


def test_the_route_answers_in_prometheus_format(scraped):
    response = scraped.response()
    assert (scraped.route.method, scraped.route.path, response.status) == ("GET", "/metrics", 200)
    assert response.content_type.startswith("text/plain; version=")
    assert scraped.value("stackit_info", version="1.2.3") == 1


def test_refused_requests_are_counted_by_reason(scraped):
    for reason in ("signature", "signature", "rate"):
        scraped.observe(name="refused", reason=reason, status=401)
    assert scraped.value("stackit_requests_refused_total", reason="signature") == 2
    assert scraped.value("stackit_requests_refused_total", reason="rate") == 1


def test_deliveries_are_counted_by_event_and_outcome(scraped):
    scraped.observe(name="accepted", event="push", outcome="queued")
    scraped.observe(name="accepted", event="ping", outcome="unhandled")
    scraped.observe(name="duplicate", event="push")
    scraped.observe(name="replayed", event="push", reason="17")
    assert scraped.value("stackit_deliveries_total", event="push", outcome="queued") == 1
    assert scraped.value("stackit_deliveries_total", event="ping", outcome="unhandled") == 1
    assert scraped.value("stackit_deliveries_total", event="push", outcome="duplicate") == 1
    assert scraped.value("stackit_deliveries_replayed_total") == 1


def test_deliveries_are_counted_by_the_secret_by_which_they_verified(scraped):
    old, new = "/run/credentials/stackit.service/old", "/etc/geheim/für GitHub " + "x" * 100
    for name, by in (("accepted", old), ("accepted", new), ("duplicate", new), ("refused", new), ("refused", None)):
        scraped.observe(name=name, reason="signature", outcome="queued", verified_by=by)
    assert scraped.value("stackit_deliveries_verified_total", secret=old) == 1
    assert scraped.value("stackit_deliveries_verified_total", secret=new) == 3


def test_handlings_are_counted_and_timed_by_subscriber(scraped):
    scraped.observe(name="failed", subscriber="deploy", seconds=1.0, error="no", attempts=1)
    scraped.observe(name="handled", subscriber="deploy", seconds=2.0, attempts=2)
    scraped.observe(name="dead", subscriber="mail:send", seconds=0.5, error="no", attempts=9)
    for subscriber, outcome in (("deploy", "failed"), ("deploy", "done"), ("mail:send", "dead")):
        assert scraped.value("stackit_handlings_total", subscriber=subscriber, outcome=outcome) == 1
    assert scraped.value("stackit_handling_seconds_count", subscriber="deploy") == 2
    assert scraped.value("stackit_handling_seconds_sum", subscriber="deploy") == 3.0


def test_what_is_pending_is_read_at_each_scrape(scraped):
    scraped.pending = {"deploy": 3, "mirror": 0}
    assert scraped.value("stackit_handlings_pending", subscriber="deploy") == 3
    scraped.pending = {"deploy": 1}
    assert scraped.value("stackit_handlings_pending", subscriber="deploy") == 1
    assert scraped.labels("stackit_handlings_pending") == [{"subscriber": "deploy"}]


def test_how_long_a_subscriber_has_stood_still_is_read_at_each_scrape(scraped):
    scraped.stalled = {"deploy": 12.5, "mirror": 0.0}
    assert scraped.value("stackit_handlings_stalled_seconds", subscriber="deploy") == 12.5
    assert scraped.value("stackit_handlings_stalled_seconds", subscriber="mirror") == 0


def test_syncs_are_counted_and_timed_and_a_good_one_verifies_the_mirror(scraped):
    scraped.observe(name="synced", repo=Repo("Octo", "Widget"), cause="manual", outcome="changed", seconds=0.3)
    assert scraped.value("stackit_mirror_syncs_total", cause="manual", outcome="changed") == 1
    assert scraped.value("stackit_mirror_sync_seconds_count") == 1
    assert scraped.value("stackit_mirror_sync_seconds_sum") == 0.3
    assert scraped.value("stackit_mirror_verified_timestamp_seconds", repo="octo/widget") == NOW


def test_a_push_verifies_nothing_but_its_own_ref(scraped):
    scraped.observe(name="synced", repo=WIDGET, cause="push", outcome="changed", seconds=0.1)
    assert scraped.labels("stackit_mirror_verified_timestamp_seconds") == []


def test_a_push_that_falls_back_to_git_fetch_is_counted_with_its_reason(scraped):
    scraped.observe(name="fallback", repo=WIDGET, reason="refused")
    assert scraped.value("stackit_mirror_fallbacks_total", reason="refused") == 1


def test_a_sync_that_failed_verifies_nothing(scraped):
    scraped.observe(name="synced", repo=WIDGET, cause="backstop", outcome="failed", seconds=1.0, error="refused")
    assert scraped.value("stackit_mirror_syncs_total", cause="backstop", outcome="failed") == 1
    assert scraped.labels("stackit_mirror_verified_timestamp_seconds") == []


def test_the_state_of_a_mirror_is_the_one_that_is_1(scraped):
    for state in ("in_step", "failing"):
        scraped.observe(name="synced", repo=WIDGET, cause="push", outcome="failed", state=state, error="refused")
    assert scraped.value("stackit_mirror_state", repo="octo/widget", state="failing") == 1
    assert scraped.value("stackit_mirror_state", repo="octo/widget", state="in_step") == 0


def test_refs_that_a_mirror_cannot_hold_are_shown_until_there_are_none(scraped):
    scraped.observe(name="synced", repo=WIDGET, cause="backstop", outcome="unchanged", state="in_step")
    assert scraped.labels("stackit_mirror_missing_refs") == []
    scraped.observe(name="synced", repo=WIDGET, cause="push", outcome="changed", state="behind", error="x", missing=3)
    assert scraped.value("stackit_mirror_missing_refs", repo="octo/widget") == 3
    scraped.observe(name="synced", repo=WIDGET, cause="backstop", outcome="unchanged", state="in_step")
    assert scraped.value("stackit_mirror_missing_refs", repo="octo/widget") == 0


def test_repairs_of_mirrors_are_counted(scraped):
    scraped.observe(name="healed", repo=WIDGET, reason="HEAD written anew: 1", count=1)
    assert scraped.value("stackit_mirror_healed_total") == 1


def test_the_time_until_a_push_is_visible_is_observed(scraped):
    scraped.observe(name="visible", repo=WIDGET, seconds=0.7)
    assert scraped.value("stackit_push_visible_seconds_sum") == 0.7


def test_ref_changes_are_counted_by_kind_and_those_that_only_the_backstop_found_apart(scraped):
    created = RefChange("refs/heads/a", "0" * 40, "1" * 40, "created")
    deleted = RefChange("refs/heads/b", "1" * 40, "0" * 40, "deleted")
    scraped.observe(name="refs_changed", repo=WIDGET, cause="push", delivery="d", changes=(created,))
    scraped.observe(name="refs_changed", repo=WIDGET, cause="backstop", changes=(created, deleted))
    assert scraped.value("stackit_mirror_ref_changes_total", kind="created") == 2
    assert scraped.value("stackit_mirror_ref_changes_total", kind="deleted") == 1
    assert scraped.value("stackit_backstop_found_total") == 2


def test_the_backstops_last_success_is_a_time_and_a_failure_does_not_move_it(scraped):
    scraped.observe(name="backstop", plugin="mirror", outcome="failed", seconds=1.0, error="no")
    assert scraped.value("stackit_backstop_last_success_timestamp_seconds") == 0
    scraped.observe(name="backstop", plugin="mirror", outcome="done", seconds=1.0)
    assert scraped.value("stackit_backstop_last_success_timestamp_seconds") == NOW


def test_every_name_of_the_contract_is_there(scraped):
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
def test_a_label_that_is_no_plain_word_is_other(scraped, hostile):
    scraped.observe(name="accepted", event=hostile, outcome="queued")
    assert scraped.labels("stackit_deliveries_total") == [{"event": "other", "outcome": "queued"}]


def test_no_stream_of_new_names_makes_ever_more_series(scraped):
    scraped.observe(name="accepted", event="push", outcome="queued")
    for n in range(5000):
        scraped.observe(name="accepted", event=f"event_{n}", outcome="queued")
        scraped.observe(name="refused", reason=f"reason_{n}")
        scraped.observe(name="synced", repo=Repo("octo", f"r{n}"), cause="start", outcome="changed", seconds=0.1)
    scraped.observe(name="accepted", event="push", outcome="queued")
    counts = Counter(sample.name for sample in scraped.samples())
    assert max(counts.values()) <= 101
    assert scraped.value("stackit_deliveries_total", event="push", outcome="queued") == 2
    assert scraped.labels("stackit_mirror_verified_timestamp_seconds") == []


def test_what_strangers_choose_for_one_metric_leaves_the_others_alone(scraped):
    for n in range(200):
        scraped.observe(name="accepted", event="push", outcome=f"outcome_{n}")
    scraped.observe(name="handled", subscriber="deploy", seconds=0.1)
    assert scraped.value("stackit_handlings_total", subscriber="deploy", outcome="done") == 1


def test_two_instances_share_nothing():
    first, second = Scraped(), Scraped()
    first.observe(name="refused", reason="signature")
    assert second.labels("stackit_requests_refused_total") == []


def test_occurrences_before_the_routes_are_asked_for_are_counted():
    metrics = Metrics()
    metrics.stackit_observe(Occurrence(name="backstop", outcome="done"))
    metrics.stackit_observe(Occurrence(name="synced", repo=WIDGET, cause="start", outcome="changed", seconds=0.1))
    metrics.stackit_observe(Occurrence(name="notice", reason="hello"))
