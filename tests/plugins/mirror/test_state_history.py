"""The changes of a mirror's state: noted once each, bounded, and there again after a restart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import pytest_twisted
from mirror_harness import Harness, Upstream, ask, managed
from shared_journals import SharedJournals
from twisted.internet import reactor
from twisted.internet.task import Clock
from waiting import until

from stackit import Repo, StackitError
from stackit.api.errors import JournalError
from stackit.api.repos import ReposChange
from stackit.plugins.mirror.state_history import COLLECTION, MOST, StateHistory

HISTORY = "{prefix}/repos/{owner}/{name}/history"


class Kept:
    """A journal's documents of one collection."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}
        self.is_full = False

    async def keep(self, collection: str, documents: Mapping[str, bytes | None]) -> None:
        assert collection == COLLECTION
        if self.is_full:
            raise StackitError("the disk is full")
        for key, document in documents.items():
            if document is None:
                self.documents.pop(key, None)
            else:
                self.documents[key] = document


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def history(clock: Clock, kept: Kept) -> StateHistory:
    return StateHistory(clock, lambda: 1000 + clock.seconds(), kept.keep)


def again(kept: Kept, *keys: str) -> StateHistory:
    """The history of the next start."""
    history = StateHistory(Clock(), lambda: 0.0, kept.keep)
    history.load(kept.documents, keys)
    return history


def test_a_state_that_stays_is_no_change(history: StateHistory, clock: Clock) -> None:
    history.note("octo/widget", "in_step", None)
    history.note("octo/widget", "in_step", None)
    clock.advance(5)
    history.note("octo/widget", "failing", "x" * 400)
    history.note("octo/widget", "failing", "another")
    failing, in_step = history.of("octo/widget")
    assert (failing.state, failing.at, failing.error) == ("failing", 1005, "x" * 300 + "…")
    assert (in_step.state, in_step.at, in_step.error) == ("in_step", 1000, None)


def test_only_the_last_are_kept(history: StateHistory) -> None:
    for number in range(2 * MOST + 1):
        history.note("octo/widget", "failing" if number % 2 else "in_step", str(number))
    found = history.of("octo/widget")
    assert (len(found), found[0].error) == (MOST, str(2 * MOST))


def test_they_are_written_a_little_later_and_read_again(history: StateHistory, clock: Clock, kept: Kept) -> None:
    history.note("octo/widget", "in_step", None)
    history.note("octo/gone", "in_step", None)
    assert kept.documents == {}
    clock.advance(10)
    later = again(kept, "octo/widget")
    assert later.of("octo/widget") == history.of("octo/widget")
    assert later.of("octo/gone") == ()


def test_a_full_disk_loses_nothing(history: StateHistory, clock: Clock, kept: Kept) -> None:
    kept.is_full = True
    history.note("octo/widget", "in_step", None)
    clock.advance(10)
    kept.is_full = False
    clock.advance(10)
    assert again(kept, "octo/widget").of("octo/widget") == history.of("octo/widget")


def test_a_document_that_is_none_begins_anew(kept: Kept) -> None:
    for document in (b"{", b'[{"state":"in_step","at":1,"error":"\xff"}]'):
        kept.documents = {"octo/widget": document}
        assert again(kept, "octo/widget").of("octo/widget") == ()


@pytest_twisted.ensureDeferred
async def test_names_that_swap_keep_their_own(history: StateHistory, kept: Kept) -> None:
    history.note("octo/one", "in_step", "1")
    history.note("octo/two", "failing", "2")
    history.move([("octo/one", "octo/two"), ("octo/two", "octo/one")])
    history.forget(["octo/two"])
    await history.stop()
    later = again(kept, "octo/one", "octo/two")
    assert [each.error for each in later.of("octo/one")] == ["2"]
    assert later.of("octo/two") == ()


