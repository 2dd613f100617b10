"""A mirror that was damaged gets well by one more sync, with the smallest step that helps."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import pytest_twisted
from mirror_harness import Harness, Upstream, git, managed, refs

from stackit import StackitError
from stackit.plugins.mirror.repository.repair import make_readable
from stackit.plugins.mirror.repository.swap import exchange


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    upstream = Upstream(tmp_path / "upstream")
    for _ in range(4):
        upstream.advance()
    git(upstream.directory, "tag", "-a", "-m", "v1", "v1", "refs/heads/main")
    return upstream


@pytest.fixture
def harness(synced: Harness) -> Harness:
    return synced


def overwrite(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def pack_up(mirror: Path) -> Path:
    git(mirror, "gc", "--quiet")
    [pack] = (mirror / "objects" / "pack").glob("*.pack")
    return pack


def an_object(mirror: Path, what: str) -> Path:
    oid = git(mirror, "rev-parse", what)
    return mirror / "objects" / oid[:2] / oid[2:]


def in_the_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    overwrite(path, bytes(content))


def break_pack(mirror: Path) -> None:
    in_the_middle(pack_up(mirror))


def break_index(mirror: Path) -> None:
    overwrite(pack_up(mirror).with_suffix(".idx"), b"")


def remove_pack(mirror: Path) -> None:
    pack_up(mirror).unlink()


def loose_folder(mirror: Path) -> None:
    for folder in (mirror / "objects").glob("??"):
        shutil.rmtree(folder)


def empty_folder(mirror: Path) -> None:
    shutil.rmtree(mirror)
    mirror.mkdir()


def empty_file(mirror: Path) -> None:
    shutil.rmtree(mirror)
    mirror.touch()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "the tip's object is garbage": lambda mirror: overwrite(an_object(mirror, "main"), b"garbage"),
    "an old object is garbage": lambda mirror: overwrite(an_object(mirror, "main~2"), b"garbage"),
    "an old object is another": lambda mirror: shutil.copy(an_object(mirror, "main"), an_object(mirror, "main~2")),
    "an old object is empty": lambda mirror: overwrite(an_object(mirror, "main~2"), b""),
    "an old object is gone": lambda mirror: an_object(mirror, "main~2").unlink(),
    "every object is gone": loose_folder,
    "the objects' folder is gone": lambda mirror: shutil.rmtree(mirror / "objects"),
    "a byte of the pack is another": break_pack,
    "the index of the pack is empty": break_index,
    "the pack is gone": remove_pack,
    "a ref is garbage": lambda mirror: (mirror / "refs" / "heads" / "main").write_bytes(b"garbage\n"),
    "a ref is half": lambda mirror: (mirror / "refs" / "heads" / "main").write_bytes(b"1234"),
    "a ref is empty": lambda mirror: (mirror / "refs" / "heads" / "main").write_bytes(b""),
    "a ref is of nothing": lambda mirror: (mirror / "refs" / "heads" / "main").write_bytes(b"1" * 40 + b"\n"),
    "the packed refs are garbage": lambda mirror: (mirror / "packed-refs").write_bytes(b"\0garbage\nmore"),
    "the packed refs are empty": lambda mirror: (mirror / "packed-refs").write_bytes(b""),
    "the packed refs are gone": lambda mirror: (mirror / "packed-refs").unlink(),
    "HEAD is empty": lambda mirror: (mirror / "HEAD").write_bytes(b""),
    "HEAD is garbage": lambda mirror: (mirror / "HEAD").write_bytes(b"\xff\xfe"),
    "HEAD is gone": lambda mirror: (mirror / "HEAD").unlink(),
    "the refs' folder is gone": lambda mirror: shutil.rmtree(mirror / "refs"),
    "the configuration is garbage": lambda mirror: (mirror / "config").write_bytes(b"[garbage"),
    "the mirror is an empty folder": empty_folder,
    "the mirror is a file": empty_file,
    "the mirror is gone": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest_twisted.ensureDeferred
async def test_one_more_sync_heals(harness: Harness, upstream: Upstream, damage: str) -> None:
    DAMAGES[damage](harness.path())
    told = len(harness.announcements)
    await harness.worker().sync("manual")
    assert refs(harness.path()) == upstream.refs() == harness.told["octo/widget"]
    assert git(harness.path(), "symbolic-ref", "HEAD") == "refs/heads/main"
    git(harness.path(), "fsck", "--strict")
    assert harness.announcements[told:] == [], "nothing was deleted, so nobody is told so"
    if damage != "the mirror is gone":
        assert harness.named("healed") or damage.startswith("the packed refs are")
    assert harness.worker().state == "in_step"


@pytest.mark.parametrize("damage", ["an old object is garbage", "a byte of the pack is another", "HEAD is gone"])
@pytest_twisted.ensureDeferred
async def test_what_was_damaged_while_stackit_did_not_run_is_healed_at_the_start(
    harness: Harness, upstream: Upstream, tmp_path: Path, damage: str
) -> None:
    await harness.stop()
    DAMAGES[damage](harness.path())
    again = Harness(tmp_path / "state", managed(upstream))
    again.told = harness.told
    await again.backstop()
    assert refs(harness.path()) == upstream.refs()
    git(harness.path(), "fsck", "--strict")
    await again.stop()


@pytest_twisted.ensureDeferred
async def test_damage_is_not_forgotten_over_pushes_maintenance_and_a_remote_that_fails(
    harness: Harness, upstream: Upstream
) -> None:
    DAMAGES["an old object is garbage"](harness.path())
    upstream.advance()
    await harness.worker().sync("push", full=False)
    await harness.worker().maintain()
    upstream.directory.rename(upstream.directory.with_name("away"))
    with pytest.raises(StackitError):
        await harness.worker().sync("backstop")
    upstream.directory.with_name("away").rename(upstream.directory)
    await harness.worker().sync("backstop")
    assert refs(harness.path()) == upstream.refs()
    git(harness.path(), "fsck", "--strict")


@pytest_twisted.ensureDeferred
async def test_small_damage_is_mended_in_place(harness: Harness) -> None:
    inode = harness.path().stat().st_ino
    for damage in ("a ref is garbage", "HEAD is empty", "HEAD is gone"):
        DAMAGES[damage](harness.path())
        await harness.worker().sync("manual")
    assert harness.path().stat().st_ino == inode


@pytest_twisted.ensureDeferred
async def test_a_broken_mirror_stays_in_its_place_until_a_fresh_clone_takes_it(
    harness: Harness, upstream: Upstream
) -> None:
    inode = harness.path().stat().st_ino
    DAMAGES["an old object is garbage"](harness.path())
    upstream.directory.rename(upstream.directory.with_name("away"))
    with pytest.raises(StackitError):
        await harness.worker().sync("manual")
    assert harness.path().stat().st_ino == inode
    assert len(refs(harness.path())) == 2
    upstream.directory.with_name("away").rename(upstream.directory)
    await harness.worker().sync("manual")
    git(harness.path(), "fsck", "--strict")


@pytest_twisted.ensureDeferred
async def test_an_upstream_that_is_broken_itself_is_not_cloned_again_and_again(
    harness: Harness, upstream: Upstream
) -> None:
    odd = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor a <a@b> 1 +99999\ncommitter a <a@b> 1 +0000\n\nodd\n"
    oid = git(upstream.directory, "hash-object", "-t", "commit", "-w", "--stdin", "--literally", stdin=odd)
    upstream.set("refs/heads/odd", oid)
    await harness.worker().sync("backstop")
    inode = harness.path().stat().st_ino
    an_object(harness.path(), "main").touch()
    await harness.worker().sync("backstop")
    assert harness.path().stat().st_ino == inode
    assert harness.named("healed") == []


@pytest_twisted.ensureDeferred
async def test_the_old_tips_that_were_kept_move_to_the_fresh_clone(upstream: Upstream, tmp_path: Path) -> None:
    harness = Harness(tmp_path / "keeping", managed(upstream, keep_forced=True))
    await harness.worker().sync("start")
    old = upstream.refs()["refs/heads/main"]
    upstream.set("refs/heads/main", upstream.commit())
    await harness.worker().sync("backstop")
    DAMAGES["the configuration is garbage"](harness.path())
    (harness.path() / "config").write_text("[core]\n\tbare = true\n")
    overwrite(an_object(harness.path(), "main"), b"garbage")
    await harness.worker().sync("backstop")
    assert refs(harness.path()) == upstream.refs() | {f"refs/stackit-kept/heads/main/{old}": old}
    git(harness.path(), "fsck", "--strict")
    await harness.stop()


@contextlib.contextmanager
def somebody_in(directory: Path) -> Iterator[None]:
    """A process that works in a directory."""
    with subprocess.Popen(["/bin/cat"], cwd=directory, stdin=subprocess.PIPE) as process:
        yield
        process.communicate()


LOCKS = ("packed-refs.lock", "HEAD.lock", "refs/heads/main.lock", "objects/maintenance.lock")


@pytest_twisted.ensureDeferred
async def test_locks_that_a_git_left_a_moment_ago_are_removed_where_none_runs(
    harness: Harness, upstream: Upstream
) -> None:
    for name in LOCKS:
        (harness.path() / name).parent.mkdir(exist_ok=True)
        (harness.path() / name).touch()
    upstream.advance()
    await harness.worker().sync("manual")
    assert refs(harness.path()) == upstream.refs()
    assert not [name for name in LOCKS if (harness.path() / name).exists()]


@pytest_twisted.ensureDeferred
async def test_the_lock_of_somebody_who_is_at_work_in_the_mirror_is_left_alone(
    harness: Harness, upstream: Upstream
) -> None:
    lock = harness.path() / "refs" / "heads" / "main.lock"
    lock.parent.mkdir(exist_ok=True)
    lock.touch()
    upstream.advance()
    with somebody_in(harness.path()), pytest.raises(StackitError, match=r"main\.lock"):
        await harness.worker().sync("manual")
    assert lock.exists()
    await harness.worker().sync("manual")
    assert refs(harness.path()) == upstream.refs()


@pytest_twisted.ensureDeferred
async def test_permissions_that_were_taken_away_are_given_back(harness: Harness, upstream: Upstream) -> None:
    mirror = harness.path()
    (mirror / "objects").chmod(0)
    (mirror / "refs").chmod(0o400)
    an_object(mirror, "main").chmod(0)
    upstream.advance()
    await harness.worker().sync("manual")
    assert refs(mirror) == upstream.refs()
    assert (mirror / "objects").stat().st_mode & 0o700 == 0o700
    assert make_readable(mirror) == 0


@pytest_twisted.ensureDeferred
async def test_a_disk_that_is_full_in_a_fetch_leaves_the_mirror_as_it_was(
    harness: Harness, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A limit on the size of files is what a disk without room looks like to git.
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\ntrap "" XFSZ\nulimit -f 8\nexec /usr/bin/git "$@"\n')
    program.chmod(0o755)
    before = refs(harness.path())
    blob = git(upstream.directory, "hash-object", "-w", "--stdin", stdin=os.urandom(200_000))
    tree = git(upstream.directory, "mktree", stdin=f"100644 blob {blob}\tlarge\n".encode())
    upstream.set("refs/heads/large", git(upstream.directory, "commit-tree", "-m", "large", tree))
    with monkeypatch.context() as small:
        small.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        with pytest.raises(StackitError, match="no room left"):
            await harness.worker().sync("manual")
    assert refs(harness.path()) == before == harness.told["octo/widget"]
    assert not list((harness.path() / "objects").rglob("tmp_*"))
    await harness.worker().sync("manual")
    assert refs(harness.path()) == upstream.refs()
    git(harness.path(), "fsck", "--strict")


def test_two_folders_swap_their_names(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mark").write_text(name)
    exchange(tmp_path / "one", tmp_path / "other")
    assert [(tmp_path / name / "mark").read_text() for name in ("one", "other")] == ["other", "one"]
