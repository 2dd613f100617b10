"""Documents that another node changes, followed: one that cannot be taken keeps no other from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest_twisted
from log_capture import warnings_logged
from places import without_place
from shared_journals import SharedJournals
from twisted.internet import reactor
from twisted.logger import LogEvent, formatEvent
from waiting import until

from stackit.journal.followed import FollowedDocuments


@pytest_twisted.ensureDeferred
async def test_a_strange_document_is_left_out_in_one_line_and_all_others_are_taken() -> None:
    taken: dict[str, int | None] = {}

    def take(documents: Mapping[str, bytes | None]) -> None:
        for key, document in documents.items():
            taken[key] = None if document is None else int(document)

    clock: Any = reactor
    journals = SharedJournals(clock)
    here, there = journals.node(), journals.node()
    followed = FollowedDocuments(here, "numbers", take, known=tuple, reactor=clock)
    with warnings_logged() as logged:
        await there.put("numbers", {"a": b"1", "b": b"not a number", "c": b"3"})
        await until(lambda: taken == {"a": 1, "c": 3}, "the others")
        await there.put("numbers", {"d": b"4", "b": b"none either"})
        await until(lambda: taken == {"a": 1, "c": 3, "d": 4}, "those of later")
        assert [without_place(formatEvent(each)) for each in logged] == [
            "the document b of numbers is left out, as if it were not in the journal: ValueError: invalid literal for "
            "int() with base 10: b'not a number'"
        ]
        await there.put("numbers", {"b": b"2"})
        await until(lambda: taken.get("b") == 2, "the one that was mended")
        await there.put("numbers", {"b": b"strange again"})
        await until(lambda: len(logged) == 2, "another line")
    await followed.stop()


@pytest_twisted.ensureDeferred
async def test_a_fault_with_documents_together_that_none_has_alone_is_told_with_its_traceback(
    logged_failures: list[LogEvent],
) -> None:
    taken: list[str] = []

    def take(documents: Mapping[str, bytes | None]) -> None:
        taken.extend(documents)
        if len(documents) > 1:
            raise RuntimeError("too many at a time")

    clock: Any = reactor
    journals = SharedJournals(clock)
    here, there = journals.node(), journals.node()
    followed = FollowedDocuments(here, "numbers", take, known=tuple, reactor=clock)
    await there.put("numbers", {"a": b"1", "b": b"2"})
    await until(lambda: sorted(taken) == ["a", "a", "b", "b"], "each alone")
    await there.put("numbers", {"a": b"3"})
    await until(lambda: taken[4:] == ["a"], "one of later")
    (fault,) = logged_failures
    logged_failures.clear()
    assert formatEvent(fault) == (
        "the documents of numbers were taken one by one: all at once, a fault of stackit's own kept them from it"
    )
    assert "in take" in fault["log_failure"].getTraceback()
    await followed.stop()
