"""What every test shares: coroutine tests, and a reactor that must be left clean."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hang_watch import HangWatch
from hypothesis import HealthCheck, settings
from log_capture import failures_logged, warnings_logged
from twisted.logger import LogEvent

from stackit.runtime.clocks import use_monotonic_time

# A busy machine is no fault of the code under test.
settings.register_profile("stackit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("stackit")

_WATCH = pytest.StashKey[HangWatch]()
_LAST_WORDS = 60.0
"""Seconds that a child may take to end after the test that started it."""


def pytest_configure(config: pytest.Config) -> None:
    """Have programs that tests start get the default of each signal, also where the tests are to ignore some.

    Under nohup, and as a job in the background, they are, and a program inherits that.
    """
    for each in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(each) is signal.SIG_IGN:
            signal.signal(each, _ignore)  # a program that is started inherits no handler
    config.stash[_WATCH] = HangWatch()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Tell of a test that hangs: a run that waits for it says nothing else."""
    watch = item.config.stash[_WATCH]
    watch.begin(item.nodeid)
    try:
        return (yield)
    finally:
        watch.end()


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_WATCH].close()


def _ignore(_number: int, _frame: object) -> None:
    """Do nothing."""


@pytest.fixture(autouse=True, scope="session")
def _monotonic_time() -> None:
    """As in a running stackit: what takes the reactor's time for the wall clock's is wrong by decades."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    use_monotonic_time(reactor)


@pytest.fixture
def kept_signals() -> Iterator[None]:
    """For a stackit in this process: it takes two signals over, which are pytest's."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    """Events of the log that are warnings or worse."""
    with warnings_logged() as events:
        yield events


@pytest.fixture
def logged_failures() -> Iterator[list[LogEvent]]:
    """Events of the log with a failure. A test that expects them takes them out; one that is left fails it."""
    with failures_logged() as events:
        yield events


def _children() -> set[int]:
    """Return the ids of the child processes that run."""
    found: set[int] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
            found |= {int(each) for each in task.read_text().split()}
    return {each for each in found if _runs(each)}


def _runs(child: int) -> bool:
    try:
        return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(autouse=True)
def _no_children() -> Iterator[None]:
    """A child process that a test leaves behind fails it, and is ended: others would wait for it."""
    before = _children()
    yield
    deadline = time.monotonic() + _LAST_WORDS
    while (left := _children() - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    for each in left:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    assert not left, f"child processes: {sorted(left)}"


@pytest.fixture(autouse=True)
def _clean_reactor(logged_failures: list[LogEvent]) -> Iterator[None]:
    """A delayed call, an open port or an unhandled error that a test leaves behind fails it."""
    from twisted.internet import reactor as the_reactor  # noqa: PLC0415 - importing it installs it

    reactor: Any = the_reactor
    before = set(reactor.getDelayedCalls())
    readers = set(reactor.getReaders())
    yield
    problems = [f"logged: {event['log_failure']!r}" for event in logged_failures]
    left = [call for call in set(reactor.getDelayedCalls()) - before if call.active()]
    problems += [f"delayed call: {call}" for call in left]
    for call in left:
        call.cancel()  # or a loop would fail every later test, too
    readers |= reactor._internalReaders  # the reactor's own, such as the first child's SIGCHLD
    problems += [f"reader: {reader}" for reader in set(reactor.getReaders()) - readers]
    assert not problems, problems