@pytest_twisted.ensureDeferred
async def test_the_route_shows_how_a_mirror_failed_and_came_back(harness: Harness, upstream: Upstream) -> None:
    await harness.worker().sync("start")
    away = upstream.directory.rename(upstream.directory.with_suffix(".away"))
    with pytest.raises(StackitError):
        await harness.worker().sync("manual")
    for each in harness.occurrences:
        harness.mirror.stackit_observe(each)
    away.rename(upstream.directory)
    del harness.occurrences[:]
    await harness.worker().sync("manual")
    for each in harness.occurrences:
        harness.mirror.stackit_observe(each)
    answer = await ask(harness, "GET", HISTORY, owner="octo", name="widget")
    assert [each["state"] for each in answer.body["history"]] == ["in_step", "failing", "in_step"]
    assert answer.body["history"][1]["error"]
    assert (await ask(harness, "GET", HISTORY, owner="octo", name="other")).status == 404


@pytest_twisted.ensureDeferred
async def test_a_repository_that_goes_takes_its_history_along(synced: Harness, upstream: Upstream) -> None:
    for each in synced.occurrences:
        synced.mirror.stackit_observe(each)
    assert synced.mirror._changes_of_state("octo/widget")
    synced.app.repos.apply(ReposChange(moved=((managed(upstream), managed(upstream, "octo/gadget")),)))
    assert synced.mirror._changes_of_state("octo/gadget")
    assert not synced.mirror._changes_of_state("octo/widget")
    synced.app.repos.apply(ReposChange(removed=(managed(upstream, "octo/gadget"),)))
    assert not synced.mirror._changes_of_state("octo/gadget")
    assert synced.app.repos.get(Repo.parse("octo/gadget")) is None


@pytest_twisted.ensureDeferred
async def test_each_node_has_the_changes_that_the_home_of_a_mirror_has_noted() -> None:
    clock, journals = Clock(), SharedJournals(reactor)
    home, other = (
        StateHistory(clock, clock.seconds, journal.put, leads=lambda: False)
        for journal in (journals.node(), journals.node())
    )
    for history, journal in zip((home, other), journals._all, strict=True):
        history.follow(journal.watch, journal.documents)
    home.note("octo/widget", "cloning", None)
    home.note("octo/widget", "in_step", None)
    clock.advance(5)
    await until(lambda: [each.state for each in other.of("octo/widget")] == ["in_step", "cloning"])

    # Its mirror moves: the new home goes on, and the leader writes down that it is gone.
    other.note("octo/widget", "failing", "no")
    for history in (home, other):
        history.move([("octo/widget", "octo/gadget")])
    assert [each.state for each in other.of("octo/gadget")] == ["failing", "in_step", "cloning"]
    other.note("octo/gadget", "in_step", None)
    clock.advance(5)
    await until(lambda: len(home.of("octo/gadget")) == 4)
    leader = StateHistory(clock, clock.seconds, journals._all[0].put)
    leader.load(await journals._all[0].documents("mirror-states"), ["octo/gadget"])
    leader.forget(["octo/gadget"])
    clock.advance(5)
    await until(lambda: other.of("octo/gadget") == ())
    for history in (home, other, leader):
        await history.stop()
    assert "octo/gadget" not in await journals._all[0].documents("mirror-states")


@pytest_twisted.ensureDeferred
async def test_what_a_journal_that_is_away_has_of_other_nodes_is_read_later() -> None:
    clock, told, answers = Clock(), [], [JournalError("away"), {"octo/widget": b'[["in_step",5.0]]'}]
    history = StateHistory(clock, clock.seconds, Kept().keep)

    async def read(_: str, keys: Any) -> Any:
        told.append(keys)
        answer = answers.pop(0)
        if isinstance(answer, JournalError):
            raise answer
        return answer

    watchers: list[Any] = []
    history.follow(lambda _, changed: watchers.append(changed), read)
    watchers[0](frozenset({"octo/widget"}))
    assert (told, history.of("octo/widget")) == ([{"octo/widget"}], ())
    clock.advance(5)
    assert told == [{"octo/widget"}, {"octo/widget"}]
    assert [each.at for each in history.of("octo/widget")] == [5.0]
    await history.stop()
