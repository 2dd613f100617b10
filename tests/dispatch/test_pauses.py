"""Pauses that the journal keeps, also where what it kept of one is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest_twisted
from dispatch_harness import START, Harness, noting

from stackit.dispatch.pauses import COLLECTION, Pauses


@pytest_twisted.ensureDeferred
async def test_a_damaged_document_is_a_pause_all_the_same_and_is_told_in_one_line(tmp_path: Path) -> None:
    calls: list[str] = []
    one = Harness(tmp_path, mine=noting(calls))
    damaged = {"mine:handle": b'{"by": "\xff', "gone:handle": b'{"by": 1, "at": "x"}'}
    await one.journal.put(COLLECTION, damaged)
    pauses = Pauses(one.journal, one.dispatch, one.bus, now=one.wall)
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
    again = Pauses(one.journal, one.dispatch, one.bus, now=one.wall)
    again.load()
    (pause,) = again.paused().values()
    assert pause.by == "octocat"
    assert pause.at is not None
    assert pause.at >= START
    await one.close()
