"""Any sequence of writes has the same outcome everywhere: each step, and everything that can be asked."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_values import ONE, TWO, ZEROS, new_delivery
from memory_journal import MemoryJournal
from outcomes import outcome
from postgres_journals import empty, open_sole

from stackit.api.events import RefChange
from stackit.journal import DueHandling, HandlingRow, JournalProtocol
from stackit.journal.sqlite import SQLiteJournal
from stackit.testing.postgres import PostgresServer

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
        self.open: list[int] = []  # the numbers of those that are pending: nobody ends another

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
        return self.open and await outcome(self.journal.finish, self.ended(at), at=self.now)

    async def fail(self, at: int, delay: float | None) -> Any:
        if self.open:
            next_at = None if delay is None else self.now + delay
            handling = self.ended(at) if delay is None else self.handlings[self.pick(self.open, at)]
            await self.journal.fail(handling, at=self.now, error="no", next_at=next_at)

    def ended(self, at: int) -> Any:
        """Return the id of a pending handling, which is not pending from now on."""
        number = self.pick(self.open, at)
        self.open.remove(number)
        return self.handlings[number]

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
            for group in sorted(await self.journal.due_groups(each, now=self.now))
        }
        times = [await self.journal.next_due(each, after=self.now) for each in SUBSCRIBERS]
        refs = [await self.journal.announced(each) for each in ("octo/widget", "octo/other", "octo/new")]
        documents = list((await self.journal.documents("repos")).items())
        return self.named([listed, bodies, list(due.items()), times, refs, documents, await self.journal.pending()])

    @staticmethod
    def pick(known: list[Any], at: int) -> Any:
        return known[-1 - at % len(known)]

    def _place(self, value: DueHandling | HandlingRow) -> tuple[int, str]:
        """Return the place of a handling among others: journals may differ in that where one was recorded late."""
        return index(self.events, value.event_id) if isinstance(value, DueHandling) else 0, value.subscriber

    def named(self, value: Any) -> Any:
        """Return a result with every id replaced by its number in the order of appearance."""
        if isinstance(value, list | tuple):
            if all(isinstance(each, DueHandling | HandlingRow) for each in value):
                value = sorted(value, key=self._place)
            return [self.named(each) for each in value]
        if not isinstance(value, msgspec.Struct):
            return value
        fields = {name: self.named(each) for name, each in msgspec.structs.asdict(value).items()}
        if isinstance(value, DueHandling):
            number = index(self.handlings, value.id)
            if number not in self.open:
                self.open.append(number)
            fields |= {"id": number, "event_id": index(self.events, value.event_id), "shard": None, "earlier": None}
        elif hasattr(value, "id"):
            fields["id"] = index(self.events, value.id)
        return fields


def index(known: list[Any], each: Any) -> int:
    if each not in known:
        known.append(each)
    return known.index(each)


async def same_as_in_memory(opened: JournalProtocol, sequence: list[tuple[Any, ...]]) -> None:
    """Play a sequence to a journal, which is closed then, and to one in memory."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    clock: Any = reactor
    players = [Player(opened), Player(MemoryJournal(clock, keep_for=KEEP_FOR))]
    try:
        for step in sequence:
            found, in_memory = [await each.play(step) for each in players]
            assert found == in_memory, step
        found, in_memory = [await each.state() for each in players]
        assert found == in_memory
    finally:
        for each in players:
            await each.journal.close()


@settings(max_examples=60)
@given(st.lists(steps, min_size=1, max_size=25))
@pytest_twisted.ensureDeferred
async def test_any_sequence_of_writes_has_the_same_outcome_in_sqlite_and_in_memory(
    sequence: list[tuple[Any, ...]],
) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    clock: Any = reactor
    with tempfile.TemporaryDirectory() as directory:
        opened = SQLiteJournal.open(Path(directory) / "state", reactor=clock, keep_for=KEEP_FOR)
        await same_as_in_memory(opened, sequence)


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> Iterator[str]:
    """A database that is emptied before each sequence."""
    conninfo = postgres_server.database()
    yield conninfo
    postgres_server.drop(conninfo)


@settings(max_examples=40)
@given(sequence=st.lists(steps, min_size=1, max_size=25))
@pytest_twisted.ensureDeferred
async def test_any_sequence_of_writes_has_the_same_outcome_in_postgresql_and_in_memory(
    database: str, sequence: list[tuple[Any, ...]]
) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    empty(database)
    await same_as_in_memory(open_sole(database, reactor, keep_for=KEEP_FOR), sequence)
