"""What the journal survives: kill -9, a full disk, a second process, damage, other users."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from outcomes import outcome
from slow_disk import Disk
from twisted.internet.defer import Deferred, gatherResults
from waiting import until

from stackit.api.errors import JournalError
from stackit.api.reactor import sleep
from stackit.journal import NewDelivery
from stackit.journal.sqlite import SQLiteJournal, schema

FILES = ("journal.sqlite3", "journal.sqlite3-wal", "journal.sqlite3-shm", "lock")

WRITER = """
import sys
from pathlib import Path
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from stackit.journal import NewDelivery
from stackit.journal.sqlite import SQLiteJournal

journal = SQLiteJournal.open(Path(sys.argv[1]), reactor=reactor)

async def write(name):
    number = 0
    while True:
        number += 1
        written = Deferred()
        journal.append(NewDelivery(
            hook="7", delivery=f"{name}-{number}", event="push", action=None, repo="octo/widget", received_at=1.0,
            digest=f"{name}-{number}".encode(), body=b"{}" * 5000, subscribers=("mirror", "notes"),
        ), written.callback)
        await written
        sys.stdout.write(f"{name}-{number}\\n")
        sys.stdout.flush()

def start():
    for name in "abcdefgh":
        Deferred.fromCoroutine(write(name))

reactor.callWhenRunning(start)
reactor.run()
"""


def open_journal(directory: Path) -> SQLiteJournal:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    return SQLiteJournal.open(directory, reactor=reactor)


def record(delivery: str, body: bytes = b"{}") -> NewDelivery:
    return NewDelivery(
        hook="7",
        delivery=delivery,
        event="push",
        action=None,
        repo="octo/widget",
        received_at=100.0,
        digest=delivery.encode(),
        body=body,
        subscribers=("mirror",),
    )


async def filled(directory: Path, count: int = 200) -> None:
    """A journal that was closed with some deliveries in it."""
    journal = open_journal(directory)
    records = [record(f"d{number}", b"x" * 3000) for number in range(count)]
    appends = [Deferred.fromCoroutine(outcome(journal.append, each)) for each in records]
    await gatherResults(appends)
    await journal.close()


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.suffix == ".sqlite3"}


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that appends and prints the id of each delivery once its append has returned."""
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "state")], stdout=subprocess.PIPE, text=True)
    yield child
    child.kill()
    child.wait()
    assert child.stdout is not None
    child.stdout.close()


@pytest_twisted.ensureDeferred
async def test_what_was_appended_survives_kill_9(writer: subprocess.Popen[str], tmp_path: Path) -> None:
    assert writer.stdout is not None
    told = {writer.stdout.readline().strip() for _ in range(400)}
    writer.send_signal(signal.SIGKILL)
    told |= {line.strip() for line in writer.stdout if line.endswith("\n")}
    writer.wait()

    journal = open_journal(tmp_path / "state")
    kept = set()
    cursor = None
    while True:
        page = await journal.listing(cursor=cursor, limit=500)
        kept |= {receipt.delivery for receipt in page.deliveries}
        assert all(len(receipt.handlings) == 2 for receipt in page.deliveries)
        cursor = page.next
        if cursor is None:
            break
    pending = await journal.pending()
    await journal.close()
    assert told <= kept
    assert pending == {"mirror": len(kept), "notes": len(kept)}


@pytest_twisted.ensureDeferred
async def test_a_second_process_is_told_who_holds_the_directory(writer: subprocess.Popen[str], tmp_path: Path) -> None:
    assert writer.stdout is not None
    assert writer.stdout.readline()
    with pytest.raises(JournalError, match=rf"held by another stackit \(pid {writer.pid}\)"):
        open_journal(tmp_path / "state")


@pytest_twisted.ensureDeferred
async def test_what_waits_while_a_commit_runs_shares_the_next_one(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "state")
    statements: list[str] = []
    connection = journal._writer._committer.connection
    assert connection is not None
    connection.set_trace_callback(statements.append)
    appends = [Deferred.fromCoroutine(outcome(journal.append, record(f"d{number}"))) for number in range(300)]
    appended = await gatherResults(appends)
    await journal.close()
    assert len({each.id for each in appended}) == 300
    # The first may have gone alone, and a slow machine may cut the rest once or twice.
    assert statements.count("COMMIT") <= 20


