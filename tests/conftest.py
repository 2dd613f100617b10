"""What every test shares: coroutine tests, and a reactor that must be left clean."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from twisted.logger import LogEvent, globalLogPublisher

from stackit.runtime.clocks import use_monotonic_time

# A busy machine is no fault of the code under test.
settings.register_profile("stackit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("stackit")


@pytest.fixture(autouse=True, scope="session")
def _monotonic_time() -> None:
    """As in a running stackit: what takes the reactor's time for the wall clock's is wrong by decades."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    use_monotonic_time(reactor)


@pytest.fixture(autouse=True)
def _clean_reactor() -> Iterator[None]:
    """A delayed call, an open port or an unhandled error that a test leaves behind fails it."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    problems: list[str] = []

    def note(event: LogEvent) -> None:
        if event.get("log_failure") is not None:
            problems.append(f"logged: {event['log_failure']!r}")

    before = set(reactor.getDelayedCalls())
    readers = set(reactor.getReaders())
    globalLogPublisher.addObserver(note)
    yield
    globalLogPublisher.removeObserver(note)
    left = [call for call in set(reactor.getDelayedCalls()) - before if call.active()]
    problems += [f"delayed call: {call}" for call in left]
    for call in left:
        call.cancel()  # or a loop would fail every later test, too
    readers |= reactor._internalReaders  # the reactor's own, such as the first child's SIGCHLD
    problems += [f"reader: {reader}" for reader in set(reactor.getReaders()) - readers]
    assert not problems, problems
