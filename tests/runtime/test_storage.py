"""Sizes that are looked up beside the reactor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from threadless import no_threads
from twisted.internet.task import Clock

from stackit.runtime.storage import INTERVAL, Sizes, Storage, measure

PATIENCE = 20.0


class Disk:
    """A disk whose looks can be counted, and made to hang."""

    def __init__(self) -> None:
        self.looks = 0
        self.moves = Event()
        self.moves.set()
        self.entered = Event()

    def look(self) -> Sizes:
        self.looks += 1
        self.entered.set()
        assert self.moves.wait(PATIENCE)
        return Sizes(disk_free=self.looks, disk_size=100)


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    yield disk
    disk.moves.set()


def started(clock: Clock, disk: Disk) -> Storage:
    storage = Storage(reactor=clock, look=disk.look)
    storage.startService()
    return storage


def advance(clock: Clock, storage: Storage) -> None:
    """Let a look begin and end."""
    clock.advance(INTERVAL)
    assert storage._thread is not None
    storage._thread.join(PATIENCE)
    assert not storage._thread.is_alive()


def test_the_sizes_are_known_at_the_start_and_looked_up_again(disk: Disk) -> None:
    clock = Clock()
    storage = started(clock, disk)
    assert storage.sizes.disk_free == 1
    advance(clock, storage)
    assert storage.sizes.disk_free == 2
    storage.stopService()
    assert clock.getDelayedCalls() == []


def test_a_disk_that_hangs_holds_nothing_up_and_takes_one_thread(disk: Disk) -> None:
    clock = Clock()
    storage = started(clock, disk)
    disk.moves.clear()
    disk.entered.clear()
    for _ in range(20):
        clock.advance(INTERVAL)
    assert disk.entered.wait(PATIENCE)
    assert (storage.sizes.disk_free, disk.looks) == (1, 2)
    disk.moves.set()
    assert storage._thread is not None
    storage._thread.join(PATIENCE)
    advance(clock, storage)
    assert storage.sizes.disk_free == 3
    storage.stopService()


def test_a_thread_that_cannot_be_started_is_tried_again(disk: Disk) -> None:
    clock = Clock()
    storage = started(clock, disk)
    with no_threads():
        clock.advance(INTERVAL)
    assert storage.sizes.disk_free == 1
    advance(clock, storage)
    assert storage.sizes.disk_free == 2
    storage.stopService()


def test_files_and_the_disk_are_measured_as_far_as_they_are_there(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    journal.write_bytes(bytes(1234))
    sizes = measure(tmp_path, [journal, tmp_path / "journal-wal"])
    assert sizes.files == {"journal": 1234}
    assert 0 < (sizes.disk_free or 0) < (sizes.disk_size or 0)
    assert measure(tmp_path / "gone", [tmp_path / "gone" / "journal"]) == Sizes()
