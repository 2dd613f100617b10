"""Deliveries for a fleet, sent as load balancers do, and what became of them, from the notes of a handler."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred, gatherResults

from stackit.api.reactor import sleep
from stackit.testing import Answer, StackitFailed, payload_for
from stackit.testing.fleet import RunningFleet

StartFleet = Callable[..., Awaitable[RunningFleet]]
"""Start a fleet: the fixture ``running_fleet``, or ``start_fleet`` with the handler that notes what it does."""

_HANDLER = """
import json
import os
import threading
import time

from stackit import Permanent, hookimpl, on

NOTES = os.environ["NOTES"]
sleep = None


def note(what, **more):
    line = {"what": what, "at": time.monotonic(), "pid": os.getpid(), **more}
    with open(NOTES, "a") as notes:
        notes.write(json.dumps(line) + "\\n")


def watch():
    last = time.monotonic()
    while True:
        time.sleep(0.1)
        now = time.monotonic()
        if now - last > 0.6:
            with open(NOTES + ".stood", "a") as stood:
                stood.write(json.dumps({"pid": os.getpid(), "at": last + 0.2}) + "\\n")
        last = now


@hookimpl
def stackit_service(app):
    global sleep
    sleep = app.sleep
    threading.Thread(target=watch, daemon=True).start()


@hookimpl
def stackit_backstop():
    note("round")


@on("issues")
async def handle(event):
    which = {"guid": event.delivery, "repo": str(event.repo)}
    asked = event.payload["asked"]
    note("start", **which)
    try:
        while os.path.exists(NOTES + ".held"):
            await sleep(0.05)
        if os.path.exists(NOTES + ".broken"):
            raise Permanent("broken")
        if os.path.exists(NOTES + ".failing"):
            raise ValueError("not yet")
        if "blocks" in asked:
            time.sleep(asked["blocks"])
        if "takes" in asked:
            await sleep(asked["takes"])
    except (Permanent, ValueError):
        note("failed", **which)
        raise
    except BaseException:
        note("cancelled", **which)
        raise
    note("end", **which)
