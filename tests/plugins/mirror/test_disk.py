"""A remote that sends little and takes much; a disk that is nearly full, and how the mirrors get well by themselves."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from mirror_harness import Harness, Upstream, git, managed, pushed, refs, versions

from stackit import Size, StackitError
from stackit.plugins.mirror.repository.quarantine import quarantines
from stackit.plugins.mirror.schedule import maintenance
from stackit.testing import PretendGitHub

WIDGET = "octo/widget"
MAIN = "refs/heads/main"
MIB = 2**20
SIZE, COUNT = 2 * MIB, 40
RESERVE = 16 * MIB


def used(directory: Path) -> int:
    """The bytes in all files below a directory."""
    size = 0
    for folder, _, names in os.walk(directory):  # passes over a folder that git removes meanwhile
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size += (Path(folder) / name).lstat().st_size
    return size


class SmallDisk:
    """A disk that has room for so many bytes in all, of which the files of a harness take some."""

    def __init__(self, directory: Path) -> None:
        self.size = 2**62
        self._directory = directory

    def free(self, _: Path) -> int:
        return self.size - used(self._directory)

    def leave(self, free: int) -> None:
        """As much as this is free now."""
        self.size = used(self._directory) + free


class Place:
    """A mirror of a repository with one large file, of which many versions are at the remote already."""

    def __init__(
        self, harness: Harness, upstream: Upstream, made: list[str], disk: SmallDisk, *, by_http: bool
    ) -> None:
        self.harness = harness
        self.upstream = upstream
        self.made = made
        self.disk = disk
        self.by_http = by_http

    async def push(self, steps: int = 1) -> None:
        """All versions, in so many pushes."""
        stops = self.made[:: len(self.made) // steps - 1] if steps > 1 else [self.made[0], self.made[-1]]
        for before, after in itertools.pairwise(stops):
            self.upstream.set(MAIN, after)
            await self.harness.push(pushed(self.harness, before, after))

    def check_often(self) -> None:
        """Look at the disk more often than a second's fifth."""
        reserve = self.harness.mirror._disk
        assert reserve is not None
        reserve.interval = 0.005

    def assert_in_step(self) -> None:
        assert refs(self.harness.path()) == self.upstream.refs() == self.harness.told[WIDGET]
        git(self.harness.path(), "fsck", "--strict")
        assert not list(quarantines(self.harness.path()))


@pytest_twisted.async_yield_fixture(params=["http", "file"])
async def place(request: pytest.FixtureRequest, pretend_github: PretendGitHub, tmp_path: Path) -> AsyncIterator[Place]:
    url = await pretend_github.create(WIDGET)
    upstream = Upstream.__new__(Upstream)
    upstream.directory = Path(pretend_github.path(WIDGET))
    made = versions(upstream.directory, SIZE, COUNT)
    disk = SmallDisk(tmp_path / "state")
    remote = managed(url if request.param == "http" else upstream)
    harness = Harness(tmp_path / "state", remote, free=disk.free, reserve=Size(RESERVE))
    await harness.worker().sync("start")
    await harness.worker().rounds.idle()
    yield Place(harness, upstream, made, disk, by_http=request.param == "http")
    await harness.stop()


# -- pushes that take much ------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_push_of_many_versions_of_a_large_file_takes_no_room_for_each(place: Place) -> None:
    before = used(place.harness.path())
    await place.push()
    place.assert_in_step()
    if place.by_http:
        assert used(place.harness.path()) - before < 2 * SIZE
        assert not place.harness.named("fallback")
    assert place.harness.worker().state == "in_step"


@pytest_twisted.ensureDeferred
async def test_a_mirror_that_grew_out_of_proportion_is_repacked_at_the_next_idle_moment(place: Place) -> None:
    before = used(place.harness.path())
    worker = place.harness.worker()
    worker._refresher.growth.limit = SIZE // 2
    await worker.maintain()
    assert worker.fetches_since_maintenance == 0
    await place.push(steps=4)
    assert used(place.harness.path()) - before > 4 * SIZE
    assert worker.fetches_since_maintenance >= maintenance.FETCHES_BEFORE_MAINTENANCE
    await worker.maintain()
    assert used(place.harness.path()) - before < 3 * SIZE
    assert not worker._refresher.growth.is_too_much
    place.assert_in_step()


