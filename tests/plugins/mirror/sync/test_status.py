"""How a repository stands: failing, in quarantine, told to wait, moved; and the way back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from mirror_harness import GitHttp, Harness, ask, managed, pushed, refs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from stackit import StackitError
from stackit.plugins.mirror.git.diagnosis import classify
from stackit.plugins.mirror.git.http_trace import HttpAnswer, parse_stderr
from stackit.plugins.mirror.sync.status import COVERED, REFUSALS, SyncStatus
from stackit.plugins.mirror.sync.tunables import Tunables
from stackit.testing import PretendGitHub
from stackit.testing.faults import FaultKind

WIDGET = "octo/widget"
MAIN = "refs/heads/main"


@pytest_twisted.async_yield_fixture
async def harness(pretend_github: PretendGitHub, tmp_path: Path, tunables: Tunables) -> AsyncIterator[Harness]:
    url = await pretend_github.create(WIDGET)
    await pretend_github.commit(WIDGET)
    harness = Harness(tmp_path / "state", managed(url), tunables=tunables)
    await harness.worker().sync("start")
    yield harness
    await harness.stop()


async def failing(harness: Harness, cause: str = "backstop") -> str:
    """A sync that fails; returns the reason."""
    with pytest.raises(StackitError) as caught:
        await harness.worker().sync(cause)
    return str(caught.value)


FAULTS: tuple[tuple[FaultKind, str], ...] = (
    (401, "refuses access"),
    (403, "refuses access"),
    (404, "no such repository"),
    (429, "fewer requests: none for 60 seconds"),
    (500, "500"),
    (502, "502"),
    (503, "503"),
    ("redirect", "renamed or moved, so set its url to http://localhost"),
    ("truncate", "git: "),
    ("hang", "no progress"),
    ("hang_mid", "no progress"),
    ("drip", "no progress"),
)


@pytest.mark.parametrize(("fault", "reason"), FAULTS)
@pytest_twisted.ensureDeferred
async def test_the_mirror_keeps_its_state_in_every_fault_names_it_and_gets_well_after_it(
    harness: Harness, pretend_github: PretendGitHub, fault: FaultKind, reason: str
) -> None:
    before = refs(harness.path())
    await pretend_github.commit(WIDGET, count=3)
    pretend_github.fault(WIDGET, fault)
    if reason == "no progress":
        harness.give_up_after(2.0)
    told = await failing(harness, "manual")
    harness.give_up_after(120.0)
    assert reason in told
    assert "\n" not in told
    assert harness.worker().state == "failing"
    assert refs(harness.path()) == before == harness.told[WIDGET]
    pretend_github.heal(WIDGET)
    await harness.worker().sync("manual")
    assert refs(harness.path()) == await pretend_github.refs(WIDGET) == harness.told[WIDGET]
    assert harness.worker().state == "in_step"
    assert harness.named("healed") == [], "nothing was wrong with the mirror"


@pytest_twisted.ensureDeferred
async def test_a_remote_that_answers_with_an_old_state_is_asked_until_it_shows_the_push(
    harness: Harness, pretend_github: PretendGitHub
) -> None:
    pretend_github.fault(WIDGET, "stale", times=4)
    moved = await pretend_github.commit(WIDGET)
    await harness.push(pushed(harness, moved.before, moved.after))
    assert len(harness.seen) == 1
    assert refs(harness.path()) == await pretend_github.refs(WIDGET)


@pytest_twisted.ensureDeferred
async def test_what_is_gone_is_put_in_quarantine_after_a_few_tries_and_a_person_gets_it_out(
    harness: Harness, pretend_github: PretendGitHub
) -> None:
    pretend_github.fault(WIDGET, 404)
    for _ in range(REFUSALS):
        assert harness.worker().state != "quarantined"
        await failing(harness)
    assert harness.worker().state == "quarantined"
    assert harness.worker().status.next_at > harness.app.now() + 2000
    [stands] = (await ask(harness, "GET", "{prefix}/repos")).body["repos"]
    assert (stands["state"], "since 20" in stands["error"]) == ("quarantined", True)
    asked = len(pretend_github.requests)
    await harness.backstop()
    assert len(pretend_github.requests) == asked
    await failing(harness, "manual")
    assert harness.worker().state == "failing"
    pretend_github.heal(WIDGET)
    await harness.worker().sync("manual")
    assert harness.worker().state == "in_step"


@pytest_twisted.ensureDeferred
async def test_a_push_gets_a_repository_out_of_quarantine(harness: Harness, pretend_github: PretendGitHub) -> None:
    pretend_github.fault(WIDGET, 403)
    for _ in range(REFUSALS):
        await failing(harness)
    pretend_github.heal(WIDGET)
    moved = await pretend_github.commit(WIDGET)
    await harness.push(pushed(harness, moved.before, moved.after))
    assert harness.worker().state == "in_step"


@pytest_twisted.ensureDeferred
async def test_a_remote_that_says_when_to_come_back_is_left_alone_until_then(
    harness: Harness, pretend_github: PretendGitHub
) -> None:
    pretend_github.fault(WIDGET, 429)
    moved = await pretend_github.commit(WIDGET)
    with pytest.raises(StackitError, match="none for 60 seconds"):
        await harness.push(pushed(harness, moved.before, moved.after))
    asked = len(pretend_github.requests)
    assert harness.worker().status.next_at > harness.app.now() + 50
    await harness.backstop()
    later = await pretend_github.commit(WIDGET)
    with pytest.raises(StackitError, match="none for 60 seconds"):
        await harness.push(pushed(harness, later.before, later.after))
    assert len(pretend_github.requests) == asked
    assert harness.worker().state == "failing"


@pytest.mark.parametrize("tunables", [Tunables(first_pause=0.05)])
@pytest_twisted.ensureDeferred
async def test_a_failure_is_tried_again_by_itself_when_its_time_has_come(
    harness: Harness, pretend_github: PretendGitHub
) -> None:
    pretend_github.fault(WIDGET, 500)
    await failing(harness)
    pretend_github.heal(WIDGET)
    while harness.worker().state == "failing":
        await harness.reactor_turn()
    assert harness.fetches()[-1].cause == "backstop"


@pytest.mark.parametrize("tunables", [Tunables(first_pause=0.05)])
@pytest_twisted.ensureDeferred
async def test_what_a_first_clone_brings_was_missed_by_nobody_also_after_it_failed_at_first(
    pretend_github: PretendGitHub, tmp_path: Path, tunables: Tunables
) -> None:
    url = await pretend_github.create(WIDGET)
    await pretend_github.commit(WIDGET)
    pretend_github.fault(WIDGET, 500)
    harness = Harness(tmp_path / "state", managed(url), tunables=tunables)
    await failing(harness, "start")
    pretend_github.heal(WIDGET)
    while harness.worker().state != "in_step":
        await harness.reactor_turn()
    assert (harness.fetches()[-1].cause, [each[2] for each in harness.announcements]) == ("backstop", ["start"])
    await pretend_github.commit(WIDGET)
    await harness.worker().sync("backstop")
    assert [each[2] for each in harness.announcements] == ["start", "backstop"]
    await harness.stop()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[GitHttp]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    server = GitHttp(reactor, tmp_path)
    yield server
    pytest_twisted.blockon(server.stop())


@pytest_twisted.ensureDeferred
async def test_a_moved_repository_is_named_with_its_new_address_and_the_token_stays_here(
    elsewhere: GitHttp, tmp_path: Path
) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    old = GitHttp(reactor, tmp_path)
    old.token = None
    old.redirect = elsewhere.url("new").rstrip("/")
    token = tmp_path / "token"
    token.write_text("ghs_secret")
    harness = Harness(tmp_path / "state", managed(old.url("octo/widget.git"), token_file=token))
    told = await failing(harness)
    assert f"set its url to {elsewhere.url('new/octo/widget.git')}" in told
    assert elsewhere.asked == []
    assert "ghs_secret" not in repr(harness.occurrences)
    await harness.stop()
    await old.stop()


@pytest_twisted.ensureDeferred
async def test_one_git_that_hangs_after_it_sent_all_ends_all_the_same(
    harness: Harness, pretend_github: PretendGitHub
) -> None:
    await pretend_github.commit(WIDGET)
    harness.worker()._refresher._supervised_git._tunables = Tunables(stall=1.5)
    done: Deferred[Any] = Deferred.fromCoroutine(harness.worker().sync("push", full=False))
    pretend_github.fault(WIDGET, "hang_mid")
    with pytest.raises(StackitError, match="no progress"):
        await done


def test_pauses_grow_to_an_hour_and_in_quarantine_to_a_day() -> None:
    clock = Clock()
    status = SyncStatus(clock, clock.seconds, first_pause=5.0)
    pauses = []
    for _ in range(14):
        status.failed("broken")
        pauses.append(status.next_at or 0)
    assert 4 <= pauses[0] <= 6
    assert 2880 <= pauses[-1] <= 4320
    for _ in range(12):
        status.failed("no", "gone")
    assert status.quarantined
    assert 69120 <= (status.next_at or 0) <= 103680
    status.failed("another trouble", "remote")
    assert not status.quarantined


def test_only_so_many_refs_that_were_asked_for_alone_are_remembered() -> None:
    clock = Clock()
    status = SyncStatus(clock, clock.seconds, first_pause=5.0)
    for number in range(COVERED + 10):
        clock.advance(1)
        status.started(clock.seconds())
        status.succeeded(full=False, refs=[f"refs/heads/{number}"])
    assert len(status.covered_refs) == COVERED
    assert status.covers(COVERED, ref=f"refs/heads/{COVERED + 9}")
    assert not status.covers(0, ref="refs/heads/0")


def test_a_failure_keeps_when_the_first_one_was() -> None:
    clock = Clock()
    status = SyncStatus(clock, clock.seconds, first_pause=5.0)
    clock.advance(10)
    status.failed("broken")
    clock.advance(10)
    status.failed("broken")
    since: list[float | None] = [status.since]
    status.started(20)
    clock.advance(10)
    status.succeeded(full=True)
    since.append(status.since)
    assert (since, status.verified_at) == ([10, None], 20)


TRACE = "19:45:31.303679 http.c:684              <= Recv header: {}\n"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["HTTP/1.1 429 Too Many Requests", "Retry-After: 7"], HttpAnswer(status=429, retry_after=7)),
        (["HTTP/2 429", "retry-after: Mon, 23 Nov 2026 19:00:30 GMT"], HttpAnswer(status=429, retry_after=30)),
        (["HTTP/2 429", "retry-after: soon"], HttpAnswer(status=429)),
        (["HTTP/2 429", "retry-after: 999999999"], HttpAnswer(status=429, retry_after=86400)),
        (["HTTP/1.1 429 No", "Retry-After: 7", "HTTP/1.1 200 OK"], HttpAnswer(status=200)),
        (
            ["HTTP/1.1 301 Moved", "Location: https://a:b@c/o/n.git/info/refs?service=git-upload-pack"],
            HttpAnswer(status=301, location="https://c/o/n.git"),
        ),
        (["HTTP/1.1 301 Moved", "Location: /relative"], HttpAnswer(status=301)),
    ],
)
def test_the_last_answer_over_http_is_heard_and_gits_own_words_are_left(lines: list[str], expected: HttpAnswer) -> None:
    now = 1795460400.0  # Mon, 23 Nov 2026 19:00:00 GMT
    said, answered = parse_stderr("Receiving: 5%\r" + "".join(map(TRACE.format, lines)) + "fatal: no\n", now)
    assert said == "Receiving: 5%\nfatal: no"
    assert answered == expected


@pytest.mark.parametrize(
    ("said", "answered", "kind"),
    [
        ("fatal: error: 403", HttpAnswer(status=403), "forbidden"),
        ("fatal: error: 403", HttpAnswer(status=403, retry_after=9), "throttled"),
        ("fatal: The requested URL returned error: 503", HttpAnswer(status=503, retry_after=9), "throttled"),
        ("fatal: unable to access 'x': The requested URL returned error: 410", HttpAnswer(status=410), "gone"),
        ("error: write: No space left on device\nfatal: early EOF", HttpAnswer(status=200), "disk"),
        ("error: object file x is empty\nfatal: the remote end hung up", HttpAnswer(status=200), "mirror"),
        ("fatal: early EOF", HttpAnswer(), "remote"),
        ("fatal: something new", HttpAnswer(), "mirror"),
    ],
)
def test_what_git_said_is_a_kind_of_trouble(said: str, answered: HttpAnswer, kind: str) -> None:
    assert classify(said, answered) == kind
