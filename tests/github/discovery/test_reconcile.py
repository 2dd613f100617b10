"""Readings of listings: what is followed at once, and what has to be certain before anything is removed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import pytest_twisted
from discovery_harness import LISTING, DiscoveryHarness
from registry_harness import found

from stackit.api.events import Repo
from stackit.config.discover import DiscoverTable
from stackit.registry import Batch
from stackit.text.units import Duration

DAY = 86_400.0


async def hundred(harness: DiscoveryHarness, count: int = 100) -> list[str]:
    """Have so many repositories discovered."""
    names = await harness.github.create_many("octo", count)
    await harness.app.install("octo")
    assert await harness.changes() == dict.fromkeys(names, "added")
    assert harness.names() == set(names)
    return names


# -- what is followed ---------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_repositories_are_found_with_their_app_and_the_url_of_its_github(harness: DiscoveryHarness) -> None:
    await harness.github.create("octo/widget", private=True)
    await harness.app.install("octo")
    (report,) = await harness.look()
    assert (report.listing, report.problem, report.held, report.listed) == ("main at octo", None, None, 1)
    record = harness.record("octo/widget")
    assert record.url == f"{harness.github.web_url}/octo/widget.git"
    assert (record.app, record.rule, record.state) == ("main", "discover[1]", "managed")
    assert await harness.changes() == {}
    assert len(harness.changes_told) == 1


@pytest_twisted.ensureDeferred
async def test_ten_thousand_are_found_in_few_requests_one_after_the_other(harness: DiscoveryHarness) -> None:
    await harness.github.create_many("octo", 10_000)
    await harness.app.install("octo")
    (report,) = await harness.look()
    assert (report.listed, report.pages, report.problem) == (10_000, 100, None)
    assert len(harness.registry.repos) == 10_000
    assert len(harness.github.api.calls) <= 110


@pytest_twisted.ensureDeferred
async def test_a_rename_moves_by_id_and_a_swap_over_two_pages_moves_both(harness: DiscoveryHarness) -> None:
    names = await hundred(harness, 150)
    first, last = names[0], names[-1]
    ids = {name: harness.record(name).id for name in (first, last)}
    await harness.github.admin.rename(first, "tmp")
    await harness.github.admin.rename(last, first.partition("/")[2])
    await harness.github.admin.rename("octo/tmp", last.partition("/")[2])
    assert await harness.changes() == {first: "moved", last: "moved"}
    assert {name: harness.record(name).id for name in (first, last)} == {first: ids[last], last: ids[first]}
    assert harness.states() == {"managed": 150}
    assert harness.record(first).removed_at is None
    assert not any(each.removed for each in harness.changes_told)


@pytest_twisted.ensureDeferred
async def test_a_name_that_another_repository_has_now_is_another_repository(harness: DiscoveryHarness) -> None:
    await hundred(harness, 20)
    gone = harness.record("octo/r00007").id
    await harness.github.admin.delete("octo/r00007")
    await harness.github.create("octo/r00007")
    changes = {str(each.id): each.change for each in (await harness.look())[0].repos if each.change != "none"}
    now = harness.registry.repos.get(harness.record("octo/r00007").repo)
    assert now is not None
    assert now.id != gone
    assert changes == {str(gone): "removed", str(now.id): "added"}
    assert harness.registry.by_id(gone or 0, now.realm).state == "removed"  # type: ignore[union-attr]


@pytest_twisted.ensureDeferred
async def test_a_repository_at_another_github_takes_no_name(harness: DiscoveryHarness) -> None:
    await harness.github.create("octo/a")
    await harness.app.install("octo")
    elsewhere = found(7, "octo/a", app="other")
    await harness.done(harness.registry.discovered(Batch(realm="git.example.org", found=(elsewhere,))))
    for dry in (True, False):
        reports = (await harness.look(dry=dry))[0].repos
        assert {each.name: each.change for each in reports} == {"octo/a": "waiting"}
    # Whoever is seen again last has the name no more than before.
    again = Batch(realm="git.example.org", found=(msgspec.structs.replace(elsewhere, rule="discover[2]"),))
    await harness.done(harness.registry.discovered(again))
    await harness.look()
    assert [each.identity for each in harness.registry.repos] == ["git.example.org:7"]
    await harness.done(harness.registry.discovered(Batch(realm="git.example.org", removed={7: "gone"})))
    assert await harness.changes() == {"octo/a": "added"}


@pytest_twisted.ensureDeferred
async def test_a_transfer_to_another_installation_moves_and_one_out_of_reach_removes(
    harness: DiscoveryHarness,
) -> None:
    await hundred(harness, 20)
    await harness.app.install("acme")
    await harness.github.admin.transfer("octo/r00001", "acme")
    await harness.github.admin.transfer("octo/r00002", "hubot")
    assert await harness.changes() == {"acme/r00001": "moved", "octo/r00002": "removed"}
    moved = harness.record("acme/r00001")
    assert (moved.former, moved.state) == (("octo/r00001",), "managed")
    assert harness.record("octo/r00002").reason.startswith("gone: ")  # a private one cannot be seen there
    assert await harness.changes() == {}


@pytest_twisted.ensureDeferred
async def test_what_is_public_and_no_more_in_the_installation_is_no_access(harness: DiscoveryHarness) -> None:
    for name in "abcdefghijkl":
        await harness.github.create(f"octo/{name}")
    installation = await harness.app.install("octo", [f"octo/{name}" for name in "abcdefghijkl"])
    await harness.look()
    await installation.remove("octo/c")
    assert await harness.changes() == {"octo/c": "removed"}
    assert harness.record("octo/c").reason == "no_access: no installation of the App has octo/c"
    await installation.add("octo/c")
    assert await harness.changes() == {"octo/c": "added"}


@pytest_twisted.ensureDeferred
async def test_a_rule_that_no_longer_takes_a_repository_has_it_removed_and_one_that_does_brings_it_back(
    harness: DiscoveryHarness,
) -> None:
    await hundred(harness, 20)
    harness.tables = (DiscoverTable(app="main", archived=False),)
    assert await harness.changes() == {}
    await harness.github.admin.archive("octo/r00003")
    assert await harness.changes() == {"octo/r00003": "removed"}
    assert harness.record("octo/r00003").reason == "discover[1]: archived = false"
    (removed,) = harness.discovery().status()["removed"]
    assert (removed["name"], removed["reason"]) == ("octo/r00003", "discover[1]: archived = false")
    await harness.github.admin.unarchive("octo/r00003")
    assert await harness.changes() == {"octo/r00003": "added"}


@pytest_twisted.ensureDeferred
async def test_what_the_file_or_a_person_has_mirrored_comes_before_any_rule(harness: DiscoveryHarness) -> None:
    await hundred(harness, 12)
    harness.registry = harness.restarted()
    await harness.done(harness.registry.add(Repo("octo", "other"), f"{harness.github.web_url}/octo/other.git", "me"))
    harness.tables = (DiscoverTable(app="main", exclude=("other",)),)
    await harness.github.create("octo/other")
    (report,) = await harness.look()
    told = {each.name: (each.mirrored, each.reason) for each in report.repos}
    assert told["octo/other"] == (True, "added by a person")


@pytest_twisted.ensureDeferred
async def test_an_owner_with_another_name_takes_every_mirror_along(harness: DiscoveryHarness) -> None:
    names = await hundred(harness, 20)
    await harness.github.admin.rename_owner("octo", "octopus")
    assert await harness.changes() == {name.replace("octo/", "octopus/"): "moved" for name in names}
    assert harness.states() == {"managed": 20}


# -- what is not believed -------------------------------------------------------------

FAULTS: list[Any] = ["html", "html_503", "blank", "empty", "shape", "items", "cut", "reset", 500, 401, 403, 404, 429]


@pytest.mark.parametrize("page", [1, 2], ids=lambda page: f"page {page}")
@pytest.mark.parametrize("kind", FAULTS, ids=str)
@pytest_twisted.ensureDeferred
async def test_no_failure_of_a_listing_removes_anything(harness: DiscoveryHarness, kind: Any, page: int) -> None:
    names = await hundred(harness, 102)
    await harness.github.admin.delete(names[50])
    harness.github.api.faults.begin(LISTING, kind, page=page)
    (report,) = await harness.look()
    assert report.problem or report.held, kind
    assert harness.names() == set(names)
    assert set(harness.states()) <= {"managed", "held"}
    harness.github.api.faults.heal()
    await harness.time.pass_time(3700)
    (report,) = await harness.look()
    assert (report.problem, report.held) == (None, None)
    assert harness.states() == {"managed": 101, "removed": 1}


@pytest_twisted.ensureDeferred
async def test_an_addition_on_a_page_before_a_failure_is_followed(harness: DiscoveryHarness) -> None:
    await harness.github.create_many("octo", 150)
    await harness.app.install("octo")
    harness.github.api.faults.begin(LISTING, "html", page=2)
    (report,) = await harness.look()
    assert (report.problem is None, report.listed, len(harness.names())) == (False, 100, 100)


@pytest_twisted.ensureDeferred
async def test_an_installation_without_access_and_a_key_that_is_refused_remove_nothing(
    harness: DiscoveryHarness,
) -> None:
    names = set(await hundred(harness, 20))
    (installation,) = harness.app.installations
    await installation.suspend()
    assert await harness.look() == []
    await installation.unsuspend()
    assert await harness.changes() == {}
    await installation.uninstall()
    assert await harness.look() == []
    await harness.app.delete_keys()
    (report,) = await harness.look()
    assert (report.listing, report.problem is None) == ("App main", False)
    assert harness.names() == names
    assert harness.states() == {"managed": 20}


@pytest_twisted.ensureDeferred
async def test_who_asks_is_told_of_installations_that_nothing_is_listed_of(harness: DiscoveryHarness) -> None:
    async def problems() -> list[tuple[str, str | None]]:
        reports = await harness.done(harness.discovery().look_for(accept=False, dry=True))
        return [(each.listing, each.problem) for each in reports if each.problem is not None]

    site = harness.github.web_url
    assert await problems() == [("App main", f"App main is not installed anywhere: install it at {site}")]
    harness.tables = (DiscoverTable(app="main", installation="hubot"), DiscoverTable(app="main", installation="Octo"))
    installation = await harness.app.install("octo")
    missing = ("main at hubot", f"App main is not installed for hubot: install it there at {site}")
    assert await problems() == [missing]
    await installation.suspend()
    suspended = f"App main: its installation for octo is suspended: unsuspend it in the settings of octo at {site}"
    assert await problems() == [("main at octo", suspended), missing]
    await harness.app.delete_keys()
    ((listing, problem),) = await problems()
    assert (listing, str(problem).startswith("App main: GitHub refuses its key")) == ("App main", True)


@pytest_twisted.ensureDeferred
async def test_an_installation_made_anew_has_the_repositories_of_the_one_before(
    harness: DiscoveryHarness,
) -> None:
    await hundred(harness, 20)
    (installation,) = harness.app.installations
    await installation.uninstall()
    await harness.github.admin.delete("octo/r00009")
    again = await harness.app.install("octo")
    changes = await harness.changes()
    assert changes.pop("octo/r00009") == "removed"
    assert set(changes.values()) == {"changed"}
    assert harness.record("octo/r00001").installation == again.id


@pytest_twisted.ensureDeferred
async def test_a_repository_that_a_listing_skips_is_kept(harness: DiscoveryHarness) -> None:
    names = await hundred(harness, 150)
    answer = harness.github.api.answer

    async def delete_after_the_first_page(request: Any, *rest: Any) -> Any:
        answered = await answer(request, *rest)
        if request.route == LISTING and request.query.get("page", "1") == "1":
            await harness.github.admin.delete(names[0])
        return answered

    harness.github.api.answer = delete_after_the_first_page  # type: ignore[method-assign, assignment]
    (report,) = await harness.look()
    assert report.problem == "the listing shows 149 repositories, and says that there are 149 and 150"
    assert harness.states() == {"managed": 150}
    harness.github.api.answer = answer  # type: ignore[method-assign]
    assert await harness.changes() == {names[0]: "removed"}


# -- mass disappearance -----------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_mass_disappearance_is_held_until_a_person_accepts_it(harness: DiscoveryHarness) -> None:
    names = await hundred(harness)
    for name in names[:60]:
        await harness.github.admin.delete(name)
    before = len(harness.github.api.calls)
    (report,) = await harness.look()
    assert report.held is not None
    assert report.held.startswith("60 of 100 repositories are gone from the listing of main at octo")
    assert harness.names() == set(names)
    assert harness.states() == {"managed": 40, "held": 60}
    assert len(harness.github.api.calls) - before < 5  # none is asked for by its id
    (report,) = await harness.look(accept=True)
    assert (report.held, report.problem) == (None, None)
    assert harness.states() == {"managed": 40, "removed": 60}
    assert harness.record(names[0]).reason == "gone: GitHub knows no repository of its id any more"


@pytest_twisted.ensureDeferred
async def test_what_was_held_is_as_before_once_it_is_listed_again(harness: DiscoveryHarness) -> None:
    names = await hundred(harness)
    harness.github.api.faults.begin(LISTING, "empty")
    (report,) = await harness.look()
    assert report.held is not None
    assert harness.states() == {"held": 100}
    harness.github.api.faults.heal()
    assert await harness.changes() == dict.fromkeys(names, "changed")
    assert harness.states() == {"managed": 100}


@pytest_twisted.ensureDeferred
async def test_a_rule_that_leaves_many_out_at_once_is_held_as_well(harness: DiscoveryHarness) -> None:
    await hundred(harness)
    harness.tables = (DiscoverTable(app="main", include=("acme/*",)),)
    (report,) = await harness.look()
    assert report.held is not None
    assert harness.states() == {"held": 100}
    await harness.look(accept=True)
    assert harness.states() == {"removed": 100}


@pytest_twisted.ensureDeferred
async def test_one_of_a_hundred_is_removed_after_a_second_look_and_its_grace_ends_only_where_it_is_gone(
    harness: DiscoveryHarness,
) -> None:
    harness.tables = (DiscoverTable(app="main", on_removed="delete", grace=Duration(DAY)),)
    await hundred(harness)
    await harness.github.admin.delete("octo/r00001")
    await harness.github.admin.archive("octo/r00002")
    harness.tables = (DiscoverTable(app="main", on_removed="delete", grace=Duration(DAY), archived=False),)
    assert await harness.changes() == {"octo/r00001": "removed", "octo/r00002": "removed"}
    await harness.time.pass_time(DAY / 2)
    await harness.github.admin.unarchive("octo/r00002")
    assert await harness.changes() == {"octo/r00002": "added"}
    removed_at = harness.record("octo/r00001").removed_at
    assert removed_at is not None
    await harness.look()
    assert harness.states() == {"managed": 99, "removed": 1}
    await harness.time.pass_time(DAY)
    await harness.look()
    assert harness.states() == {"managed": 99}
    assert [str(each.repo) for change in harness.changes_told for each in change.purged] == ["octo/r00001"]


@pytest_twisted.ensureDeferred
async def test_a_table_that_deletes_does_not_delete_what_one_that_keeps_had_in_its_place(
    harness: DiscoveryHarness,
) -> None:
    for name in ("octo/a", "octo/b"):
        await harness.github.create(name)
    await harness.app.install("octo")
    keeps = DiscoverTable(app="main", include=("a",))
    deletes = DiscoverTable(app="main", include=("b",), on_removed="delete", grace=Duration(DAY))
    harness.tables = (keeps, deletes)
    await harness.look()
    harness.tables = (deletes,)  # discover[1] now, as the other one was
    assert await harness.changes() == {"octo/a": "removed", "octo/b": "changed"}
    await harness.time.pass_time(DAY + 1)
    assert await harness.changes() == {}
    assert {str(each.repo): each.state for each in harness.registry.records()} == {
        "octo/a": "removed",
        "octo/b": "managed",
    }


@pytest_twisted.ensureDeferred
async def test_a_second_look_that_fails_keeps_the_repository(harness: DiscoveryHarness) -> None:
    await hundred(harness, 20)
    await harness.github.admin.delete("octo/r00001")
    harness.github.api.faults.begin("/repos/{owner}/{repo}", 500)
    (report,) = await harness.look()
    assert report.problem is not None
    assert harness.states() == {"managed": 20}


# -- a dry run -----------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_dry_run_changes_nothing_and_says_what_a_reading_then_does(harness: DiscoveryHarness) -> None:
    await hundred(harness, 150)
    await harness.github.admin.delete("octo/r00001")
    await harness.github.admin.archive("octo/r00002")
    await harness.github.admin.rename("octo/r00003", "renamed")
    await harness.github.admin.rename("octo/r00149", "r00003")
    await harness.github.create("octo/new")
    harness.tables = (DiscoverTable(app="main", archived=False, exclude=("r0014?",)),)
    before = [harness.registry.by_id(each.id or 0, each.realm) for each in harness.registry.repos]
    dry = await harness.look(dry=True)
    assert [harness.registry.by_id(each.id or 0, each.realm) for each in harness.registry.repos] == before
    real = await harness.look()
    assert dry == real
    told = {each.name: (each.change, each.reason) for each in dry[0].repos if each.change not in ("none", "changed")}
    assert told["octo/new"] == ("added", "discover[1]: include '*'")
    assert told["octo/renamed"] == ("moved", "discover[1]: include '*'; it was octo/r00003")
    assert told["octo/r00002"] == ("removed", "discover[1]: archived = false")
    assert told["octo/r00140"] == ("removed", "discover[1]: exclude 'r0014?'")
