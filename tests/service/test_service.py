"""stackit.service: a start that fails leaves nothing open, and a stop closes everything in its order."""

from __future__ import annotations

import gc
import socket
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_twisted
from log_capture import warnings_logged
from plugin_maker import plugin
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, formatEvent
from waiting import until

from stackit import App, Duration, Route, StackitError, hookimpl, sleep
from stackit.api.errors import JournalError
from stackit.config.model import AdminConfig, Config
from stackit.config.secret import Secret
from stackit.journal.sqlite import SQLiteJournal
from stackit.runtime.cannot_start import CannotStart
from stackit.service import Stackit
from stackit.testing.ports import free_ports

STEPS = [name for name in vars(Stackit) if name.startswith(("_open_", "_make_", "_listen", "_give_", "_start_"))]


pytestmark = pytest.mark.usefixtures("kept_signals")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Two fixed ports, so that the second start needs those of the first."""
    public, admin = free_ports(2)
    return Config(
        state_dir=tmp_path / "state",
        listen=f"tcp:{public}:interface=127.0.0.1",
        admin=AdminConfig(listen=f"tcp:{admin}:interface=127.0.0.1"),
        webhook_secret=Secret("a secret"),
        grace=Duration(1),
        plugins={"logger": {"enabled": False}},
    )


def make(config: Config, kind: type[Stackit] = Stackit, **plugins: object) -> Stackit:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    return kind(config, reactor, plugins)


EARLIER: set[threading.Thread] = set()
"""Threads that were there before a test: a journal whose files were hurt keeps its own until the process ends."""


@pytest.fixture(autouse=True)
def _earlier_threads() -> None:
    EARLIER.update(threading.enumerate())


def journal_threads() -> list[str]:
    """Return the names of a journal's threads that have begun during this test."""
    return [each.name for each in threading.enumerate() if each not in EARLIER and each.name.startswith("journal")]


class Noted(Service):
    """A plugin's service that notes its start and its stop."""

    def __init__(self, name: str, notes: list[str], *, fails: bool = False) -> None:
        self._name, self._notes, self._fails = name, notes, fails

    def startService(self) -> None:
        self._notes.append(f"{self._name} starts")
        if self._fails:
            raise OSError("no such device")
        Service.startService(self)

    def stopService(self) -> None:
        Service.stopService(self)
        self._notes.append(f"{self._name} stops")


def with_service(service: Noted) -> Any:
    @hookimpl
    def stackit_service(app: App) -> Service:
        return service

    return plugin(stackit_service)


async def starts_and_stops(config: Config) -> None:
    """The whole of stackit, where the first one was."""
    second = make(config)
    second.startService()
    try:
        assert len(second.addresses) == 2
        assert len(journal_threads()) == 2
    finally:
        await second.stopService()
    assert journal_threads() == []


async def fails_and_leaves_nothing(first: Stackit, config: Config, said: str) -> None:
    with pytest.raises(CannotStart, match=said):
        first.startService()
    await first.stopService()
    assert journal_threads() == []
    await starts_and_stops(config)
    gc.collect()


def test_the_steps_of_a_start_are_known() -> None:
    assert len(STEPS) == 17


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("step", STEPS)
async def test_a_start_that_fails_at_any_step_closes_what_it_opened(step: str, config: Config) -> None:
    def fails(self: Stackit) -> None:
        getattr(Stackit, step)(self)
        raise StackitError(f"after {step}")

    notes: list[str] = []
    first = make(config, type("Failing", (Stackit,), {step: fails}), noted=with_service(Noted("it", notes)))
    await fails_and_leaves_nothing(first, config, f"after {step}")
    assert notes in ([], ["it starts", "it stops"])


@pytest_twisted.ensureDeferred
async def test_any_fault_of_a_step_closes_what_was_opened(config: Config) -> None:
    class Failing(Stackit):
        def _start_work(self) -> None:
            super()._start_work()
            raise MemoryError

    first = make(config, Failing)
    with pytest.raises(MemoryError):
        first.startService()
    await first.stopService()
    await starts_and_stops(config)