@pytest_twisted.ensureDeferred
async def test_a_git_that_would_fill_the_disk_is_ended_and_leaves_nothing(place: Place) -> None:
    place.check_often()
    before = used(place.harness.path())
    place.disk.leave(RESERVE + SIZE // 4)  # a copy of the large file is more
    with pytest.raises(StackitError, match=r"plugins\.mirror\.reserve") as caught:
        await place.push()
    assert "\n" not in str(caught.value)
    assert refs(place.harness.path()) == place.harness.told[WIDGET]
    assert abs(used(place.harness.path()) - before) < SIZE // 8
    assert not list(quarantines(place.harness.path()))
    place.disk.leave(RESERVE + 500 * MIB)
    await place.push()
    place.assert_in_step()


@pytest_twisted.ensureDeferred
async def test_a_clone_that_would_fill_the_disk_is_ended_and_leaves_nothing(place: Place) -> None:
    place.check_often()
    worker = place.harness.worker()
    shutil.rmtree(place.harness.path())
    place.disk.leave(RESERVE + SIZE // 4)
    with pytest.raises(StackitError, match=r"plugins\.mirror\.reserve"):
        await worker.sync("manual")
    assert not list((place.harness.state / "mirrors" / ".cloning").rglob("*.git"))
    place.disk.leave(RESERVE + 500 * MIB)
    await worker.sync("manual", accept=True)
    place.assert_in_step()


@pytest_twisted.ensureDeferred
async def test_leftovers_go_first_when_room_is_short_and_the_next_push_arrives(place: Place) -> None:
    mirrors = place.harness.state / "mirrors"
    place.disk.leave(RESERVE + 50 * MIB)
    for leftover in (
        place.harness.path() / "objects" / "pack" / "tmp_pack_x",
        place.harness.path() / "objects" / "tmp_objdir-stackit-y" / "aa" / "tmp_obj_z",
        mirrors / ".cloning" / "octo" / "widget.git" / "objects" / "pack" / "tmp_pack_x",
    ):
        leftover.parent.mkdir(parents=True, exist_ok=True)
        leftover.write_bytes(bytes(20 * MIB))
    assert place.harness.mirror.stackit_health() is not None
    await place.push()
    place.assert_in_step()
    assert place.harness.mirror.stackit_health() is None
    assert [each.count for each in place.harness.named("healed")] == [3]


@pytest_twisted.ensureDeferred
async def test_leftovers_of_a_mirror_that_nothing_is_pushed_to_go_too(place: Place) -> None:
    place.disk.leave(RESERVE + 10 * MIB)
    leftover = place.harness.path() / "objects" / "pack" / "tmp_pack_x"
    leftover.write_bytes(bytes(20 * MIB))
    place.harness.service._maintenance._check()
    assert not leftover.exists()
    assert place.harness.mirror.stackit_health() is None


@pytest_twisted.ensureDeferred
async def test_a_fetch_that_brings_what_is_not_whole_leaves_no_pack(place: Place) -> None:
    """However often it is tried: each time would take the same room again."""
    before = used(place.harness.path())
    (pack_,) = (place.upstream.directory / "objects" / "pack").glob("*.pack")
    broken = bytearray(pack_.read_bytes())
    broken[-5000] ^= 0xFF
    pack_.chmod(0o644)
    pack_.write_bytes(broken)
    for _ in range(2):
        with pytest.raises(StackitError):
            await place.push()
    assert abs(used(place.harness.path()) - before) < SIZE // 8


@pytest_twisted.ensureDeferred
async def test_a_disk_without_room_for_the_folder_of_the_mirrors_is_called_full(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Path.mkdir

    def mkdir(path: Path, *arguments: Any, **options: Any) -> None:
        if "mirrors" in path.parts:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        make(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(StackitError, match=r"^the disk is full: \S+/mirrors cannot be made; make room there$"):
        Harness(tmp_path / "state", managed(upstream))