@pytest_twisted.ensureDeferred
async def test_an_append_is_confirmed_when_the_disk_has_it_and_not_before(tmp_path: Path, disk: Disk) -> None:
    journal = open_journal(tmp_path / "state")
    told: list[Any] = []
    first = await outcome(journal.append, record("first"))
    journal.finish(first.handlings[0].id, told.append, at=100.0)
    disk.hold(journal)
    journal.append(record("second"), told.append)
    await disk.waits
    assert told == []
    receipts = (await journal.listing()).deliveries
    assert [each.delivery for each in receipts] == ["first"]  # nobody sees what is not on disk
    disk.go_on()
    assert await journal.pending() == {"mirror": 1}
    assert {getattr(each, "status", each) for each in told} == {None, "new"}
    await journal.close()


@pytest_twisted.ensureDeferred
async def test_that_a_handling_is_done_is_told_while_the_disk_takes_the_next_commit(tmp_path: Path, disk: Disk) -> None:
    journal = open_journal(tmp_path / "state")
    first = await outcome(journal.append, record("first"))
    done: list[Any] = []
    # Both are in one commit; as the delivery is told of, the next commit begins, and it waits for the disk.
    journal.finish(first.handlings[0].id, done.append, at=100.0)
    third: Deferred[Any] = Deferred()

    def appended(_: object) -> None:
        disk.hold(journal)
        journal.append(record("third"), third.callback)

    journal.append(record("second"), appended)
    await disk.waits
    await journal.announced("")  # a turn of the reactor, and more
    assert done == [None]
    assert not third.called
    disk.go_on()
    assert (await third).status == "new"
    await journal.close()


@pytest_twisted.ensureDeferred
async def test_what_the_disk_did_not_take_is_not_confirmed_and_costs_nothing_that_comes_later(
    tmp_path: Path, disk: Disk
) -> None:
    changes: list[str | None] = []
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    journal = SQLiteJournal.open(tmp_path / "state", reactor=reactor, on_change=changes.append)
    await outcome(journal.append, record("before"))
    disk.fail_once(journal)
    with pytest.raises(JournalError, match="I/O error"):
        await outcome(journal.append, record("lost?"))
    assert (await outcome(journal.append, record("after"))).status == "new"
    assert (await outcome(journal.append, record("lost?"))).status in ("new", "duplicate")
    # Had the process been killed now: what lies before and behind the failed commit is there.
    shutil.copytree(tmp_path / "state", tmp_path / "after", ignore=shutil.ignore_patterns("*-shm", "lock"))
    await journal.close()
    assert [change is None for change in changes] == [False, True]
    journal = open_journal(tmp_path / "after")
    kept = [each.delivery for each in (await journal.listing()).deliveries]
    await journal.close()
    assert sorted(map(str, kept)) == ["after", "before", "lost?"]


