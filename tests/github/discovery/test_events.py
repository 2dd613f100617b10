"""The events of discovery: whose secret signed an event decides where it has stackit look, and nothing else does."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted

from stackit import Event
from stackit.api.events import Repo
from stackit.config.discover import DiscoverTable
from stackit.github.discovery.events import DiscoveryEvents, Place
from stackit.github.discovery.orphans import orphans
from stackit.github.discovery.rules import named
from stackit.registry import Record


class Looks:
    """Where was looked."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.events = DiscoveryEvents(self._look_at)

    async def _look_at(self, place: Place) -> bool:
        self.told.append("all" if place == Place() else (place.app, place.installation) if place.app else place.owner)
        return place.app in (None, "main") and place.owner in (None, "octo")


def event(name: str, signer: str, **payload: Any) -> Event:
    body = json.dumps({"action": "removed", **payload}).encode()
    return Event(name=name, id="1", delivery="d", received_at=0.0, body=body, signer=signer)


@pytest.mark.parametrize(
    ("signer", "told", "use"),
    [
        ("app:main", ("main", 7), "looked"),
        ("app:other", ("other", 7), "ignored"),
        ("owner:octo", "octo", "looked"),
        ("owner:acme", "acme", "ignored"),
        ("repo:octo/widget", None, "ignored"),
        ("", "all", "looked"),
    ],
)
@pytest.mark.parametrize("name", ["repository", "installation_repositories"])
@pytest_twisted.ensureDeferred
async def test_the_signer_decides_where_is_looked(name: str, signer: str, told: Any, use: Any) -> None:
    looks = Looks()
    await getattr(looks.events, name)(event(name, signer, installation={"id": 7}))
    assert looks.told == ([] if told is None else [told])
    assert looks.events.uses == {use: 1}


@pytest.mark.parametrize("installation", [None, 7, "7", {}, {"id": "7"}, {"id": None}, []])
@pytest_twisted.ensureDeferred
async def test_an_event_that_names_no_installation_has_all_of_the_app_read(installation: Any) -> None:
    looks = Looks()
    await looks.events.repository(event("repository", "app:main", installation=installation))
    assert looks.told == [("main", None)]


@pytest.mark.parametrize("name", ["installation", "installation_target", "meta"])
@pytest_twisted.ensureDeferred
async def test_an_event_of_installations_has_all_of_the_app_read(name: str) -> None:
    looks = Looks()
    await getattr(looks.events, name)(event(name, "app:main", installation={"id": 7}))
    assert looks.told == [("main", None)]


def record(number: int, name: str, app: str | None = "main", **fields: Any) -> Record:
    repo = Repo.parse(name)
    return Record(repo=repo, url=f"https://github.com/{name}.git", source="discover", id=number, app=app, **fields)


def test_what_no_table_lists_any_more_is_an_orphan_and_nothing_else_is() -> None:
    rules = named(
        [
            DiscoverTable(app="main", installation="octo"),
            DiscoverTable(organization="hubot", token_file="/t"),  # type: ignore[arg-type]
        ]
    )
    records = [
        record(1, "octo/a"),
        record(2, "acme/a"),
        record(3, "octo/b", app="gone"),
        record(4, "Hubot/c", app=None),
        record(5, "hubot/d", app=None, realm="ghe.example.org"),
        record(6, "acme/e", state="removed"),
        Record(repo=Repo.parse("acme/f"), url="https://github.com/acme/f.git", source="people", id=7),
    ]
    assert {batch.realm: set(batch.removed) for batch in orphans(records, rules)} == {
        "github": {2, 3},
        "ghe.example.org": {5},
    }
    assert len(orphans(records, ())) == 2
