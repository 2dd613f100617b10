"""A first clone is what a first fetch would have made, and as quick as ``git clone`` however many refs there are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from mirror_harness import GitHttp, Harness, Upstream, git, managed, refs

from stackit import StackitError
from stackit.api.repos import DEFAULT_REFSPECS
from stackit.plugins.mirror.remote.protocol_v2 import pkt_line
from stackit.plugins.mirror.sync.supervised_git import SupervisedGit
from stackit.plugins.mirror.sync.tunables import Tunables

COUNT = Tunables().clone_from + 20


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    """As many refs as make a clone worth it, some of them outside the usual refspecs."""
    upstream = Upstream(tmp_path / "remote" / "octo" / "widget.git")
    oid = upstream.advance()
    git(upstream.directory, "tag", "-a", "-m", "v1", "v1", oid)
    names = [f"refs/heads/topic/{number}" for number in range(COUNT)]
    names += [f"refs/{name}" for name in ("heads/tmp/a", "pull/1/head", "stackit/one", "tags/light")]
    git(upstream.directory, "update-ref", "--stdin", stdin="".join(f"create {name} {oid}\n" for name in names).encode())
    return upstream


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where refs were brought by a fetch."""
    where: list[Path] = []
    fetch = SupervisedGit.fetch

    async def noted(self: SupervisedGit, directory: Path, **more: Any) -> None:
        where.append(directory)
        await fetch(self, directory, **more)

    monkeypatch.setattr(SupervisedGit, "fetch", noted)
    return where


