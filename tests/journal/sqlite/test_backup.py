"""A backup of a journal that is written to, and its way back."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import pytest_twisted
from journal_values import append_together, new_delivery
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from stackit import StackitError
from stackit.api.errors import JournalError
from stackit.journal.sqlite import SQLiteJournal
from stackit.journal.sqlite.backup import Contents, back_up, restore
from stackit.journal.sqlite.sizes import Sizes


def idle(_done: int, _total: int) -> None:
    """Progress that nobody looks at."""


def save(directory: Path, file: Path, *, replace: bool = False) -> Contents:
    return back_up(directory, file, replace=replace, progress=idle)


def bring_back(directory: Path, file: Path, *, replace: bool = False) -> Path | None:
    return restore(directory, file, replace=replace, progress=idle)[1]


def open_in(directory: Path) -> SQLiteJournal:
    return SQLiteJournal.open(directory, reactor=reactor)


async def held(directory: Path) -> dict[str, str]:
    """The deliveries in the journal of a state directory that no stackit holds, each with its state."""
    journal = open_in(directory)
    page = await journal.listing(limit=200)
    await journal.close()
    return {str(receipt.delivery): receipt.state for receipt in page.deliveries}


def names(directory: Path) -> set[str]:
    return {each.name for each in directory.iterdir()}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups" / "monday.sqlite3"


@pytest_twisted.async_yield_fixture
async def filled(journal: SQLiteJournal) -> AsyncIterator[SQLiteJournal]:
    """A journal in ``tmp_path/state`` that is open, with the deliveries ``d0`` to ``d9``."""
    await append_together(journal, *(new_delivery(f"d{number}") for number in range(10)))
    yield journal


TEN = {f"d{number}" for number in range(10)}


# -- backup --------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_backup_of_an_open_journal_has_all_that_was_confirmed(
    filled: SQLiteJournal, tmp_path: Path, file: Path
) -> None:
    made = save(tmp_path / "state", file)
    assert (made.size, made.deliveries, made.pending) == (size(file), 10, 20)
    await append_together(filled, new_delivery("later"))
    bring_back(tmp_path / "other", file)
    assert await held(tmp_path / "other") == dict.fromkeys(TEN, "pending")


def size(file: Path) -> int:
    return file.stat().st_size


@pytest_twisted.ensureDeferred
async def test_a_backup_of_a_closed_journal_is_made_the_same_way(tmp_path: Path, file: Path) -> None:
    journal = open_in(tmp_path / "state")
    await append_together(journal, new_delivery("one"))
    await journal.close()
    save(tmp_path / "state", file)
    bring_back(tmp_path / "other", file)
    assert await held(tmp_path / "other") == {"one": "pending"}
    assert await held(tmp_path / "state") == {"one": "pending"}


@pytest_twisted.ensureDeferred
async def test_deliveries_go_on_while_a_backup_is_made_and_it_is_of_one_moment(
    filled: SQLiteJournal, tmp_path: Path, file: Path
) -> None:
    await append_together(
        filled, *(new_delivery(f"large{n}", body=os.urandom(2**20).hex().encode()) for n in range(40))
    )
    begun, go_on = Event(), Event()

    def progress(_done: int, _total: int) -> None:
        begun.set()
        assert go_on.wait(60)

    making = deferToThread(back_up, tmp_path / "state", file, replace=False, progress=progress)
    await deferToThread(begun.wait, 60)
    for number in range(20):  # each is confirmed while the copy stands still
        await append_together(filled, new_delivery(f"later{number}"))
    go_on.set()
    made = await making
    assert (made.deliveries, made.pending) == (50, 100)
    with sqlite3.connect(file) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert copy.execute("PRAGMA foreign_key_check").fetchall() == []
    copy.close()


@pytest_twisted.ensureDeferred
async def test_a_backup_is_given_up_before_the_log_keeps_deliveries_out(
    filled: SQLiteJournal, tmp_path: Path, file: Path
) -> None:
    await append_together(
        filled, *(new_delivery(f"large{n}", body=os.urandom(2**20).hex().encode()) for n in range(20))
    )
    begun, go_on = Event(), Event()

    def progress(_done: int, _total: int) -> None:
        begun.set()
        assert go_on.wait(60)

    making = deferToThread(
        back_up, tmp_path / "state", file, replace=False, progress=progress, sizes=Sizes(log=2 * log_size(tmp_path))
    )
    await deferToThread(begun.wait, 60)
    while log_size(tmp_path) < 2**26:
        before = log_size(tmp_path)
        await append_together(
            filled, *(new_delivery(f"{before} {n}", body=os.urandom(2**19).hex().encode()) for n in range(9))
        )
        if log_size(tmp_path) > before:
            break
    go_on.set()
    with pytest.raises(JournalError, match="more is written to the journal than can be copied"):
        await making
    assert names(file.parent) == set()


def log_size(tmp_path: Path) -> int:
    return (tmp_path / "state" / "journal.sqlite3-wal").stat().st_size


@pytest.fixture
def _open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("filled", "_open_umask")
def test_a_backup_is_for_its_owner_alone_and_nothing_else_is_left(tmp_path: Path, file: Path) -> None:
    save(tmp_path / "state", file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert names(file.parent) == {file.name}


@pytest.mark.usefixtures("filled")
def test_a_file_that_is_there_is_replaced_only_where_that_is_asked_for(tmp_path: Path, file: Path) -> None:
    file.write_text("precious")
    with pytest.raises(JournalError, match=f"{file} is there already; .* --force"):
        save(tmp_path / "state", file)
    assert file.read_text() == "precious"

    def interrupted(_done: int, _total: int) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        back_up(tmp_path / "state", file, replace=True, progress=interrupted)
    assert (file.read_text(), names(file.parent)) == ("precious", {file.name})
    assert save(tmp_path / "state", file, replace=True).deliveries == 10


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("/dev/full", "is there, and is no file"),
        ("/nowhere/at/all", "No such file or directory"),
        ("backups", "is there, and is no file"),
        ("state/journal.sqlite3", "is in the state directory"),
        ("state/monday", "is in the state directory"),
        ("state/mirrors/../monday", "is in the state directory"),
    ],
)
def test_a_target_that_cannot_be_is_one_line(tmp_path: Path, file: Path, target: str, reason: str) -> None:
    (tmp_path / "state" / "mirrors").mkdir()
    assert file.parent.is_dir()
    with pytest.raises(JournalError, match=reason):
        save(tmp_path / "state", tmp_path / target, replace=True)
    assert not (tmp_path / "state" / "monday").exists()


def test_a_state_directory_without_a_journal_is_one_line(tmp_path: Path, file: Path) -> None:
    with pytest.raises(JournalError, match=r"journal\.sqlite3 cannot be copied to .*: No such file or directory"):
        save(tmp_path / "state", file)
    assert (names(file.parent), names(tmp_path)) == (set(), {"backups"})


# -- restore -------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_what_came_after_the_backup_is_new_and_what_came_before_it_is_a_duplicate(
    filled: SQLiteJournal, tmp_path: Path, file: Path
) -> None:
    save(tmp_path / "state", file)
    await append_together(filled, new_delivery("later"))
    bring_back(tmp_path / "other", file)
    restored = open_in(tmp_path / "other")
    again = await append_together(restored, new_delivery("d3"), new_delivery("later"))
    assert [each.status for each in again] == ["duplicate", "new"]
    await restored.close()


@pytest.mark.usefixtures("filled")
def test_a_journal_in_use_is_never_replaced(tmp_path: Path, file: Path) -> None:
    save(tmp_path / "state", file)
    before = names(tmp_path / "state")
    for replace in (False, True):
        with pytest.raises(StackitError, match=rf"is held by another stackit \(pid {os.getpid()}\)"):
            bring_back(tmp_path / "state", file, replace=replace)
    assert names(tmp_path / "state") == before


@pytest_twisted.ensureDeferred
async def test_a_journal_that_is_there_is_set_aside_whole_where_that_is_asked_for(
    left_behind: Path, tmp_path: Path, file: Path
) -> None:
    save(left_behind / "one", file)
    state = put(left_behind / "both", tmp_path / "state")
    with pytest.raises(JournalError, match=r"is there already: --force sets it aside, as journal\.sqlite3\.replaced"):
        bring_back(state, file)
    assert bring_back(state, file, replace=True) == state / "journal.sqlite3.replaced"
    assert await held(state) == {"one": "pending"}
    assert bring_back(state, file, replace=True) == state / "journal.sqlite3.replaced-2"
    await look_at(state / "journal.sqlite3.replaced", {"one", "two"})


async def look_at(journal: Path, deliveries: set[str]) -> None:
    """Check what a journal that was set aside holds, its log included."""
    with sqlite3.connect(journal) as connection:
        found = {delivery for (delivery,) in connection.execute("SELECT delivery FROM events")}
    connection.close()
    assert found == deliveries


@pytest_twisted.ensureDeferred
async def test_a_copy_of_all_files_of_a_journal_can_be_restored_too(left_behind: Path, tmp_path: Path) -> None:
    assert size(left_behind / "one" / "journal.sqlite3-wal") > 0
    bring_back(tmp_path / "other", put(left_behind / "one", tmp_path / "copied") / "journal.sqlite3")
    assert await held(tmp_path / "other") == {"one": "pending"}


LEFT = """
import os, sys
from pathlib import Path
from twisted.internet import reactor
from stackit.journal import NewDelivery
from stackit.journal.sqlite import SQLiteJournal
journal = SQLiteJournal.open(Path(sys.argv[1]), reactor=reactor)
name = sys.argv[2]
delivery = NewDelivery(hook="7", delivery=name, event="push", action=None, repo="octo/widget", received_at=1.0,
                       digest=name.encode().ljust(32), body=b"{}", subscribers=("mirror",))
