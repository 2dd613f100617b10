"""What is logged while a test runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from places import without_place
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher


@contextmanager
def observed(note: Callable[[LogEvent], object]) -> Iterator[None]:
    """Call ``note`` with each event of the log meanwhile."""
    observer = cast("ILogObserver", note)
    globalLogPublisher.addObserver(observer)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observer)


@contextmanager
def warnings_logged() -> Iterator[list[LogEvent]]:
    """The events that are warnings or worse."""
    events: list[LogEvent] = []

    def note(event: LogEvent) -> None:
        if event.get("log_level", LogLevel.info) >= LogLevel.warn:
            events.append(event)

    with observed(note):
        yield events


@contextmanager
def failures_logged() -> Iterator[list[LogEvent]]:
    """The events with a failure."""
    events: list[LogEvent] = []

    def note(event: LogEvent) -> None:
        if event.get("log_failure") is not None:
            events.append(event)

    with observed(note):
        yield events


@contextmanager
def problems_logged() -> Iterator[list[str]]:
    """A line for each event: its plugin, if it has one, and its problem without its place."""
    lines: list[str] = []

    def note(event: LogEvent) -> None:
        lines.append(": ".join(str(without_place(str(event[name]))) for name in ("plugin", "problem") if name in event))

    with observed(note):
        yield lines


@contextmanager
def lines_logged() -> Iterator[list[str]]:
    """The lines of stackit itself."""
    lines: list[str] = []

    def note(event: LogEvent) -> None:
        if event.get("log_namespace") == "stackit":
            lines.append(str(event["log_format"]).format(**event))

    with observed(note):
        yield lines
