"""The file of the steps that a process is in: the next process finds what it was in when it ended."""

from __future__ import annotations

import os
import shutil
import signal
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_twisted
from dispatch_harness import Open
from plugin_maker import plugin
from twisted.internet.defer import Deferred

from stackit import on
from stackit.dispatch.step_file import REACTOR, Step, StepFile
from stackit.journal import EventId

MOST = 254
"""Threads that have a place."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "steps"


def unexpected(line: str) -> None:
    raise AssertionError(line)


def steps(path: Path) -> tuple[tuple[str, str], ...]:
    """What the next process would find, if this one ended now."""
    copy = Path(shutil.copy(path, path.with_name(f"copy-{uuid4().hex}")))
    last = StepFile(copy, unexpected).last
    assert last is not None
    return tuple((each.event, each.subscriber) for each in last.steps)


def test_the_steps_of_a_process_that_is_killed_are_found_by_the_next(path: Path) -> None:
    child = os.fork()
    if child == 0:
        file = StepFile(path, unexpected)
        file.enter(REACTOR, "1", "mine:earlier")
        file.leave(REACTOR)
        with file.in_thread("2", "mine:in_a_thread"), file.in_thread("3", "mine:ended"):
            pass
        with file.in_thread("2", "mine:in_a_thread"):
            file.enter(REACTOR, "17", "mine:hänger")
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    found = StepFile(path, unexpected)
    assert found.last is not None
    assert found.last.steps == (Step(EventId("17"), "mine:hänger"), Step(EventId("2"), "mine:in_a_thread"))
    # They stay until that process has counted them, however often it starts.
    again = StepFile(path, unexpected)
    assert again.last == found.last
    again.end()
    again.begin()
    assert steps(path) == ()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_process_that_stops_leaves_nothing(path: Path) -> None:
    file = StepFile(path, unexpected)
    file.enter(REACTOR, "17", "mine")
    file.end()
    assert not path.exists()
    file.leave(REACTOR)  # a thread that nobody waited for
    assert StepFile(path, unexpected).last is None


def test_each_run_has_an_id_of_its_own(path: Path) -> None:
    ids = set()
    for _ in range(3):
        StepFile(path, unexpected)
        last = StepFile(path, unexpected).last
        assert last is not None
        ids.add(last.id)
    assert len(ids) == 3


@pytest.mark.parametrize("damage", ["empty", "short", "long", "foreign", "other version", "link"])
def test_a_file_that_no_stackit_of_this_version_wrote_is_ignored_with_one_line(path: Path, damage: str) -> None:
    file = StepFile(path, unexpected)
    file.enter(REACTOR, "17", "mine")
    content = path.read_bytes()
    path.unlink()
    if damage == "link":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(
            {
                "empty": b"",
                "short": content[:-1],
                "long": content + b"\0",
                "foreign": bytes(len(content)),
                "other version": content.replace(b"stackit steps 1", b"stackit steps 2"),
            }[damage]
        )
    lines: list[str] = []
    file = StepFile(path, lines.append)
    assert file.last is None
    assert lines == [
        f"{path} is ignored, so it is not known in which handler the last process ended: it is no file of this version "
        "of stackit"
    ]
    file.enter(REACTOR, "18", "mine")
    assert steps(path) == (("18", "mine"),)


def test_what_is_damaged_within_a_file_is_no_step(path: Path) -> None:
    file = StepFile(path, unexpected)
    file.enter(REACTOR, "17", "mine")
    content = bytearray(path.read_bytes())
    for at in range(2 * 256, len(content), 256):
        content[at : at + 12] = b"\x0b\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
    path.write_bytes(content)
    assert steps(path) == (("17", "mine"),)


@pytest.mark.parametrize("obstacle", ["no directory", "directory"])
def test_where_the_file_cannot_be_written_there_is_a_line_and_all_else_works(path: Path, obstacle: str) -> None:
    lines: list[str] = []
    if obstacle == "directory":
        (path / "in it").mkdir(parents=True)
    else:
        path = path / "missing" / "steps"
    file = StepFile(path, lines.append)
    with file.in_thread("17", "mine"):
        file.enter(REACTOR, "17", "mine")
        file.leave(REACTOR)
    file.end()
    assert f"{path} cannot be written: " in lines[-1]
    assert lines[-1].endswith("; an event whose handler ends the process is begun again after each restart")
    assert not path.with_name("steps.new").exists()


def test_a_subscriber_whose_name_is_too_long_and_a_thread_too_many_are_not_marked(path: Path) -> None:
    file = StepFile(path, unexpected)
    file.enter(REACTOR, "17", "mine")
    file.enter(REACTOR, "17", "x" * 300)
    assert steps(path) == ()
    with ExitStack() as threads:
        for number in range(MOST + 10):
            threads.enter_context(file.in_thread(str(number), "mine"))
        assert len(steps(path)) == MOST
    assert steps(path) == ()
    with file.in_thread("17", "mine"):
        assert steps(path) == (("17", "mine"),)


@pytest_twisted.ensureDeferred
async def test_a_handler_is_marked_while_it_is_in_a_step_and_not_while_it_waits(harness: Open, path: Path) -> None:
    seen: dict[str, list[Any]] = {}
    released: Deferred[None] = Deferred()

    def look(name: str) -> None:
        seen.setdefault(name, []).append([subscriber for _, subscriber in steps(path)])

    @on("*")
    def plain(event: object) -> None:
        look("plain")

    @on("*")
    async def waits(event: object) -> None:
        look("waits")
        await released
        look("waits")

    @on("*", thread=True)
    def in_a_thread(event: object) -> None:
        look("in_a_thread")

    @on("*")
    def fails(event: object) -> None:
        raise KeyError

    one = harness(
        mine=plugin(plain, waits, in_a_thread, fails), retry_for=0, steps=StepFile(path, unexpected), start=False
    )
    await one.dispatch.recover()
    await one.take()
    await one.until(lambda: len(one.outcomes("handled")) == 2 and len(one.outcomes("dead")) == 1)
    assert steps(path) == ()
    released.callback(None)
    await one.until(lambda: len(one.outcomes("handled")) == 3)
    assert {name: ["mine:" + name in each for each in found] for name, found in seen.items()} == {
        "plain": [True],
        "waits": [True, True],
        "in_a_thread": [True],
    }
    assert steps(path) == ()