reactor.callWhenRunning(journal.append, delivery, lambda _: os._exit(0))
reactor.run()
"""


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """State directories as a stackit leaves them that is killed right after it took a delivery: with a log.

    ``one`` and ``two`` have a delivery of this name each, ``both`` has both.
    """
    places = tmp_path_factory.mktemp("left")
    for place, delivery in (("one", "one"), ("two", "two"), ("both", "one"), ("both", "two")):
        subprocess.run([sys.executable, "-c", LEFT, str(places / place), delivery], check=True)
    return places


def put(left: Path, state: Path) -> Path:
    """Put a state directory that was left behind elsewhere."""
    return Path(shutil.copytree(left, state))


DYING = """
import os, sys
from pathlib import Path
from stackit.journal.sqlite.backup import restore
left = int(sys.argv[1])
def audit(event, args):
    global left
    if event in ("os.rename", "os.link", "os.remove") and "journal" in str(args[0]):
        left -= 1
        if left < 0:
            os._exit(9)
sys.addaudithook(audit)
restore(Path(sys.argv[2]), Path(sys.argv[3]), replace=True, progress=lambda *_: None)
"""


def set_aside(state: Path) -> Path:
    (journal,) = (each for each in state.glob("*.replaced*") if not each.name.endswith("-wal"))
    return journal


def restore_that_dies(steps: int, state: Path, file: Path) -> int:
    return subprocess.run([sys.executable, "-c", DYING, str(steps), str(state), str(file)], check=False).returncode


@pytest_twisted.ensureDeferred
async def test_a_restore_that_is_killed_at_any_step_leaves_one_of_both_journals_or_says_so(
    left_behind: Path, tmp_path: Path, file: Path
) -> None:
    save(left_behind / "one", file)
    for steps in range(20):
        state = put(left_behind / "two", tmp_path / f"state{steps}")
        status = restore_that_dies(steps, state, file)
        if status == 0:
            break
        assert status == 9
        try:
            assert await held(state) == {"two": "pending"}
        except JournalError as refusal:
            assert "was broken off: run stackit restore again" in str(refusal)  # noqa: PT017 - either will do
        bring_back(state, file, replace=True)
        assert await held(state) == {"one": "pending"}
        await look_at(set_aside(state), {"two"})
    assert steps > 4
    assert await held(state) == {"one": "pending"}


def damaged(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[4096:12288] = bytes(8192)
    file.write_bytes(content)


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def foreign(file: Path) -> None:
    file.unlink()
    with sqlite3.connect(file) as other:
        other.execute("CREATE TABLE events (id)")
    other.close()


def newer(file: Path) -> None:
    with sqlite3.connect(file) as journal:
        journal.execute("PRAGMA user_version = 99")
    journal.close()


def text(file: Path) -> None:
    file.write_text("-- a dump of the journal\n" * 1000)


def gone(file: Path) -> None:
    file.unlink()


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (damaged, "cannot be restored to"),
        (cut, "cannot be restored to"),
        (foreign, "is no journal of stackit"),
        (newer, r"was written by a newer stackit \(schema 99"),
        (text, "is no journal of stackit"),
        (gone, "cannot be read: No such file"),
        (pipe, "is no file"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_sound_backup_is_refused_and_nothing_is_changed(
    left_behind: Path, tmp_path: Path, file: Path, harm: Any, reason: str
) -> None:
    save(left_behind / "one", file)
    put(left_behind / "both", tmp_path / "state")
    harm(file)
    for state in ("state", "new"):
        with pytest.raises(JournalError, match=reason):
            bring_back(tmp_path / state, file, replace=True)
    assert await held(tmp_path / "state") == {"one": "pending", "two": "pending"}
    assert await held(tmp_path / "new") == {}  # it can be used, and is as it was


@pytest.mark.parametrize("kind", ["wal", "shm", "journal"])
@pytest.mark.parametrize("is_link", [False, True])
def test_what_another_user_puts_beside_a_backup_does_not_become_part_of_it(
    left_behind: Path, tmp_path: Path, file: Path, kind: str, is_link: bool
) -> None:
    save(left_behind / "one", file)
    link = tmp_path / "link"
    is_root = not os.geteuid()
    link.symlink_to(file if is_root else "/etc/passwd")  # who is not root cannot give files away, but this is root's
    beside, named = (file, link if is_link else file) if is_root else (link, link)
    forged = beside.with_name(f"{beside.name}-{kind}")
    shutil.copy(left_behind / "two" / "journal.sqlite3-wal", forged)
    if is_root:
        os.chown(forged, 65534, 65534)
    with pytest.raises(JournalError, match=f"{kind} belongs to another user than .*: copy the backup alone"):
        bring_back(tmp_path / "new", named)
    assert not (tmp_path / "new").exists()


def test_a_journal_that_is_a_pipe_is_not_waited_for(tmp_path: Path, file: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "state" / "journal.sqlite3")
    with pytest.raises(JournalError, match=r"journal\.sqlite3 is no file"):
        save(tmp_path / "state", file)
    assert names(file.parent) == set()
