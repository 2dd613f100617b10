"""A node in this process: a start that fails leaves neither a thread nor a connection, and a stop likewise."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psycopg
import pytest
import pytest_twisted
from journal_values import append_together, new_delivery
from plugin_maker import plugin
from postgres_journals import open_sole
from waiting import PATIENCE, until

from stackit import Duration, Occurrence, StackitError, hookimpl
from stackit.config.fleet import FleetConfig
from stackit.config.model import AdminConfig, Config
from stackit.config.secret import Secret
from stackit.journal.sqlite import SQLiteJournal
from stackit.runtime.cannot_start import CannotStart
from stackit.service import Stackit

HOUR, YEAR = 3600.0, 366 * 86400.0
STEPS = ("_open_journal", "_make_dispatch", "_make_app", "_make_reloader", "_listen", "_start_plugins", "_start_work")

pytestmark = pytest.mark.usefixtures("kept_signals")


@pytest.fixture
def config(tmp_path: Path, postgres: str) -> Config:
    return Config(
        state_dir=tmp_path / "state",
        listen="tcp:0:interface=127.0.0.1",
        admin=AdminConfig(listen="tcp:0:interface=127.0.0.1"),
        webhook_secret=Secret("a secret"),
        grace=Duration(1),
        plugins={"logger": {"enabled": False}},
        fleet=FleetConfig(postgres=postgres, node="one", address="http://127.0.0.1:1"),
    )


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """The reactor's own threads stay. A look at the disk is waited for: no stop does that, and it is over by itself."""
    before = set(threading.enumerate())
    yield
    left = [each for each in threading.enumerate() if each not in before and "PoolThread" not in each.name]
    for each in left:
        each.join(PATIENCE if each.name == "stackit storage" else 0)
    assert [each.name for each in left if each.is_alive()] == []


def make(
    config: Config, kind: type[Stackit] = Stackit, *, now: Callable[[], float] = time.time, **plugins: object
) -> Stackit:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    return kind(config, reactor, plugins, now=now)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("step", STEPS)
async def test_a_start_that_fails_at_a_step_leaves_nothing_and_the_next_one_works(step: str, config: Config) -> None:
    def fails(self: Stackit) -> None:
        getattr(Stackit, step)(self)
        raise StackitError(f"after {step}")

    first = make(config, type("Failing", (Stackit,), {step: fails}))
    with pytest.raises(CannotStart, match=f"after {step}"):
        first.startService()
    await first.stopService()
    second = make(config)
    second.startService()
    try:
        assert len(second.addresses) == 2
        held = f"^stackit: state directory {config.state_dir} is held by another stackit"
        with pytest.raises(CannotStart, match=held):
            make(config).startService()
    finally:
        await second.stopService()


@pytest_twisted.ensureDeferred
async def test_another_number_of_shards_than_the_database_has_is_told(config: Config) -> None:
    told: list[str] = []

    @hookimpl
    def stackit_observe(occurrence: Occurrence) -> None:
        told.append(occurrence.reason or "")

    for shards in (16, 32):
        fleet = msgspec.structs.replace(config.fleet, shards=shards)
        node = make(msgspec.structs.replace(config, fleet=fleet), observer=plugin(stackit_observe))
        node.startService()
        await node.stopService()
    (line,) = (each for each in told if "shards" in each)
    assert "16 shards since its database was made: fleet.shards = 32 changes that no more" in line


@pytest_twisted.ensureDeferred
async def test_the_journal_of_before_is_named_with_what_to_do_about_it(config: Config) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    await SQLiteJournal.open(config.state_dir, reactor=reactor).close()
    told: list[str] = []

    @hookimpl
    def stackit_observe(occurrence: Occurrence) -> None:
        told.append(occurrence.reason or "")

    node = make(config, observer=plugin(stackit_observe))
    node.startService()
    await node.stopService()
    (line,) = (each for each in told if "journal.sqlite3" in each)
    assert "stackit journal copy --to postgres" in line


@pytest_twisted.ensureDeferred
async def test_a_database_whose_clock_is_ahead_has_no_event_go_too_early(config: Config, postgres: str) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    def kept() -> list[str]:
        with psycopg.connect(postgres) as connection:
            return [name for (name,) in connection.execute("SELECT delivery FROM events ORDER BY id").fetchall()]

    journal = open_sole(postgres, reactor)
    await append_together(
        journal,
        new_delivery("old", received_at=time.time() - 2 * YEAR, subscribers=()),
        new_delivery("young", received_at=time.time() - YEAR, subscribers=()),
    )
    await journal.close()
    # By the clocks of the machines, it is a year ago: that of the database, which one measures, is ahead by so much.
    node = make(config, now=lambda: time.time() - YEAR)
    node.startService()
    try:
        await until(lambda: any(each.state == "up" and each.name == "one" for each in node.node.nodes.nodes()))
        node.pruner.stopService()
        node.pruner.startService()
        await until(lambda: "old" not in kept())
        assert kept() == ["young"]
    finally:
        await node.stopService()


@pytest_twisted.ensureDeferred
async def test_the_time_of_the_fleet_goes_on_while_the_machine_is_suspended(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    asleep, read = [0.0], time.clock_gettime
    monkeypatch.setattr(
        time, "clock_gettime", lambda clock: read(clock) + (asleep[0] if clock == time.CLOCK_BOOTTIME else 0.0)
    )
    node = make(config)
    node.startService()
    try:
        before = node.node.now()
        asleep[0] = YEAR  # the clock of timers stood still meanwhile
        assert node.node.now() - before >= YEAR
        # The answers of the database, whose clock has not gone on, are by the same clock.
        await until(lambda: abs(node.node.now() - time.time()) < HOUR)
    finally:
        await node.stopService()
