"""What plugins log by ``logging`` and print, and the levels of loggers."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from contextvars import copy_context
from types import SimpleNamespace
from typing import Any, cast

import pytest
from twisted.internet.protocol import Factory
from twisted.logger import ILogObserver, LogEvent, Logger, LoggingFile, LogLevel, globalLogPublisher
from twisted.python.failure import Failure

from stackit.api.handling import CURRENT
from stackit.runtime.log_levels import LogLevels
from stackit.runtime.log_lines import json_line, text_line
from stackit.runtime.log_observer import LineObserver
from stackit.runtime.python_logging import LoggingBridge, PrintedLines, keep_threads_lines_apart
from stackit.text.redaction import redacted

EVENT = SimpleNamespace(delivery="guid one", id="17")
SECRET = "ghp_abcdefghijklmnopqrstuvwxyz0123456789"


class Log:
    """The log as text and as JSON, with the bridge installed."""

    def __init__(self, levels: LogLevels) -> None:
        self.bridge = LoggingBridge(redacted)
        self.bridge.install(levels.lowest_number())
        self.streams = [io.StringIO(), io.StringIO()]
        self.observers = [
            LineObserver(stream, line, levels=levels) for stream, line in zip(self.streams, LINES, strict=True)
        ]
        for each in self.observers:
            globalLogPublisher.addObserver(cast("ILogObserver", each))

    def close(self) -> None:
        for each in self.observers:
            globalLogPublisher.removeObserver(cast("ILogObserver", each))
        self.bridge.remove()

    def lines(self) -> list[str]:
        """The text lines, without their time."""
        return [line.partition(" ")[2] for line in self.streams[0].getvalue().splitlines()]

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.streams[1].getvalue().splitlines()]


LINES = (text_line, json_line)


@pytest.fixture
def log() -> Iterator[Log]:
    opened = Log(LogLevels("info"))
    yield opened
    opened.close()


def in_a_handler(function: Any, *arguments: object) -> None:
    context = copy_context()
    context.run(CURRENT.set, ("diary:pushed", EVENT))
    context.run(function, *arguments)


def test_a_record_keeps_its_level_and_its_logger_and_has_the_handling(log: Log) -> None:
    logger = logging.getLogger("diary.pages")
    in_a_handler(logger.warning, "page %d\nis full", 3)
    logger.info("outside")
    logger.debug("hidden")
    logger.critical("worse")
    assert log.lines() == [
        r'warn [diary.pages] page 3\nis full delivery="guid one" id=17 subscriber=diary:pushed',
        "info [diary.pages] outside",
        "critical [diary.pages] worse",
    ]
    first, second, _ = log.records()
    assert {name: first[name] for name in ("level", "logger", "message", "delivery", "id", "subscriber")} == {
        "level": "warn",
        "logger": "diary.pages",
        "message": "page 3\nis full",
        "delivery": "guid one",
        "id": "17",
        "subscriber": "diary:pushed",
    }
    assert "delivery" not in second


def test_a_logged_exception_has_its_traceback(log: Log) -> None:
    try:
        raise OSError(f"no\n{SECRET}")
    except OSError:
        in_a_handler(logging.getLogger("diary").exception, "cannot write")
    first, *further = log.lines()
    assert first.startswith("error [diary] cannot write delivery=")
    assert all(line.startswith("error [diary] | ") for line in further)
    assert further[-2:] == ["error [diary] | OSError: no", "error [diary] | ***"]
    (record,) = log.records()
    assert record["traceback"].endswith("OSError: no\n***")
    assert SECRET not in "".join(stream.getvalue() for stream in log.streams)


@pytest.mark.parametrize("arguments", [("%d", "x"), ("%s %s", 1), ("%(a)s", 3)])
def test_a_record_that_cannot_be_formatted_is_logged_all_the_same(log: Log, arguments: tuple[Any, ...]) -> None:
    text, *values = arguments
    log.bridge.handle(logging.LogRecord("diary", logging.ERROR, __file__, 1, text, tuple(values), None))
    (line,) = log.lines()
    assert line.startswith(f"error [diary] {arguments[0]} (")


def test_the_name_of_a_logger_can_begin_no_line(log: Log) -> None:
    logging.getLogger("a\nb").error("x")
    assert log.lines() == [r"error [a\nb] x"]


def test_what_is_installed_is_removed_again() -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    log = Log(LogLevels("debug"))
    assert root.level == logging.DEBUG
    log.close()
    assert (root.level, root.handlers) == before


def test_a_plugin_that_configures_logging_itself_writes_no_line_twice(log: Log) -> None:
    logging.basicConfig(level=logging.DEBUG)
    assert [type(each) for each in logging.getLogger().handlers if type(each) is logging.StreamHandler] == []


def test_twisteds_own_logger_has_the_handling_too(log: Log) -> None:
    in_a_handler(Logger(namespace="diary").info, "written")
    assert log.lines() == ['info [diary] written delivery="guid one" id=17 subscriber=diary:pushed']


def test_a_failure_that_a_handler_logs_by_twisteds_logger_has_its_traceback_too() -> None:
    lines: list[str] = []

    def handle() -> None:
        event: LogEvent = {"log_level": LogLevel.critical, "log_namespace": "diary", "log_format": "cannot write"}
        try:
            raise OSError("no room")
        except OSError:
            lines.extend(text_line({**event, "log_failure": Failure()}, redacted).splitlines())

    in_a_handler(handle)
    first, *further = (line.partition(" ")[2] for line in lines)
    assert first.startswith("critical [diary] cannot write delivery=")
    assert "OSError: no room (in handle, test_python_logging.py:" in first
    assert further[0] == "critical [diary] | Traceback (most recent call last):"
    assert further[-1] == "critical [diary] | OSError: no room"


def test_factories_start_and_stop_without_a_line(log: Log) -> None:
    factory: Factory[Any] = Factory()
    for _ in range(2):
        factory.doStart()
        factory.doStop()
    assert log.lines() == []
    for each in log.observers:
        each.levels = LogLevels({"twisted": "debug"})
    factory.doStart()
    factory.doStop()
    assert len(log.lines()) == 2


def test_levels_are_those_of_the_longest_name_that_fits_and_change_at_once(log: Log) -> None:
    levels = LogLevels({"default": "warn", "diary": "debug", "diary.pages.ink": "critical"})
    log.bridge.set_level(levels.lowest_number())
    for each in log.observers:
        each.levels = levels
    for name in ("diary", "diary.pages", "diary.pages.ink", "diaryx", "other"):
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.CRITICAL):
            logging.getLogger(name).log(level, "x")
    assert log.lines() == [
        *(f"{level} [diary] x" for level in ("debug", "info", "warn", "critical")),
        *(f"{level} [diary.pages] x" for level in ("debug", "info", "warn", "critical")),
        "critical [diary.pages.ink] x",
        *(f"{level} [diaryx] x" for level in ("warn", "critical")),
        *(f"{level} [other] x" for level in ("warn", "critical")),
    ]


def test_an_event_without_a_level_or_a_name_has_those_of_all_others() -> None:
    assert not LogLevels("info").hides({})
    assert LogLevels("warn").hides({"log_format": "x"})
    assert not LogLevels({"default": "warn", "-": "info"}).hides({"log_format": "x"})


def test_any_number_of_loggers_costs_no_memory() -> None:
    levels = LogLevels({"default": "warn", "a": "info"})
    for number in range(5000):
        assert levels.hides({"log_namespace": f"x{number}", "log_level": LogLevel.info})
    assert not levels.hides({"log_namespace": "a.b", "log_level": LogLevel.info})
    assert len(levels._hidden) <= 1024


def test_the_lines_that_threads_print_do_not_mix(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, level in (("stdout", LogLevel.info), ("stderr", LogLevel.error)):
        monkeypatch.setattr(sys, name, LoggingFile(Logger(namespace=name), level, "utf-8"))
    keep_threads_lines_apart()
    assert type(sys.stdout) is type(sys.stderr) is PrintedLines
    begun, ended = threading.Event(), threading.Event()

    def other() -> None:
        sys.stdout.write("a thread")
        begun.set()
        ended.wait(30)
        sys.stdout.write(" ends\n")

    thread = threading.Thread(target=other)
    thread.start()
    begun.wait(30)
    in_a_handler(sys.stdout.write, "two\nlines\n")
    ended.set()
    thread.join()
    sys.stderr.write("wrong\n")
    monkeypatch.undo()
    assert log.lines() == [
        'info [stdout] two delivery="guid one" id=17 subscriber=diary:pushed',
        'info [stdout] lines delivery="guid one" id=17 subscriber=diary:pushed',
        "info [stdout] a thread ends",
        "error [stderr] wrong",
    ]


class Mute:
    """An object without a text."""

    def __str__(self) -> str:
        raise ValueError("none")


class Talkative:
    """An object that logs itself whenever it is asked for its text."""

    def __init__(self, log: Log) -> None:
        self.log = log

    def __str__(self) -> str:
        self.log.bridge.handle(record_of(self))
        return "text"


def record_of(message: object, *values: object) -> logging.LogRecord:
    """A record that goes to the bridge alone: pytest's own handlers fail for one without a text."""
    return logging.LogRecord("diary", logging.INFO, __file__, 1, message, values, None)


def test_what_has_no_text_does_not_fail_who_logs_it(log: Log) -> None:
    log.bridge.handle(record_of(Mute()))
    log.bridge.handle(record_of("seen %s", Mute()))
    assert log.lines() == [
        "info [diary] a message without a text (ValueError: none)",
        "info [diary] seen %s (ValueError: none)",
    ]


def test_an_object_that_logs_itself_costs_a_few_lines(log: Log) -> None:
    for _ in range(2):
        log.bridge.handle(record_of(Talkative(log)))
    once = ["info [diary] a message that was logged by its own text", *["info [diary] text"] * 8]
    assert log.lines() == once * 2


def test_a_line_that_never_ends_is_kept_in_part(log: Log) -> None:
    printed = PrintedLines(Logger(namespace="stdout"), LogLevel.info, "utf-8")
    for _ in range(200):
        printed.write("x" * 1000)
    assert len(printed._begun.line) < 200_000
    printed.write(f"{SECRET}\nthe next\nbegun")
    first, second = log.lines()
    assert first.startswith("info [stdout] xxx")
    assert second == "info [stdout] the next"
    assert printed._begun.line == "begun"
