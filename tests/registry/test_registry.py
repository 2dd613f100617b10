"""The registry: what the configuration, people and discovery have mirrored, kept in the journal."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import pytest_twisted
from registry_harness import RegistryHarness, configured, found, seen, told, url
from twisted.internet.defer import Deferred

from stackit import Event, Repo
from stackit.api.errors import JournalError
from stackit.api.reactor import sleep
from stackit.registry import ConflictError, UnknownError
from stackit.registry.errors import RenamedError

ONE, TWO, THREE = "1" * 40, "2" * 40, "3" * 40
WIDGET = Repo("octo", "widget")

# -- people ------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_what_a_person_added_is_there_after_a_restart_with_who_added_it() -> None:
    house = RegistryHarness("octo/file")
    added = await house.registry.add(WIDGET, url("octo/widget"), "ops.token")
    assert (added.repo, added.url, added.source, added.id) == (WIDGET, url("octo/widget"), "people", None)
    assert [told(each) for each in house.changes] == [{"added": ["octo/widget"]}]
    house.start("octo/file")
    assert house.names() == {"octo/file": None, "octo/widget": None}
    (record,) = house.registry.records()
    assert (record.added_by, record.added_at) == ("ops.token", 1000.0)


@pytest_twisted.ensureDeferred
async def test_what_is_there_already_is_refused_and_says_whose_it_is() -> None:
    house = RegistryHarness("octo/file")
    await house.registry.add(WIDGET, url("octo/widget"), "ops.token")
    await house.discover(found(7, "octo/gadget"))
    for name, whose in (
        ("Octo/File", "twistd.conf has it"),
        ("octo/Widget", "added by ops.token"),
        ("octo/gadget", r"found by discover\[1\]"),
    ):
        with pytest.raises(ConflictError, match=f"is mirrored already: {whose}"):
            await house.registry.add(Repo.parse(name), url(name), "me")


@pytest_twisted.ensureDeferred
async def test_only_what_a_person_added_is_removed_by_one_and_the_way_out_of_the_rest_is_told() -> None:
    house = RegistryHarness("octo/file")
    await house.registry.add(WIDGET, url("octo/widget"), "ops.token")
    await house.discover(found(7, "octo/gadget"))
    with pytest.raises(ConflictError, match=r"take it out of \[\[repos\]\] in twistd.conf"):
        await house.registry.remove(Repo("octo", "file"), "me")
    with pytest.raises(ConflictError, match=r'exclude = \["octo/gadget"\]'):
        await house.registry.remove(Repo("octo", "gadget"), "me")
    with pytest.raises(UnknownError, match="octo/nothing is not mirrored"):
        await house.registry.remove(Repo("octo", "nothing"), "me")
    assert (await house.registry.remove(WIDGET, "me")).repo == WIDGET
    house.start("octo/file")
    assert house.names() == {"octo/file": None, "octo/gadget": 7}
    removed = next(each for each in house.registry.records() if each.source == "people")
    assert (removed.state, removed.reason, removed.removed_at) == ("removed", "removed by me", 1000.0)
    assert dict(house.registry.counts()) == {"managed": 2, "held": 0, "removed": 1}
    await house.registry.add(WIDGET, url("octo/widget"), "you")
    assert "octo/widget" in house.names()


# -- discovery -----------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_the_configuration_comes_before_a_person_and_a_person_before_discovery() -> None:
    house = RegistryHarness("octo/file")
    await house.registry.add(WIDGET, url("octo/widget"), "me")
    change = await house.discover(found(1, "octo/file"), found(2, "octo/widget"), found(3, "octo/gadget"))
    assert told(change) == {"added": ["octo/gadget"], "changed": ["octo/file", "octo/widget"]}
    sources = {str(each.repo): (each.source, each.id) for each in house.registry.repos}
    assert sources == {"octo/file": ("file", 1), "octo/widget": ("people", 2), "octo/gadget": ("discover", 3)}
    house.start()
    sources = {str(each.repo): (each.source, each.id) for each in house.registry.repos}
    assert sources == {"octo/file": ("discover", 1), "octo/widget": ("people", 2), "octo/gadget": ("discover", 3)}


@pytest_twisted.ensureDeferred
async def test_the_same_listing_again_changes_nothing_and_writes_nothing() -> None:
    house = RegistryHarness("octo/file")
    batch = (found(1, "octo/file"), found(2, "octo/widget"), seen(3, "octo/other"))
    await house.discover(*batch)
    assert not await house.discover(*batch)
    assert len(house.changes) == 1


@pytest_twisted.ensureDeferred
async def test_what_is_removed_keeps_its_record_and_comes_back_by_its_id() -> None:
    house = RegistryHarness()
    await house.discover(found(7, "octo/widget"))
    assert told(await house.discover(held={7: "too many"})) == {}
    assert house.registry.by_id(7).state == "held"  # type: ignore[union-attr]
    assert told(await house.discover(removed={7: "deleted"})) == {"removed": ["octo/widget"]}
    house.start()
    assert house.names() == {}
    record = house.registry.by_id(7)
    assert record is not None
    assert (record.state, record.reason) == ("removed", "deleted")
    assert told(await house.discover(found(7, "octo/widget"))) == {"added": ["octo/widget"]}
    await house.discover(removed={7: "deleted"})
    await house.discover(purged=(7,))
    assert house.registry.by_id(7) is None


@pytest_twisted.ensureDeferred
async def test_a_batch_that_the_journal_cannot_take_changes_nothing() -> None:
    house = RegistryHarness("octo/file")
    await house.journal.close()
    with pytest.raises(JournalError):
        await house.discover(found(7, "octo/widget"))
    assert house.names() == {"octo/file": None}
    assert house.changes == []


# -- moves ---------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_rename_moves_the_announced_refs_and_the_old_name_still_finds_it() -> None:
    house = RegistryHarness()
    await house.discover(found(7, "octo/widget"))
    await house.announce("octo/widget", ONE)
    assert told(await house.discover(found(7, "octo/gadget"))) == {"moved": ["octo/widget > octo/gadget"]}
    assert (await house.announced("octo/widget"), await house.announced("octo/gadget")) == (None, ONE)
    for _ in range(2):
        for name in (WIDGET, Repo("Octo", "Gadget")):
            managed = house.registry.repos.get(name)
            assert managed is not None
            assert (managed.id, str(managed.repo)) == (7, "octo/gadget")
        house.start()
    assert told(await house.discover(found(7, "octo/widget"))) == {"moved": ["octo/gadget > octo/widget"]}
    assert await house.announced("octo/widget") == ONE


@pytest_twisted.ensureDeferred
async def test_what_would_be_announced_under_an_old_name_during_its_rename_is_refused() -> None:
    house = RegistryHarness()
    await house.discover(found(7, "octo/widget"), found(8, "octo/other"))
    renaming = Deferred.fromCoroutine(house.discover(found(7, "octo/gadget")))
    await house.registry.settled(Repo("octo", "other"))
    with pytest.raises(RenamedError, match="octo/widget was renamed meanwhile"):
        await house.registry.settled(WIDGET)
    await renaming
    await house.registry.settled(WIDGET)
    # A journal that cannot be written renames nothing.
    await house.journal.close()
    renaming = Deferred.fromCoroutine(house.discover(found(7, "octo/widget")))
    await house.registry.settled(Repo("octo", "gadget"))
    with pytest.raises(JournalError):
        await renaming


@pytest_twisted.ensureDeferred
async def test_names_that_are_swapped_and_chains_move_together() -> None:
    house = RegistryHarness()
    await house.discover(found(1, "octo/a"), found(2, "octo/b"), found(3, "octo/c"))
    for name, oid in (("octo/a", ONE), ("octo/b", TWO), ("octo/c", THREE)):
        await house.announce(name, oid)
    change = await house.discover(found(1, "octo/b"), found(2, "octo/a"), found(3, "octo/d"))
    assert told(change) == {"moved": ["octo/a > octo/b", "octo/b > octo/a", "octo/c > octo/d"]}
    assert [await house.announced(f"octo/{each}") for each in "abcd"] == [TWO, ONE, None, THREE]
    change = await house.discover(found(2, "octo/b"), found(1, "octo/d"), found(3, "octo/e"))
    assert house.names() == {"octo/b": 2, "octo/d": 1, "octo/e": 3}
    assert [await house.announced(f"octo/{each}") for each in "abde"] == [None, TWO, ONE, THREE]


@pytest_twisted.ensureDeferred
async def test_a_name_with_other_letter_case_is_a_move() -> None:
    house = RegistryHarness()
    await house.discover(found(7, "octo/widget"))
    await house.announce("octo/widget", ONE)
    assert told(await house.discover(found(7, "Octo/Widget"))) == {"moved": ["octo/widget > Octo/Widget"]}
    assert await house.announced("octo/widget") == ONE


@pytest_twisted.ensureDeferred
async def test_a_name_that_another_repository_has_now_takes_nothing_of_the_one_before() -> None:
    house = RegistryHarness()
    await house.discover(found(7, "octo/widget"))
    await house.announce("octo/widget", ONE)
    change = await house.discover(found(9, "octo/widget"))
    assert told(change) == {"changed": ["octo/widget"]}
    assert house.names() == {"octo/widget": 9}
    assert await house.announced("octo/widget") is None
    await house.announce("octo/widget", TWO)
    house.start()
    # The first one turns up again, and goes on where it was.
    assert told(await house.discover(found(7, "octo/gadget"))) == {"added": ["octo/gadget"]}
    assert [await house.announced(each) for each in ("octo/widget", "octo/gadget")] == [TWO, ONE]
    managed = house.registry.repos.get(WIDGET)
    assert managed is not None
    assert managed.id == 9


@pytest_twisted.ensureDeferred
async def test_a_former_name_leads_to_the_last_that_had_it() -> None:
    house = RegistryHarness()
    await house.discover(found(9, "octo/widget"))
    await house.discover(found(9, "octo/gadget"))
    await house.discover(found(7, "octo/widget"))
    await house.discover(found(7, "octo/other"))
    for _ in range(2):
        managed = house.registry.repos.get(WIDGET)
        assert managed is not None
        assert managed.id == 7
        house.start()


@pytest_twisted.ensureDeferred
async def test_a_removed_repository_keeps_its_announced_refs_when_its_name_is_taken() -> None:
    house = RegistryHarness()
    await house.discover(found(7, "octo/widget"))
    await house.announce("octo/widget", ONE)
    await house.discover(removed={7: "uninstalled"})
    await house.discover(found(9, "octo/widget"))
    assert await house.announced("octo/widget") is None
    await house.discover(removed={9: "uninstalled"})
    await house.discover(found(7, "octo/widget"))
    assert await house.announced("octo/widget") == ONE


@pytest_twisted.ensureDeferred
async def test_what_a_person_added_follows_a_rename_by_the_id_that_was_learned() -> None:
    house = RegistryHarness()
    await house.registry.add(WIDGET, url("octo/widget"), "me")
    await house.announce("octo/widget", ONE)
    await house.discover(seen(7, "octo/widget"))
    assert house.names() == {"octo/widget": 7}
    assert told(await house.discover(seen(7, "octo/gadget"))) == {"moved": ["octo/widget > octo/gadget"]}
    managed = house.registry.repos.by_id(7)
    assert managed is not None
    assert (managed.url, managed.source) == (url("octo/gadget"), "people")
    assert await house.announced("octo/gadget") == ONE
    assert (await house.registry.remove(WIDGET, "me")).repo == Repo("octo", "gadget")


@pytest_twisted.ensureDeferred
async def test_one_from_elsewhere_that_has_the_name_of_a_listed_one_learns_no_id() -> None:
    house = RegistryHarness()
    await house.registry.add(WIDGET, "https://git.example.org/widget.git", "me")
    await house.discover(seen(7, "octo/widget"))
    assert house.names() == {"octo/widget": None}


# -- the configuration ------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_renamed_repository_of_the_configuration_keeps_its_name_there_and_is_reported() -> None:
    house = RegistryHarness("octo/widget")
    await house.announce("octo/widget", ONE)
    await house.discover(seen(7, "octo/widget"))
    change = await house.discover(seen(7, "octo/gadget"))
    assert told(change) == {"changed": ["octo/widget"]}
    managed = house.registry.repos.get(Repo("octo", "gadget"))
    assert managed is not None
    assert (str(managed.repo), managed.url, managed.id) == ("octo/widget", url("octo/gadget"), 7)
    reported = "octo/widget in twistd.conf is called octo/gadget now: change its name there, and reload"
    assert house.notices == house.registry.doubts() == [reported]
    # Somebody does: the mirror moves.
    house.registry.configure(configured("octo/gadget"))
    await called(house, {"octo/gadget": 7})
    assert told(house.changes[-1]) == {"moved": ["octo/widget > octo/gadget"]}
    assert (await house.announced("octo/gadget"), house.registry.doubts()) == (ONE, [])


@pytest_twisted.ensureDeferred
async def test_a_name_that_was_changed_in_the_configuration_while_nothing_ran_is_followed_before_it_is_managed() -> (
    None
):
    house = RegistryHarness("octo/widget", "octo/other")
    await house.discover(seen(7, "octo/widget"))
    await house.discover(seen(7, "octo/gadget"))
    await house.announce("octo/widget", ONE)
    house.changes.clear()
    house.start("octo/gadget", "octo/other")
    assert house.names() == {"octo/other": None}  # the journal does not know yet
    await called(house, {"octo/gadget": 7, "octo/other": None})
    assert await house.announced("octo/gadget") == ONE


@pytest_twisted.ensureDeferred
async def test_a_reload_leaves_what_others_added_and_takes_effect_at_once() -> None:
    house = RegistryHarness("octo/file")
    await house.registry.add(WIDGET, url("octo/widget"), "me")
    await house.discover(found(3, "octo/gadget"))
    house.registry.configure(configured("octo/new", "octo/widget"))
    sources = {str(each.repo): each.source for each in house.registry.repos}
    assert sources == {"octo/new": "file", "octo/widget": "file", "octo/gadget": "discover"}
    house.registry.configure([])
    assert house.names() == {"octo/widget": None, "octo/gadget": 3}


# -- who speaks ---------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_an_app_speaks_for_no_repository_of_another_app() -> None:
    house = RegistryHarness("octo/file")
    await house.discover(found(7, "octo/widget"), found(8, "acme/gadget", app="other"))
    registry = house.registry
    assert [registry.app_of(Repo.parse(each)) for each in ("octo/widget", "acme/gadget", "octo/file")] == [
        "main",
        "other",
        None,
    ]
    for signer, name, speaks in (
        ("", "octo/widget", True),
        ("app:main", "octo/widget", True),
        ("app:other", "octo/widget", False),
        ("app:main", "acme/gadget", False),
        ("app:main", "octo/file", True),
        ("app:main", "octo/unknown", True),
        ("owner:octo", "acme/gadget", True),
    ):
        assert registry.speaks_for(signer, _event(name)) is speaks, (signer, name)


def _event(name: str) -> Event:
    return Event(name="push", id="", delivery="d", received_at=0.0, body=b"{}", repo=Repo.parse(name))


async def called(house: RegistryHarness, names: Mapping[str, int | None]) -> None:
    """Wait until the managed repositories have these names, each with its id."""
    while house.names() != names:
        await sleep(house.reactor, 0.001)


@pytest_twisted.ensureDeferred
async def test_ten_thousand_known_repositories_are_there_at_a_start_without_a_question() -> None:
    house = RegistryHarness()
    for page in range(100):
        batch = [found(number, f"octo/r{number}") for number in range(100 * page + 1, 100 * page + 101)]
        assert len((await house.discover(*batch)).added) == 100
    house.start()
    assert len(house.registry.repos) == 10_000
    managed = house.registry.repos.by_id(9_999)
    assert managed is not None
    assert str(managed.repo) == "octo/r9999"