@pytest_twisted.ensureDeferred
async def test_a_service_of_a_plugin_that_cannot_start_ends_those_that_did_in_reverse_order(config: Config) -> None:
    notes: list[str] = []
    first = make(
        config,
        a=with_service(Noted("a", notes)),
        b=with_service(Noted("b", notes)),
        c=with_service(Noted("c", notes, fails=True)),
        d=with_service(Noted("d", notes)),
    )
    await fails_and_leaves_nothing(first, config, "plugin c: its service cannot be started: OSError: no such device")
    assert notes == ["a starts", "b starts", "c starts", "b stops", "a stops"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("side", ["public", "admin"])
async def test_a_port_that_is_taken_leaves_the_other_one_and_the_journal_free(side: str, config: Config) -> None:
    endpoint = config.listen if side == "public" else config.admin.listen
    first = make(config)
    with socket.create_server(("127.0.0.1", int(endpoint.split(":")[1]))), pytest.raises(CannotStart, match=side):
        first.startService()
    await first.stopService()
    assert journal_threads() == []
    await starts_and_stops(config)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("hook", ["stackit_service", "stackit_routes"])
async def test_a_plugin_that_fails_at_the_start_leaves_the_journal_free(hook: str, config: Config) -> None:
    @hookimpl
    def stackit_service(app: App) -> Service:
        raise StackitError("plug it in first")

    @hookimpl
    def stackit_routes(app: App) -> list[Route]:
        raise StackitError("plug it in first")

    first = make(config, mine=plugin({"stackit_service": stackit_service, "stackit_routes": stackit_routes}[hook]))
    await fails_and_leaves_nothing(first, config, "plugin mine: .*plug it in first")


@pytest_twisted.ensureDeferred
async def test_a_journal_that_another_stackit_holds_stays_with_it(config: Config) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    journal = SQLiteJournal.open(config.state_dir, reactor=reactor)
    first = make(config)
    with pytest.raises(CannotStart, match="pid"):
        first.startService()
    await first.stopService()
    assert len(journal_threads()) == 2
    await journal.close()
    await starts_and_stops(config)


@pytest_twisted.ensureDeferred
async def test_a_service_that_fails_while_it_stops_keeps_nothing_else_open(config: Config) -> None:
    class Fails(Noted):
        def stopService(self) -> None:
            super().stopService()
            raise OSError("closed, but not well")

    notes: list[str] = []
    first = make(config, other=with_service(Noted("other", notes)), fails=with_service(Fails("it", notes)))
    first.startService()
    with warnings_logged() as logged:
        await first.stopService()
    assert ["closed, but not well" in each["problem"] for each in logged] == [True]
    assert notes == ["other starts", "it starts", "it stops", "other stops"]
    await starts_and_stops(config)


@pytest_twisted.ensureDeferred
async def test_a_service_that_does_not_stop_is_waited_for_until_somebody_hurries(config: Config) -> None:
    class Hangs(Noted):
        def stopService(self) -> Deferred[None]:  # type: ignore[override]  # a service may return one
            self._notes.append("hangs")
            return Deferred()

    notes: list[str] = []
    patient = msgspec.structs.replace(config, grace=Duration(3600))
    first = make(patient, hangs=with_service(Hangs("it", notes)), other=with_service(Noted("other", notes)))
    first.startService()
    stopped = first.stopService()
    while "hangs" not in notes:
        await sleep(first.reactor, 0.01)
    assert not stopped.called
    first.stop_steps.hurry()
    await stopped
    assert journal_threads() == []
    assert sorted(notes) == ["hangs", "it starts", "other starts", "other stops"]
    await starts_and_stops(config)


@pytest_twisted.ensureDeferred
async def test_a_plugin_keeps_documents_apart_from_those_of_stackit_itself(config: Config) -> None:
    kept: list[Any] = []

    class Keeps(Service):
        def __init__(self, app: App) -> None:
            self.app = app

    @hookimpl
    def stackit_service(app: App) -> Service:
        kept.append(app)
        app.watch("birds", kept.append)
        return Keeps(app)

    stackit = make(config, keeper=plugin(stackit_service))
    stackit.startService()
    app: App = kept[0]
    await app.keep("birds", {"owl": b"1", "jay": b"2", "auk": b"3"})
    await app.keep("birds", {"auk": None})
    assert await app.kept("birds", None) == {"jay": b"2", "owl": b"1"} == app.documents("birds")
    assert await app.kept("birds", ["owl", "kea"]) == {"owl": b"1"}
    assert "owl" not in await stackit.journal.documents("birds")
    await stackit.stopService()
    assert kept == [app]  # nobody else changed any


@pytest_twisted.ensureDeferred
async def test_while_it_is_not_known_which_handlers_are_paused_none_begins(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    stackit = make(config)
    stackit.startService()
    paused, *others = stackit.dispatch.queues()
    assert others
    await stackit.pauses.pause(paused, "octocat")
    await stackit.stopService()

    answer, unreadable = SQLiteJournal.documents_now, ["paused", "sessions"]

    def documents_now(journal: SQLiteJournal, collection: str) -> dict[str, bytes]:
        if collection in unreadable:
            raise JournalError("the journal cannot read it: disk I/O error")
        return answer(journal, collection)

    monkeypatch.setattr(SQLiteJournal, "documents_now", documents_now)
    stackit = make(config)
    stackit.startService()
    queues = stackit.dispatch.queues().values()
    assert all(each.is_held for each in queues)
    await until(stackit.dispatch.problems)
    assert stackit.dispatch.problems() == [
        "no handler begins before it is known which of them are paused: the journal cannot read it: disk I/O error"
    ]
    assert all(each.is_held for each in queues)
    unreadable.clear()
    await until(lambda: not stackit.dispatch.problems())
    assert {each.subscriber.key for each in queues if each.is_held} == {paused}
    await stackit.stopService()


@pytest_twisted.ensureDeferred
async def test_where_a_fault_keeps_the_pauses_from_being_read_none_begins_and_all_else_is_read(
    config: Config, monkeypatch: pytest.MonkeyPatch, logged_failures: list[LogEvent]
) -> None:
    answer, read = SQLiteJournal.documents_now, list[str]()
    is_locked = True

    def documents_now(journal: SQLiteJournal, collection: str) -> dict[str, bytes]:
        if is_locked:
            raise JournalError("the journal cannot read it: database is locked")
        if collection == "paused":
            raise ZeroDivisionError
        read.append(collection)
        return answer(journal, collection)

    stackit = make(config)
    with monkeypatch.context() as at_start:
        at_start.setattr(SQLiteJournal, "documents_now", documents_now)
        stackit.startService()
        is_locked = False
        await until(lambda: {"sessions", "audit", "history"} <= set(read) and stackit.dispatch.problems())
    assert stackit.dispatch.problems() == [
        "no handler begins before it is known which of them are paused: ZeroDivisionError"
    ]
    assert all(each.is_held for each in stackit.dispatch.queues().values())
    (logged,) = logged_failures
    assert formatEvent(logged) == "the pauses of the last process cannot be read: a fault of stackit's own"
    logged_failures.clear()
    await stackit.stopService()
