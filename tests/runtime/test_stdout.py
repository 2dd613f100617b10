"""A log whose reader does not read: nothing waits for it, and what is lost is counted and told."""

from __future__ import annotations

import os
import pty
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from stackit.runtime.stdout import MOST_KEPT, NonBlockingStream

LINE = "x" * 1000 + "\n"


class Reader:
    """The other end of an stream."""

    def __init__(self, descriptor: int, stream: NonBlockingStream) -> None:
        self.descriptor = descriptor
        self.stream = stream
        self.clock = Clock()
        os.set_blocking(descriptor, False)

    def hold(self) -> None:
        clock: Any = self.clock
        clock.callFromThread = lambda call: call()
        self.stream.hold(clock, lambda count: f"{count} lost\n")

    def read(self) -> str:
        """All that there is, and all that goes on while it is read."""
        found = b""
        for _ in range(200):
            try:
                while piece := os.read(self.descriptor, 2**16):
                    found += piece
            except (BlockingIOError, OSError):
                pass
            self.clock.advance(1)
        return found.decode().replace("\r\n", "\n")


def _pipe() -> tuple[int, int]:
    return os.pipe()


def _terminal() -> tuple[int, int]:
    return pty.openpty()


def _socket() -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    return theirs.detach(), ours.detach()


def _pipe_of_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, *_: object) -> int:
        raise PermissionError(path)

    monkeypatch.setattr(os, "open", refuse)


@pytest.fixture(params=["pipe", "socket", "terminal", "pipe of another user"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    make: Callable[[], tuple[int, int]] = {"socket": _socket, "terminal": _terminal}.get(request.param, _pipe)
    theirs, ours = make()
    with monkeypatch.context() as patched:
        if request.param == "pipe of another user":
            _pipe_of_another_user(patched)
        made = Reader(theirs, NonBlockingStream(ours, "utf-8"))
    yield made
    made.stream.release()
    for each in (theirs, ours):
        os.close(each)


def test_what_is_read_comes_whole_and_in_order(reader: Reader) -> None:
    reader.hold()
    written = "".join(f"line {number} {'é' * 10}\n" for number in range(1000))
    for line in written.splitlines(keepends=True):
        reader.stream.write(line)
    assert reader.read() == written
    assert reader.stream.dropped == 0


def test_a_reader_that_stops_holds_nothing_up_and_learns_how_much_was_lost(reader: Reader) -> None:
    reader.hold()
    lines = 5 * MOST_KEPT // len(LINE)
    for number in range(lines):
        reader.stream.write(f"{number:08d}{LINE}")
    lost = reader.stream.dropped
    assert 0 < lost < lines
    came = reader.read().splitlines()
    assert came == [f"{number:08d}{LINE[:-1]}" for number in range(lines - lost)] + [f"{lost} lost"]
    reader.stream.write("well again\n")
    assert reader.read() == "well again\n"
    assert reader.stream.dropped == lost


def test_before_the_reactor_runs_nothing_waits_either(reader: Reader) -> None:
    for _ in range(5 * MOST_KEPT // len(LINE)):
        reader.stream.write(LINE)
    lost = reader.stream.dropped
    assert lost > 0
    reader.hold()
    assert reader.read().splitlines()[-1] == f"{lost} lost"


def test_the_mode_of_the_shared_descriptor_is_left_alone(reader: Reader) -> None:
    ours, theirs = os.pipe()
    stream = NonBlockingStream(theirs, "utf-8")
    stream.write("hello\n")
    assert os.get_blocking(theirs)
    assert os.read(ours, 100) == b"hello\n"
    for each in (ours, theirs):
        os.close(each)


def test_a_reader_that_is_gone_costs_lines_and_nothing_else() -> None:
    theirs, ours = os.pipe()
    reader = Reader(theirs, NonBlockingStream(ours, "utf-8"))
    reader.hold()
    os.close(theirs)
    for _ in range(10):
        reader.stream.write("lost\n")
        reader.clock.advance(1)
    assert reader.stream.dropped == 10
    os.close(ours)


def test_a_file_is_appended_to_where_it_stands_and_one_on_a_full_disk_costs_lines(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"before\n")
    stream = NonBlockingStream(descriptor, "ascii")
    stream.write("café\n")
    assert (tmp_path / "log").read_bytes() == b"before\ncaf\\xe9\n"
    os.close(descriptor)
    full = os.open("/dev/full", os.O_WRONLY)
    stream = NonBlockingStream(full, "utf-8")
    stream.write("lost\n")
    assert stream.dropped == 1
    os.close(full)
