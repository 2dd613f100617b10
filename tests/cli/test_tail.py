"""``stackit tail`` against an admin side that listens for real."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as the_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import serverFromString
from waiting import until

from stackit import Occurrence, Repo
from stackit.api.errors import StackitError
from stackit.cli.event_stream import EventParser, ServerEvent
from stackit.cli.run import run
from stackit.config.model import Config
from stackit.config.secret import Secret
from stackit.live.feed import Feed
from stackit.live.places import Places
from stackit.live.routes import live_routes
from stackit.web.admin.site import admin_site

reactor: Any = the_reactor


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Watched:
    """An admin side with a feed, and the commands that watch it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: list[Deferred[int]] = []
        self.err = io.StringIO()
        self.feed = Feed(reactor=reactor, now=lambda: 1_795_459_409.123, redact=str)
        config = Config(state_dir=directory, api_prefixes=("/api/v1",), api_token=Secret("hunter2-hunter2"))
        self.site = admin_site(config, live_routes(self.feed, Places()), reactor)
        self.port: Any = None

    async def listen(self) -> None:
        self.port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(self.site)

    def tail(
        self, *arguments: str, out: io.StringIO | None = None, **environ: str
    ) -> tuple[io.StringIO, Deferred[int]]:
        out = out or io.StringIO()
        settings: Mapping[str, str] = {
            "STACKIT_ADMIN_LISTEN": f"tcp:{self.port.getHost().port}:interface=127.0.0.1",
            "STACKIT_API_TOKEN": "hunter2-hunter2",
            **environ,
        }
        given = ["tail", *arguments]
        running = Deferred.fromCoroutine(
            run(reactor, given, environ=settings, cwd=self._directory, out=out, err=self.err)
        )
        self._running.append(running)
        return out, running

    async def stop(self) -> None:
        for each in self._running:
            each.cancel()
            each.addErrback(lambda failure: failure.trap(CancelledError) and None)
            await each
        await self.port.stopListening()
        await self.site.wind_down(5)


@pytest_twisted.async_yield_fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    made = Watched(tmp_path)
    await made.listen()
    yield made
    await made.stop()


def accepted(delivery: str, repo: str = "octo/widget", **more: Any) -> Occurrence:
    return Occurrence(name="accepted", event="push", repo=Repo.parse(repo), delivery=delivery, **more)


@pytest_twisted.ensureDeferred
async def test_each_occurrence_is_a_line_and_filters_are_passed_on(watched: Watched) -> None:
    out, _ = watched.tail("--repo", "octo/widget", "--repo", "octo/blog", "--name", "accepted", "--name", "dead")
    await until(lambda: len(watched.feed) == 1)
    watched.feed.stackit_observe(accepted("d1"))
    watched.feed.stackit_observe(accepted("d2", "octo/gadget"))
    watched.feed.stackit_observe(Occurrence(name="visible", repo=Repo("octo", "blog")))
    watched.feed.stackit_observe(Occurrence(name="dead", repo=Repo("octo", "blog"), error="no\x1b[31m\nTIME forged"))
    await until(lambda: out.getvalue().count("\n") == 2)
    assert out.getvalue() == (
        "2026-11-23T18:43:29.123Z info  delivery accepted event=push repo=octo/widget delivery=d1\n"
        "2026-11-23T18:43:29.123Z error handler failed for good, kept as a dead letter repo=octo/blog "
        'error="no\\u001b[31m\\nTIME forged"\n'
    )


@pytest_twisted.ensureDeferred
async def test_json_is_a_line_for_each(watched: Watched) -> None:
    out, _ = watched.tail("--json")
    await until(lambda: len(watched.feed) == 1)
    for number in range(3):
        watched.feed.stackit_observe(accepted(f"d{number}"))
    await until(lambda: out.getvalue().count("\n") == 3)
    said = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(each["occurrence"], each["delivery"]) for each in said] == [("accepted", f"d{n}") for n in range(3)]


@pytest.mark.parametrize(("environ", "colored"), [({}, True), ({"NO_COLOR": "1"}, False)])
@pytest_twisted.ensureDeferred
async def test_a_terminal_shows_errors_in_red(watched: Watched, environ: dict[str, str], colored: bool) -> None:
    out, _ = watched.tail(out=Terminal(), TERM="xterm", **environ)
    await until(lambda: len(watched.feed) == 1)
    watched.feed.stackit_observe(Occurrence(name="dead", error="never"))
    await until(lambda: "\n" in out.getvalue())
    assert out.getvalue().startswith("\x1b[31m") is colored
    assert ("\x1b" in out.getvalue()) is colored


@pytest_twisted.ensureDeferred
async def test_it_goes_on_where_it_was_and_says_where_events_are_missing(watched: Watched) -> None:
    out, _ = watched.tail()
    await until(lambda: len(watched.feed) == 1)
    watched.feed.stackit_observe(accepted("d1"))
    await until(lambda: "d1" in out.getvalue())
    for stream in tuple(watched.feed._streams):
        stream.finish()
    watched.feed.stackit_observe(accepted("d2"))
    await until(lambda: "d2" in out.getvalue())
    for number in range(2000):
        watched.feed.stackit_observe(accepted(f"e{number}"))
    await until(lambda: "events left out here: too many at once)" in out.getvalue())
    assert out.getvalue().count("=d1\n") == 1
    assert watched.err.getvalue() == ""


@pytest_twisted.ensureDeferred
async def test_while_stackit_does_not_answer_it_says_so_once(watched: Watched) -> None:
    out, running = watched.tail()
    await until(lambda: len(watched.feed) == 1)
    watched.feed.stop()
    await until(lambda: "(nothing comes, and is asked for again: stackit stops: come again soon)" in out.getvalue())
    watched.feed.stopping = False
    await until(lambda: len(watched.feed) == 1)
    watched.feed.stackit_observe(accepted("d1"))
    await until(lambda: "d1" in out.getvalue())
    assert out.getvalue().count("nothing comes") == 1
    assert not running.called


@pytest.mark.parametrize(
    ("arguments", "environ", "said"),
    [
        (("--repo", "nowhere"), {}, "repo: "),
        ((), {"STACKIT_API_TOKEN": "wrong-wrong-wrong"}, "refuses this token"),
        ((), {"STACKIT_ADMIN_LISTEN": "tcp:1:interface=127.0.0.1"}, "no stackit answers"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_cannot_begin_is_one_line(
    watched: Watched, arguments: tuple[str, ...], environ: dict[str, str], said: str
) -> None:
    out, running = watched.tail(*arguments, out=None, **environ)
    assert await running == 1
    assert said in watched.err.getvalue()
    assert watched.err.getvalue().count("\n") == 1
    assert out.getvalue() == ""


def test_events_are_read_wherever_the_bytes_are_split() -> None:
    data = (
        ": hello\nretry: 5\n\nid: 1\n\nevent: one\r\nid: 2\ndata: a\ndata: bü\n\n"
        "data:c\n\nevent: none\n\ndata: unfinished"
    ).encode()
    for size in range(1, 20):
        seen: list[ServerEvent] = []
        parser = EventParser(seen.append)
        for at in range(0, len(data), size):
            parser.feed(data[at : at + size])
        assert [(each.name, each.id, each.data) for each in seen] == [("one", "2", "a\nbü"), ("message", "2", "c")]
        assert parser.last_id == "2"


def test_an_event_without_end_is_not_kept() -> None:
    parser = EventParser(print)
    parser.feed(b"data: " + b"x" * 2**19)
    with pytest.raises(StackitError, match="no end"):
        parser.feed(b"x" * 2**19)