@pytest_twisted.ensureDeferred
async def test_a_full_disk_fails_appends_until_there_is_room_again(tmp_path: Path) -> None:
    changes: list[str | None] = []
    big = os.urandom(500_000)
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    journal = SQLiteJournal.open(tmp_path / "state", reactor=reactor, on_change=changes.append)
    before = await outcome(journal.append, record("before"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores SIGXFSZ, so a write beyond the limit is an error, as it is on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
    try:
        with pytest.raises(JournalError, match="journal cannot write"):
            await outcome(journal.append, record("big", big))
        assert "cannot write" in " ".join(journal.problems())
        with pytest.raises(JournalError):
            await outcome(journal.append, record("big", big))
        stored = await journal.load(before.id)  # reading goes on
        assert stored is not None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    appended = await outcome(journal.append, record("big", big))
    assert appended.status == "new"
    assert journal.problems() == []
    await journal.close()
    assert [change is None for change in changes] == [False, True]
    with sqlite3.connect(tmp_path / "state" / "journal.sqlite3") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


@pytest_twisted.ensureDeferred
async def test_a_problem_that_is_over_is_noticed_though_nobody_appends(tmp_path: Path) -> None:
    changed: Deferred[None] = Deferred()
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    def on_change(problem: str | None) -> None:
        if problem is None:
            changed.callback(None)

    journal = SQLiteJournal.open(tmp_path / "state", reactor=reactor, on_change=on_change)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
    try:
        with pytest.raises(JournalError):
            await outcome(journal.append, record("big", os.urandom(500_000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert journal.problems() != []
    await changed
    assert journal.problems() == []
    await journal.close()


@pytest_twisted.ensureDeferred
async def test_an_append_is_not_confirmed_once_the_files_were_removed(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "state")
    await outcome(journal.append, record("a"))
    for name in FILES:
        (tmp_path / "state" / name).unlink()
    for delivery in ("b", "c"):
        with pytest.raises(JournalError, match="cannot write"):
            await outcome(journal.append, record(delivery))
    await journal.close()


@pytest_twisted.ensureDeferred
async def test_a_closed_journal_says_so_and_can_be_opened_again(tmp_path: Path) -> None:
    await filled(tmp_path / "state", 3)
    journal = open_journal(tmp_path / "state")
    waiting = Deferred.fromCoroutine(outcome(journal.append, record("last")))
    await journal.close()
    await journal.close()
    assert (await waiting).status == "new"  # what was asked for before is finished
    with pytest.raises(JournalError, match="closed"):
        await outcome(journal.append, record("late"))
    with pytest.raises(JournalError, match="closed"):
        await journal.pending()
    journal = open_journal(tmp_path / "state")
    assert await journal.pending() == {"mirror": 4}
    await journal.close()


@pytest_twisted.ensureDeferred
async def test_the_write_ahead_log_is_folded_back_while_the_journal_grows(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "state")
    log = tmp_path / "state" / "journal.sqlite3-wal"
    largest = 0
    for number in range(150):
        await outcome(journal.append, record(f"d{number}", b"x" * 2**20))
        largest = max(largest, log.stat().st_size)
    await journal.close()
    assert largest < 60 * 2**20
    assert not log.exists()


# -- the start --------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_everything_is_for_the_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        journal = open_journal(tmp_path / "deep" / "state")
        await outcome(journal.append, record("a"))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "deep" / "state").iterdir()}
        directory = stat.S_IMODE((tmp_path / "deep" / "state").stat().st_mode)
        await journal.close()
    finally:
        os.umask(umask)
    assert modes == dict.fromkeys(FILES, 0o600)
    assert directory == 0o700


@pytest.mark.parametrize(("name", "mode"), [(".", "700"), ("journal.sqlite3", "600"), ("lock", "600")])
@pytest_twisted.ensureDeferred
async def test_a_state_directory_open_to_others_stops_the_start(tmp_path: Path, name: str, mode: str) -> None:
    state = tmp_path / "state"
    await filled(state, 1)
    (state / name).chmod(0o750)
    with pytest.raises(JournalError, match=rf"chmod {mode} {state}"):
        open_journal(state)
    (state / name).chmod(0o700)
    await open_journal(state).close()


@pytest_twisted.ensureDeferred
async def test_a_state_directory_of_another_user_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    await filled(state, 1)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)  # only root could give the directory away
    with pytest.raises(JournalError, match=f"belongs to user id {owner}, but stackit runs as {owner + 1}"):
        open_journal(state)


def test_a_state_directory_that_is_a_file_or_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch(mode=0o644)
    with pytest.raises(JournalError, match="not a directory"):
        open_journal(file)
    with pytest.raises(JournalError, match="cannot be"):
        open_journal(file / "state")


@pytest_twisted.ensureDeferred
async def test_a_newer_journal_stops_the_start(tmp_path: Path) -> None:
    state = tmp_path / "state"
    await filled(state, 1)
    connection = sqlite3.connect(state / "journal.sqlite3")
    connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()
    with pytest.raises(JournalError, match="newer stackit"):
        open_journal(state)


@pytest.mark.parametrize("version", [1, 6])
@pytest_twisted.ensureDeferred
async def test_a_journal_from_before_the_first_release_is_refused_in_one_line(tmp_path: Path, version: int) -> None:
    state = tmp_path / "state"
    await filled(state, 1)
    connection = sqlite3.connect(state / "journal.sqlite3")
    connection.execute("PRAGMA application_id = 0")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    before = contents(state)
    with pytest.raises(JournalError, match=r"before its first release.*move journal\.sqlite3\* out of") as raised:
        open_journal(state)
    assert "\n" not in str(raised.value)
    assert contents(state) == before


def _garbage(path: Path) -> None:
    path.write_bytes(b"not a journal at all, but long enough to be looked at" * 100)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _zeros_in_the_middle(path: Path) -> None:
    whole = path.read_bytes()
    quarter = len(whole) // 4 // 4096 * 4096
    path.write_bytes(whole[:4096] + bytes(2 * quarter) + whole[4096 + 2 * quarter :])


def _another_database(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipes (name)")
    connection.close()
    path.chmod(0o600)


@pytest.mark.parametrize("harm", [_garbage, _empty, _cut, _zeros_in_the_middle, _another_database])
@pytest_twisted.ensureDeferred
async def test_a_damaged_journal_stops_the_start_and_is_left_as_it_is(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    state = tmp_path / "state"
    await filled(state)
    harm(state / "journal.sqlite3")
    before = contents(state)
    for _ in range(2):
        with pytest.raises(JournalError, match=r"journal\.sqlite3 is damaged .*nothing was changed") as raised:
            open_journal(state)
        assert "\n" not in str(raised.value)
    assert contents(state) == before


def test_a_log_without_its_journal_is_damage_and_not_a_first_start(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "journal.sqlite3-wal").write_bytes(b"all that is left")
    with pytest.raises(JournalError, match="missing beside"):
        open_journal(state)
    assert (state / "journal.sqlite3-wal").read_bytes() == b"all that is left"


@pytest_twisted.ensureDeferred
async def test_a_damaged_journal_with_unmerged_log_keeps_both(writer: subprocess.Popen[str], tmp_path: Path) -> None:
    assert writer.stdout is not None
    for _ in range(50):
        writer.stdout.readline()
    writer.kill()
    writer.wait()
    state = tmp_path / "state"
    _garbage(state / "journal.sqlite3")
    before = {name: (state / name).read_bytes() for name in FILES[:2]}
    with pytest.raises(JournalError, match="damaged"):
        open_journal(state)
    assert {name: (state / name).read_bytes() for name in FILES[:2]} == before


@pytest_twisted.ensureDeferred
async def test_a_first_start_that_was_cut_short_is_begun_anew(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "journal.sqlite3.new").write_bytes(b"half")
    journal = open_journal(state)
    assert (await outcome(journal.append, record("a"))).status == "new"
    await journal.close()


@pytest_twisted.ensureDeferred
async def test_a_journal_that_can_be_written_and_not_read_is_told_of_and_its_end_too(tmp_path: Path) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    told: list[str] = []
    journal = SQLiteJournal.open(tmp_path / "state", reactor=reactor, notice=told.append)
    await journal._reader.ask(lambda connection: connection.close())
    with pytest.raises(JournalError, match="the journal cannot read"):
        await journal.documents("paused")
    assert journal.problems() == told == []  # not yet: it may be over in a moment
    await until(lambda: told, "the problem")
    assert journal.problems() == told
    assert told[0] == (
        f"the journal cannot read {tmp_path / 'state' / 'journal.sqlite3'}: Cannot operate on a closed database.; "
        "what waits in the journal is not handled until it can be read"
    )
    await journal.put("paused", {"mine": b"{}"})
    assert journal._reader.release_connection()
    await until(lambda: journal.problems() == [], "the end of the problem")
    assert told[1:] == ["the journal can be read again"]
    assert await journal.documents("paused") == {"mine": b"{}"}
    await journal.close()


@pytest_twisted.ensureDeferred
async def test_a_question_that_fails_alone_is_no_problem_of_the_journal(tmp_path: Path) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    clock: Any = reactor
    told: list[str] = []
    journal = SQLiteJournal.open(tmp_path / "state", reactor=clock, notice=told.append)
    began = clock.seconds()
    while clock.seconds() < began + 2.5:
        with pytest.raises(JournalError, match="no such table"):
            await journal._reader.ask(lambda connection: connection.execute("SELECT 1 FROM nowhere"))
        await sleep(clock, 0.2)
    assert journal.problems() == told == []
    await journal.close()
