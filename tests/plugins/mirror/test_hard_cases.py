"""Remotes that are odd, large, new, or made anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from mirror_harness import Harness, Upstream, git, managed, pushed, refs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from stackit import Occurrence, Repo, StackitError
from stackit.plugins.mirror.git.version import version_problem
from stackit.plugins.mirror.refs.listing import Listing
from stackit.plugins.mirror.refs.refspecs import destination, mapped_refs
from stackit.plugins.mirror.repository.disk_space import DiskReserve
from stackit.plugins.mirror.schedule import maintenance
from stackit.plugins.mirror.sync.fetch_slots import FetchSlots
from stackit.plugins.mirror.sync.progress import Progress
from stackit.secrets.redactor import Redactor
from stackit.testing import PretendGitHub


@pytest.fixture
def harness(tmp_path: Path, upstream: Upstream) -> Iterator[Harness]:
    harness = Harness(tmp_path / "state", managed(upstream), interval=0)
    yield harness
    pytest_twisted.blockon(harness.stop())


@pytest_twisted.ensureDeferred
async def test_an_upstream_with_sha256_is_mirrored_and_one_made_anew_with_it_replaces_the_mirror(
    pretend_github: PretendGitHub, tmp_path: Path
) -> None:
    url = await pretend_github.create("octo/widget")
    await pretend_github.commit("octo/widget", count=2)
    harness = Harness(tmp_path / "state", managed(url))
    await harness.worker().sync("start")
    await pretend_github.admin.delete("octo/widget")
    await pretend_github.create("octo/widget", object_format="sha256")
    await pretend_github.commit("octo/widget", count=2)
    await pretend_github.commit("octo/widget", "refs/heads/topic")
    await harness.worker().sync("backstop")
    assert refs(harness.path()) == await pretend_github.refs("octo/widget") == harness.told["octo/widget"]
    assert {len(oid) for oid in refs(harness.path()).values()} == {64}
    moved = await pretend_github.commit("octo/widget")
    await harness.push(pushed(harness, moved.before, moved.after))
    assert len(harness.seen) == 1
    git(harness.path(), "fsck", "--strict")
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_an_empty_sha256_upstream_is_mirrored_once_it_has_something(
    pretend_github: PretendGitHub, tmp_path: Path
) -> None:
    url = await pretend_github.create("octo/widget", object_format="sha256")
    harness = Harness(tmp_path / "state", managed(url))
    await harness.worker().sync("start")
    moved = await pretend_github.commit("octo/widget")
    await harness.push(pushed(harness, moved.before, moved.after))
    assert refs(harness.path()) == await pretend_github.refs("octo/widget") == harness.told["octo/widget"]
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_a_default_branch_that_was_renamed_is_told_and_no_reader_finds_none(
    harness: Harness, upstream: Upstream
) -> None:
    await harness.worker().sync("start")
    upstream.set("refs/heads/trunk", upstream.advance())
    git(upstream.directory, "symbolic-ref", "HEAD", "refs/heads/trunk")
    upstream.delete("refs/heads/main")
    syncing: Deferred[Any] = Deferred.fromCoroutine(harness.worker().sync("backstop"))
    while not syncing.called:
        git(harness.path(), "rev-parse", "--verify", "HEAD^{commit}")
        await harness.reactor_turn()
    assert refs(harness.path()) == upstream.refs()
    assert git(harness.path(), "symbolic-ref", "HEAD") == "refs/heads/trunk"
    assert "HEAD names refs/heads/trunk now" in str(harness.named("notice")[-1].reason)


@pytest_twisted.ensureDeferred
async def test_the_default_branch_becomes_a_folder_of_branches(harness: Harness, upstream: Upstream) -> None:
    await harness.worker().sync("start")
    oid = upstream.refs()["refs/heads/main"]
    upstream.delete("refs/heads/main")
    upstream.set("refs/heads/main/new", oid)
    git(upstream.directory, "symbolic-ref", "HEAD", "refs/heads/main/new")
    await harness.worker().sync("push", full=False)
    assert refs(harness.path()) == upstream.refs() == harness.told["octo/widget"]
    assert git(harness.path(), "symbolic-ref", "HEAD") == "refs/heads/main/new"


@pytest_twisted.ensureDeferred
async def test_a_remote_that_did_not_change_is_not_fetched(pretend_github: PretendGitHub, tmp_path: Path) -> None:
    url = await pretend_github.create("octo/widget")
    await pretend_github.commit("octo/widget")
    harness = Harness(tmp_path / "state", managed(url))
    await harness.worker().sync("start")
    fetched = pretend_github.fetches("octo/widget")
    await pretend_github.set_ref("octo/widget", "refs/pull/1/head", "refs/heads/main")
    await harness.worker().sync("backstop")
    assert pretend_github.fetches("octo/widget") == fetched
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_what_a_person_did_in_the_mirror_is_undone_and_told(harness: Harness, upstream: Upstream) -> None:
    await harness.worker().sync("start")
    oid = upstream.advance()
    await harness.worker().sync("backstop")
    git(harness.path(), "update-ref", "refs/heads/mine", oid)
    git(harness.path(), "update-ref", "refs/heads/main", f"{oid}~1")
    git(harness.path(), "symbolic-ref", "HEAD", "refs/heads/mine")
    await harness.worker().sync("backstop")
    assert refs(harness.path()) == upstream.refs() == harness.told["octo/widget"]
    assert git(harness.path(), "symbolic-ref", "HEAD") == "refs/heads/main"


@pytest_twisted.ensureDeferred
async def test_thousands_of_refs_move_at_once(harness: Harness, upstream: Upstream) -> None:
    def move(oid: str, count: int) -> None:
        lines = "".join(f"update refs/heads/b{number} {oid}\n" for number in range(count))
        git(upstream.directory, "update-ref", "--stdin", stdin=lines.encode())

    move(upstream.advance(), 1500)
    done = await harness.worker().sync("start")
    assert len(done.changes) == 1501
    assert not list((harness.path() / "refs" / "heads").iterdir()), "they are packed"
    move(upstream.advance(), 1500)
    done = await harness.worker().sync("backstop")
    assert {change.forced for change in done.changes} == {False}
    assert refs(harness.path()) == upstream.refs() == harness.told["octo/widget"]


@pytest_twisted.ensureDeferred
async def test_without_a_backstop_a_start_still_tells_what_a_crash_left_untold(
    harness: Harness, upstream: Upstream, tmp_path: Path
) -> None:
    await harness.worker().sync("start")
    again = Harness(tmp_path / "state", managed("file:///nowhere"), interval=0)
    await again.worker().rounds.idle()
    assert again.told["octo/widget"] == upstream.refs()
    assert [each[2] for each in again.announcements] == ["start"]
    assert again.fetches() == [], "the remote was not asked"
    await again.stop()


# -- maintenance ----------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_maintenance_makes_a_commit_graph_and_readers_do_not_notice(harness: Harness, upstream: Upstream) -> None:
    await harness.worker().sync("start")
    for _ in range(120):
        last = upstream.advance()
    await harness.worker().sync("backstop")
    await harness.worker().maintain()
    assert list((harness.path() / "objects" / "info").glob("commit-graph*"))
    assert git(harness.path(), "rev-parse", "refs/heads/main") == last
    git(harness.path(), "fsck", "--strict")
    healed = harness.named("healed")
    await harness.worker().sync("backstop")
    assert harness.named("healed") == healed == []


@pytest_twisted.ensureDeferred
async def test_a_push_does_not_wait_for_maintenance(harness: Harness, upstream: Upstream) -> None:
    await harness.worker().sync("start")
    maintaining: Deferred[Any] = Deferred.fromCoroutine(harness.worker().maintain())
    ended: list[object] = []
    maintaining.addBoth(ended.append)
    old, new = upstream.refs()["refs/heads/main"], upstream.advance()
    await harness.push(pushed(harness, old, new))
    assert len(harness.seen) == 1
    assert ended
    assert harness.worker().fetches_since_maintenance > 0


class Worn:
    """A worker as the schedule of maintenance needs it."""

    def __init__(self, fetches_since_maintenance: int) -> None:
        self.fetches_since_maintenance = fetches_since_maintenance
        self.rounds = self
        self.busy = False
        self.maintained: list[Deferred[None]] = []

    async def maintain(self) -> None:
        self.maintained.append(Deferred())
        await self.maintained[-1]


def test_maintenance_takes_one_mirror_at_a_time_in_idle_moments_the_most_fetched_first() -> None:
    clock = Clock()
    workers: list[Any] = [Worn(30), Worn(90), Worn(3)]
    places = FetchSlots(1)
    at_work = maintenance.MaintenanceSchedule(clock, lambda: workers, DiskReserve(clock, Path("/"), reserve=0), places)
    at_work.start()
    push = places.of("push").acquire()
    clock.advance(maintenance.PERIOD)
    assert [len(each.maintained) for each in workers] == [0, 0, 0]
    slot: Any = push.turn.result
    slot.release_early()  # its remote hangs
    workers[2].busy = True
    clock.advance(maintenance.PERIOD)
    clock.advance(maintenance.PERIOD)
    assert [len(each.maintained) for each in workers] == [0, 1, 0]
    workers[1].fetches_since_maintenance = 0
    workers[1].maintained[0].errback(StackitError("a push came first"))
    clock.pump([maintenance.PERIOD] * 2)
    assert [len(each.maintained) for each in workers] == [1, 1, 0]
    workers[0].fetches_since_maintenance = 0
    workers[0].maintained[0].callback(None)
    clock.pump([maintenance.PERIOD] * 2)
    assert [len(each.maintained) for each in workers] == [1, 1, 0]
    at_work.stop()
    assert clock.getDelayedCalls() == []


# -- first clone, version ---------------------------------------------------------------


def test_a_first_clone_says_every_ten_seconds_where_it_is() -> None:
    clock = Clock()
    told: list[Occurrence] = []
    app: Any = type("Seen", (), {"reactor": clock, "observe": told.append, "redact": Redactor(["the-token"])})
    progress = Progress(app, Repo("octo", "widget"))
    for percent in range(0, 100, 10):
        progress(b"Receiving objects:  %d%% (%d/100), 1.00 MiB | 1.00 MiB/s\r" % (percent, percent))
        clock.advance(3)
    assert [each.reason for each in told] == [
        "first clone: Receiving objects: 40% (40/100), 1.00 MiB | 1.00 MiB/s",
        "first clone: Receiving objects: 80% (80/100), 1.00 MiB | 1.00 MiB/s",
    ]
    clock.advance(30)
    progress(b"remote: Counting objects: 7 for the-token\r")  # what a remote writes is its own
    assert told[-1].reason == "first clone: remote: Counting objects: 7 for ***"


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("git version 2.31.0", None),
        ("git version 3.0.1.windows.1", None),
        ("git version 2.30.9", "git 2.30.9 is too old: stackit needs 2.31 or newer"),
        ("nothing", "does not say"),
    ],
)
def test_a_git_that_is_too_old_is_named_at_the_start(tmp_path: Path, said: str, problem: str | None) -> None:
    program = tmp_path / "git"
    program.write_text(f"#!/bin/sh\necho '{said}'\n")
    program.chmod(0o755)
    found = version_problem(str(program))
    assert found is None if problem is None else problem in str(found)


@pytest.mark.parametrize(
    "refspecs",
    [
        ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"),
        ("+refs/heads/*:refs/heads/*", "+refs/tags/v*:refs/tags/v*"),
        ("+refs/heads/a/*:refs/heads/b/*",),
        ("+refs/*:refs/*",),
        ("+refs/heads/*:refs/heads/*", "^refs/heads/tmp/*"),
        ("+refs/*:refs/*", "^refs/heads/tm*", "^refs/heads/main", "^refs/pull/*/head"),
        ("+refs/*:refs/*", "^refs/pull/*", "^refs/tags/w"),
        ("^refs/heads/a/*", "+refs/heads/*:refs/*", "+refs/tags/*:refs/stackit-*"),
        ("refs/heads/main:refs/heads/main",),
    ],
)
def test_where_refs_land_is_the_same_by_the_short_way_and_the_long(refspecs: tuple[str, ...]) -> None:
    names = ("heads/main", "heads/a/x", "heads/tmp/y", "tags/v1", "tags/w", "pull/1/head", "stackit-kept/heads/z/1")
    listing = Listing({f"refs/{name}".encode(): "1" * 40 for name in names}, None)
    expected = {destination(refspecs, f"refs/{name}") for name in names} - {None, "refs/stackit-kept/heads/z/1"}
    assert {ref.decode() for ref in mapped_refs(refspecs, listing.refs)} == expected
