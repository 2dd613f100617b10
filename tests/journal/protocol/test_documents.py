"""Documents: small, by collection and key; put together, or with the renames of repositories."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from journal_values import ONE, TWO, ZEROS, new_delivery
from outcomes import outcome

from stackit.api.errors import JournalError
from stackit.api.events import RefChange
from stackit.journal import JournalProtocol


async def announce(journal: JournalProtocol, repo: str, new: str) -> None:
    """Announce that the main branch of a repository is at ``new``."""
    await journal.announce(repo, (RefChange("refs/heads/main", ZEROS, new, "created"),), "push", None, 100.0, [])


@pytest_twisted.ensureDeferred
async def test_documents_are_kept_by_collection_and_key(journal: JournalProtocol) -> None:
    assert (journal.documents_now("repos"), await journal.documents("repos")) == ({}, {})
    await journal.put("repos", {"b": b"two", "a": b"\x00\xff"})
    await journal.put("marks", {"a": b"another"})
    assert list((await journal.documents("repos")).items()) == [("a", b"\x00\xff"), ("b", b"two")]
    await journal.put("repos", {"a": None, "b": b"three", "missing": None})
    assert journal.documents_now("repos") == await journal.documents("repos") == {"b": b"three"}
    assert await journal.documents("marks") == {"a": b"another"}


@pytest_twisted.ensureDeferred
async def test_documents_that_cannot_be_written_change_nothing(journal: JournalProtocol) -> None:
    no_document: Any = object()
    with pytest.raises(JournalError, match="refused"):
        await journal.put("repos", {"a": b"one", "b": no_document})
    await announce(journal, "octo/widget", ONE)
    with pytest.raises(JournalError, match="refused"):
        await journal.rename([("octo/widget", "octo/gadget")], "repos", {"a": no_document})
    assert await journal.documents("repos") == {}
    assert await journal.announced("octo/widget") == {"refs/heads/main": ONE}
    assert await journal.announced("octo/gadget") == {}


@pytest.mark.parametrize(
    ("renames", "announced"),
    [
        ([("a/a", "a/new")], {"a/new": ONE, "b/b": TWO}),
        ([("a/a", "b/b"), ("b/b", "a/a")], {"a/a": TWO, "b/b": ONE}),
        ([("a/a", "b/b"), ("b/b", "c/c")], {"b/b": ONE, "c/c": TWO}),
        ([("b/b", "c/c"), ("a/a", "b/b")], {"b/b": ONE, "c/c": TWO}),
        ([("a/a", "b/b")], {"b/b": ONE}),
        ([("a/a", "a/a")], {"a/a": ONE, "b/b": TWO}),
        ([("c/c", "a/a")], {"b/b": TWO}),
        ([], {"a/a": ONE, "b/b": TWO}),
    ],
)
@pytest_twisted.ensureDeferred
async def test_announced_refs_follow_renames_with_the_documents_that_say_so(
    renames: list[tuple[str, str]], announced: dict[str, str], journal: JournalProtocol
) -> None:
    await announce(journal, "a/a", ONE)
    await announce(journal, "b/b", TWO)
    await journal.rename(renames, "repos", {"github:7": b"moved"})
    for key in ("a/a", "b/b", "c/c", "a/new"):
        expected = {"refs/heads/main": announced[key]} if key in announced else {}
        assert await journal.announced(key) == expected, key
    assert await journal.documents("repos") == {"github:7": b"moved"}
    names = [each.repo for each in (await journal.listing(event="refs_changed")).deliveries]
    assert names == ["b/b", "a/a"]


@pytest.mark.parametrize("renames", [[("a/a", "b/b"), ("a/a", "c/c")], [("a/a", "c/c"), ("b/b", "c/c")]])
@pytest_twisted.ensureDeferred
async def test_renames_that_contradict_each_other_are_refused(
    renames: list[tuple[str, str]], journal: JournalProtocol
) -> None:
    await announce(journal, "a/a", ONE)
    with pytest.raises(ValueError, match="renamed twice"):
        await journal.rename(renames, "repos", {"github:7": b"moved"})
    assert await journal.announced("a/a") == {"refs/heads/main": ONE}
    assert await journal.documents("repos") == {}


@pytest_twisted.ensureDeferred
async def test_a_delivery_keeps_who_signed_it_and_by_which_way_it_came(journal: JournalProtocol) -> None:
    appended = await outcome(journal.append, new_delivery("a", signer="app:main", via="api"))
    stored, receipt = await journal.load(appended.id), await journal.receipt(appended.id)
    assert stored is not None
    assert receipt is not None
    assert (stored.signer, stored.via) == (receipt.signer, receipt.via) == ("app:main", "api")
    (listed,) = (await journal.listing()).deliveries
    assert listed == receipt


@pytest.mark.parametrize(("first", "second"), [("webhook", "api"), ("api", "webhook"), ("api", "api")])
@pytest_twisted.ensureDeferred
async def test_one_delivery_by_both_ways_is_one_though_its_bytes_differ(
    first: Any, second: Any, journal: JournalProtocol
) -> None:
    appended = await outcome(journal.append, new_delivery("a", body=b'{"a": 1}', via=first))
    again = await outcome(journal.append, new_delivery("a", body=b'{"a":1}', via=second))
    assert (appended.status, again.status, again.id) == ("new", "duplicate", appended.id)
    another = await outcome(journal.append, new_delivery("a", hook="8", via=second))
    assert another.status == "new"


@pytest_twisted.ensureDeferred
async def test_a_known_delivery_via_the_api_makes_nothing_due_again(journal: JournalProtocol) -> None:
    appended = await outcome(journal.append, new_delivery("a", subscribers=("mirror",)))
    await journal.fail(appended.handlings[0].id, at=101.0, error="no", next_at=None)
    unwanted = await outcome(journal.append, new_delivery("b", subscribers=()))
    for known in ("a", "b"):
        again = await outcome(journal.append, new_delivery(known, subscribers=("mirror",), via="api"))
        assert again.status == "duplicate"
    assert await journal.dead() == {"mirror": 1}
    receipt = await journal.receipt(unwanted.id)
    assert receipt is not None
    assert (receipt.via, receipt.handlings) == ("webhook", ())
