"""The feed: what goes to which stream, when, and what is told instead of what is missing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from memory_stream import MemoryStream
from twisted.internet.task import Clock

from stackit import Occurrence, RefChange, Repo, RequestHead
from stackit.live import feed as feeds
from stackit.live.feed import Feed
from stackit.live.filters import Filter, parse_filter
from stackit.live.groups import MOST_AT_ONCE
from stackit.secrets.redactor import Redactor

WIDGET = Repo("octo", "widget")
GADGET = Repo("octo", "gadget")
ALL = Filter()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def feed(clock: Clock) -> Feed:
    return Feed(reactor=clock, now=lambda: 1_795_000_000.0 + clock.seconds(), redact=Redactor(["hunter2-hunter2"]))


def joined(feed: Feed, wanted: Filter = ALL, last_id: str | None = None) -> MemoryStream:
    stream = MemoryStream()
    feed.join(stream, wanted, last_id)
    return stream


def accepted(number: int = 0, repo: Repo = WIDGET, **more: Any) -> Occurrence:
    return Occurrence(name="accepted", event="push", repo=repo, delivery=f"d{number}", outcome="queued", **more)


def deliveries(stream: MemoryStream) -> list[str]:
    return [each.data["delivery"] for each in stream.events if each.name == "accepted"]


def test_an_event_has_the_fields_of_the_log_line(feed: Feed, clock: Clock) -> None:
    stream = joined(feed)
    head = RequestHead(client="192.0.2.1", method=b"POST", path=b"/", headers={b"x": (b"secret header",)})
    feed.stackit_observe(
        Occurrence(
            name="dead",
            repo=WIDGET,
            subscriber="deploy",
            seconds=1.23456,
            error="no: hunter2-hunter2 <script>\nevent: forged\u2028",
            traceback="Traceback of hunter2-hunter2",
            request=head,
        )
    )
    clock.advance(0)
    (event,) = stream.events
    assert event.name == "dead"
    assert event.data == {
        "time": "2026-11-18T11:06:40.000Z",
        "level": "error",
        "logger": "stackit",
        "message": "handler failed for good, kept as a dead letter",
        "repo": "octo/widget",
        "subscriber": "deploy",
        "seconds": 1.235,
        "error": "no: *** <script>\nevent: forged\u2028",
        "occurrence": "dead",
    }
    assert "hunter2" not in stream.text
    assert "secret header" not in stream.text


def test_a_name_that_could_forge_an_event_is_other(feed: Feed, clock: Clock) -> None:
    stream = joined(feed)
    feed.stackit_observe(Occurrence(name="x\ndata: forged"))
    clock.advance(0)
    assert [(each.name, each.data["occurrence"]) for each in stream.events] == [("other", "x\ndata: forged")]


def test_the_first_goes_out_at_once_and_those_behind_it_together(feed: Feed, clock: Clock) -> None:
    stream = joined(feed)
    written = len(stream.written)
    feed.stackit_observe(accepted(1))
    clock.advance(0)
    assert len(stream.written) == written + 1
    for number in (2, 3):
        feed.stackit_observe(accepted(number))
    clock.advance(0.1)
    assert len(stream.written) == written + 1
    clock.advance(0.15)
    assert len(stream.written) == written + 2
    assert deliveries(stream) == ["d1", "d2", "d3"]


def test_all_streams_get_the_same_bytes(feed: Feed, clock: Clock) -> None:
    streams = [joined(feed) for _ in range(3)]
    feed.stackit_observe(accepted())
    clock.advance(1)
    assert len({id(each.written[-1]) for each in streams}) == 1


def test_nothing_is_encoded_while_nobody_listens(feed: Feed, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[Any] = []
    real = vars(feeds)["json_line"]

    def counted(*given: Any) -> Any:
        encoded.append(given)
        return real(*given)

    monkeypatch.setattr(feeds, "json_line", counted)
    feed.stackit_observe(accepted(1))
    stream = joined(feed, Filter(repos=frozenset({"octo/gadget"})))
    feed.stackit_observe(accepted(2))
    clock.advance(1)
    assert encoded == []
    feed.stackit_observe(accepted(3, GADGET))
    clock.advance(1)
    assert len(encoded) == 1
    stream.finish()
    feed.stackit_observe(accepted(4, GADGET))
    assert len(encoded) == 1
    assert clock.getDelayedCalls() == [], "nobody listens: no timer runs"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["d1", "d2", "d3"]),
        ({"repo": "octo/widget"}, ["d1"]),
        ({"repo": "OCTO/Gadget"}, ["d2"]),
        ({"repo": "octo/gadget,octo/widget"}, ["d1", "d2"]),
        ({"name": "handled,dead"}, []),
        ({"name": "handled,accepted"}, ["d1", "d2", "d3"]),
        ({"name": "accepted", "repo": "octo/gadget"}, ["d2"]),
        ({"name": "handled", "repo": "octo/gadget"}, []),
        ({"hidden": "accepted"}, []),
        ({"name": "accepted", "hidden": "accepted"}, []),
    ],
)
def test_filters(feed: Feed, clock: Clock, query: dict[str, str], expected: list[str]) -> None:
    start = joined(feed).last_id
    wanted = parse_filter(query, frozenset({query["hidden"]} if "hidden" in query else ()))
    stream = joined(feed, wanted)
    feed.stackit_observe(accepted(1))
    feed.stackit_observe(accepted(2, GADGET))
    feed.stackit_observe(Occurrence(name="accepted", delivery="d3"))
    clock.advance(1)
    assert deliveries(stream) == expected
    assert deliveries(joined(feed, wanted, start)) == expected, "what was missed is filtered the same"


@pytest.mark.parametrize(
    "query",
    [{"repo": "nowhere"}, {"repo": ""}, {"name": ""}, {"name": "a b"}, {"name": "x," * 51}, {"repo": "octo/widget,"}],
)
def test_filters_that_make_no_sense(query: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"^(repo|name): "):
        parse_filter(query)


def test_who_comes_back_gets_what_they_missed_once(feed: Feed, clock: Clock) -> None:
    first = joined(feed)
    feed.stackit_observe(accepted(1))
    clock.advance(1)
    first.end("closed")
    for number in (2, 3):
        feed.stackit_observe(accepted(number))
    second = joined(feed, last_id=first.last_id)
    feed.stackit_observe(accepted(4))
    clock.advance(1)
    assert deliveries(second) == ["d2", "d3", "d4"]
    assert len({each.id for each in first.events + second.events}) == 4


def test_who_comes_back_before_the_first_event_misses_none(feed: Feed, clock: Clock) -> None:
    feed.stackit_observe(accepted(1))
    first = joined(feed)
    first.end("closed")
    feed.stackit_observe(accepted(2))
    assert deliveries(joined(feed, last_id=first.last_id)) == ["d2"]


def test_who_joins_gets_nothing_from_before(feed: Feed, clock: Clock) -> None:
    first = joined(feed)
    for number in (1, 2):
        feed.stackit_observe(accepted(number))
    late = joined(feed)
    feed.stackit_observe(accepted(3))
    clock.advance(1)
    assert deliveries(first) == ["d1", "d2", "d3"]
    assert deliveries(late) == ["d3"]


@pytest.mark.parametrize(
    "last_id", ["", "x", "0-0", "{start}-", "{start}--1", "{start}-99999", "{start}-0", "{start}-²"]
)
def test_an_id_that_is_not_kept_is_a_gap(feed: Feed, clock: Clock, last_id: str) -> None:
    start = joined(feed).last_id.partition("-")[0]
    for number in range(feeds.KEPT + 1):
        feed.stackit_observe(accepted(number))
    stream = joined(feed, last_id=last_id.format(start=start))
    assert [(each.name, each.data) for each in stream.events] == [("reset", {"reason": "gap", "skipped": None})]
    assert joined(feed, last_id=stream.last_id).events == [], "from then on, nothing is missing"


def test_ids_of_another_start_are_no_ids_of_this_one(feed: Feed, clock: Clock) -> None:
    other = Feed(reactor=clock, now=clock.seconds, redact=str)
    for each in (feed, other):
        each.stackit_observe(accepted())
    assert joined(feed, last_id=joined(other).last_id).names == ["reset"]


def test_a_storm_is_told_in_part_and_its_rest_by_a_reset(feed: Feed, clock: Clock) -> None:
    stream = joined(feed)
    for number in range(5000):
        feed.stackit_observe(accepted(number))
    clock.advance(0)
    assert len(stream.written[-1]) < MOST_AT_ONCE + 2000
    *told, reset = stream.events
    assert deliveries(stream) == [f"d{number}" for number in range(len(told))], "the oldest, in order"
    assert reset.data == {"reason": "flood", "skipped": 5000 - len(told)}
    assert (feed.sent, feed.skipped) == (len(told), 5000 - len(told))
    feed.stackit_observe(accepted(5000))
    clock.advance(1)
    assert stream.events[-1].data["delivery"] == "d5000"
    assert joined(feed, last_id=stream.last_id).events == []


def test_filters_of_many_share_the_time_that_encoding_may_take(feed: Feed, clock: Clock) -> None:
    repos = [Repo("octo", f"r{number}") for number in range(100)]
    streams = [joined(feed, Filter(repos=frozenset({each.key}))) for each in repos]
    for number in range(50):
        for repo in repos:
            feed.stackit_observe(accepted(number, repo))
    clock.advance(0)
    written = sum(len(each.written[-1]) for each in streams)
    assert written < feeds.MOST_ENCODED + len(streams) * 200
    assert all(each.names[-1] == "reset" for each in streams)


def test_a_storm_for_one_repository_leaves_others_alone(feed: Feed, clock: Clock) -> None:
    quiet = joined(feed, Filter(repos=frozenset({"octo/gadget"})))
    for number in range(5000):
        feed.stackit_observe(accepted(number))
    feed.stackit_observe(accepted(1, GADGET))
    clock.advance(1)
    assert deliveries(quiet) == ["d1"]
    assert quiet.names == ["accepted"]


def test_what_is_missed_in_a_storm_comes_bounded(feed: Feed, clock: Clock) -> None:
    start = joined(feed)
    for number in range(feeds.KEPT):
        feed.stackit_observe(accepted(number, reason="x" * 400))
    stream = joined(feed, last_id=start.last_id)
    assert len(stream.text) < 70_000
    assert stream.names[-1] == "reset"


def test_a_hundred_thousand_refs_are_not_kept(feed: Feed, clock: Clock) -> None:
    stream = joined(feed)
    changes = tuple(
        RefChange(ref=f"refs/heads/b{number}", old="0" * 40, new="1" * 40, kind="created", forced=False)
        for number in range(1000)
    )
    feed.stackit_observe(Occurrence(name="refs_changed", repo=WIDGET, changes=changes))
    assert feed._ring[-1].occurrence.changes is None
    clock.advance(0)
    (event,) = stream.events
    assert event.data["count"] == 1000
    assert len(event.data["refs"]) == 20
    assert event.data["refs"][0] == "created:refs/heads/b0"
    assert len(json.dumps(event.data)) < 2000


def test_heartbeats_and_the_end_of_a_long_life(feed: Feed, clock: Clock) -> None:
    old = joined(feed)
    clock.advance(feeds.HEARTBEAT)
    assert old.written[-1] == b":\n\n"
    clock.pump([feeds.HEARTBEAT] * int(feeds.LIFETIME / feeds.HEARTBEAT / 2))
    young = joined(feed)
    clock.pump([feeds.HEARTBEAT] * int(feeds.LIFETIME / feeds.HEARTBEAT / 2))
    assert old.reason == "finished"
    assert young.reason is None
    assert old.events == []
    assert feed.ended == {"finished": 1}
    assert len(feed) == 1


def test_a_stop_ends_every_stream(feed: Feed, clock: Clock) -> None:
    streams = [joined(feed), joined(feed, Filter(names=frozenset({"dead"})))]
    feed.stackit_observe(accepted())
    feed.stop()
    assert [each.reason for each in streams] == ["finished", "finished"]
    assert feed.stopping
    assert clock.getDelayedCalls() == []
    assert list(feed._groups.all()) == []


def test_a_stream_that_ends_while_it_is_written_to_costs_no_other(feed: Feed, clock: Clock) -> None:
    streams = [joined(feed)]

    class Slow(MemoryStream):
        def write(self, data: bytes) -> None:
            super().write(data)
            if b"data" in data:
                self.end("slow")

    streams.insert(1, Slow())
    feed.join(streams[1], ALL, None)
    streams.append(joined(feed))
    feed.stackit_observe(accepted(1))
    clock.advance(0)
    assert [deliveries(each) for each in streams] == [["d1"]] * 3
    assert feed.ended == {"slow": 1}


def test_in_a_fleet_each_event_says_at_which_node_it_happened() -> None:
    for node in ("", "a"):
        clock = Clock()
        feed = Feed(reactor=clock, now=lambda: 0.0, redact=str, node=node)
        stream = MemoryStream()
        feed.join(stream, Filter(), None)
        feed.stackit_observe(Occurrence(name="notice", reason="something"))
        clock.advance(1)
        assert (b'"node": "a"' in b"".join(stream.written)) is bool(node)
        feed.stop()
