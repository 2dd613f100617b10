"""stackit.service.stop: the order in which is closed what was opened, whatever fails meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from log_capture import warnings_logged
from twisted.internet.defer import Deferred

from stackit.service.stop import Closers


@pytest.fixture
def called() -> list[str]:
    return []


@pytest.fixture
def closers() -> Closers:
    return Closers()


def noting(name: str, called: list[str]) -> Callable[[], None]:
    return lambda: called.append(name)


def test_what_was_opened_last_is_closed_first_and_each_waits_for_the_one_before(
    closers: Closers, called: list[str]
) -> None:
    waits: Deferred[None] = Deferred()
    closers.add(noting("journal", called))
    closers.add(lambda: waits)
    closers.add_last(noting("watchdog", called))
    closers.add(noting("plugins", called))
    closed = closers.close()
    assert called == ["plugins"]
    assert not closed.called
    waits.callback(None)
    assert called == ["plugins", "journal", "watchdog"]
    assert closed.called


def test_what_fails_while_it_is_closed_keeps_nothing_else_open(closers: Closers, called: list[str]) -> None:
    def raises() -> None:
        raise OSError("no such device")

    async def fails() -> None:
        raise OSError("closed, but not well")

    closers.add(noting("journal", called))
    closers.add(raises)
    closers.add(noting("ports", called))
    closers.add(fails)
    with warnings_logged() as logged:
        assert closers.close().called
    assert called == ["ports", "journal"]
    assert [each["problem"] for each in logged] == ["OSError: closed, but not well", "OSError: no such device"]


def test_nothing_is_closed_twice(closers: Closers, called: list[str]) -> None:
    closers.add(noting("journal", called))
    assert closers.close() is closers.close()
    assert called == ["journal"]
