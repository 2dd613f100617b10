"""Remotes that refuse, redirect, hang and vanish; credentials; stopping."""

from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from mirror_harness import ENV, GitHttp, Harness, SilentRemote, Upstream, git, managed, pushed, refs
from twisted.internet.defer import Deferred, gatherResults

from stackit import StackitError
from stackit.plugins.mirror.git.access import without_userinfo
from stackit.plugins.mirror.git.command import environment
from stackit.plugins.mirror.sync.tunables import Tunables
from stackit.subprocesses import ProcessLimits, run

TOKEN = "ghs_a-very-secret-token"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    return path


def children(mark: str) -> list[str]:
    """Command lines and environments of processes that mention ``mark``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if mark.encode() in text and int(process.name) != os.getpid():
            found.append(text.replace(b"\0", b" ").decode(errors="replace"))
    return found


def kill(mark: str) -> None:
    """End the processes whose command line holds ``mark``, as the kernel does when memory is short."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (process / "cmdline").read_bytes():
                os.kill(int(process.name), 9)


@pytest_twisted.ensureDeferred
async def test_a_private_repository_is_fetched_over_http_with_its_token(
    server: GitHttp, upstream: Upstream, token_file: Path, tmp_path: Path
) -> None:
    server.token = TOKEN
    at_work: list[str] = []
    seen: list[str] = []
    render = server.render

    def watching(request: Any) -> int | bytes:
        at_work.extend(children(server.url("octo/widget.git")))
        seen.extend(children(TOKEN))
        return render(request)

    server.render = watching  # type: ignore[method-assign]  # of this one server
    harness = Harness(tmp_path / "state", managed(server.url("octo/widget.git"), token_file=token_file))
    await harness.worker().sync("start")
    upstream.advance()
    await harness.worker().sync("backstop")
    assert refs(harness.path()) == upstream.refs()
    assert at_work, "git asked, and was looked at while it did"
    assert seen == []
    assert TOKEN in {password for _, password in server.asked}
    for path in (tmp_path / "state").rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes()
    assert TOKEN not in repr(harness.occurrences)
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_a_wrong_token_is_named_as_the_reason_and_not_shown(
    server: GitHttp, token_file: Path, tmp_path: Path
) -> None:
    server.token = "another"
    harness = Harness(tmp_path / "state", managed(server.url("octo/widget.git"), token_file=token_file))
    with pytest.raises(StackitError, match="token_file") as caught:
        await harness.worker().sync("start")
    assert TOKEN not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert harness.worker().state == "failing"
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_a_private_repository_without_a_token_fails_without_a_question(server: GitHttp, tmp_path: Path) -> None:
    server.token = TOKEN
    harness = Harness(tmp_path / "state", managed(server.url("octo/widget.git")))
    with pytest.raises(StackitError, match="token_file"):
        await harness.worker().sync("start")
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_a_missing_token_file_is_a_reason(upstream: Upstream, tmp_path: Path) -> None:
    harness = Harness(tmp_path / "state", managed(upstream, token_file=tmp_path / "nothing"))
    with pytest.raises(StackitError, match="cannot be read"):
        await harness.worker().sync("start")
    assert harness.fetches()[-1].outcome == "failed"
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_a_redirect_is_reported_and_the_token_goes_nowhere_else(
    reactor: Any, server: GitHttp, token_file: Path, tmp_path: Path
) -> None:
    other = GitHttp(reactor, tmp_path / "remote")
    server.redirect = other.url("").rstrip("/")
    harness = Harness(tmp_path / "state", managed(server.url("octo/widget.git"), token_file=token_file))
    with pytest.raises(StackitError, match="renamed or moved"):
        await harness.worker().sync("start")
    assert other.asked == []
    await harness.stop()
    await other.stop()


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "no such repository"), (403, "refuses access"), (500, "500"), (429, "429")]
)
@pytest_twisted.ensureDeferred
async def test_what_the_remote_answers_becomes_one_clear_line(
    server: GitHttp, tmp_path: Path, status: int, reason: str
) -> None:
    server.status = status
    harness = Harness(tmp_path / "state", managed(server.url("octo/widget.git")))
    with pytest.raises(StackitError, match=reason) as caught:
        await harness.worker().sync("start")
    assert len(str(caught.value).splitlines()) == 1
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_a_hung_remote_is_ended_with_all_its_children(hung: SilentRemote, tmp_path: Path) -> None:
    harness = Harness(tmp_path / "state", managed(hung.url), timeout=0.5)
    git_init = harness.worker()
    git(tmp_path, "init", "--quiet", "--bare", str(harness.path()))
    with pytest.raises(StackitError, match="no progress"):
        await git_init.sync("manual")
    assert harness.fetches()[-1].outcome == "timeout"
    assert children(hung.url) == []
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_a_first_clone_that_stalls_ends_too(hung: SilentRemote, tmp_path: Path) -> None:
    harness = Harness(tmp_path / "state", managed(hung.url), tunables=Tunables(stall=0.3))
    with pytest.raises(StackitError, match="no progress"):
        await harness.worker().sync("start")
    assert children(hung.url) == []
    assert not harness.path().exists()
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_a_fetch_that_ends_before_its_objects_are_here_moves_no_ref(
    server: GitHttp, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.set("refs/heads/gone", upstream.refs()["refs/heads/main"])
    harness = Harness(tmp_path / "state", managed(server.url("octo/widget.git")))
    await harness.worker().sync("start")
    before = upstream.refs()
    upstream.delete("refs/heads/gone")
    upstream.advance()
    server.hang_on = b"command=fetch"
    harness.give_up_after(2.0)
    with pytest.raises(StackitError, match="no progress"):
        await harness.worker().sync("backstop")
    assert refs(harness.path()) == before == harness.told["octo/widget"]
    server.hang_on = None
    harness.give_up_after(120.0)
    await harness.worker().sync("backstop")
    assert refs(harness.path()) == upstream.refs() == harness.told["octo/widget"]
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_a_pack_that_breaks_off_leaves_nothing_behind(
    server: GitHttp, upstream: Upstream, tmp_path: Path
) -> None:
    harness = Harness(tmp_path / "state", managed(server.url("octo/widget.git")))
    await harness.worker().sync("start")
    before = upstream.refs()
    for number in range(60):
        upstream.advance(f"refs/heads/b{number}")
    server.cut = 2000
    with pytest.raises(StackitError):
        await harness.worker().sync("backstop")
    assert refs(harness.path()) == before
    assert not list((harness.path() / "objects" / "pack").glob("tmp_*"))
    server.cut = None
    await harness.worker().sync("backstop")
    assert refs(harness.path()) == upstream.refs() == harness.told["octo/widget"]
    git(harness.path(), "fsck", "--strict")
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_a_reader_who_clones_during_a_storm_never_fails(reactor: Any, upstream: Upstream, tmp_path: Path) -> None:
    harness = Harness(tmp_path / "state", managed(upstream))
    await harness.worker().sync("start")
    storm = random.Random(1)
    stopped = False

    async def read() -> int:
        clones = 0
        while not stopped or not clones:
            target = tmp_path / f"clone-{clones}"
            url = f"file://{harness.path()}"
            done = await run(
                reactor,
                ["git", "clone", "--quiet", "--mirror", url, str(target)],
                env=ENV,
                limits=ProcessLimits(timeout=60),
            )
            assert (done.status, done.stderr) == (0, b"")
            git(target, "fsck", "--strict")
            clones += 1
        return clones

    reading = Deferred.fromCoroutine(read())
    for _ in range(25):
        main = upstream.advance()
        ref = f"refs/heads/topic{storm.randrange(4)}"
        if ref in upstream.refs():
            upstream.delete(ref)
        else:
            upstream.set(ref, upstream.commit(main))
        round_ = Deferred.fromCoroutine(harness.worker().sync("push"))
        if storm.random() < 0.4:
            await harness.reactor_turn()
            kill(f"{harness.path()}\0fetch")
        with contextlib.suppress(StackitError):
            await round_
        assert refs(harness.path()) == harness.told["octo/widget"]
    stopped = True
    await reading
    await harness.worker().sync("manual")
    assert refs(harness.path()) == upstream.refs() == harness.told["octo/widget"]
    git(harness.path(), "fsck", "--strict")
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_a_push_does_not_wait_for_looks_at_other_repositories(upstream: Upstream, tmp_path: Path) -> None:
    names = [f"octo/r{number}" for number in range(8)]
    harness = Harness(tmp_path / "state", *(managed(upstream, name) for name in names), concurrency=1)
    looking = Deferred.fromCoroutine(harness.backstop())
    await harness.push(pushed(harness, None, None, None, name=names[-1]))
    assert len(harness.named("synced")) <= 3
    await looking
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_hung_remotes_delay_no_other_repository(hung: SilentRemote, upstream: Upstream, tmp_path: Path) -> None:
    harness = Harness(
        tmp_path / "state",
        managed(hung.url, "octo/hung"),
        managed(hung.url, "octo/hung2"),
        managed(upstream),
        concurrency=1,
        tunables=Tunables(release_after=0.2),
    )
    waiting = [Deferred.fromCoroutine(harness.worker(name).sync("start")) for name in ("octo/hung", "octo/hung2")]
    await harness.worker().sync("start")
    assert refs(harness.path()) == upstream.refs()
    assert not any(each.called for each in waiting)
    for each in waiting:
        each.addErrback(lambda failure: failure.trap(StackitError) and None)
    await harness.stop()
    await gatherResults(waiting)
    assert children(hung.url) == []


@pytest_twisted.ensureDeferred
async def test_stopping_ends_what_hangs_and_leaves_no_child(
    hung: SilentRemote, upstream: Upstream, tmp_path: Path
) -> None:
    harness = Harness(tmp_path / "state", managed(hung.url, "octo/hung"), managed(upstream))
    stuck = Deferred.fromCoroutine(harness.worker("octo/hung").sync("manual"))
    await harness.push(pushed(harness, None, None, None))
    await harness.stop()
    assert refs(harness.path()) == upstream.refs()
    with pytest.raises(StackitError, match="stopping"):
        await stuck
    with pytest.raises(StackitError, match="stopping"):
        await harness.worker().sync("manual")
    assert children(hung.url) == []


@pytest_twisted.ensureDeferred
async def test_no_more_fetches_than_the_concurrency_run_at_once(upstream: Upstream, tmp_path: Path) -> None:
    names = [f"octo/r{number}" for number in range(6)]
    slow = Tunables(release_after=600.0)  # as a busy machine is
    harness = Harness(tmp_path / "state", *(managed(upstream, name) for name in names), concurrency=2, tunables=slow)
    most = 0
    running = 0
    for name in names:
        worker = harness.worker(name)
        refresh = worker._refresher.refresh

        async def counted(refresh: Any = refresh, **options: Any) -> None:
            nonlocal most, running
            running += 1
            most = max(most, running)
            await refresh(**options)
            running -= 1

        worker._refresher.refresh = counted
    await harness.backstop()
    assert most == 2
    assert all(refs(harness.path(name)) == upstream.refs() for name in names)
    await harness.stop()


def test_a_url_is_shown_without_its_user_and_password() -> None:
    assert (
        without_userinfo("fatal: https://user:pass@host/x and ssh://git@host/y")
        == "fatal: https://host/x and ssh://host/y"
    )


@pytest.mark.parametrize(
    ("url", "protocol"),
    [
        ("https://github.com/octo/widget.git", "https"),
        ("git@github.com:octo/widget.git", "ssh"),
        ("/srv/git/odd:name", "file"),
        ("file:///srv/git", "file"),
        (None, ""),
    ],
)
def test_git_may_use_the_protocol_of_the_url_and_no_other(url: str | None, protocol: str) -> None:
    assert environment(Path("/home"), url)["GIT_ALLOW_PROTOCOL"] == protocol
