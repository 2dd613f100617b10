"""Mirrors are read whole rarely, few at once, and only when something speaks against them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from mirror_harness import Harness, Upstream, git, managed, refs
from twisted.internet.defer import Deferred, gatherResults

from stackit import StackitError
from stackit.plugins.mirror.git.errors import GitError

MIRRORS = 12


class Gits:
    """Every git that is started writes its command and when it began and ended."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder.mkdir()
        self._runs = folder / "runs"
        wrapper = folder / "git"
        wrapper.write_text(
            f'#!/bin/sh\ncase "$*" in *" fsck "*) echo began >> {self._runs}; sleep 0.2; /usr/bin/git "$@"; s=$?; '
            f'echo ended >> {self._runs}; exit $s;; esac\nexec /usr/bin/git "$@"\n'
        )
        wrapper.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    @property
    def checks(self) -> tuple[int, int]:
        """The number of checks, and the most at once."""
        now = most = number = 0
        for line in self._runs.read_text().split() if self._runs.exists() else ():
            now += 1 if line == "began" else -1
            number += line == "began"
            most = max(most, now)
        return number, most


def touch_an_object(mirror: Path, moment: int) -> None:
    for path in (mirror / "objects").glob("[0-9a-f][0-9a-f]/*"):
        os.utime(path, (moment, moment))


@pytest_twisted.ensureDeferred
async def test_many_mirrors_that_somebody_touched_are_read_two_at_a_time_until_all_were(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"octo/r{number}" for number in range(MIRRORS)]
    harness = Harness(tmp_path / "state", *(managed(upstream, name) for name in names))
    workers = [harness.worker(name) for name in names]
    slots = workers[0]._refresher._healer._fsck._slots

    async def look() -> None:
        await gatherResults([Deferred.fromCoroutine(worker.sync("backstop")) for worker in workers])

    await look()
    gits = Gits(tmp_path / "bin", monkeypatch)
    for name in names:
        touch_an_object(harness.path(name), 1)
    for _ in range(MIRRORS):
        await look()
    number, most = gits.checks
    assert number == MIRRORS, "each was read, and once"
    assert most <= slots.at_once
    assert {worker.state for worker in workers} == {"in_step"}
    for name in names:
        touch_an_object(harness.path(name), 2)
    await look()
    assert gits.checks[0] == MIRRORS, "they were read a moment ago"
    slots.interval = 0.0
    await look()
    assert gits.checks[0] > MIRRORS, "what somebody touched is not forgotten"
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_a_fault_that_lasts_has_a_mirror_read_once(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder is in the way of a ref: git says that the mirror is at fault, and it is, but no object is broken."""
    harness = Harness(tmp_path / "state", managed(upstream))
    await harness.worker().sync("start")
    upstream.set("refs/heads/new", upstream.refs()["refs/heads/main"])
    folder = harness.path() / "refs" / "heads" / "new"
    folder.mkdir()
    (folder / "in.lock").write_text("")
    gits = Gits(tmp_path / "bin", monkeypatch)
    for _ in range(4):
        with pytest.raises(StackitError):
            await harness.worker().sync("backstop")
    assert gits.checks[0] == 1
    (folder / "in.lock").unlink()
    await harness.worker().sync("manual")
    assert refs(harness.path()) == upstream.refs()
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_a_mirror_that_was_found_broken_is_replaced_when_the_remote_is_back(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = Harness(tmp_path / "state", managed(upstream))
    worker = harness.worker()
    await worker.sync("start")
    gits = Gits(tmp_path / "bin", monkeypatch)
    tip = refs(harness.path())["refs/heads/main"]
    (harness.path() / "objects" / tip[:2] / tip[2:]).unlink()
    clone = worker._refresher._cloner.clone

    async def fails(_: Any) -> None:
        raise GitError("the remote is away", kind="remote")

    worker._refresher._cloner.clone = fails
    for _ in range(3):
        with pytest.raises(StackitError, match="away"):
            await worker.sync("backstop")
    worker._refresher._cloner.clone = clone
    await worker.sync("backstop")
    assert refs(harness.path()) == upstream.refs()
    assert gits.checks[0] == 1
    assert worker.state == "in_step"
    await harness.stop()


@pytest.mark.parametrize("packed", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_check_that_runs_out_of_memory_says_nothing_of_the_mirror(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    blob = git(upstream.directory, "hash-object", "-w", "--stdin", stdin=bytes(32 * 2**20))
    tree = git(upstream.directory, "mktree", stdin=f"100644 blob {blob}\tlarge\n".encode())
    upstream.set("refs/heads/main", git(upstream.directory, "commit-tree", tree, "-m", "large"))
    harness = Harness(tmp_path / "state", managed(upstream))
    await harness.worker().sync("start")
    if packed:
        git(harness.path(), "repack", "-a", "-d", "-q")
    repository = harness.worker()._refresher._repository
    assert await repository.is_sound()
    wrapper = tmp_path / "bin" / "git"
    wrapper.parent.mkdir()
    wrapper.write_text('#!/bin/sh\nulimit -d 16384\nexec /usr/bin/git "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    with pytest.raises(GitError, match=r"plugins\.mirror\.git_memory"):
        await repository.is_sound()
    await harness.stop()
