"""The mirror plugin: clones, fetches, and exactly what changed, on real git."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from mirror_house import ZERO, House, Upstream, git, managed, pushed, refs

from stackit import RefChange, StackitError


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    upstream = Upstream(tmp_path / "upstream")
    upstream.advance()
    return upstream


@pytest.fixture
def house(tmp_path: Path, upstream: Upstream) -> Iterator[House]:
    house = House(tmp_path / "state", managed(upstream))
    yield house
    pytest_twisted.blockon(house.keeper().rounds.idle())
    pytest_twisted.blockon(house.stop())


def kinds(changes: tuple[RefChange, ...]) -> set[tuple[str, str, bool]]:
    return {(change.ref, change.kind, change.forced) for change in changes}


@pytest_twisted.ensureDeferred
async def test_the_first_sync_clones(house: House, upstream: Upstream) -> None:
    assert house.keeper().state == "cloning"
    done = await house.keeper().sync("start")
    assert refs(house.path()) == upstream.refs()
    assert kinds(done.changes) == {("refs/heads/main", "created", False)}
    assert house.told["octo/widget"] == upstream.refs()
    assert house.keeper().state == "in_step"
    assert git(house.path(), "rev-parse", "--is-bare-repository") == "true"
    git(house.path(), "fsck", "--strict")


@pytest_twisted.ensureDeferred
async def test_a_push_becomes_visible_and_its_change_is_told(house: House, upstream: Upstream) -> None:
    await house.keeper().sync("start")
    old = upstream.refs()["refs/heads/main"]
    new = upstream.advance()
    event = pushed(house, old, new)
    await house.push(event)
    assert refs(house.path()) == upstream.refs()
    assert list(house.seen) == [event.id]
    change = RefChange("refs/heads/main", old, new, "updated", forced=False)
    assert house.announcements[-1] == ("octo/widget", (change,), "push", event.delivery)
    [visible] = house.named("visible")
    assert visible.delivery == event.delivery
    assert visible.seconds is not None
    assert [(each.cause, each.outcome) for each in house.fetches()] == [("start", "changed"), ("push", "changed")]


@pytest_twisted.ensureDeferred
async def test_a_push_to_a_repository_not_cloned_yet_clones_it(house: House, upstream: Upstream) -> None:
    await house.push(pushed(house, ZERO, upstream.refs()["refs/heads/main"]))
    assert refs(house.path()) == upstream.refs()
    assert len(house.seen) == 1


@pytest_twisted.ensureDeferred
async def test_a_push_that_the_mirror_shows_already_costs_no_fetch(house: House, upstream: Upstream) -> None:
    old = upstream.refs()["refs/heads/main"]
    new = upstream.advance()
    await house.keeper().sync("start")
    await house.push(pushed(house, old, new))
    assert len(house.fetches()) == 1
    assert len(house.seen) == 1


@pytest_twisted.ensureDeferred
async def test_every_kind_of_change_is_told_exactly(house: House, upstream: Upstream) -> None:
    base = upstream.advance()
    upstream.set("refs/heads/gone", base)
    upstream.set("refs/heads/forced", upstream.commit(base))
    upstream.set("refs/tags/v1", base)
    upstream.set("refs/heads/caf\udce9", base)
    await house.keeper().sync("start")
    upstream.delete("refs/heads/gone")
    upstream.set("refs/heads/forced", upstream.commit(base))
    upstream.set("refs/heads/-odd$(x)", base)
    upstream.set("refs/heads/caf\udce9", upstream.commit(base))
    upstream.set("refs/stackit/review", base)
    git(upstream.directory, "tag", "-f", "-a", "-m", "v1", "v1", base)
    done = await house.keeper().sync("manual")
    assert kinds(done.changes) == {
        ("refs/heads/gone", "deleted", False),
        ("refs/heads/forced", "updated", True),
        ("refs/heads/-odd$(x)", "created", False),
        ("refs/heads/caf\udce9", "updated", False),
        ("refs/stackit/review", "created", False),
        ("refs/tags/v1", "updated", True),
    }
    assert refs(house.path()) == upstream.refs() == house.told["octo/widget"]


@pytest_twisted.ensureDeferred
async def test_a_branch_is_replaced_by_a_directory_of_branches_and_back(house: House, upstream: Upstream) -> None:
    oid = upstream.advance()
    upstream.set("refs/heads/topic", oid)
    await house.keeper().sync("start")
    upstream.delete("refs/heads/topic")
    upstream.set("refs/heads/topic/one", oid)
    await house.keeper().sync("backstop")
    assert refs(house.path()) == upstream.refs() == house.told["octo/widget"]
    upstream.delete("refs/heads/topic/one")
    upstream.set("refs/heads/topic", oid)
    await house.keeper().sync("backstop")
    assert refs(house.path()) == upstream.refs() == house.told["octo/widget"]


@pytest_twisted.ensureDeferred
async def test_a_sync_that_changes_nothing_asks_the_journal_nothing(house: House) -> None:
    await house.keeper().sync("start")
    house.told.clear()  # a comparison would now find everything new
    done = await house.keeper().sync("backstop")
    assert done.changes == ()
    assert house.fetches()[-1].outcome == "unchanged"


@pytest_twisted.ensureDeferred
async def test_what_a_crash_left_unannounced_is_told_at_the_next_start(house: House, tmp_path: Path) -> None:
    await house.keeper().sync("start")
    before = house.told["octo/widget"]
    again = House(tmp_path / "state", managed(str(tmp_path / "nowhere")))
    again.told["octo/widget"] = {"refs/heads/lost": before["refs/heads/main"]}
    with pytest.raises(StackitError):
        await again.keeper().sync("backstop")
    assert again.told["octo/widget"] == before
    assert again.announcements[0][2] == "start"
    await again.stop()


@pytest_twisted.ensureDeferred
async def test_head_follows_the_default_branch(house: House, upstream: Upstream) -> None:
    await house.keeper().sync("start")
    upstream.set("refs/heads/trunk", upstream.refs()["refs/heads/main"])
    git(upstream.directory, "symbolic-ref", "HEAD", "refs/heads/trunk")
    await house.keeper().sync("backstop")
    assert git(house.path(), "symbolic-ref", "HEAD") == "refs/heads/trunk"


@pytest_twisted.ensureDeferred
async def test_head_never_dangles_after_a_push_that_renames_the_default_branch(
    house: House, upstream: Upstream
) -> None:
    await house.keeper().sync("start")
    oid = upstream.refs()["refs/heads/main"]
    upstream.set("refs/heads/trunk", oid)
    git(upstream.directory, "symbolic-ref", "HEAD", "refs/heads/trunk")
    upstream.delete("refs/heads/main")
    await house.push(pushed(house, oid, ZERO))
    assert git(house.path(), "symbolic-ref", "HEAD") == "refs/heads/trunk"
    assert len(house.seen) == 1


@pytest_twisted.ensureDeferred
async def test_an_empty_upstream_is_mirrored_empty(tmp_path: Path) -> None:
    house = House(tmp_path / "state", managed(Upstream(tmp_path / "empty")))
    await house.keeper().sync("start")
    assert refs(house.path()) == {}
    assert house.keeper().state == "in_step"
    await house.stop()


@pytest_twisted.ensureDeferred
async def test_a_mirror_that_somebody_removed_is_cloned_again(house: House, upstream: Upstream) -> None:
    await house.keeper().sync("start")
    house.path().rename(house.state / "away")
    upstream.advance()
    done = await house.keeper().sync("backstop")
    assert refs(house.path()) == upstream.refs() == house.told["octo/widget"]
    assert [change.kind for change in done.changes] == ["updated"]


@pytest_twisted.ensureDeferred
async def test_a_failing_remote_is_a_reason_and_the_mirror_keeps_its_refs(house: House, upstream: Upstream) -> None:
    await house.keeper().sync("start")
    upstream.directory.rename(upstream.directory.with_name("away"))
    with pytest.raises(StackitError, match="no such repository"):
        await house.keeper().sync("manual")
    assert house.keeper().state == "failing"
    assert house.keeper().standing.next_at > house.app.now()
    assert len(refs(house.path())) == 1
    assert house.fetches()[-1].outcome == "failed"
    upstream.directory.with_name("away").rename(upstream.directory)
    await house.keeper().sync("manual")
    assert house.keeper().state == "in_step"
    assert house.keeper().standing.error is None


@pytest_twisted.ensureDeferred
async def test_git_sees_no_settings_but_its_own(
    house: House, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Upstream(tmp_path / "other")
    other.advance("refs/heads/evil")
    settings = tmp_path / "gitconfig"
    settings.write_text(f'[url "{other.url}"]\n\tinsteadOf = {upstream.url}\n')
    monkeypatch.setenv("GIT_DIR", str(other.directory))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", f"'url.{other.url}.insteadOf'='{upstream.url}'")
    await house.keeper().sync("start")
    assert refs(house.path()) == upstream.refs()


@pytest_twisted.ensureDeferred
async def test_a_url_that_looks_like_an_option_runs_nothing(tmp_path: Path) -> None:
    house = House(tmp_path / "state", managed(f"--upload-pack=touch {tmp_path}/ran"))
    with pytest.raises(StackitError):
        await house.keeper().sync("start")
    assert not (tmp_path / "ran").exists()
    await house.stop()


@pytest_twisted.ensureDeferred
async def test_hooks_in_the_mirror_do_not_run(house: House, upstream: Upstream, tmp_path: Path) -> None:
    await house.keeper().sync("start")
    hook = house.path() / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    upstream.advance()
    await house.keeper().sync("backstop")
    assert not (tmp_path / "ran").exists()


@pytest_twisted.ensureDeferred
async def test_a_lock_that_a_killed_git_left_does_not_stop_the_mirror(house: House, upstream: Upstream) -> None:
    await house.keeper().sync("start")
    upstream.advance()
    upstream.set("refs/heads/other", upstream.refs()["refs/heads/main"])
    (house.path() / "refs" / "heads").mkdir(parents=True, exist_ok=True)
    for name in ("refs/heads/main.lock", "packed-refs.lock"):
        lock = house.path() / name
        lock.touch()
        os.utime(lock, (1, 1))
    await house.keeper().sync("backstop")
    assert refs(house.path()) == upstream.refs()
    assert [each.count for each in house.named("healed")] == [2]


@pytest.mark.parametrize("restarted", [False, True])
@pytest_twisted.ensureDeferred
async def test_what_a_power_cut_emptied_is_fetched_again(
    house: House, upstream: Upstream, tmp_path: Path, restarted: bool
) -> None:
    await house.keeper().sync("start")
    new = upstream.advance()
    upstream.set("refs/heads/other", new)
    await house.keeper().sync("backstop")
    (house.path() / "refs" / "heads" / "main").write_bytes(b"")
    loose = house.path() / "objects" / new[:2] / new[2:]
    loose.unlink()
    loose.touch()
    again = House(tmp_path / "state", managed(upstream)) if restarted else house
    again.told = house.told
    told = len(house.announcements)
    await again.keeper().sync("backstop")
    assert refs(house.path()) == upstream.refs()
    git(house.path(), "fsck", "--strict")
    assert again.announcements[told if again is house else 0 :] == []
    assert [each.count for each in again.named("healed")] == [2]
    if restarted:
        await again.stop()


@pytest_twisted.ensureDeferred
async def test_leftovers_are_cleared_at_start(house: House, upstream: Upstream, tmp_path: Path) -> None:
    await house.keeper().sync("start")
    old = house.path() / "objects" / "pack" / "tmp_pack_abc"
    young = house.path() / "objects" / "pack" / "tmp_pack_def"
    half = tmp_path / "state" / "mirrors" / ".cloning" / "octo" / "half.git"
    half.mkdir(parents=True)
    old.touch()
    os.utime(old, (1, 1))
    young.touch()
    again = House(tmp_path / "state", managed(upstream))
    assert (old.exists(), young.exists(), half.exists()) == (False, True, False)
    assert [each.name for each in again.occurrences] == ["healed", "notice"]
    await again.stop()


@pytest_twisted.ensureDeferred
async def test_a_name_configured_in_another_spelling_keeps_its_mirror(
    house: House, upstream: Upstream, tmp_path: Path
) -> None:
    await house.keeper().sync("start")
    again = House(tmp_path / "state", managed(upstream, "Octo/Widget"))
    assert refs(again.path("Octo/Widget")) == upstream.refs()
    assert not house.path().exists()
    await again.stop()


@pytest_twisted.ensureDeferred
async def test_without_any_token_the_start_says_so_once(house: House) -> None:
    assert [each.reason for each in house.named("notice")] == ["no credentials: only public repositories refresh"]