"""


_Line = TypeVar("_Line")
_TRIES = 5
"""Times that a delivery is sent which no node takes: an outage may be long on a busy machine."""


class Note(msgspec.Struct, frozen=True):
    """A line of the plugin, at a time of the monotonic clock.

    Of a handling it is ``start``, and then ``end``, ``failed`` or ``cancelled``; of the backstop it is ``round``.
    """

    what: str
    at: float
    pid: int
    guid: str = ""
    repo: str = ""


class Standstill(msgspec.Struct, frozen=True):
    """A line of the plugin about its process, which got no turn of the machine for a while: a time within that."""

    pid: int
    at: float


class Sent(msgspec.Struct, frozen=True):
    """A delivery that was taken: which of its repository, when it was sent, and when the 202 came."""

    repo: str
    number: int
    guid: str
    at: float
    taken: float


class Load:
    """A sender, and a handler plugin that notes when it begins and ends.

    ``config`` and ``environment`` are for the fleet.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._notes = directory / "notes"
        self._stood = directory / "notes.stood"
        self.broken = directory / "notes.broken"
        """While there is such a file, the handler gives up each event at once."""
        self.failing = directory / "notes.failing"
        """While there is such a file, the handler fails, and is tried again."""
        self.held = directory / "notes.held"
        """While there is such a file, what the handler has begun does not go on."""
        module = directory / "handler.py"
        module.write_text(_HANDLER)
        self.config = {
            "sync": {"interval": "0"},
            "plugins": {"load": {"file": str(module)}, "ratelimit": {"burst": 100000}},
        }
        self.environment = {"NOTES": str(self._notes)}
        self.sent: list[Sent] = []
        self.is_enough = False
        self._sending: list[Deferred[None]] = []
        self._stops: defaultdict[int, list[float]] = defaultdict(list)

    def stopped(self, pid: int | None, at: float | None = None) -> None:
        """Take note that a process was killed or frozen, just now or ``at``: others may do now what it had begun."""
        self._stops[pid or 0].append(time.monotonic() if at is None else at)

    def notes(self) -> list[Note]:
        """Return what was noted so far, by time."""
        return sorted(_lines(self._notes, Note), key=lambda note: note.at)

    async def send(
        self, fleet: RunningFleet, repos: Sequence[str], each: int, *, pause: float = 0.0, **asked: Any
    ) -> None:
        """Send ``each`` deliveries to each repository: the next when the last was taken, to the next receiver.

        It pauses for ``pause`` seconds between two, and ends early once ``is_enough`` is set.
        """
        sending = [
            Deferred.fromCoroutine(self._send(fleet, repo, each, offset, pause, asked))
            for offset, repo in enumerate(repos)
        ]
        self._sending += sending
        await gatherResults(sending, consumeErrors=True)

    def stop(self) -> None:
        """Send no more, whatever is on its way: the test has failed."""
        self.is_enough = True
        for sending in self._sending:
            sending.addErrback(lambda _: None)
            sending.cancel()

    async def _send(
        self, fleet: RunningFleet, repo: str, each: int, offset: int, pause: float, asked: Mapping[str, Any]
    ) -> None:
        from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

        names = list(fleet.nodes)
        first = sum(1 for sent in self.sent if sent.repo == repo)
        for number in range(first, first + each):
            if self.is_enough:
                return
            guid = f"{repo.replace('/', '-')}-{number}"
            payload = {**payload_for("issues", "opened", repo), "asked": {"number": number, **asked}}
            begun = time.monotonic()
            answer = await self._patiently(fleet, payload, guid, names[(number + offset) % len(names)])
            assert answer.status == 202, answer
            self.sent.append(Sent(repo, number, guid, begun, time.monotonic()))
            await sleep(reactor, pause)

    async def _patiently(self, fleet: RunningFleet, payload: Mapping[str, Any], guid: str, first: str) -> Answer:
        """Send a delivery until a node takes it."""
        for _ in range(_TRIES - 1):
            if not self.is_enough:
                with suppress(StackitFailed):
                    return await fleet.deliver("issues", payload, guid=guid, first=first)
        return await fleet.deliver("issues", payload, guid=guid, first=first)

    async def all_done(self, fleet: RunningFleet, within: float = 180.0) -> None:
        """Wait until the handler has ended for each delivery that was taken."""

        async def done() -> bool:
            return self.missing() == set()

        await fleet.until(done, "every delivery to be handled", within)

    async def recorded(self, fleet: RunningFleet) -> tuple[set[str], float]:
        """Return the deliveries whose handling is recorded as done, and a time by which it was."""
        rows = await fleet.query(
            "SELECT e.delivery FROM outcomes o JOIN events e ON e.id = o.id / 4096 WHERE o.state = 'd'"
        )
        return {guid for (guid,) in rows}, time.monotonic()

    def missing(self) -> set[str]:
        """Return the deliveries that were taken and that the handler has not ended for."""
        ended = {note.guid for note in self.notes() if note.what == "end"}
        return {sent.guid for sent in self.sent} - ended

    def twice(self) -> set[str]:
        """Return the deliveries that the handler has ended for more than once."""
        ended: defaultdict[str, int] = defaultdict(int)
        for note in self.notes():
            ended[note.guid] += note.what == "end"
        return {guid for guid, times in ended.items() if times > 1}

    def disorder(self) -> list[str]:
        """Return each handling that began before one that was sent before it, to its repository, had ended."""
        ended: set[str] = set()
        numbers = {sent.guid: (sent.repo, sent.number) for sent in self.sent}
        before: dict[str, list[str]] = defaultdict(list)
        for sent in sorted(self.sent, key=lambda sent: sent.number):
            before[sent.repo].append(sent.guid)
        wrong = []
        for note in self.notes():
            if note.what == "end":
                ended.add(note.guid)
            elif note.what == "start" and note.guid in numbers:
                repo, number = numbers[note.guid]
                if late := [guid for guid in before[repo] if numbers[guid][1] < number and guid not in ended]:
                    wrong.append(f"{note.guid} began at {note.at:.3f} before {late[0]} had ended")
        return wrong

    def begun_again(self, guids: Collection[str], since: float) -> list[str]:
        """Return those of these deliveries that a handler began after this time."""
        begun = {note.guid for note in self.notes() if note.what == "start" and note.at > since}
        return sorted(begun.intersection(guids))

    def overlaps(self) -> list[str]:
        """Return each handling that began while another of its repository ran, in whatever process.

        One whose process was killed, or stood still meanwhile, may be done by others.
        """
        stops = defaultdict(list, {pid: list(at) for pid, at in self._stops.items()})
        for each in _lines(self._stood, Standstill):
            stops[each.pid].append(each.at)
        running: dict[str, dict[tuple[int, str], float]] = defaultdict(dict)
        wrong = []
        for note in self.notes():
            here = running[note.repo]
            for pid, guid in list(here):
                if any(here[pid, guid] <= stop < note.at for stop in stops[pid]):
                    del here[pid, guid]
            if note.what == "start":
                wrong += [f"{note.guid} in {note.pid} at {note.at:.3f} beside {guid} in {pid}" for pid, guid in here]
                here[note.pid, note.guid] = note.at
            else:
                here.pop((note.pid, note.guid), None)
        return wrong

    def slowest(self) -> float:
        """Return the longest time from a 202 to the first end of its handling."""
        ended: dict[str, float] = {}
        for note in self.notes():
            if note.what == "end":
                ended.setdefault(note.guid, note.at)
        return max(ended[sent.guid] - sent.taken for sent in self.sent)

    def check(self) -> None:
        """Check that nothing was lost, no order broken, and nothing ran beside itself."""
        assert not (missing := self.missing()), f"lost: {sorted(missing)}"
        assert not (disorder := self.disorder()), f"out of order: {disorder}"
        assert not (overlaps := self.overlaps()), f"side by side: {overlaps}"


def _lines(path: Path, type_: type[_Line]) -> list[_Line]:
    """Return the whole lines of a file that processes write, none where it is not there yet."""
    if not path.exists():
        return []
    whole = path.read_text().rpartition("\n")[0].splitlines()
    return [msgspec.json.decode(line, type=type_) for line in whole]
