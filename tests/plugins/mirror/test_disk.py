"""A remote that sends little and takes much; a disk that is nearly full, and how the mirrors get well by themselves."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import random
import shutil
import subprocess
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytest_twisted
from mirror_harness import ENV, Harness, Upstream, git, managed, pushed, refs

from stackit import Size, StackitError
from stackit.plugins.mirror.repository import packs
from stackit.plugins.mirror.repository.leftovers import remove_leftovers
from stackit.plugins.mirror.repository.packs import is_small_unpacked
from stackit.plugins.mirror.repository.quarantine import Quarantine, quarantines
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

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.size = 2**62
        self._directory = directory
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=self.size - used(directory)))

    def leave(self, free: int) -> None:
        """As much as this is free now."""
        self.size = used(self._directory) + free


def versions(directory: Path, size: int, count: int) -> list[str]:
    """Commits of a large file that does not compress, each with another line in it, kept as deltas of the one before.

    The first is where main is, and the others are on no branch yet.
    """
    content = bytearray(random.Random(1).randbytes(size))
    stream = []
    for number_ in range(count):
        content[100 * number_ : 100 * number_ + 10] = b"%010d" % number_
        stream.append(
            b"commit refs/heads/made\nmark :%d\ncommitter a <a@example.org> 1700000000 +0000\n" % (number_ + 1)
        )
        stream.append(b"data 1\nxM 100644 inline large\ndata %d\n%b\n" % (size, bytes(content)))
    marks = directory / "marks"
    settings = ("-c", "fastimport.unpackLimit=0")
    git(
        directory, *settings, "fast-import", "--quiet", "--depth=250", f"--export-marks={marks}", stdin=b"".join(stream)
    )
    made = dict(line.split() for line in marks.read_text().splitlines())
    git(directory, "update-ref", "-d", "refs/heads/made")
    git(directory, "update-ref", MAIN, made[":1"])
    return [made[f":{number_ + 1}"] for number_ in range(count)]


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

    def assert_in_step(self) -> None:
        assert refs(self.harness.path()) == self.upstream.refs() == self.harness.told[WIDGET]
        git(self.harness.path(), "fsck", "--strict")
        assert not list(quarantines(self.harness.path()))


@pytest_twisted.async_yield_fixture(params=["http", "file"])
async def place(
    request: pytest.FixtureRequest, pretend_github: PretendGitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    url = await pretend_github.create(WIDGET)
    upstream = Upstream.__new__(Upstream)
    upstream.directory = Path(pretend_github.path(WIDGET))
    made = versions(upstream.directory, SIZE, COUNT)
    disk = SmallDisk(tmp_path / "state", monkeypatch)
    harness = Harness(tmp_path / "state", managed(url if request.param == "http" else upstream), reserve=Size(RESERVE))
    await harness.worker().sync("start")
    await harness.worker().rounds.idle()
    yield Place(harness, upstream, made, disk, by_http=request.param == "http")
    await harness.stop()


# -- what a pack becomes -------------------------------------------------------------


def entry(kind: int, size: int, base: bytes, data: bytes) -> bytes:
    """An object in a pack."""
    first, rest = (size & 15) | kind << 4, size >> 4
    head = bytearray()
    while rest:
        head.append(first | 0x80)
        first, rest = rest & 0x7F, rest >> 7
    return bytes([*head, first]) + base + zlib.compress(data)


def number(value: int) -> bytes:
    said = bytearray()
    while value >= 0x80:
        said.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*said, value])


def pack(*entries: bytes) -> bytes:
    body = b"PACK" + (2).to_bytes(4) + len(entries).to_bytes(4) + b"".join(entries)
    return body + hashlib.sha1(body, usedforsecurity=False).digest()


def delta(result: int, id_size: int = 20) -> bytes:
    said = number(12 * MIB) + number(result) + b"\x90\x01"
    return entry(7, len(said), b"\1" * id_size, said)


@pytest.mark.parametrize(
    ("entries", "small"),
    [
        ([], True),
        ([entry(3, 5, b"", b"hello")] * 3, True),
        ([entry(3, packs.MOST_READ, b"", bytes(packs.MOST_READ))], True),
        ([entry(3, packs.MOST_READ + 1, b"", bytes(packs.MOST_READ + 1))], False),
        ([delta(1000)] * 100, True),
        ([delta(packs.MOST_UNPACKED)], True),
        ([delta(packs.MOST_UNPACKED // 2 + 1)] * 2, False),
        ([delta(2**40)], False),
        ([entry(6, 5, b"\x81\x02", number(9) + number(9) + b"\x90\x09\0")], True),
    ],
)
def test_the_size_that_a_pack_has_unpacked_is_told_from_the_pack(entries: list[bytes], small: bool) -> None:
    assert is_small_unpacked(pack(*entries), 20) is small


def test_deltas_of_sha256_repositories_are_understood() -> None:
    assert is_small_unpacked(pack(delta(1000, 32)), 32)
    assert not is_small_unpacked(pack(delta(12 * MIB, 32)), 32)


@pytest.mark.parametrize(
    "broken",
    [
        pack(entry(3, 5, b"", b"hello"))[:14],
        pack(entry(3, 5, b"", b"much more than five bytes")),
        pack(entry(3, 50, b"", b"hello")),
        b"PACK" + (2).to_bytes(4) + (9).to_bytes(4) + bytes(20),
        pack(entry(3, 5, b"", b"hello")).replace(b"\x78\x9c", b"\xff\xff"),
        pack(entry(3, 10, b"", bytes(64 * MIB))),
    ],
)
def test_a_pack_that_is_broken_is_not_taken_for_a_small_one(broken: bytes) -> None:
    assert not is_small_unpacked(broken, 20)


@pytest.mark.parametrize(("large", "small"), [(False, True), (True, False)])
def test_a_thin_pack_as_git_makes_it_is_understood(tmp_path: Path, large: bool, small: bool) -> None:
    upstream = Upstream(tmp_path / "remote.git")
    made = versions(upstream.directory, SIZE if large else 1000, 8)
    argv = ["/usr/bin/git", "-C", upstream.directory, "pack-objects", "--revs", "--thin", "--stdout", "-q"]
    done = subprocess.run(argv, input=f"{made[-1]}\n^{made[0]}\n".encode(), capture_output=True, check=True)
    assert len(done.stdout) < 10_000
    assert is_small_unpacked(done.stdout, 20) is small


# -- quarantine ----------------------------------------------------------------------


def test_what_is_admitted_is_in_the_mirror_and_what_is_not_is_nowhere(tmp_path: Path) -> None:
    upstream = Upstream(tmp_path / "odd:name" / 'with "quotes".git')
    mirror = upstream.directory
    for admitted in (True, False):
        apart = Quarantine(mirror)
        stored = subprocess.run(
            ["/usr/bin/git", "-C", mirror, "hash-object", "-w", "--stdin"],
            input=b"%d" % admitted,
            env=ENV | apart.environment,
            capture_output=True,
            check=True,
        ).stdout.decode()
        size = apart.size()
        assert size > 0
        if admitted:
            assert apart.admit() == size
        apart.drop()
        assert (mirror / "objects" / stored[:2] / stored[2:].strip()).exists() is admitted
        assert not list(quarantines(mirror))


def test_what_is_there_already_is_left_alone_and_folders_are_joined(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror.git"
    for name in ("aa/1", "pack/pack-1.pack", "pack/pack-1.idx"):
        (mirror / "objects" / name).parent.mkdir(parents=True, exist_ok=True)
        (mirror / "objects" / name).write_text("old")
    apart = Quarantine(mirror)
    directory = Path(apart.environment["GIT_OBJECT_DIRECTORY"])
    for name in ("aa/1", "aa/2", "bb/3", "pack/pack-1.pack", "pack/pack-1.idx", "pack/pack-2.idx", "pack/pack-2.pack"):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text("new")
    assert apart.admit() == 7 * 3
    apart.drop()
    found = {
        str(each.relative_to(mirror / "objects")): each.read_text() for each in mirror.rglob("*") if each.is_file()
    }
    old = dict.fromkeys(["aa/1", "pack/pack-1.pack", "pack/pack-1.idx"], "old")
    assert found == old | dict.fromkeys(["aa/2", "bb/3", "pack/pack-2.idx", "pack/pack-2.pack"], "new")


def test_leftovers_are_quarantines_and_the_marks_of_a_fetch_too_but_nobody_elses(tmp_path: Path) -> None:
    objects = tmp_path / "objects"
    (objects / "pack").mkdir(parents=True)
    for name in ("tmp_objdir-stackit-x", "tmp_objdir-incoming-x", "incoming-x"):
        (objects / name / "aa").mkdir(parents=True)
        (objects / name / "aa" / "1").write_text("object")
    (objects / "tmp_obj_x").write_text("")
    (objects / "pack" / "pack-1.keep").write_text("fetch-pack 17 on somewhere")
    (objects / "pack" / "pack-2.keep").write_text("a person wants it so")
    (objects / "pack" / "tmp_pack_x").write_text("")
    assert remove_leftovers(tmp_path) == 6
    assert [each.name for each in objects.rglob("*") if each.is_file()] == ["pack-2.keep"]


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
    assert worker.fetches_since_maintenance >= maintenance.WORN
    await worker.maintain()
    assert used(place.harness.path()) - before < 3 * SIZE
    assert not worker._refresher.growth.is_too_much
    place.assert_in_step()


@pytest_twisted.ensureDeferred
async def test_a_git_that_would_fill_the_disk_is_ended_and_leaves_nothing(place: Place) -> None:
    place.harness.mirror._disk.interval = 0.005
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
    place.harness.mirror._disk.interval = 0.005
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
    place.harness.service._maintenance._turn()
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