@pytest.fixture
def cloned(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where a clone was tried."""
    where: list[Path] = []
    clone = SupervisedGit.clone

    async def noted(self: SupervisedGit, directory: Path, progress: Any) -> None:
        where.append(directory)
        await clone(self, directory, progress)

    monkeypatch.setattr(SupervisedGit, "clone", noted)
    return where


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def mirrored(state: Path, url: str, *, tunables: Tunables = Tunables(), **more: Any) -> object:  # noqa: B008 - frozen
    """What a first sync makes: refs, HEAD and settings; or the reason why it makes nothing."""
    harness = Harness(state, managed(url, **more), interval=0, tunables=tunables)
    try:
        await harness.worker().sync("start")
        git(harness.path(), "rev-list", "--objects", "--all")
        assert refs(harness.path()) == harness.told.get("octo/widget", {})
        return (
            refs(harness.path()),
            git(harness.path(), "symbolic-ref", "HEAD"),
            (harness.path() / "config").read_text(),
        )
    except StackitError as problem:
        assert not harness.path().exists()
        return str(problem)
    finally:
        await harness.stop()


async def both_ways(path: Path, url: str, **more: Any) -> list[object]:
    """``mirrored`` as it is done with many refs, and as it is done with few."""
    many = await mirrored(path / "many", url, **more)
    few = Tunables(clone_from=COUNT * 10)
    return [many, await mirrored(path / "few", url, tunables=few, **more)]


@pytest_twisted.ensureDeferred
async def test_many_refs_come_in_one_file_with_nothing_that_tells_of_the_clone(
    upstream: Upstream, tmp_path: Path, fetched: list[Path]
) -> None:
    harness = Harness(tmp_path / "state", managed(upstream), interval=0)
    await harness.worker().sync("start")
    expected = {ref: oid for ref, oid in upstream.refs().items() if ref != "refs/pull/1/head"}
    assert refs(harness.path()) == expected == harness.told["octo/widget"]
    assert fetched == []
    assert files(harness.path() / "refs") == []
    assert sorted(path.name for path in harness.path().iterdir() if path.name != "stackit-object-digest") == [
        "HEAD", "config", "objects", "packed-refs", "refs",
    ]  # fmt: skip
    await harness.stop()


@pytest.mark.parametrize(
    ("refspecs", "by_clone"),
    [
        (DEFAULT_REFSPECS, True),
        (("+refs/heads/*:refs/heads/*",), True),
        (("+refs/heads/*:refs/heads/*", "+refs/pull/1/head:refs/heads/pull-1"), True),
        (("+refs/tags/*:refs/old/*", "+refs/heads/*:refs/heads/*", "+refs/heads/*:refs/copies/*"), True),
        (("+refs/heads/*:refs/heads/*", "^refs/heads/tmp/*"), False),
        (("+refs/heads/topic/*:refs/heads/topic/*", "+refs/heads/main:refs/heads/main"), False),
        (("+refs/heads/*:refs/mine/*", "+refs/heads/main:refs/heads/main"), False),
        (("+refs/heads/*:refs/heads/*", "+refs/heads/missing:refs/heads/there"), False),
        (("+refs/heads/*:refs/heads/*", "+refs/tags/light:refs/heads/main/light"), False),
        (("+refs/heads/*:refs/heads/*", "+refs/tags/v1:refs/heads/main"), False),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_clone_is_what_a_fetch_would_have_made(
    upstream: Upstream,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fetched: list[Path],
    refspecs: tuple[str, ...],
    by_clone: bool,
) -> None:
    many, few = await both_ways(tmp_path, upstream.url, refspecs=refspecs)
    assert many == few
    assert len(fetched) == 2 - by_clone


@pytest.mark.parametrize(
    "head", ["refs/heads/unborn", "refs/heads/topic/7", "refs/stackit/one", "refs/pull/1/head", None]
)
@pytest_twisted.ensureDeferred
async def test_head_is_the_same_wherever_that_of_the_remote_leads(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str | None
) -> None:
    if head is None:
        git(upstream.directory, "update-ref", "--no-deref", "HEAD", upstream.commit())
    else:
        git(upstream.directory, "symbolic-ref", "HEAD", head)
    many, few = await both_ways(tmp_path, upstream.url)
    assert many == few
    assert isinstance(many, tuple)


@pytest_twisted.ensureDeferred
async def test_a_remote_with_sha256_is_cloned_with_it(tmp_path: Path, fetched: list[Path]) -> None:
    path = tmp_path / "upstream"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", "--object-format=sha256", path)
    tree = git(path, "hash-object", "-t", "tree", "-w", "--stdin")
    oid = git(path, "commit-tree", tree, "-m", "one")
    names = ["refs/heads/main", *(f"refs/heads/topic/{number}" for number in range(COUNT))]
    git(path, "update-ref", "--stdin", stdin="".join(f"create {name} {oid}\n" for name in names).encode())
    made = await mirrored(tmp_path / "state", f"file://{path}")
    assert isinstance(made, tuple)
    assert made[0] == refs(path)
    assert fetched == []


@pytest_twisted.ensureDeferred
async def test_a_shallow_remote_does_not_make_the_mirror_shallow(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.advance()
    shallow = tmp_path / "shallow.git"
    git(tmp_path, "clone", "--quiet", "--mirror", "--depth=1", upstream.url, shallow)
    many, few = await both_ways(tmp_path, f"file://{shallow}")
    assert many == few
    assert [path for path in files(tmp_path / "many") if path.name == "shallow"] == []


NOWHERE = b"1" * 40


@pytest.mark.parametrize(
    "said",
    [
        b"%(oid) refs/heads/a\nb\n",
        b"%(oid) refs/heads/../../../config\n",
        b"%(oid) refs/heads/../HEAD\n",
        b"%(oid) refs/heads/\x01\x7f\n",
        b"%(oid) refs/heads/caf\xe9\n",
        b"%(oid) refs/heads/a b\n",
        b"%(oid) refs/heads/a\0b\n",
        b"%(oid) refs/heads/a.lock\n",
        b"%(oid) refs/heads//a\n",
        b"%(oid) refs/heads/\n",
        b"%(oid) refs/heads/-a\n",
        b"%(oid) refs/heads/" + b"a" * 251 + b"\n",
        b"%(oid) refs/heads" + b"/a" * 1500 + b"\n",
        b"%(oid) refs/heads/main/inside\n",
        b"%(oid) refs/heads/topic\n",
        b"%(oid) refs/heads/main\n",
        b"%(oid) HEAD\n",
        b"%(oid) packed-refs\n",
        b"%(oid) refs/stackit-kept/heads/main/1\n",
        b"%(tag) refs/heads/main\n",
        b"%(nowhere) refs/heads/nowhere\n",
        b"%(nowhere) refs/heads/main\n",
        b"%(nowhere) HEAD symref-target:refs/heads/main\n",
        b"unborn HEAD symref-target:refs/heads/none\n",
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_remote_that_says_odd_things_is_met_as_a_fetch_meets_it(
    server: GitHttp,
    upstream: Upstream,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cloned: list[Path],
    said: bytes,
) -> None:
    oids = upstream.refs()
    for name, oid in (
        (b"%(oid)", oids["refs/heads/main"].encode()),
        (b"%(tag)", oids["refs/tags/v1"].encode()),
        (b"%(nowhere)", NOWHERE),
    ):
        said = said.replace(name, oid)
    server.said_too = pkt_line(said)
    many, few = await both_ways(tmp_path, server.url("octo/widget.git"))
    assert many == few
    assert len(cloned) == 1


@pytest.mark.parametrize(
    "said",
    [
        2 * NOWHERE + b" refs/heads/longer\n",
        b"--output=/tmp/x refs/heads/option\n",
        b"zz" + NOWHERE + b" refs/heads/odd\n",
        b"nonsense\n",
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_remote_whose_listing_is_none_is_not_cloned(
    server: GitHttp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cloned: list[Path], said: bytes
) -> None:
    server.said_too = pkt_line(said)
    many, few = await both_ways(tmp_path, server.url("octo/widget.git"))
    assert many == few
    assert isinstance(many, str)
    assert cloned == []


# -- what a first fetch does, a clone does too --------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_private_remote_is_cloned_with_its_token_which_is_written_nowhere(
    server: GitHttp, tmp_path: Path, fetched: list[Path]
) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("ghs_very-secret\n")
    server.token = "ghs_very-secret"
    made = await mirrored(tmp_path / "state", server.url("octo/widget.git"), token_file=token_file)
    assert isinstance(made, tuple)
    assert fetched == []
    assert [path for path in files(tmp_path / "state") if b"secret" in path.read_bytes()] == []


@pytest_twisted.ensureDeferred
async def test_a_clone_that_hangs_or_breaks_off_leaves_nothing_behind(
    server: GitHttp, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fetched: list[Path]
) -> None:
    large = git(upstream.directory, "hash-object", "-w", "--stdin", stdin=os.urandom(100_000))
    upstream.set("refs/tags/large", large)
    url = server.url("octo/widget.git")
    stalling = Tunables(stall=0.5)
    server.hang_on = b"\x1f\x8b"  # git compresses what is long: here what it wants, and nothing else
    assert "no progress" in str(await mirrored(tmp_path / "state", url, tunables=stalling))
    server.hang_on, server.cut = None, 50_000
    assert isinstance(await mirrored(tmp_path / "state", url, tunables=stalling), str)
    assert files(tmp_path / "state" / "mirrors" / ".cloning") == []
    server.cut = None
    assert isinstance(await mirrored(tmp_path / "state", url), tuple)
    assert fetched == []


@pytest_twisted.ensureDeferred
async def test_old_tips_that_were_kept_come_into_a_clone_that_replaces_the_mirror(
    upstream: Upstream, tmp_path: Path, fetched: list[Path]
) -> None:
    harness = Harness(tmp_path / "state", managed(upstream, keep_forced=True), interval=0)
    await harness.worker().sync("start")
    old = upstream.refs()["refs/heads/main"]
    new = upstream.commit()
    upstream.set("refs/heads/main", new)
    await harness.worker().sync("manual")
    broken = harness.path() / "objects" / new[:2] / new[2:]
    broken.chmod(0o644)
    broken.write_bytes(b"garbage")
    await harness.worker().sync("manual")
    kept = f"refs/stackit-kept/heads/main/{old}"
    assert "fresh clone" in str(harness.named("healed")[-1].reason)
    assert {**harness.told["octo/widget"], kept: old} == refs(harness.path())
    await harness.stop()
