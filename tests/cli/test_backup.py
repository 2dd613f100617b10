"""``stackit backup`` and ``stackit restore`` as commands: which journal they mean, and what they say."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from stackit.cli.long_work import Progress, in_thread
from stackit.cli.run import run
from stackit.journal.sqlite import SQLiteJournal

Ran = Callable[..., Awaitable[Any]]


class Done(msgspec.Struct):
    """One command that ended."""

    status: int
    out: str
    err: str


@pytest_twisted.async_yield_fixture
async def state(tmp_path: Path) -> Any:
    """A state directory with an empty journal, that no stackit holds."""
    journal = SQLiteJournal.open(tmp_path / "state", reactor=reactor)
    await journal.close()
    yield tmp_path / "state"


@pytest.fixture
def stackit(tmp_path: Path) -> Ran:
    async def ran(*arguments: object, environ: dict[str, str] | None = None) -> Done:
        out, err = io.StringIO(), io.StringIO()
        status = await run(
            reactor, [str(each) for each in arguments], environ=environ or {}, cwd=tmp_path, out=out, err=err
        )
        return Done(status, out.getvalue(), err.getvalue())

    return ran


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize(
    ("options", "environ", "text"),
    [
        (["--state-dir", "state"], {}, 'state_dir = "elsewhere"'),
        (["--state-dir", "state"], {"STACKIT_STATE_DIR": "elsewhere"}, ""),
        ([], {"STACKIT_STATE_DIR": "state", "STATE_DIRECTORY": "elsewhere"}, 'state_dir = "elsewhere"'),
        ([], {"STATE_DIRECTORY": "elsewhere"}, 'state_dir = "state"'),
        ([], {"STATE_DIRECTORY": "state"}, ""),
        # Who may not read the secrets that the file names can make a backup all the same.
        ([], {}, 'state_dir = "state"\nwebhook = { secret_files = ["/root/secret"] }'),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_state_directory_is_the_one_that_stackit_itself_would_have(
    stackit: Ran, tmp_path: Path, options: list[str], environ: dict[str, str], text: str
) -> None:
    (tmp_path / "twistd.conf").write_text(text)
    made = await stackit("backup", "monday", *options, environ=environ)
    assert made.status == 0, made.err
    assert made.out == f"{tmp_path}/monday: 0 deliveries, 0 handlings pending, {size(tmp_path / 'monday')}\n"


def size(file: Path) -> str:
    return f"{file.stat().st_size / 2**20:.1f} MiB"


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize("command", ["backup", "restore"])
@pytest_twisted.ensureDeferred
async def test_the_journal_that_a_node_of_a_fleet_had_before_is_not_taken_for_the_one_it_has(
    stackit: Ran, tmp_path: Path, command: str
) -> None:
    (tmp_path / "twistd.conf").write_text('[fleet]\npostgres = "host=db1 dbname=stackit"')
    done = await stackit(command, "monday", "--state-dir", "state")
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert "pg_dump" in done.err
    assert not (tmp_path / "monday").exists()


@pytest_twisted.ensureDeferred
async def test_what_was_done_can_be_read_by_programs(stackit: Ran, tmp_path: Path, state: Path) -> None:
    made = await stackit("backup", "monday", "--state-dir", state, "--json")
    assert json.loads(made.out)["file"] == f"{tmp_path}/monday"
    back = await stackit("restore", "monday", "--state-dir", "new", "--json")
    assert json.loads(back.out) == {**json.loads(back.out), "state_dir": f"{tmp_path}/new", "replaced": None}
    again = await stackit("restore", "monday", "--state-dir", "new", "--force")
    assert again.out.splitlines()[1] == f"the journal that was there is {tmp_path}/new/journal.sqlite3.replaced now"


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (["backup", "monday"], 1, "/var/journal.sqlite3 cannot be copied to"),
        (["backup", "monday", "--state-dir", "~/state"], 2, "--state-dir: ~ has no meaning here"),
        (["backup", "monday", "--config", "missing"], 2, "missing"),
        (["restore", "missing", "--state-dir", "new"], 1, "missing cannot be read: No such file"),
        (["restore", "twistd.conf", "--state-dir", "new"], 1, "twistd.conf is no journal of stackit"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_done_is_one_line(
    stackit: Ran, tmp_path: Path, arguments: list[str], status: int, reason: str
) -> None:
    (tmp_path / "twistd.conf").write_text("")
    done = await stackit(*arguments)
    assert (done.status, done.out, done.err.count("\n")) == (status, "", 1)
    assert reason in done.err
    assert not (tmp_path / "monday").exists()


@pytest_twisted.ensureDeferred
async def test_a_restore_for_another_user_is_refused_since_he_could_not_use_it(
    stackit: Ran, tmp_path: Path, state: Path
) -> None:
    await stackit("backup", "monday", "--state-dir", state)
    anothers = another_users(tmp_path)
    done = await stackit("restore", "monday", "--state-dir", anothers, "--force")
    assert done.status == 1
    assert f"state directory {anothers} belongs to " in done.err
    assert "run this as that user, for instance with sudo -u " in done.err


def another_users(tmp_path: Path) -> Path:
    """A directory that belongs to another user."""
    if os.geteuid():
        return Path("/usr")
    directory = tmp_path / "anothers"
    directory.mkdir()
    os.chown(directory, 65534, 65534)
    return directory


@pytest_twisted.ensureDeferred
async def test_a_command_that_is_cancelled_ends_when_its_copy_has_ended() -> None:
    progress, begun, cleaned = Progress(), Event(), Event()

    def work() -> None:
        begun.set()
        try:
            while True:
                progress(1, 2)
        finally:
            cleaned.set()

    running = Deferred.fromCoroutine(in_thread(reactor, work, progress))
    assert begun.wait(60)
    running.cancel()
    with pytest.raises(CancelledError):
        await running
    assert cleaned.is_set()


def test_a_copy_that_takes_long_tells_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(pause=0.0)
    for done in (25, 50, 100):
        progress(done, 100)
    assert capsys.readouterr().err == "stackit: 25 % copied\nstackit: 50 % copied\n"
