"""Any sequence of writes has the same outcome in SQLite and in memory: each step, and everything that can be asked."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_values import ONE, TWO, ZEROS, new_delivery
from memory_journal import MemoryJournal
from outcomes import outcome

from stackit.api.events import RefChange
from stackit.journal import DueHandling, JournalProtocol
from stackit.journal.sqlite import SQLiteJournal

SUBSCRIBERS = ("mirror", "notes")
REPOS = ("octo/widget", "Octo/Widget", "octo/other", None)
KEEP_FOR = 50.0

subscribers = st.sampled_from([(), ("mirror",), ("notes",), SUBSCRIBERS])
number = st.integers(0, 5)
appends = st.tuples(
    st.just("append"),
    st.sampled_from("abc"),  # the delivery id
    st.sampled_from("78"),  # the hook
    st.sampled_from([b"{}", b"[]", b'"longer"']),
    st.sampled_from([b"", b"new secret"]),
    st.sampled_from(REPOS),
    subscribers,
    st.booleans(),  # whether replays are refused
    st.sampled_from(["webhook", "webhook", "api"]),
)
names = st.sampled_from(["octo/widget", "octo/other", "octo/new"])
steps = st.one_of(
    appends,
    appends,
    st.tuples(st.just("finish"), number),
    st.tuples(st.just("fail"), number, st.sampled_from([None, 5.0, 500.0])),
    st.tuples(st.just("replay"), number, st.one_of(st.none(), subscribers)),
    st.tuples(st.just("replay_dead"), st.sampled_from(SUBSCRIBERS)),
    st.tuples(st.just("announce"), st.sampled_from(["created", "updated", "deleted"]), subscribers),
    st.tuples(st.just("rename"), st.lists(st.tuples(names, names), max_size=3)),
    st.tuples(st.just("visible"), number),
    st.tuples(st.just("move_retries"), st.sampled_from([-1000.0, -3.0, 0.0, 3.0, 1000.0])),
    st.tuples(st.just("prune")),
)


class Player:
    """Plays steps to one journal, and names its ids by the order in which they were seen: journals choose their own."""

    def __init__(self, journal: JournalProtocol) -> None:
        self.journal = journal
        self.now = 1000.0
        self.events: list[Any] = []
        self.handlings: list[Any] = []

    async def play(self, step: tuple[Any, ...]) -> Any:
        self.now += 10.0
        name, *values = step
        try:
            return self.named(await getattr(self, name)(*values))
        except (LookupError, ValueError) as refused:
            return type(refused)

    async def append(
        self,
        delivery: str,
        hook: str,
        body: bytes,
        secret: bytes,
        repo: str | None,
        wanted: Any,
        refuse: bool,
        via: Any,
    ) -> Any:
        made = new_delivery(
            delivery,
            hook=hook,
            body=body,
            digest=hashlib.sha256(secret + body).digest(),
            repo=repo,
            subscribers=wanted,
            refuse_replay=refuse,
            via=via,
            received_at=self.now,
        )
        return await outcome(self.journal.append, made)

    async def finish(self, at: int) -> Any:
        return self.handlings and await outcome(self.journal.finish, self.pick(self.handlings, at), at=self.now)

    async def fail(self, at: int, delay: float | None) -> Any:
        if self.handlings:
            next_at = None if delay is None else self.now + delay
            await self.journal.fail(self.pick(self.handlings, at), at=self.now, error="no", next_at=next_at)

    async def replay(self, at: int, wanted: Any) -> Any:
        return self.events and await self.journal.replay(self.pick(self.events, at), wanted, now=self.now)

    async def replay_dead(self, subscriber: str) -> Any:
        return await self.journal.replay_dead(subscriber, now=self.now)

    async def announce(self, kind: Any, wanted: Any) -> Any:
        new = {"created": ONE, "updated": TWO, "deleted": ZEROS}[kind]
        change = RefChange("refs/heads/main", ZEROS, new, kind)
        return await self.journal.announce("octo/widget", (change,), "push", None, self.now, wanted)

    async def rename(self, renames: Any) -> Any:
        return await self.journal.rename(renames, "repos", dict.fromkeys((new for _, new in renames), b"there"))

    async def visible(self, at: int) -> Any:
        return self.events and await self.journal.visible(self.pick(self.events, at), self.now)

    async def move_retries(self, by: float) -> Any:
        return await self.journal.move_retries(by, now=self.now, longest=100.0)

    async def prune(self) -> Any:
        return await self.journal.prune(self.now)

    async def state(self) -> Any:
        """Return all that a journal can be asked for, with its ids named."""
        listed = []
        for event in (None, "refs_changed"):
            cursor = None
            while True:
                page = await self.journal.listing(event=event, cursor=cursor, limit=2)
                listed += page.deliveries
                cursor = page.next
                if cursor is None:
                    break
        bodies = [await self.journal.load(each.id) for each in listed]
        due = {
            (each, group): await self.journal.due(each, self.now, group=group, limit=9)
            for each in SUBSCRIBERS
            for group in await self.journal.due_groups(each, now=self.now)
        }
        times = [await self.journal.next_due(each, after=self.now) for each in SUBSCRIBERS]
        refs = [await self.journal.announced(each) for each in ("octo/widget", "octo/other", "octo/new")]
        documents = list((await self.journal.documents("repos")).items())
        return self.named([listed, bodies, list(due.items()), times, refs, documents, await self.journal.pending()])

    @staticmethod
    def pick(known: list[Any], at: int) -> Any:
        return known[-1 - at % len(known)]

    def named(self, value: Any) -> Any:
        """Return a result with every id replaced by its number in the order of appearance."""
        if isinstance(value, list | tuple):
            return [self.named(each) for each in value]
        if not isinstance(value, msgspec.Struct):
            return value
        fields = {name: self.named(each) for name, each in msgspec.structs.asdict(value).items()}
        if isinstance(value, DueHandling):
            fields |= {"id": index(self.handlings, value.id), "event_id": index(self.events, value.event_id)}
        elif hasattr(value, "id"):
            fields["id"] = index(self.events, value.id)
        return fields


def index(known: list[Any], each: Any) -> int:
    if each not in known:
        known.append(each)
    return known.index(each)


async def same_in_both(directory: Path, sequence: list[tuple[Any, ...]]) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    clock: Any = reactor
    opened = SQLiteJournal.open(directory / "state", reactor=clock, keep_for=KEEP_FOR)
    players = [Player(opened), Player(MemoryJournal(clock, keep_for=KEEP_FOR))]
    try:
        for step in sequence:
            in_sqlite, in_memory = [await each.play(step) for each in players]
            assert in_sqlite == in_memory, step
        in_sqlite, in_memory = [await each.state() for each in players]
        assert in_sqlite == in_memory
    finally:
        for each in players:
            await each.journal.close()


@settings(max_examples=60)
@given(st.lists(steps, min_size=1, max_size=25))
@pytest_twisted.ensureDeferred
async def test_any_sequence_of_writes_has_the_same_outcome_in_every_journal(sequence: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        await same_in_both(Path(directory), sequence)
