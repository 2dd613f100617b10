"""Files changed from outside: nothing more is confirmed, what was is saved, and people are told."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from outcomes import outcome
from twisted.internet.defer import Deferred

from stackit.api.errors import JournalError
from stackit.journal import NewDelivery
from stackit.journal.sqlite import SQLiteJournal, schema
from stackit.journal.sqlite.sizes import Sizes


class Harness:
    """One journal, what it told of itself, and what it confirmed."""

    def __init__(self, state: Path, sizes: Sizes = Sizes()) -> None:  # noqa: B008 - frozen
        self.state = state
        self.sizes = sizes
        self.changes: list[str | None] = []
        self.notices: list[str] = []
        self.confirmed: set[str] = set()
        self.journal = self.open(state)

    def open(self, state: Path) -> SQLiteJournal:
        from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

        return SQLiteJournal.open(
            state,
            reactor=reactor,
            on_change=self.changes.append,
            notice=self.notices.append,
            sizes=self.sizes,
        )

    @property
    def path(self) -> Path:
        return self.state / "journal.sqlite3"

    @property
    def log(self) -> Path:
        return self.state / "journal.sqlite3-wal"

    async def take(self, count: int = 1, size: int = 2000) -> None:
        """Deliveries, one commit each."""
        for _ in range(count):
            delivery = f"d{len(self.confirmed)}"
            record = NewDelivery(
                hook="7",
                delivery=delivery,
                event="push",
                action=None,
                repo="octo/widget",
                received_at=100.0,
                digest=delivery.encode(),
                body=os.urandom(size),
                subscribers=("mirror",),
            )
            await outcome(self.journal.append, record)
            self.confirmed.add(delivery)

    async def take_until_told(self) -> None:
        """Take deliveries until one more notice has come: the reader brings the log in, beside the commits."""
        before = len(self.notices)
        for _ in range(1000):
            await self.take(1, 30_000)
            if len(self.notices) > before:
                return
        raise AssertionError("nothing is told")

    async def refused(self) -> str:
        with pytest.raises(JournalError, match=f"cannot write to {self.state}") as raised:
            await self.take()
        assert self.journal._writer.problem == str(raised.value)
        return str(raised.value)

    async def found_after_kill(self) -> set[str]:
        """What a next start would find, had the process been killed now."""
        after = self.state.parent / "after"
        shutil.rmtree(after, ignore_errors=True)
        shutil.copytree(self.state, after, ignore=shutil.ignore_patterns("*-shm", "lock"))
        journal = self.open(after)
        found = await contents(journal)
        await journal.close()
        with sqlite3.connect(after / "journal.sqlite3") as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
        return found


async def contents(journal: SQLiteJournal) -> set[str]:
    page = await journal.listing(limit=500)
    return {each.delivery or "" for each in page.deliveries}


@pytest_twisted.async_yield_fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    made = Harness(tmp_path / "state")
    await made.take(10)
    yield made
    await made.journal.close()


@pytest_twisted.ensureDeferred
async def test_a_moved_journal_confirms_nothing_until_it_is_moved_back(harness: Harness, tmp_path: Path) -> None:
    for _ in range(2):
        harness.path.rename(tmp_path / "elsewhere")
        said = await harness.refused()
        assert f"was moved to {tmp_path}/elsewhere: move it back" in said
        assert (await harness.refused()) == said
        (tmp_path / "elsewhere").rename(harness.path)
        await harness.take(3)
        assert harness.changes[-1] is None
    assert harness.confirmed <= await harness.found_after_kill()


@pytest_twisted.ensureDeferred
async def test_a_state_directory_that_was_moved_is_named_where_it_is_now(harness: Harness, tmp_path: Path) -> None:
    harness.state.rename(tmp_path / "elsewhere")
    assert f"was moved to {tmp_path}/elsewhere/journal.sqlite3" in await harness.refused()
    (tmp_path / "elsewhere").rename(harness.state)
    await harness.take()
    assert harness.confirmed <= await harness.found_after_kill()


@pytest_twisted.ensureDeferred
async def test_a_journal_moved_away_is_not_taken_for_a_first_start_after_the_stop(
    harness: Harness, tmp_path: Path
) -> None:
    harness.path.rename(tmp_path / "elsewhere")
    await harness.refused()
    await harness.journal.close()
    with pytest.raises(JournalError, match="missing beside"):
        harness.open(harness.state)
    (tmp_path / "elsewhere").rename(harness.path)
    assert harness.confirmed <= await harness.found_after_kill()


@pytest.mark.parametrize("keep_log", [True, False])
@pytest_twisted.ensureDeferred
async def test_all_of_a_removed_journal_is_saved_beside_it(harness: Harness, keep_log: bool) -> None:
    harness.path.unlink()
    said = await harness.refused()
    saved = harness.path.with_name("journal.sqlite3.saved")
    assert f"is saved in {saved}: stop stackit" in said
    assert await harness.refused() == said
    assert sorted(each.name for each in harness.state.glob("*.sav*")) == [saved.name]  # saved once
    await harness.journal.close()
    if not keep_log:
        harness.log.unlink()
    saved.rename(harness.path)
    assert harness.confirmed <= await harness.found_after_kill()


@pytest_twisted.ensureDeferred
async def test_another_journal_in_its_place_is_neither_written_to_nor_touched(harness: Harness, tmp_path: Path) -> None:
    other = Harness(tmp_path / "other")
    await other.take(2)
    await other.journal.close()
    content = other.path.read_bytes()
    other.path.rename(harness.path)
    said = await harness.refused()
    assert "another file is in the place" in said
    assert "saved" in said
    await harness.journal.close()
    assert harness.path.read_bytes() == content
    harness.path.with_name("journal.sqlite3.saved").rename(harness.path)
    assert harness.confirmed <= await harness.found_after_kill()


@pytest_twisted.ensureDeferred
async def test_a_journal_that_was_removed_is_noticed_though_nobody_writes(harness: Harness) -> None:
    harness.path.unlink()
    with pytest.raises(JournalError, match="is saved in"):
        raise (await beat(harness)).value
    assert harness.journal._writer.problem is not None
    harness.path.with_name("journal.sqlite3.saved").rename(harness.state.parent / "copy")
    await harness.journal.close()
    with pytest.raises(JournalError, match="missing beside"):
        harness.open(harness.state)


async def beat(harness: Harness) -> Any:
    come: Deferred[Any] = Deferred()
    harness.journal._writer.beat(lambda result: come.callback([result]))
    (result,) = await come
    return result


@pytest_twisted.ensureDeferred
async def test_a_journal_that_was_moved_back_is_noticed_though_nobody_writes(harness: Harness, tmp_path: Path) -> None:
    harness.path.rename(tmp_path / "elsewhere")
    await beat(harness)
    (tmp_path / "elsewhere").rename(harness.path)
    assert await beat(harness) is None
    await beat(harness)
    assert [each is None for each in harness.changes] == [False, True]


@pytest_twisted.ensureDeferred
async def test_a_journal_that_was_removed_and_not_missed_until_the_stop_is_saved_at_the_stop(harness: Harness) -> None:
    harness.path.unlink()
    await harness.journal.close()
    saved = harness.path.with_name("journal.sqlite3.saved")
    harness.log.unlink()
    with pytest.raises(JournalError, match=f"is saved in {saved}: move that to {harness.path}"):
        harness.open(harness.state)
    saved.rename(harness.path)
    assert harness.confirmed <= await harness.found_after_kill()


@pytest_twisted.ensureDeferred
async def test_a_log_that_goes_while_the_writer_has_no_connection_is_not_begun_anew_in_silence(
    harness: Harness,
) -> None:
    harness.journal._writer._committer._disconnect()  # as after an I/O error
    harness.log.unlink()
    for _ in range(2):
        assert "its log" in await harness.refused()


def _remove(log: Path) -> None:
    log.unlink()


def _move(log: Path) -> None:
    log.rename(log.with_name("away"))


def _replace_by_copy(log: Path) -> None:
    shutil.copy2(log, log.with_name("copy"))
    log.with_name("copy").rename(log)


def _replace_by_nonsense(log: Path) -> None:
    log.unlink()
    log.write_bytes(b"nonsense" * 9999)
    log.chmod(0o600)


@pytest.mark.parametrize("harm", [_remove, _move, _replace_by_copy, _replace_by_nonsense])
@pytest_twisted.ensureDeferred
async def test_a_log_that_is_gone_is_brought_in_and_begun_anew(harness: Harness, harm: Callable[[Path], None]) -> None:
    pending = await harness.journal.pending()
    harm(harness.log)
    said = await harness.refused()
    assert "all of it was brought into" in said
    assert harness.confirmed <= await harness.found_after_kill()
    await harness.take(5)
    assert harness.changes[-1] is None
    assert harness.confirmed <= await contents(harness.journal)
    assert (await harness.journal.pending())["mirror"] >= pending["mirror"] + 5
    assert harness.confirmed <= await harness.found_after_kill()
    await harness.journal.close()
    assert not harness.log.exists()


@pytest.mark.parametrize("share", [0.0, 0.0002, 0.5, 0.99])
@pytest_twisted.ensureDeferred
async def test_once_the_log_was_cut_nothing_is_confirmed_and_what_is_left_stays_sound(
    harness: Harness, share: float
) -> None:
    os.truncate(harness.log, int(harness.log.stat().st_size * share))
    unsure = {f"d{len(harness.confirmed)}"}
    said = await harness.refused()
    assert f"{harness.log} was cut from" in said
    for _ in range(3):
        assert await harness.refused() == said
    saved = harness.path.with_name("journal.sqlite3.saved")
    assert ("could not be saved" in said) != saved.exists()
    assert await harness.found_after_kill() <= harness.confirmed | unsure
    if saved.exists():  # from the pages that SQLite had in memory still
        shutil.copy(saved, harness.state.parent / "copy.sqlite3")
        with sqlite3.connect(harness.state.parent / "copy.sqlite3") as connection:
            found = {delivery for (delivery,) in connection.execute("SELECT delivery FROM events")}
        connection.close()
        assert harness.confirmed <= found


@pytest_twisted.ensureDeferred
async def test_a_journal_that_was_cut_confirms_nothing(harness: Harness) -> None:
    await harness.journal.close()
    harness.journal = harness.open(harness.state)
    await harness.take()
    os.truncate(harness.path, harness.path.stat().st_size // 2)
    assert "was cut to" in await harness.refused()


@pytest_twisted.ensureDeferred
async def test_what_an_operator_may_do_with_sqlite_is_no_harm(harness: Harness) -> None:
    await harness.take(40, 20_000)
    shell = sqlite3.connect(harness.path, isolation_level=None, timeout=20)
    for statement in ("PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
        shell.execute(statement).fetchall()
        for _ in range(2):
            assert await beat(harness) is None
            await harness.journal.pending()  # goes with commits, and writes nothing
        await harness.take(2)
    shell.execute("DELETE FROM bodies")
    shell.execute("DELETE FROM bundles")
    shell.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    before = harness.path.stat().st_size
    shell.execute("VACUUM")
    shell.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert harness.path.stat().st_size < before
    await harness.take(2)
    shell.close()
    assert harness.changes == []
    assert harness.confirmed <= await harness.found_after_kill()


# -- faults of the threads ---------------------------------------------------------


class Faulty(schema.Connection):
    """A connection that fails where it is told to."""

    fault: BaseException | None = None
    at = ""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if Faulty.fault is not None and sql.startswith(Faulty.at):
            fault, Faulty.fault = Faulty.fault, None
            raise fault
        return super().execute(sql, *parameters)


@contextmanager
def failing(at: str, fault: BaseException) -> Iterator[None]:
    Faulty.at, Faulty.fault = at, fault
    yield
    assert Faulty.fault is None, "nothing failed"


@pytest.mark.parametrize("fault", [MemoryError(), RuntimeError("odd"), SystemExit(3), sqlite3.OperationalError("x")])
@pytest.mark.parametrize("at", ["BEGIN", "COMMIT", "INSERT"])
@pytest_twisted.ensureDeferred
async def test_whatever_the_writer_raises_fails_one_commit_and_the_thread_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, fault: BaseException
) -> None:
    monkeypatch.setattr("stackit.journal.sqlite.schema.Connection", Faulty)
    harness = Harness(tmp_path / "state")
    await harness.take()
    with failing(at, fault):
        if at == "INSERT" and type(fault) is RuntimeError:
            with pytest.raises(RuntimeError):  # of this operation alone
                await harness.take()
        else:
            await harness.refused()
    await harness.take(2)
    assert harness.changes[-1:] in ([None], [])
    assert harness.confirmed <= await contents(harness.journal)
    await harness.journal.close()


@pytest.mark.parametrize("fault", [MemoryError(), KeyboardInterrupt(), SystemExit(3)])
@pytest_twisted.ensureDeferred
async def test_whatever_a_question_raises_the_reader_goes_on(harness: Harness, fault: BaseException) -> None:
    def question(_: sqlite3.Connection) -> None:
        raise fault

    with pytest.raises((JournalError, KeyboardInterrupt, SystemExit)):
        await harness.journal._reader.ask(question)
    assert harness.confirmed <= await contents(harness.journal)


# -- checkpoints that fail -----------------------------------------------------------


SMALL = Sizes(checkpoint=2**17, notice=2**18, log=2**20)


@pytest_twisted.async_yield_fixture
async def small(tmp_path: Path) -> AsyncIterator[Harness]:
    """A journal whose log may hardly grow."""
    made = Harness(tmp_path / "state", SMALL)
    await made.take(10)
    yield made
    await made.journal.close()


@pytest_twisted.ensureDeferred
async def test_a_reader_that_keeps_an_old_state_is_told_of_and_the_log_stays_within_its_bound(small: Harness) -> None:
    shell = sqlite3.connect(small.path, isolation_level=None)
    shell.execute("BEGIN")
    shell.execute("SELECT COUNT(*) FROM events").fetchall()
    with pytest.raises(JournalError, match=r"log has 1 MiB and cannot be brought into .*somebody reads an old state"):
        await small.take(100, 30_000)
    assert small.log.stat().st_size < SMALL.log * 1.2
    assert any("cannot be brought into" in problem for problem in small.journal.problems())
    (told,) = small.notices
    assert "cannot be brought into" in told
    shell.close()
    await small.take_until_told()
    assert small.notices == [told, "the journal's log is brought into the journal's file again"]
    assert small.journal.problems() == []
    assert small.confirmed <= await small.found_after_kill()


@pytest_twisted.ensureDeferred
async def test_a_file_that_takes_no_checkpoint_is_told_of_and_the_log_stays_within_its_bound(small: Harness) -> None:
    await small.take(100, 30_000)
    await small.journal.close()
    small.journal = small.open(small.state)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The log may grow to its bound, and the journal's file, which is larger, not at all.
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(SMALL.log * 1.5), hard))
    try:
        with pytest.raises(JournalError, match="log has 1 MiB and cannot be brought into"):
            await small.take(100, 30_000)
        assert small.log.stat().st_size < SMALL.log * 1.2
        (told,) = small.notices
        assert "I/O error" in told or "full" in told
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await small.take_until_told()
    assert small.notices == [told, "the journal's log is brought into the journal's file again"]
    assert small.confirmed <= await small.found_after_kill()
