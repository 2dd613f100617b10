"""Pauses that the journal keeps, also where what it kept of one is damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from dispatch_harness import START, Harness, noting
from shared_journals import SharedJournals
from waiting import until

from stackit.api.errors import JournalError
from stackit.dispatch.holdups import MOMENT
from stackit.dispatch.pauses import COLLECTION, Pauses


@pytest_twisted.ensureDeferred
async def test_a_damaged_document_is_a_pause_all_the_same_and_is_told_in_one_line(tmp_path: Path) -> None:
    calls: list[str] = []
    one = Harness(tmp_path, mine=noting(calls))
    damaged = {"mine:handle": b'{"by": "\xff', "gone:handle": b'{"by": 1, "at": "x"}'}
    await one.journal.put(COLLECTION, damaged)
    pauses = Pauses(one.journal, one.dispatch, one.bus, reactor=one.reactor, now=one.wall)
    pauses.load()
    said = "paused, by whom and since when cannot be read: its events wait until it is resumed"
    assert [(each.subscriber, each.reason) for each in one.seen] == [("gone:handle", said), ("mine", said)]
    assert pauses.states() == {"mine": True, "gone:handle": True}

    await one.take()
    await one.quiet()
    assert calls == []
    await pauses.resume("mine:handle", "octocat")
    await pauses.resume("gone:handle", "octocat")
    await one.until(lambda: calls == ["d1"])
    assert one.journal.documents_now(COLLECTION) == {}

    await pauses.pause("mine:handle", "octocat")
    again = Pauses(one.journal, one.dispatch, one.bus, reactor=one.reactor, now=one.wall)
    again.load()
    (pause,) = again.paused().values()
    assert pause.by == "octocat"
    assert pause.at is not None
    assert pause.at >= START
    await one.close()


@pytest_twisted.ensureDeferred
async def test_a_pause_holds_at_every_node_until_a_person_ends_it_at_any(tmp_path: Path) -> None:
    calls: list[str] = []
    one = Harness(tmp_path, mine=noting(calls))
    journals = SharedJournals(one.reactor)
    here = Pauses(journals.node(), one.dispatch, one.bus, reactor=one.reactor, now=one.wall)
    other = Harness(tmp_path / "other", mine=noting([]))
    there = Pauses(journals.node(), other.dispatch, other.bus, reactor=one.reactor, now=other.wall)
    await there.pause("mine:handle", "octocat")
    await one.until(lambda: here.states() == {"mine": True})
    assert [each.reason for each in one.seen] == [
        "paused at another node by octocat: its events wait until it is resumed"
    ]
    assert here.paused() == there.paused()
    await one.take()
    await one.quiet()
    assert calls == []
    await here.resume("mine:handle", "hubot")
    await one.until(lambda: calls == ["d1"])
    await other.until(lambda: there.states() == {"mine": False})
    assert other.seen[-1].reason == "resumed at another node"
    for each in (here, there):
        await each.stop()
    await one.close()
    await other.close()


@pytest_twisted.ensureDeferred
async def test_pauses_of_other_nodes_that_cannot_be_read_are_told_of(tmp_path: Path) -> None:
    one = Harness(tmp_path, mine=noting([]))
    journals = SharedJournals(one.reactor)
    journal, there = journals.node(), journals.node()
    pauses = Pauses(journal, one.dispatch, one.bus, reactor=one.reactor, now=one.wall)
    answer, asked = journal.documents, list[str]()

    async def unreadable(collection: str, keys: Any = None) -> dict[str, bytes]:
        asked.append(collection)
        raise JournalError("permission denied for table documents")

    journal.documents = unreadable  # type: ignore[method-assign]
    await there.put(COLLECTION, {"mine:handle": b"{}"})
    await until(lambda: len(asked) == 1)
    await one.pass_time(MOMENT + 1.0)
    line = "handlers may begin here that were paused at another node: permission denied for table documents"
    assert one.dispatch.problems() == [line] == [each.reason for each in one.outcomes("notice")]
    journal.documents = answer  # type: ignore[method-assign]
    await until(lambda: pauses.states() == {"mine": True})
    assert one.dispatch.problems() == []
    assert "it is known again which handlers were paused at other nodes" in [each.reason for each in one.seen]
    await pauses.stop()
    await one.close()


@pytest_twisted.ensureDeferred
async def test_before_it_is_known_which_handlers_are_paused_none_is_paused_or_resumed(tmp_path: Path) -> None:
    one = Harness(tmp_path, mine=noting([]), other=noting([]))
    await one.journal.put(COLLECTION, {"mine:handle": b"{}"})
    pauses = Pauses(one.journal, one.dispatch, one.bus, reactor=one.reactor, now=one.wall)
    answer = one.journal.documents_now

    def unreadable(collection: str) -> dict[str, bytes]:
        raise JournalError("the journal cannot read it: disk I/O error")

    one.journal.documents_now = unreadable  # type: ignore[method-assign]
    with pytest.raises(JournalError):
        pauses.load()
    refused = (
        "nothing can be paused or resumed before it is known which handlers are paused: "
        "the journal cannot read it: disk I/O error"
    )
    for change, key in ((pauses.resume, "mine:handle"), (pauses.pause, "mine:handle"), (pauses.pause, "other:handle")):
        with pytest.raises(JournalError) as raised:
            await change(key, "octocat")
        assert str(raised.value) == refused
    one.journal.documents_now = answer  # type: ignore[method-assign]
    assert one.journal.documents_now(COLLECTION) == {"mine:handle": b"{}"}
    pauses.load()
    await pauses.resume("mine:handle", "octocat")
    await pauses.pause("other:handle", "octocat")
    assert pauses.states() == {"mine": False, "other": True}
    await one.close()
