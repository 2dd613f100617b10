"""The mirror plugin: clones, fetches, and exactly what changed, on real git."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import pytest_twisted
from mirror_harness import ZERO, GitHttp, Harness, Upstream, git, managed, pushed, refs

from stackit import RefChange, Repo, StackitError


def kinds(changes: tuple[RefChange, ...]) -> set[tuple[str, str, bool]]:
    return {(change.ref, change.kind, change.forced) for change in changes}


@pytest_twisted.ensureDeferred
async def test_the_first_sync_clones(harness: Harness, upstream: Upstream) -> None:
    assert harness.worker().state == "cloning"
    done = await harness.worker().sync("start")
    assert refs(harness.path()) == upstream.refs()
    assert kinds(done.changes) == {("refs/heads/main", "created", False)}
    assert harness.told["octo/widget"] == upstream.refs()
    assert harness.worker().state == "in_step"
    assert git(harness.path(), "rev-parse", "--is-bare-repository") == "true"
    git(harness.path(), "fsck", "--strict")


@pytest_twisted.ensureDeferred
async def test_a_push_becomes_visible_and_its_change_is_told(harness: Harness, upstream: Upstream) -> None:
    await harness.worker().sync("start")
    old = upstream.refs()["refs/heads/main"]
    new = upstream.advance()
    event = pushed(harness, old, new)
    await harness.push(event)
    assert refs(harness.path()) == upstream.refs()
    assert list(harness.seen) == [event.id]
    change = RefChange("refs/heads/main", old, new, "updated", forced=False)
    assert harness.announcements[-1] == ("octo/widget", (change,), "push", event.delivery)
    [visible] = harness.named("visible")
    assert visible.delivery == event.delivery
    assert visible.seconds is not None
    assert [(each.cause, each.outcome) for each in harness.fetches()] == [("start", "changed"), ("push", "changed")]


@pytest_twisted.ensureDeferred
async def test_a_push_to_a_repository_not_cloned_yet_clones_it(harness: Harness, upstream: Upstream) -> None:
    await harness.push(pushed(harness, ZERO, upstream.refs()["refs/heads/main"]))
    assert refs(harness.path()) == upstream.refs()
    assert len(harness.seen) == 1


@pytest_twisted.ensureDeferred
async def test_a_push_that_the_mirror_shows_already_costs_no_fetch(harness: Harness, upstream: Upstream) -> None:
    old = upstream.refs()["refs/heads/main"]
    new = upstream.advance()
    await harness.worker().sync("start")
    await harness.push(pushed(harness, old, new))
    assert len(harness.fetches()) == 1
    assert len(harness.seen) == 1


@pytest_twisted.ensureDeferred
async def test_every_kind_of_change_is_told_exactly(harness: Harness, upstream: Upstream) -> None:
    base = upstream.advance()
    upstream.set("refs/heads/gone", base)
    upstream.set("refs/heads/forced", upstream.commit(base))
    upstream.set("refs/tags/v1", base)
    upstream.set("refs/heads/caf\udce9", base)
    await harness.worker().sync("start")
    upstream.delete("refs/heads/gone")
    upstream.set("refs/heads/forced", upstream.commit(base))
    upstream.set("refs/heads/-odd$(x)", base)
    upstream.set("refs/heads/caf\udce9", upstream.commit(base))
    upstream.set("refs/stackit/review", base)
    git(upstream.directory, "tag", "-f", "-a", "-m", "v1", "v1", base)
    done = await harness.worker().sync("manual")
    assert kinds(done.changes) == {
        ("refs/heads/gone", "deleted", False),
        ("refs/heads/forced", "updated", True),
        ("refs/heads/-odd$(x)", "created", False),
        ("refs/heads/caf\udce9", "updated", False),
        ("refs/stackit/review", "created", False),
        ("refs/tags/v1", "updated", True),
    }
    assert refs(harness.path()) == upstream.refs() == harness.told["octo/widget"]


@pytest_twisted.ensureDeferred
async def test_a_branch_is_replaced_by_a_directory_of_branches_and_back(harness: Harness, upstream: Upstream) -> None:
    oid = upstream.advance()
    upstream.set("refs/heads/topic", oid)
    await harness.worker().sync("start")
    upstream.delete("refs/heads/topic")
    upstream.set("refs/heads/topic/one", oid)
    await harness.worker().sync("backstop")
    assert refs(harness.path()) == upstream.refs() == harness.told["octo/widget"]
    upstream.delete("refs/heads/topic/one")
    upstream.set("refs/heads/topic", oid)
    await harness.worker().sync("backstop")
    assert refs(harness.path()) == upstream.refs() == harness.told["octo/widget"]


@pytest_twisted.ensureDeferred
async def test_a_sync_that_changes_nothing_asks_the_journal_nothing(harness: Harness) -> None:
    await harness.worker().sync("start")
    harness.told.clear()  # a comparison would now find everything new
    done = await harness.worker().sync("backstop")
    assert done.changes == ()
    assert harness.fetches()[-1].outcome == "unchanged"


@pytest_twisted.ensureDeferred
async def test_what_a_crash_left_unannounced_is_told_at_the_next_start(harness: Harness, tmp_path: Path) -> None:
    await harness.worker().sync("start")
    before = harness.told["octo/widget"]
    again = Harness(tmp_path / "state", managed(str(tmp_path / "nowhere")))
    again.told["octo/widget"] = {"refs/heads/lost": before["refs/heads/main"]}
    with pytest.raises(StackitError):
        await again.worker().sync("backstop")
    assert again.told["octo/widget"] == before
    assert again.announcements[0][2] == "start"
    await again.stop()


@pytest_twisted.ensureDeferred
async def test_head_follows_the_default_branch(harness: Harness, upstream: Upstream) -> None:
    await harness.worker().sync("start")
    upstream.set("refs/heads/trunk", upstream.refs()["refs/heads/main"])
    git(upstream.directory, "symbolic-ref", "HEAD", "refs/heads/trunk")
    await harness.worker().sync("backstop")
    assert git(harness.path(), "symbolic-ref", "HEAD") == "refs/heads/trunk"


@pytest_twisted.ensureDeferred
async def test_head_never_dangles_after_a_push_that_renames_the_default_branch(
    harness: Harness, upstream: Upstream
) -> None:
    await harness.worker().sync("start")
    oid = upstream.refs()["refs/heads/main"]
    upstream.set("refs/heads/trunk", oid)
    git(upstream.directory, "symbolic-ref", "HEAD", "refs/heads/trunk")
    upstream.delete("refs/heads/main")
    await harness.push(pushed(harness, oid, ZERO))
    assert git(harness.path(), "symbolic-ref", "HEAD") == "refs/heads/trunk"
    assert len(harness.seen) == 1


@pytest_twisted.ensureDeferred
async def test_an_empty_upstream_is_mirrored_empty(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "state", managed(Upstream(tmp_path / "empty")))
    await harness.worker().sync("start")
    assert refs(harness.path()) == {}
    assert harness.worker().state == "in_step"
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_a_mirror_that_somebody_removed_is_cloned_again(harness: Harness, upstream: Upstream) -> None:
    await harness.worker().sync("start")
    harness.path().rename(harness.state / "away")
    upstream.advance()
    done = await harness.worker().sync("backstop")
    assert refs(harness.path()) == upstream.refs() == harness.told["octo/widget"]
    assert [change.kind for change in done.changes] == ["updated"]


@pytest_twisted.ensureDeferred
async def test_a_failing_remote_is_a_reason_and_the_mirror_keeps_its_refs(harness: Harness, upstream: Upstream) -> None:
    await harness.worker().sync("start")
    upstream.directory.rename(upstream.directory.with_name("away"))
    with pytest.raises(StackitError, match="no such repository"):
        await harness.worker().sync("manual")
    assert harness.worker().state == "failing"
    assert harness.worker().status.next_at > harness.app.now()
    assert len(refs(harness.path())) == 1
    assert harness.fetches()[-1].outcome == "failed"
    upstream.directory.with_name("away").rename(upstream.directory)
    await harness.worker().sync("manual")
    assert harness.worker().state == "in_step"
    assert harness.worker().status.error is None


@pytest_twisted.ensureDeferred
async def test_git_sees_no_settings_but_its_own(
    harness: Harness, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Upstream(tmp_path / "other")
    other.advance("refs/heads/evil")
    settings = tmp_path / "gitconfig"
    settings.write_text(f'[url "{other.url}"]\n\tinsteadOf = {upstream.url}\n')
    monkeypatch.setenv("GIT_DIR", str(other.directory))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", f"'url.{other.url}.insteadOf'='{upstream.url}'")
    await harness.worker().sync("start")
    assert refs(harness.path()) == upstream.refs()


@pytest_twisted.ensureDeferred
async def test_a_url_that_looks_like_an_option_runs_nothing(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "state", managed(f"--upload-pack=touch {tmp_path}/ran"))
    with pytest.raises(StackitError):
        await harness.worker().sync("start")
    assert not (tmp_path / "ran").exists()
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_hooks_in_the_mirror_do_not_run(harness: Harness, upstream: Upstream, tmp_path: Path) -> None:
    await harness.worker().sync("start")
    hook = harness.path() / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    upstream.advance()
    await harness.worker().sync("backstop")
    assert not (tmp_path / "ran").exists()


@pytest_twisted.ensureDeferred
async def test_a_lock_that_a_killed_git_left_does_not_stop_the_mirror(harness: Harness, upstream: Upstream) -> None:
    await harness.worker().sync("start")
    upstream.advance()
    upstream.set("refs/heads/other", upstream.refs()["refs/heads/main"])
    (harness.path() / "refs" / "heads").mkdir(parents=True, exist_ok=True)
    for name in ("refs/heads/main.lock", "packed-refs.lock"):
        lock = harness.path() / name
        lock.touch()
        os.utime(lock, (1, 1))
    await harness.worker().sync("backstop")
    assert refs(harness.path()) == upstream.refs()
    assert [each.count for each in harness.named("healed")] == [2]


@pytest.mark.parametrize("restarted", [False, True])
@pytest_twisted.ensureDeferred
async def test_what_a_power_cut_emptied_is_fetched_again(
    harness: Harness, upstream: Upstream, tmp_path: Path, restarted: bool
) -> None:
    await harness.worker().sync("start")
    new = upstream.advance()
    upstream.set("refs/heads/other", new)
    await harness.worker().sync("backstop")
    (harness.path() / "refs" / "heads" / "main").write_bytes(b"")
    loose = harness.path() / "objects" / new[:2] / new[2:]
    loose.unlink()
    loose.touch()
    again = Harness(tmp_path / "state", managed(upstream)) if restarted else harness
    again.told = harness.told
    told = len(harness.announcements)
    await again.worker().sync("backstop")
    assert refs(harness.path()) == upstream.refs()
    git(harness.path(), "fsck", "--strict")
    assert again.announcements[told if again is harness else 0 :] == []
    assert [each.count for each in again.named("healed")] == [2]
    if restarted:
        await again.stop()


@pytest_twisted.ensureDeferred
async def test_leftovers_are_cleared_at_start(harness: Harness, upstream: Upstream, tmp_path: Path) -> None:
    await harness.worker().sync("start")
    old = harness.path() / "objects" / "pack" / "tmp_pack_abc"
    young = harness.path() / "objects" / "pack" / "tmp_pack_def"
    half = tmp_path / "state" / "mirrors" / ".cloning" / "octo" / "half.git"
    half.mkdir(parents=True)
    old.touch()
    os.utime(old, (1, 1))
    young.touch()
    again = Harness(tmp_path / "state", managed(upstream))
    assert (old.exists(), young.exists(), half.exists()) == (False, True, False)
    assert [each.name for each in again.occurrences] == ["healed"]
    await again.stop()


@pytest_twisted.ensureDeferred
async def test_a_name_configured_in_another_spelling_keeps_its_mirror(
    harness: Harness, upstream: Upstream, tmp_path: Path
) -> None:
    await harness.worker().sync("start")
    again = Harness(tmp_path / "state", managed(upstream, "Octo/Widget"))
    assert refs(again.path("Octo/Widget")) == upstream.refs()
    assert not harness.path().exists()
    await again.stop()


@pytest_twisted.ensureDeferred
async def test_without_any_token_the_start_says_so_once(server: GitHttp, tmp_path: Path) -> None:
    remotes = [managed(server.url("octo/widget.git")), managed("file:///srv/gadget.git", "octo/gadget")]
    harness = Harness(tmp_path / "state", *remotes)
    await harness.stop()
    assert [each.reason for each in harness.named("notice")] == ["no credentials: only public repositories refresh"]


@pytest_twisted.ensureDeferred
async def test_where_no_repository_takes_a_token_the_start_misses_none(tmp_path: Path) -> None:
    remotes = [managed("ssh://git@127.0.0.1:9/o/w.git"), managed("file:///srv/gadget.git", "octo/gadget")]
    harness = Harness(tmp_path / "state", *remotes)
    await harness.stop()
    assert harness.named("notice") == []


@pytest_twisted.ensureDeferred
async def test_other_plugins_are_told_where_the_mirror_is_and_what_it_is_worth(
    harness: Harness, upstream: Upstream
) -> None:
    repo = Repo("Octo", "WIDGET")  # in any letter case
    before = harness.mirror.stackit_mirror(repo)
    assert before is not None
    assert (before.path, before.exists, before.state, before.verified_at) == (harness.path(), False, "cloning", None)
    await harness.worker().sync("start")
    after = harness.mirror.stackit_mirror(repo)
    assert after is not None
    assert (after.repo, after.exists, after.state) == (Repo("octo", "widget"), True, "in_step")
    assert after.verified_at is not None
    assert git(after.path, "rev-parse", "main") == upstream.refs()["refs/heads/main"]
    assert harness.mirror.stackit_mirror(Repo("octo", "other")) is None
