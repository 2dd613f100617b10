"""Discovery that runs: what a start, an event, a reload and a failure make of it."""

from __future__ import annotations

import json
from typing import Any

import pytest_twisted
from discovery_harness import LISTING, DiscoveryHarness

from stackit import Event
from stackit.config.discover import DiscoverTable
from stackit.config.model import Config
from stackit.github.discovery.discovery import Discovery
from stackit.github.discovery.orphans import REASON


def event(name: str, signer: str, **payload: Any) -> Event:
    body = json.dumps({"action": "renamed", **payload}).encode()
    return Event(name=name, id="1", delivery="d", received_at=0.0, body=body, signer=signer)


def with_tables(harness: DiscoveryHarness, *tables: DiscoverTable) -> Config:
    return Config(state_dir=harness.directory, discover=tables, discovery=harness.settings)


async def started(harness: DiscoveryHarness, count: int = 20) -> Discovery:
    await harness.github.create_many("octo", count)
    await harness.app.install("octo")
    discovery = harness.discovery()
    assert len(harness.github.api.calls) == 0
    discovery.start()
    await harness.time.pass_time(5)
    assert len(harness.names()) == count
    return discovery


@pytest_twisted.ensureDeferred
async def test_a_rename_is_followed_when_its_event_comes_and_what_another_app_says_is_not(
    harness: DiscoveryHarness,
) -> None:
    discovery = await started(harness)
    (installation,) = harness.app.installations
    await harness.github.admin.rename("octo/r00001", "renamed")
    await harness.time.pass_time(60)
    told: Any = discovery.plugin()
    await told.repository(event("repository", "app:other", installation={"id": installation.id}))
    await harness.time.pass_time(60)
    assert "octo/renamed" not in harness.names()
    await told.repository(event("repository", "app:main", installation={"id": installation.id}))
    await harness.time.pass_time(5)
    assert "octo/renamed" in harness.names()
    assert "octo/r00001" not in harness.names()


@pytest_twisted.ensureDeferred
async def test_the_reading_at_the_interval_finds_what_no_event_told(harness: DiscoveryHarness) -> None:
    await started(harness)
    await harness.github.create("octo/new")
    await harness.github.admin.delete("octo/r00001")
    await harness.time.pass_time(3500)
    assert "octo/new" not in harness.names()
    await harness.time.pass_time(200)
    assert "octo/new" in harness.names()
    assert "octo/r00001" not in harness.names()


@pytest_twisted.ensureDeferred
async def test_a_reload_takes_other_tables_and_what_none_lists_any_more_is_mirrored_no_more(
    harness: DiscoveryHarness,
) -> None:
    discovery = await started(harness)
    discovery.change(with_tables(harness, DiscoverTable(app="main", exclude=("r00001",))))()
    await harness.time.pass_time(5)
    assert len(harness.names()) == 19
    discovery.change(with_tables(harness))()
    await harness.time.pass_time(5)
    assert harness.names() == set()
    assert harness.record("octo/r00002").reason == REASON
    asked = harness.github.api.count(LISTING)
    await harness.time.pass_time(2 * 3600)
    assert harness.github.api.count(LISTING) == asked
    discovery.change(with_tables(harness, DiscoverTable(app="main")))()
    await harness.time.pass_time(5)
    assert len(harness.names()) == 20


@pytest_twisted.ensureDeferred
async def test_trouble_is_told_once_shown_while_it_lasts_and_ends_by_itself(harness: DiscoveryHarness) -> None:
    discovery = await started(harness)
    harness.notices.clear()
    await harness.github.admin.delete("octo/r00001")
    harness.github.api.faults.begin(LISTING, "html_503")
    discovery.look_at_app("main")
    await harness.time.pass_time(600)
    (notice,) = harness.notices
    assert notice.startswith("the listing of main at octo is not complete, so nothing is removed: ")
    (problem,) = discovery.problems()
    assert problem.startswith("the listing of main at octo is not complete: ")
    harness.github.api.faults.heal()
    await harness.time.pass_time(1200)
    assert discovery.problems() == []
    assert harness.notices[1:] == ["the listing of main at octo is complete again"]
    assert harness.states() == {"managed": 19, "removed": 1}


@pytest_twisted.ensureDeferred
async def test_an_app_that_gives_no_answer_silences_no_other(harness: DiscoveryHarness) -> None:
    other = harness.add_app("other")
    await harness.github.create("acme/site")
    await other.install("acme")
    harness.tables = (DiscoverTable(app="main"), DiscoverTable(app="other"))
    await harness.app.delete_keys()
    await harness.github.create_many("octo", 3)
    await harness.app.install("octo")
    discovery = harness.discovery()
    discovery.start()
    await harness.time.pass_time(5)
    assert harness.names() == {"acme/site"}
    (problem,) = discovery.problems()
    assert problem.startswith("App main: its listings are not known: ")


@pytest_twisted.ensureDeferred
async def test_another_node_than_the_leader_reads_no_listing_and_tells_the_leader_where_to_look(
    harness: DiscoveryHarness,
) -> None:
    leader = await started(harness)
    told: list[str] = []
    other = harness.discovery(tell_leader=told.append)
    (installation,) = harness.app.installations
    await harness.github.admin.rename("octo/r00001", "renamed")
    await harness.time.pass_time(60)
    calls = len(harness.github.api.calls)
    plugin: Any = other.plugin()
    await plugin.repository(event("repository", "app:main", installation={"id": installation.id}))
    await plugin.repository(event("repository", "app:other", installation={"id": installation.id}))
    await plugin.repository(event("repository", "owner:octo"))
    other.look_at_app("main")
    await harness.time.pass_time(60)
    assert len(harness.github.api.calls) == calls
    assert (len(told), plugin.uses) == (1, {"looked": 1, "ignored": 2})
    assert await leader.look_as_told(told[0])
    await harness.time.pass_time(5)
    assert "octo/renamed" in harness.names()


@pytest_twisted.ensureDeferred
async def test_discovery_begins_anew_wherever_it_is_started_again(harness: DiscoveryHarness) -> None:
    discovery = await started(harness)
    await discovery.stop()
    await harness.github.create("octo/new")
    discovery.change(with_tables(harness, DiscoverTable(app="main")))()
    await harness.time.pass_time(3700)
    assert "octo/new" not in harness.names()
    assert not await discovery.look_as_told("{")
    discovery.start()
    await harness.time.pass_time(5)
    assert "octo/new" in harness.names()


@pytest_twisted.ensureDeferred
async def test_listings_that_another_node_reads_are_never_old_here(harness: DiscoveryHarness) -> None:
    discovery = await started(harness)

    def read(name: str) -> float:
        (collector,) = discovery.collectors()
        (family,) = [each for each in collector.collect() if each.name == name]
        return float(family.samples[0].value)

    assert read("stackit_discovery_interval_seconds") == harness.settings.interval
    await discovery.stop()
    await harness.time.pass_time(5 * 86400)
    assert read("stackit_discovery_interval_seconds") == 0
    discovery.start()
    assert harness.time.now() - read("stackit_discovery_success_timestamp_seconds") < 60
