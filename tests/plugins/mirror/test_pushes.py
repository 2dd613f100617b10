"""When a push is done: bursts, stale upstreams, pushes over pushes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import pytest_twisted
from mirror_harness import ZERO, Harness, Upstream, managed, pushed, refs
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater

from stackit import Push, StackitError
from stackit.api.errors import JournalError
from stackit.plugins.mirror.pushes import PushHandler
from stackit.plugins.mirror.refs.refspecs import destination
from stackit.plugins.mirror.sync.fast_fetch import Target
from stackit.plugins.mirror.sync.tunables import Tunables


@pytest.fixture
def harness(synced: Harness) -> Harness:
    return synced


def push_handler(harness: Harness) -> PushHandler:
    assert harness.mirror._mirrors is not None
    found = harness.mirror._mirrors.pushes("octo/widget")
    assert found is not None
    return found


async def in_order(harness: Harness, events: list[Push]) -> None:
    """Hand over the events of one repository as the dispatcher does: one at a time."""
    for event in events:
        await harness.push(event)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("forced", [False, True])
async def test_a_burst_of_200_pushes_costs_two_fetches_after_the_one_in_flight(
    harness: Harness, upstream: Upstream, forced: bool
) -> None:
    base = last = upstream.refs()["refs/heads/main"]
    events = []
    for _ in range(200):
        new = upstream.commit(base if forced else last)
        events.append(pushed(harness, last, new))
        last = new
    upstream.set("refs/heads/main", last)
    await in_order(harness, events)
    assert len(harness.fetches()) <= 1 + 2
    assert refs(harness.path()) == upstream.refs() == harness.told["octo/widget"]
    assert len(harness.seen) == (1 if forced else 200)


@pytest_twisted.ensureDeferred
async def test_pushes_side_by_side_share_one_fetch_after_the_one_in_flight(
    harness: Harness, upstream: Upstream
) -> None:
    last = upstream.refs()["refs/heads/main"]
    running = []
    for _ in range(20):
        new = upstream.advance()
        running.append(harness.push(pushed(harness, last, new)))
        last = new
    await gatherResults(running)
    assert len(harness.fetches()) == 1 + 2
    assert len(harness.seen) == 20


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("before_the_round", [True, False])
async def test_a_push_joins_the_round_that_runs_if_that_began_after_it_was_received(
    harness: Harness, upstream: Upstream, before_the_round: bool
) -> None:
    last = upstream.refs()["refs/heads/main"]
    event = pushed(harness, last, upstream.advance())
    await deferLater(harness.reactor, 0.01)
    running = Deferred.fromCoroutine(harness.worker().sync("manual"))
    assert harness.worker().rounds.running
    if not before_the_round:
        event = pushed(harness, last, event.after)
    await harness.push(event)
    await running
    assert len(harness.fetches()) == 1 + (1 if before_the_round else 2)
    assert len(harness.seen) == 1


@pytest_twisted.ensureDeferred
async def test_a_push_does_not_join_a_round_for_another_ref(harness: Harness, upstream: Upstream) -> None:
    last = upstream.refs()["refs/heads/main"]
    event = pushed(harness, last, upstream.advance())
    other = upstream.advance("refs/heads/other")
    await deferLater(harness.reactor, 0.01)
    harness.worker().expect("delivery", Target("refs/heads/other", "refs/heads/other", other))
    assert harness.worker().rounds.running
    await harness.push(event)
    assert len(harness.fetches()) == 1 + 2
    assert refs(harness.path()) == upstream.refs() == harness.told["octo/widget"]


@pytest_twisted.ensureDeferred
async def test_a_push_is_fetched_while_it_is_written_down_and_then_needs_no_fetch(
    harness: Harness, upstream: Upstream
) -> None:
    event = pushed(harness, upstream.refs()["refs/heads/main"], upstream.advance())
    harness.mirror.stackit_expect(event)
    assert harness.worker().rounds.busy
    await harness.push(event)  # during the round
    assert refs(harness.path()) == upstream.refs()
    await harness.worker().rounds.idle()
    later = pushed(harness, event.after, upstream.advance())
    harness.mirror.stackit_expect(later)
    await harness.worker().rounds.idle()
    assert refs(harness.path()) == upstream.refs() == harness.told["octo/widget"]
    assert len(harness.seen) == 1
    await harness.push(later)  # after the round
    assert len(harness.fetches()) == 1 + 2
    assert len(harness.seen) == 2


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("joins", [True, False])
async def test_a_push_is_not_done_before_its_ref_change_is_announced(
    tmp_path: Path, upstream: Upstream, joins: bool
) -> None:
    harness = Harness(tmp_path / "state", managed(upstream), interval=0)
    await harness.worker().sync("start")
    await harness.worker().rounds.idle()
    event = pushed(harness, upstream.refs()["refs/heads/main"], upstream.advance())
    harness.unannounced += [JournalError("the journal cannot write: disk full")] * 2  # a round tries it twice
    harness.mirror.stackit_expect(event)
    if not joins:
        await harness.worker().rounds.idle()
    with pytest.raises(StackitError, match="disk full"):
        await harness.push(event)
    assert refs(harness.path()) == upstream.refs()
    harness.worker().status._paused_until = 0.0  # a while later
    await harness.push(event)
    assert harness.told["octo/widget"] == upstream.refs()
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_a_push_that_could_not_be_written_down_and_comes_again_is_fetched_once(
    harness: Harness, upstream: Upstream
) -> None:
    event = pushed(harness, upstream.refs()["refs/heads/main"], upstream.advance())
    harness.mirror.stackit_expect(event)
    await harness.worker().rounds.idle()
    harness.mirror.stackit_expect(event)  # its delivery was answered 503, and is sent again
    assert not harness.worker().rounds.busy
    await harness.push(event)
    assert len(harness.fetches()) == 1 + 1
    assert len(harness.announcements) == 1 + 1
    assert list(harness.seen) == [event.id]


@pytest_twisted.ensureDeferred
async def test_an_expected_push_that_waits_for_its_turn_is_fetched_once(tmp_path: Path, upstream: Upstream) -> None:
    harness = Harness(tmp_path / "state", managed(upstream), concurrency=1)
    await harness.worker().sync("start")
    await harness.worker().rounds.idle()
    taken = await harness.worker()._slot._slots.of("push").acquire().turn
    event = pushed(harness, upstream.refs()["refs/heads/main"], upstream.advance())
    harness.mirror.stackit_expect(event)
    done = harness.push(event)
    await harness.reactor_turn()
    assert not done.called
    taken.release()
    await done
    assert len(harness.fetches()) == 1 + 1
    assert refs(harness.path()) == upstream.refs() == harness.told["octo/widget"]
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_a_push_whose_expected_round_was_ended_by_a_stop_is_done_after_the_next_start(
    tmp_path: Path, upstream: Upstream
) -> None:
    harness = Harness(tmp_path / "state", managed(upstream))
    await harness.worker().sync("start")
    await harness.worker().rounds.idle()
    event = pushed(harness, upstream.refs()["refs/heads/main"], upstream.advance())
    harness.mirror.stackit_expect(event)
    done = harness.push(event)
    await harness.stop()
    with pytest.raises(CancelledError):  # which counts as no attempt
        await done
    later = Harness(tmp_path / "state", managed(upstream))
    later.told = harness.told
    await later.push(event)
    assert refs(later.path()) == upstream.refs() == later.told["octo/widget"]
    assert list(later.seen) == [event.id]
    await later.stop()


@pytest_twisted.ensureDeferred
async def test_with_a_quiet_window_a_push_that_is_expected_is_fetched_once(tmp_path: Path, upstream: Upstream) -> None:
    harness = Harness(tmp_path / "state", managed(upstream), debounce=0.05)
    await harness.worker().sync("start")
    await harness.worker().rounds.idle()
    event = pushed(harness, upstream.refs()["refs/heads/main"], upstream.advance())
    harness.mirror.stackit_expect(event)
    await harness.push(event)
    assert len(harness.fetches()) == 1 + 1
    assert refs(harness.path()) == upstream.refs()
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_a_branch_that_is_made_is_fetched_while_it_is_written_down(harness: Harness, upstream: Upstream) -> None:
    event = pushed(harness, ZERO, upstream.advance("refs/heads/new"), ref="refs/heads/new")
    harness.mirror.stackit_expect(event)
    assert harness.worker().rounds.busy
    await harness.push(event)
    assert len(harness.fetches()) == 1 + 1
    assert refs(harness.path()) == upstream.refs()


@pytest_twisted.ensureDeferred
async def test_a_push_that_comes_again_or_is_not_the_next_makes_nobody_ask(
    harness: Harness, upstream: Upstream
) -> None:
    base = upstream.refs()["refs/heads/main"]
    event = pushed(harness, base, upstream.advance())
    await harness.push(event)
    upstream.set("refs/heads/main", base)  # taken back: the mirror stands where the push began
    await harness.worker().sync("manual")
    await harness.worker().rounds.idle()
    unlike = (
        event,
        pushed(harness, upstream.commit(), upstream.commit()),
        pushed(harness, base, ZERO),
        pushed(harness, base, None),
        pushed(harness, base, upstream.commit(), ref="refs/pull/1/head"),
        pushed(harness, base, upstream.commit(), name="octo/unknown"),
    )
    for each in unlike:
        harness.mirror.stackit_expect(each)
        assert not harness.worker().rounds.busy
    assert refs(harness.path()) == upstream.refs()


@pytest_twisted.ensureDeferred
async def test_a_remote_in_trouble_is_asked_for_no_push_before_it_is_durable(
    harness: Harness, upstream: Upstream
) -> None:
    here = upstream.directory.rename(upstream.directory.with_name("away"))
    with pytest.raises(StackitError):
        await harness.worker().sync("manual")
    await harness.worker().rounds.idle()
    here.rename(upstream.directory)
    event = pushed(harness, upstream.refs()["refs/heads/main"], upstream.advance())
    harness.mirror.stackit_expect(event)
    assert not harness.worker().rounds.busy
    await harness.push(event)
    assert refs(harness.path()) == upstream.refs()


@pytest_twisted.ensureDeferred
async def test_a_remote_that_is_behind_is_asked_again_until_it_shows_the_push(
    harness: Harness, upstream: Upstream
) -> None:
    old = upstream.refs()["refs/heads/main"]
    new = upstream.commit(old)
    event = pushed(harness, old, new)
    done = harness.push(event)
    while len(harness.fetches()) < 2:
        await harness.worker().rounds.idle()
    assert not done.called
    assert harness.worker().state == "behind"
    upstream.set("refs/heads/main", new)
    await done
    assert list(harness.seen) == [event.id]
    assert harness.worker().state == "in_step"


@pytest.mark.parametrize("tunables", [Tunables(ask_again_after=(0.01, 0.02))])
@pytest_twisted.ensureDeferred
async def test_a_remote_that_stays_behind_is_named_stale(harness: Harness, upstream: Upstream) -> None:
    old = upstream.refs()["refs/heads/main"]
    with pytest.raises(StackitError, match="stale upstream"):
        await harness.push(pushed(harness, old, "1" * 40))
    assert len(harness.fetches()) == 1 + 3
    assert harness.seen == {}


@pytest.mark.parametrize("tunables", [Tunables(ask_again_after=(0.01,))])
@pytest_twisted.ensureDeferred
async def test_a_push_that_was_undone_without_a_word_is_superseded_after_a_while(
    harness: Harness, upstream: Upstream
) -> None:
    made_and_deleted = pushed(harness, ZERO, upstream.commit(), ref="refs/heads/brief")
    with pytest.raises(StackitError, match="stale upstream"):
        await harness.push(made_and_deleted)
    arrivals = push_handler(harness)._arrivals
    arrival = arrivals[made_and_deleted.delivery]
    arrivals[made_and_deleted.delivery] = msgspec.structs.replace(
        arrival, known_at=arrival.known_at - 600
    )  # a while later
    await harness.push(made_and_deleted)
    assert "taken as superseded" in str(harness.occurrences[-1].reason)


@pytest.mark.parametrize("tunables", [Tunables(ask_again_after=())])
@pytest_twisted.ensureDeferred
async def test_a_push_that_was_taken_back_is_superseded_once_that_is_known(
    harness: Harness, upstream: Upstream
) -> None:
    old = upstream.refs()["refs/heads/main"]
    first, second = pushed(harness, old, "1" * 40), pushed(harness, "1" * 40, old)
    with pytest.raises(StackitError):
        await harness.push(first)
    await harness.push(second)
    await harness.push(first)
    assert list(harness.seen) == [second.id]


@pytest.mark.parametrize("tunables", [Tunables(ask_again_after=())])
@pytest_twisted.ensureDeferred
async def test_a_reset_that_the_remote_does_not_show_yet_is_not_visible(harness: Harness, upstream: Upstream) -> None:
    old = upstream.refs()["refs/heads/main"]
    new = upstream.advance()
    await harness.push(pushed(harness, old, new))
    with pytest.raises(StackitError, match="stale"):
        await harness.push(pushed(harness, new, old))
    upstream.set("refs/heads/main", old)
    await harness.push(pushed(harness, new, old))
    assert refs(harness.path()) == upstream.refs()


@pytest.mark.parametrize("tunables", [Tunables(recheck_after=0.01)])
@pytest_twisted.ensureDeferred
async def test_a_push_that_was_pushed_over_is_done_and_somebody_looks_again(
    harness: Harness, upstream: Upstream
) -> None:
    old = upstream.refs()["refs/heads/main"]
    upstream.set("refs/heads/main", upstream.commit(old))
    await harness.push(pushed(harness, "2" * 40, "3" * 40))
    assert harness.seen == {}
    while len(harness.fetches()) < 3:
        await harness.reactor_turn()
    await harness.worker().rounds.idle()


@pytest.mark.parametrize("tunables", [Tunables(pushes_remembered=3, recheck_after=3600.0)])
@pytest_twisted.ensureDeferred
async def test_of_pushes_that_were_pushed_over_only_so_many_are_remembered_and_until_somebody_looked(
    harness: Harness, upstream: Upstream
) -> None:
    waiting = push_handler(harness)
    old = upstream.refs()["refs/heads/main"]
    for number in range(6):
        upstream.set(f"refs/heads/{number}", old)
        await harness.push(pushed(harness, "2" * 40, "3" * 40, ref=f"refs/heads/{number}"))
    assert len(waiting._unconfirmed) == 4
    # One that is settled leaves the others to be looked at, also those that nobody remembers.
    for number in range(6):
        await harness.push(pushed(harness, "4" * 40, old, ref=f"refs/heads/{number}"))
    assert harness.worker()._recheck is not None
    assert harness.worker()._recheck.active()
    harness.worker()._recheck.reset(0)
    while harness.worker()._recheck.active():
        await harness.reactor_turn()
    await harness.push(pushed(harness, "2" * 40, "3" * 40))
    assert waiting._unconfirmed == {"refs/heads/main"}
    await harness.worker().rounds.idle()


@pytest_twisted.ensureDeferred
async def test_a_branch_that_comes_and_goes_is_followed(harness: Harness, upstream: Upstream) -> None:
    oid = upstream.refs()["refs/heads/main"]
    for _ in range(2):
        upstream.set("refs/heads/topic", oid)
        await harness.push(pushed(harness, ZERO, oid, "refs/heads/topic"))
        upstream.delete("refs/heads/topic")
        await harness.push(pushed(harness, oid, ZERO, "refs/heads/topic"))
    assert len(harness.seen) == 4
    assert refs(harness.path()) == upstream.refs()


@pytest_twisted.ensureDeferred
async def test_a_push_that_does_not_say_what_moved_still_fetches(harness: Harness, upstream: Upstream) -> None:
    upstream.advance()
    await harness.push(pushed(harness, None, None, None))
    assert refs(harness.path()) == upstream.refs()


@pytest_twisted.ensureDeferred
async def test_a_push_of_a_ref_that_the_mirror_does_not_keep_costs_nothing(harness: Harness) -> None:
    await harness.push(pushed(harness, ZERO, "1" * 40, "refs/pull/1/head"))
    assert len(harness.fetches()) == 1


@pytest_twisted.ensureDeferred
async def test_owner_and_name_match_in_any_letter_case(harness: Harness, upstream: Upstream) -> None:
    old = upstream.refs()["refs/heads/main"]
    await harness.push(pushed(harness, old, upstream.advance(), name="Octo/WIDGET"))
    assert refs(harness.path()) == upstream.refs()


@pytest_twisted.ensureDeferred
async def test_an_unmanaged_repository_is_noted_once_and_its_pushes_touch_nothing(harness: Harness) -> None:
    for name in ("octo/other", "Octo/Other", "octo/third"):
        await harness.push(pushed(harness, ZERO, "1" * 40, name=name))
    assert [str(each.repo) for each in harness.named("unmanaged")] == ["octo/other", "octo/third"]
    assert sorted(path.name for path in (harness.state / "mirrors").iterdir()) == [".cloning", ".home", "octo"]
    assert [path.name for path in (harness.state / "mirrors" / "octo").iterdir()] == ["widget.git"]


@pytest_twisted.ensureDeferred
async def test_pushes_to_a_failing_remote_share_its_failure(harness: Harness, upstream: Upstream) -> None:
    upstream.directory.rename(upstream.directory.with_name("away"))
    events = [pushed(harness, str(number) * 40, str(number + 1) * 40) for number in range(9)]
    for event in events:
        with pytest.raises(StackitError):
            await harness.push(event)
    assert len(harness.fetches()) == 1 + 1


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
    harness = Harness(tmp_path / "state", managed(upstream, name))
    try:
        await harness.worker(name).sync("start")
        old = upstream.refs()["refs/heads/main"]
        await harness.push(pushed(harness, old, upstream.advance(), name=name))
        assert refs(harness.path(name)) == upstream.refs() == harness.told[name.lower()]
    finally:
        await harness.stop()
