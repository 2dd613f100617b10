"""When a push is done: bursts, stale upstreams, pushes over pushes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from mirror_house import ZERO, House, Upstream, managed, pushed, refs
from twisted.internet.defer import Deferred, gatherResults

from stackit import Push, StackitError
from stackit.api.errors import JournalError
from stackit.plugins.mirror import pushes
from stackit.plugins.mirror.repository.refspecs import destination


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    upstream = Upstream(tmp_path / "upstream")
    upstream.advance()
    return upstream


@pytest.fixture
def house(tmp_path: Path, upstream: Upstream) -> Iterator[House]:
    house = House(tmp_path / "state", managed(upstream))
    pytest_twisted.blockon(Deferred.fromCoroutine(house.keeper().sync("start")))
    yield house
    pytest_twisted.blockon(house.stop())


async def in_order(house: House, events: list[Push]) -> None:
    """Hand over the events of one repository as the dispatcher does: one at a time."""
    for event in events:
        await house.push(event)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("forced", [False, True])
async def test_a_burst_of_200_pushes_costs_two_fetches_after_the_one_in_flight(
    house: House, upstream: Upstream, forced: bool
) -> None:
    base = last = upstream.refs()["refs/heads/main"]
    events = []
    for _ in range(200):
        new = upstream.commit(base if forced else last)
        events.append(pushed(house, last, new))
        last = new
    upstream.set("refs/heads/main", last)
    await in_order(house, events)
    assert len(house.fetches()) <= 1 + 2
    assert refs(house.path()) == upstream.refs() == house.told["octo/widget"]
    assert len(house.seen) == (1 if forced else 200)


@pytest_twisted.ensureDeferred
async def test_pushes_side_by_side_share_one_fetch_after_the_one_in_flight(house: House, upstream: Upstream) -> None:
    last = upstream.refs()["refs/heads/main"]
    running = []
    for _ in range(20):
        new = upstream.advance()
        running.append(house.push(pushed(house, last, new)))
        last = new
    await gatherResults(running)
    assert len(house.fetches()) == 1 + 2
    assert len(house.seen) == 20


@pytest_twisted.ensureDeferred
async def test_a_push_is_fetched_while_it_is_written_down_and_then_needs_no_fetch(
    house: House, upstream: Upstream
) -> None:
    event = pushed(house, upstream.refs()["refs/heads/main"], upstream.advance())
    house.mirror.stackit_expect(event)
    assert house.keeper().rounds.busy
    await house.push(event)  # during the round
    assert refs(house.path()) == upstream.refs()
    await house.keeper().rounds.idle()
    later = pushed(house, event.after, upstream.advance())
    house.mirror.stackit_expect(later)
    await house.keeper().rounds.idle()
    assert refs(house.path()) == upstream.refs() == house.told["octo/widget"]
    assert len(house.seen) == 1
    await house.push(later)  # after the round
    assert len(house.fetches()) == 1 + 2
    assert len(house.seen) == 2


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("joins", [True, False])
async def test_a_push_is_not_done_before_its_ref_change_is_announced(
    tmp_path: Path, upstream: Upstream, joins: bool
) -> None:
    house = House(tmp_path / "state", managed(upstream), interval=0)
    await house.keeper().sync("start")
    await house.keeper().rounds.idle()
    event = pushed(house, upstream.refs()["refs/heads/main"], upstream.advance())
    house.unannounced += [JournalError("the journal cannot write: disk full")] * 2  # a round tries it twice
    house.mirror.stackit_expect(event)
    if not joins:
        await house.keeper().rounds.idle()
    with pytest.raises(StackitError, match="disk full"):
        await house.push(event)
    assert refs(house.path()) == upstream.refs()
    house.keeper().standing._paused_until = 0.0  # a while later
    await house.push(event)
    assert house.told["octo/widget"] == upstream.refs()
    await house.stop()


@pytest_twisted.ensureDeferred
async def test_a_push_that_could_not_be_written_down_and_comes_again_is_fetched_once(
    house: House, upstream: Upstream
) -> None:
    event = pushed(house, upstream.refs()["refs/heads/main"], upstream.advance())
    house.mirror.stackit_expect(event)
    await house.keeper().rounds.idle()
    house.mirror.stackit_expect(event)  # its delivery was answered 503, and is sent again
    assert not house.keeper().rounds.busy
    await house.push(event)
    assert len(house.fetches()) == 1 + 1
    assert len(house.announcements) == 1 + 1
    assert list(house.seen) == [event.id]


@pytest_twisted.ensureDeferred
async def test_an_expected_push_that_waits_for_its_turn_is_fetched_once(tmp_path: Path, upstream: Upstream) -> None:
    house = House(tmp_path / "state", managed(upstream), concurrency=1)
    await house.keeper().sync("start")
    await house.keeper().rounds.idle()
    taken = await house.keeper()._holding._places.of("push").acquire().turn
    event = pushed(house, upstream.refs()["refs/heads/main"], upstream.advance())
    house.mirror.stackit_expect(event)
    done = house.push(event)
    await house.reactor_turn()
    assert not done.called
    taken.release()
    await done
    assert len(house.fetches()) == 1 + 1
    assert refs(house.path()) == upstream.refs() == house.told["octo/widget"]
    await house.stop()


@pytest_twisted.ensureDeferred
async def test_a_push_whose_expected_round_was_ended_by_a_stop_is_done_after_the_next_start(
    tmp_path: Path, upstream: Upstream
) -> None:
    house = House(tmp_path / "state", managed(upstream))
    await house.keeper().sync("start")
    await house.keeper().rounds.idle()
    event = pushed(house, upstream.refs()["refs/heads/main"], upstream.advance())
    house.mirror.stackit_expect(event)
    done = house.push(event)
    await house.stop()
    with pytest.raises(StackitError, match="stopping"):
        await done
    later = House(tmp_path / "state", managed(upstream))
    later.told = house.told
    await later.push(event)
    assert refs(later.path()) == upstream.refs() == later.told["octo/widget"]
    assert list(later.seen) == [event.id]
    await later.stop()


@pytest_twisted.ensureDeferred
async def test_with_a_quiet_window_a_push_that_is_expected_is_fetched_once(tmp_path: Path, upstream: Upstream) -> None:
    house = House(tmp_path / "state", managed(upstream), debounce=0.05)
    await house.keeper().sync("start")
    await house.keeper().rounds.idle()
    event = pushed(house, upstream.refs()["refs/heads/main"], upstream.advance())
    house.mirror.stackit_expect(event)
    await house.push(event)
    assert len(house.fetches()) == 1 + 1
    assert refs(house.path()) == upstream.refs()
    await house.stop()


@pytest_twisted.ensureDeferred
async def test_a_branch_that_is_made_is_fetched_while_it_is_written_down(house: House, upstream: Upstream) -> None:
    event = pushed(house, ZERO, upstream.advance("refs/heads/new"), ref="refs/heads/new")
    house.mirror.stackit_expect(event)
    assert house.keeper().rounds.busy
    await house.push(event)
    assert len(house.fetches()) == 1 + 1
    assert refs(house.path()) == upstream.refs()


@pytest_twisted.ensureDeferred
async def test_a_push_that_comes_again_or_is_not_the_next_makes_nobody_ask(house: House, upstream: Upstream) -> None:
    base = upstream.refs()["refs/heads/main"]
    event = pushed(house, base, upstream.advance())
    await house.push(event)
    upstream.set("refs/heads/main", base)  # taken back: the mirror stands where the push began
    await house.keeper().sync("manual")
    await house.keeper().rounds.idle()
    unlike = (
        event,
        pushed(house, upstream.commit(), upstream.commit()),
        pushed(house, base, ZERO),
        pushed(house, base, None),
        pushed(house, base, upstream.commit(), ref="refs/pull/1/head"),
        pushed(house, base, upstream.commit(), name="octo/unknown"),
    )
    for each in unlike:
        house.mirror.stackit_expect(each)
        assert not house.keeper().rounds.busy
    assert refs(house.path()) == upstream.refs()


@pytest_twisted.ensureDeferred
async def test_a_remote_in_trouble_is_asked_for_no_push_before_it_is_durable(house: House, upstream: Upstream) -> None:
    here = upstream.directory.rename(upstream.directory.with_name("away"))
    with pytest.raises(StackitError):
        await house.keeper().sync("manual")
    await house.keeper().rounds.idle()
    here.rename(upstream.directory)
    event = pushed(house, upstream.refs()["refs/heads/main"], upstream.advance())
    house.mirror.stackit_expect(event)
    assert not house.keeper().rounds.busy
    await house.push(event)
    assert refs(house.path()) == upstream.refs()


@pytest_twisted.ensureDeferred
async def test_a_remote_that_is_behind_is_asked_again_until_it_shows_the_push(house: House, upstream: Upstream) -> None:
    old = upstream.refs()["refs/heads/main"]
    new = upstream.commit(old)
    event = pushed(house, old, new)
    done = house.push(event)
    while len(house.fetches()) < 2:
        await house.keeper().rounds.idle()
    assert not done.called
    assert house.keeper().state == "behind"
    upstream.set("refs/heads/main", new)
    await done
    assert list(house.seen) == [event.id]
    assert house.keeper().state == "in_step"


@pytest_twisted.ensureDeferred
async def test_a_remote_that_stays_behind_is_named_stale(
    house: House, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushes, "DELAYS", (0.01, 0.02))
    old = upstream.refs()["refs/heads/main"]
    with pytest.raises(StackitError, match="stale upstream"):
        await house.push(pushed(house, old, "1" * 40))
    assert len(house.fetches()) == 1 + 3
    assert house.seen == {}


@pytest_twisted.ensureDeferred
async def test_a_push_that_was_undone_without_a_word_is_superseded_after_a_while(
    house: House, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushes, "DELAYS", (0.01,))
    made_and_deleted = pushed(house, ZERO, upstream.commit(), ref="refs/heads/brief")
    with pytest.raises(StackitError, match="stale upstream"):
        await house.push(made_and_deleted)
    monkeypatch.setattr(pushes, "PATIENCE", 0.0)  # a while later
    await house.push(made_and_deleted)
    assert "taken as superseded" in str(house.occurrences[-1].reason)


@pytest_twisted.ensureDeferred
async def test_a_push_that_was_taken_back_is_superseded_once_that_is_known(
    house: House, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushes, "DELAYS", ())
    old = upstream.refs()["refs/heads/main"]
    first, second = pushed(house, old, "1" * 40), pushed(house, "1" * 40, old)
    with pytest.raises(StackitError):
        await house.push(first)
    await house.push(second)
    await house.push(first)
    assert list(house.seen) == [second.id]


@pytest_twisted.ensureDeferred
async def test_a_reset_that_the_remote_does_not_show_yet_is_not_visible(
    house: House, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushes, "DELAYS", ())
    old = upstream.refs()["refs/heads/main"]
    new = upstream.advance()
    await house.push(pushed(house, old, new))
    with pytest.raises(StackitError, match="stale"):
        await house.push(pushed(house, new, old))
    upstream.set("refs/heads/main", old)
    await house.push(pushed(house, new, old))
    assert refs(house.path()) == upstream.refs()


@pytest_twisted.ensureDeferred
async def test_a_push_that_was_pushed_over_is_done_and_somebody_looks_again(
    house: House, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushes, "LOOK_AGAIN", 0.01)
    old = upstream.refs()["refs/heads/main"]
    upstream.set("refs/heads/main", upstream.commit(old))
    await house.push(pushed(house, "2" * 40, "3" * 40))
    assert house.seen == {}
    while len(house.fetches()) < 3:
        await house.reactor_turn()
    await house.keeper().rounds.idle()


@pytest_twisted.ensureDeferred
async def test_of_pushes_that_were_pushed_over_only_so_many_are_remembered_and_until_somebody_looked(
    house: House, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushes, "REMEMBERED", 3)
    monkeypatch.setattr(pushes, "LOOK_AGAIN", 3600.0)
    waiting = house.mirror._pushes["octo/widget"]
    old = upstream.refs()["refs/heads/main"]
    for number in range(6):
        upstream.set(f"refs/heads/{number}", old)
        await house.push(pushed(house, "2" * 40, "3" * 40, ref=f"refs/heads/{number}"))
    assert len(waiting._doubted) == 4
    # One that is settled leaves the others to be looked at, also those that nobody remembers.
    for number in range(6):
        await house.push(pushed(house, "4" * 40, old, ref=f"refs/heads/{number}"))
    assert house.keeper()._again is not None
    assert house.keeper()._again.active()
    house.keeper()._again.reset(0)
    while house.keeper()._again.active():
        await house.reactor_turn()
    await house.push(pushed(house, "2" * 40, "3" * 40))
    assert waiting._doubted == {"refs/heads/main"}
    await house.keeper().rounds.idle()


@pytest_twisted.ensureDeferred
async def test_a_branch_that_comes_and_goes_is_followed(house: House, upstream: Upstream) -> None:
    oid = upstream.refs()["refs/heads/main"]
    for _ in range(2):
        upstream.set("refs/heads/topic", oid)
        await house.push(pushed(house, ZERO, oid, "refs/heads/topic"))
        upstream.delete("refs/heads/topic")
        await house.push(pushed(house, oid, ZERO, "refs/heads/topic"))
    assert len(house.seen) == 4
    assert refs(house.path()) == upstream.refs()


@pytest_twisted.ensureDeferred
async def test_a_push_that_does_not_say_what_moved_still_fetches(house: House, upstream: Upstream) -> None:
    upstream.advance()
    await house.push(pushed(house, None, None, None))
    assert refs(house.path()) == upstream.refs()


@pytest_twisted.ensureDeferred
async def test_a_push_of_a_ref_that_the_mirror_does_not_keep_costs_nothing(house: House) -> None:
    await house.push(pushed(house, ZERO, "1" * 40, "refs/pull/1/head"))
    assert len(house.fetches()) == 1


@pytest_twisted.ensureDeferred
async def test_owner_and_name_match_in_any_letter_case(house: House, upstream: Upstream) -> None:
    old = upstream.refs()["refs/heads/main"]
    await house.push(pushed(house, old, upstream.advance(), name="Octo/WIDGET"))
    assert refs(house.path()) == upstream.refs()


@pytest_twisted.ensureDeferred
async def test_an_unmanaged_repository_is_noted_once_and_its_pushes_touch_nothing(house: House) -> None:
    for name in ("octo/other", "Octo/Other", "octo/third"):
        await house.push(pushed(house, ZERO, "1" * 40, name=name))
    assert [str(each.repo) for each in house.named("unmanaged")] == ["octo/other", "octo/third"]
    assert sorted(path.name for path in (house.state / "mirrors").iterdir()) == [".cloning", ".home", "octo"]
    assert [path.name for path in (house.state / "mirrors" / "octo").iterdir()] == ["widget.git"]


@pytest_twisted.ensureDeferred
async def test_pushes_to_a_failing_remote_share_its_failure(house: House, upstream: Upstream) -> None:
    upstream.directory.rename(upstream.directory.with_name("away"))
    events = [pushed(house, str(number) * 40, str(number + 1) * 40) for number in range(9)]
    for event in events:
        with pytest.raises(StackitError):
            await house.push(event)
    assert len(house.fetches()) == 1 + 1


@pytest.mark.parametrize(
    ("refspecs", "ref", "expected"),
    [
        (("+refs/heads/*:refs/heads/*",), "refs/heads/a/b", "refs/heads/a/b"),
        (("+refs/heads/*:refs/remotes/up/*",), "refs/heads/a", "refs/remotes/up/a"),
        (("refs/heads/main:refs/heads/main",), "refs/heads/main", "refs/heads/main"),
        (("refs/heads/main:refs/heads/main",), "refs/heads/mainly", None),
        (("+refs/heads/*:refs/heads/*", "^refs/heads/tmp/*"), "refs/heads/tmp/a", None),
        (("+refs/heads/r*e:refs/heads/R*E",), "refs/heads/re", "refs/heads/RE"),
        ((), "refs/heads/a", None),
    ],
)
def test_where_a_ref_lands_follows_the_refspecs(refspecs: tuple[str, ...], ref: str, expected: str | None) -> None:
    assert destination(refspecs, ref) == expected


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("name", ["-octo/-widget", "--/--upload-pack", "octo_corp/.github"])
async def test_an_owner_and_a_repository_that_look_like_options_are_names_like_all_others(
    tmp_path: Path, upstream: Upstream, name: str
) -> None:
    house = House(tmp_path / "state", managed(upstream, name))
    try:
        await house.keeper(name).sync("start")
        old = upstream.refs()["refs/heads/main"]
        await house.push(pushed(house, old, upstream.advance(), name=name))
        assert refs(house.path(name)) == upstream.refs() == house.told[name.lower()]
    finally:
        await house.stop()
