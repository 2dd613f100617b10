"""A branch moved without git: only where git would, and never half."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from mirror_harness import ZERO, Upstream, git, refs

from stackit import RefChange
from stackit.plugins.mirror.repository.loose_refs import move

MAIN = "refs/heads/main"


@pytest.fixture
def mirror(tmp_path: Path) -> Upstream:
    """A repository whose ref can be moved."""
    mirror = Upstream(tmp_path / "mirror.git")
    mirror.advance()
    return mirror


def moved(mirror: Upstream, new: str, ref: str = MAIN) -> RefChange:
    return RefChange(ref, mirror.refs()[ref], new, "updated")


@pytest.mark.parametrize("ref", [MAIN, "refs/heads/topic/one", "refs/heads/caf\udce9"])
def test_a_branch_moves(mirror: Upstream, ref: str) -> None:
    mirror.set(ref, mirror.refs()[MAIN])
    new = mirror.commit(mirror.refs()[ref])
    before = set((mirror.directory / "refs").rglob("*"))
    assert move(mirror.directory, moved(mirror, new, ref))
    assert mirror.refs()[ref] == new
    assert set((mirror.directory / "refs").rglob("*")) == before, "no lock stays"
    git(mirror.directory, "fsck", "--strict")


def test_the_file_is_as_git_makes_it(mirror: Upstream) -> None:
    one, two = mirror.commit(mirror.refs()[MAIN]), mirror.commit(mirror.refs()[MAIN])
    ref = mirror.directory / MAIN
    assert move(mirror.directory, moved(mirror, one))
    ours = ref.stat().st_mode, ref.read_text().replace(one, two)
    git(mirror.directory, "update-ref", MAIN, two)
    assert ours == (ref.stat().st_mode, ref.read_text())


def pack(mirror: Upstream) -> None:
    git(mirror.directory, "pack-refs", "--all")


def lock(mirror: Upstream) -> None:
    (mirror.directory / f"{MAIN}.lock").touch()


def shut(mirror: Upstream) -> None:
    (mirror.directory / "refs/heads").rename(mirror.directory / "refs/hidden")
    (mirror.directory / "refs/heads").write_text("this repository uses another format\n")


def link(mirror: Upstream) -> None:
    (mirror.directory / MAIN).rename(mirror.directory / "refs/heads/trunk")
    (mirror.directory / MAIN).symlink_to("trunk")


def logs(mirror: Upstream) -> None:
    (mirror.directory / "logs").mkdir()


def fsync(mirror: Upstream) -> None:
    git(mirror.directory, "config", "core.fsync", "reference")


def shared(mirror: Upstream) -> None:
    with (mirror.directory / "config").open("a") as config:
        config.write("[core]sharedRepository = group\n")


def unset(mirror: Upstream) -> None:
    (mirror.directory / "config").unlink()


@pytest.mark.parametrize("case", [pack, lock, shut, link, logs, fsync, shared, unset])
def test_what_is_not_that_simple_is_left_to_git(mirror: Upstream, case: Callable[[Upstream], None]) -> None:
    change = moved(mirror, mirror.commit(mirror.refs()[MAIN]))
    case(mirror)
    before = sorted(os.fspath(path) for path in mirror.directory.rglob("*"))
    assert not move(mirror.directory, change)
    assert sorted(os.fspath(path) for path in mirror.directory.rglob("*")) == before


def test_a_branch_that_is_elsewhere_stays_there(mirror: Upstream) -> None:
    there, elsewhere = mirror.refs()[MAIN], mirror.commit()
    assert not move(mirror.directory, RefChange(MAIN, elsewhere, mirror.commit(), "updated"))
    assert refs(mirror.directory) == {MAIN: there}
    assert not (mirror.directory / f"{MAIN}.lock").exists()


def test_a_symbolic_branch_is_left_to_git(mirror: Upstream) -> None:
    change = moved(mirror, mirror.commit(mirror.refs()[MAIN]))
    git(mirror.directory, "branch", "trunk", "main")
    git(mirror.directory, "symbolic-ref", MAIN, "refs/heads/trunk")
    assert not move(mirror.directory, change)


def test_a_branch_is_made_by_git(mirror: Upstream) -> None:
    assert not move(mirror.directory, RefChange("refs/heads/new", ZERO, mirror.commit(), "created"))
    assert set(mirror.refs()) == {MAIN}
