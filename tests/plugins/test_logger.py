"""The log: one line for each thing that happened, safe whatever the values are."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from clocks import as_reactor
from foreign_faults import FAULTS, IDS
from log_capture import observed
from twisted.application.service import Application, Service
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from twisted.logger import Logger as TwistedLogger
from twisted.python.failure import Failure

from stackit import OCCURRENCES, Occurrence, RefChange, Repo, RequestHead
from stackit.plugins.logger import Logger
from stackit.plugins.logger.lines import _FIELDS
from stackit.runtime.log_lines import json_line, quiet_line, text_line
from stackit.runtime.log_observer import LineObserver
from stackit.runtime.logs import LoggedService
from stackit.text.redaction import LONGEST

WIDGET = Repo("octo", "widget")
HOSTILE = "x\n2026-01-01T00:00:00.000Z info [stackit] delivery accepted\r\x1b[2J\u2028\u0085\x00\udcff end"


class Log:
    """What the log's observers write, for every event published meanwhile."""

    def __init__(self) -> None:
        self.text = io.StringIO()
        self.json = io.StringIO()
        self.observers = [LineObserver(self.text, text_line), LineObserver(self.json, json_line)]

    def lines(self) -> list[str]:
        return self.text.getvalue().splitlines()

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.json.getvalue().splitlines()]

    def write(self, **event: Any) -> None:
        for observer in self.observers:
            observer({"log_time": 0.0, "log_level": LogLevel.info, "log_namespace": "t", "log_format": "", **event})


@pytest.fixture
def log() -> Any:
    log = Log()
    text, as_json = log.observers
    with observed(text), observed(as_json):
        yield log


def observe(**fields: Any) -> None:
    Logger().stackit_observe(Occurrence(**fields))


def test_an_accepted_delivery_is_one_line_with_its_id_and_repository(log: Any) -> None:
    observe(name="accepted", event="push", repo=WIDGET, delivery="72d3162e", outcome="queued", seconds=0.00149)
    assert [line.partition(" ")[2] for line in log.lines()] == [
        "info [stackit] delivery accepted event=push repo=octo/widget delivery=72d3162e outcome=queued seconds=0.001"
    ]


def test_lines_of_one_name_say_each_their_own_fields_however_few_or_many(log: Any) -> None:
    logger = Logger()
    everything = dict.fromkeys(_FIELDS, "x") | {"repo": WIDGET, "seconds": 0.5, "retry_in": 0.25}
    few = {"reason": "one"}
    some = {"event": "push", "delivery": "72d3162e", "outcome": "queued"}
    without = {name: value for name, value in everything.items() if name != "error"}
    for fields in (everything, few, some, without) * 2:
        for name in ("accepted", "something_new"):
            logger.stackit_observe(Occurrence(name=name, **fields))
            shown = log.lines()[-1].split()
            assert [each.partition("=")[0] for each in shown if "=" in each] == [n for n in _FIELDS if n in fields]


def test_in_json_the_fields_of_an_occurrence_are_keys(log: Any) -> None:
    observe(name="refused", status=401, reason="signature", client="192.0.2.7")
    (record,) = log.records()
    assert record.pop("time").endswith("Z")
    assert record == {
        "level": "info",
        "logger": "stackit",
        "message": "request refused",
        "occurrence": "refused",
        "client": "192.0.2.7",
        "status": 401,
        "reason": "signature",
    }


def test_a_flood_of_refused_requests_is_no_flood_of_lines_but_what_else_happens_is_told(log: Any) -> None:
    clock = Clock()
    logger = Logger(clock=clock.seconds)
    refused = Occurrence(name="refused", status=404, reason="not_found", client="192.0.2.7")
    for _ in range(1900):
        logger.stackit_observe(refused)
    assert len(log.lines()) == 1000
    logger.stackit_observe(Occurrence(name="accepted", event="push"))
    assert "delivery accepted" in log.lines()[-1]
    clock.advance(60)
    logger.stackit_observe(refused)
    assert "refused without a line count=900" in log.lines()[-2]
    assert "reason=not_found" in log.lines()[-1]


def test_looks_of_the_backstop_that_found_nothing_share_the_line_of_the_round(log: Any) -> None:
    logger = Logger()
    quiet = Occurrence(name="synced", repo=WIDGET, cause="backstop", outcome="unchanged", count=0, seconds=0.01)
    for _ in range(1000):
        logger.stackit_observe(quiet)
    assert log.lines() == []
    for _ in range(2):
        logger.stackit_observe(Occurrence(name="backstop", plugin="mirror", outcome="done"))
    assert [record.get("unchanged") for record in log.records()] == [1000, None]


@pytest.mark.parametrize(
    "told",
    [
        {"cause": "manual", "outcome": "unchanged"},
        {"cause": "backstop", "outcome": "changed"},
        {"cause": "backstop", "outcome": "failed", "error": "the remote answered 500"},
        {"cause": "backstop", "outcome": "unchanged", "error": "the remote deleted 13 of 25 refs"},
    ],
)
def test_a_look_that_tells_something_has_a_line(log: Any, told: Any) -> None:
    observe(name="synced", repo=WIDGET, **told)
    assert len(log.lines()) == 1


@pytest.mark.parametrize("name", OCCURRENCES)
def test_every_occurrence_has_a_line_of_its_own(log: Any, name: Any) -> None:
    observe(name=name, repo=WIDGET)
    (line,) = log.lines()
    (record,) = log.records()
    assert line.endswith("repo=octo/widget")
    assert record["occurrence"] == name


def test_a_failure_is_a_warning_and_a_dead_letter_an_error(log: Any) -> None:
    observe(name="failed", subscriber="deploy", error="ValueError: no", attempts=1, retry_in=2.5)
    observe(name="dead", subscriber="deploy", error="ValueError: no", attempts=9)
    observe(name="synced", repo=WIDGET, error="the remote answered 500")
    assert [record["level"] for record in log.records()] == ["warn", "error", "warn"]
    assert 'error="ValueError: no"' in log.lines()[0]


def test_ref_changes_show_what_moved_and_how_many_but_never_all_of_a_clone(log: Any) -> None:
    changes = tuple(RefChange(f"refs/heads/b{n}", "0" * 40, "1" * 40, "created") for n in range(1000))
    observe(name="refs_changed", repo=WIDGET, cause="push", changes=changes)
    (record,) = log.records()
    assert record["count"] == 1000
    assert record["refs"][:2] == ["created:refs/heads/b0", "created:refs/heads/b1"]
    assert len(record["refs"]) == 20


def test_no_value_can_begin_a_line_or_reach_the_terminal(log: Any) -> None:
    observe(
        name="failed",
        delivery=HOSTILE,
        event=HOSTILE,
        error=HOSTILE,
        reason=HOSTILE,
        subscriber=HOSTILE,
        changes=(RefChange(HOSTILE, "", "", "created"),),
    )
    TwistedLogger(namespace=HOSTILE).info("{text}", text=HOSTILE)
    text, as_json = log.text.getvalue(), log.json.getvalue()
    assert len(text.splitlines()) == len(as_json.splitlines()) == 2
    assert all(letter.isprintable() for letter in (text + as_json).replace("\n", ""))
    assert as_json.isascii()


def test_a_request_is_never_logged(log: Any) -> None:
    head = RequestHead(client="192.0.2.7", method=b"POST", path=b"/secret", headers={b"authorization": (b"hush",)})
    observe(name="refused", status=401, reason="signature", client="192.0.2.7", request=head)
    assert "secret" not in log.lines()[0]
    assert "hush" not in log.json.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "fatal: https://octo:hush@github.com/octo/widget.git not found",
        "fatal: https://hush@github.com/octo/widget.git",
        "https://octo:pa@hush@github.com/",
        "Authorization: Bearer hush1234567",
        "authorization: basic aHVzaDpodXNoaHVzaA==hush",
        "the token ghs_16charactersORmorehush is gone",
        "github_pat_11ABCDEFG0123456789_hush",
    ],
)
def test_credentials_in_any_text_are_hidden(text: Any) -> None:
    log = Log()
    log.write(log_format="{said}", said=text)
    log.write(summary="git failed", fields={"error": text, "nested": [text]}, log_format="{said}", said=text)
    log.write(log_format="oops", log_failure=Failure(ValueError(text)))
    assert "hush" not in log.text.getvalue() + log.json.getvalue()
    assert "***" in log.lines()[0]


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("https://hush@example.org/octo/widget", "https://***@example.org/octo/widget"),
        ("ghs_16charactersORmorehush", "***"),
        ("github_pat_11ABCDEFG0123456789_hush", "***"),
    ],
)
def test_a_credential_that_is_a_plain_word_is_hidden_too(log: Any, word: Any, shown: Any) -> None:
    observe(name="failed", repo=WIDGET, error=word)
    assert log.lines()[0].endswith(f" error={shown}")
    assert "hush" not in log.text.getvalue() + log.json.getvalue()


@pytest.mark.parametrize(
    "text",
    ["https://u:" + 600 * "p" + "hush@example.org/x", "first\nghs_16charactersORmorehush", "first\nBearer hush1234567"],
)
def test_a_credential_is_hidden_before_a_value_is_cut_or_quoted(text: Any) -> None:
    log = Log()
    log.write(summary="git failed", fields={"reason": text, "all": [text]})
    assert "hush" not in log.text.getvalue() + log.json.getvalue()
    assert "ppp" not in log.text.getvalue() + log.json.getvalue()
    assert "***" in log.lines()[0]
    assert "***" in log.records()[0]["reason"]


def test_fields_without_a_summary_are_an_events_own() -> None:
    log = Log()
    log.write(log_format="posted {n} things", n=3, fields={"a": 1})
    assert log.lines()[0].endswith(" posted 3 things")
    assert log.records()[0]["message"] == "posted 3 things"


def test_neither_summary_nor_names_begin_a_line_or_show_a_credential() -> None:
    log = Log()
    log.write(summary=HOSTILE, fields={HOSTILE: "x"})
    log.write(summary="with Bearer hush1234567", fields={"id": "7"})
    assert len(log.lines()) == 2
    assert all(line.isprintable() for line in log.lines())
    assert "hush" not in log.text.getvalue() + log.json.getvalue()


def test_an_observer_of_somebody_else_gets_the_same_text() -> None:
    seen: list[str] = []
    with observed(lambda event: seen.append(formatEvent(event))):
        observe(name="failed", repo=WIDGET, error="two words", seconds=0.12345)
    assert seen == ['handler failed, will try again repo=octo/widget seconds=0.123 error="two words"']


def test_a_failure_is_one_line_that_says_what_and_where_and_json_has_the_traceback() -> None:
    log = Log()
    try:
        int("not\na number")
    except ValueError:
        log.write(log_format="", log_failure=Failure())
        log.write(log_format="while counting", log_failure=Failure())
    first, second = log.lines()
    assert "ValueError: invalid literal" in first
    assert "(in test_a_failure_is_one_line" in first
    assert "while counting: ValueError" in second
    assert "Traceback" in log.records()[0]["traceback"]


def test_an_event_that_cannot_be_formatted_still_is_a_line() -> None:
    log = Log()
    log.write(log_format="{missing.attribute}")
    log.write(summary="odd", fields={"value": object()})
    log.write(log_level=None, log_namespace=None, log_time=None)
    assert len(log.lines()) == len(log.records()) == 3


def test_a_very_long_text_is_cut() -> None:
    log = Log()
    log.write(log_format="{said}", said="x" * 1_000_000, log_failure=Failure(ValueError("y" * 1_000_000)))
    assert len(log.lines()[0]) < LONGEST + 100


def test_a_stream_that_knows_only_ascii_gets_the_line_escaped() -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="ascii")
    event: LogEvent = {"log_format": "café", "log_time": 0.0}
    LineObserver(stream, text_line)(event)
    assert written.getvalue() == b"1970-01-01T00:00:00.000Z info [-] caf\\xe9\n"


def test_a_quiet_log_shows_what_is_printed_and_what_is_wrong() -> None:
    stream = io.StringIO()
    lines = LineObserver(stream, quiet_line)
    lines({"log_namespace": "stdout", "log_level": LogLevel.info, "log_format": "hello\x1b", "log_time": 0.0})
    lines({"log_namespace": "stackit", "log_level": LogLevel.info, "log_format": "routine", "log_time": 0.0})
    lines({"log_namespace": "stackit", "log_level": LogLevel.warn, "log_format": "trouble", "log_time": 0.0})
    assert stream.getvalue() == "hello\\x1b\n1970-01-01T00:00:00.000Z warn [stackit] trouble\n"


def test_quiet_lines_of_one_turn_are_written_together_and_a_loud_one_at_once() -> None:
    clock, stream = Clock(), io.StringIO()
    lines = LineObserver(stream, text_line)

    def write(text: str, level: Any = LogLevel.info) -> None:
        lines({"log_namespace": "t", "log_level": level, "log_format": text, "log_time": 0.0})

    def written() -> list[str]:
        return [line.rpartition(" ")[2] for line in stream.getvalue().splitlines()]

    write("started")
    assert written() == ["started"]
    lines.hold(as_reactor(clock))
    write("a")
    write("b")
    assert written() == ["started"]
    clock.advance(0)
    assert written() == ["started", "a", "b"]
    write("c")
    write("d", LogLevel.warn)
    assert written() == ["started", "a", "b", "c", "d"]
    write("e")
    lines.release()
    write("f")
    assert written() == ["started", "a", "b", "c", "d", "e", "f"]


def test_many_lines_of_one_turn_are_not_all_kept_in_memory() -> None:
    stream = io.StringIO()
    lines = LineObserver(stream, text_line)
    lines.hold(as_reactor(Clock()))
    for _ in range(100):
        lines({"log_namespace": "t", "log_level": LogLevel.info, "log_format": "x" * 1000, "log_time": 0.0})
    assert len(stream.getvalue()) > 60_000


def test_a_log_that_cannot_be_written_costs_its_lines_and_nothing_else() -> None:
    full = open("/dev/full", "w")  # noqa: SIM115, PTH123 - closed below, where closing fails as well
    clock = Clock()
    lines = LineObserver(full, text_line)
    lines.hold(as_reactor(clock))
    event = {"log_namespace": "t", "log_level": LogLevel.info, "log_format": "lost", "log_time": 0.0}
    lines(event)
    clock.advance(0)
    lines(event)
    lines.release()
    with pytest.raises(OSError, match="No space"):
        full.close()


async def in_another_thread(lines: LineObserver) -> None:
    event = {"log_namespace": "t", "log_level": LogLevel.info, "log_format": "elsewhere", "log_time": 0.0}
    await deferToThread(lines, event)


@pytest_twisted.ensureDeferred
async def test_the_lines_of_another_thread_do_not_wait_for_the_reactor() -> None:
    stream = io.StringIO()
    lines = LineObserver(stream, text_line)
    lines.hold(as_reactor(Clock()))
    await in_another_thread(lines)
    assert "elsewhere" in stream.getvalue()


def test_an_operators_syslog_is_left_alone() -> None:
    application = Application("test")
    LoggedService(Service(), {"syslog": True}, "json", as_reactor(Clock())).setServiceParent(application)
    assert application.getComponent(ILogObserver, None) is None


def test_twistds_logfile_gets_the_lines(tmp_path: Path) -> None:
    application = Application("test")
    LoggedService(Service(), {"logfile": str(tmp_path / "log")}, "json", as_reactor(Clock())).setServiceParent(
        application
    )
    application.getComponent(ILogObserver)({"log_format": "hello", "log_time": 0.0})
    assert json.loads((tmp_path / "log").read_text())["message"] == "hello"


DROPIN = """
from twisted.application.service import ServiceMaker
shouting = ServiceMaker("shouting", "shouting", "", "shouting")
"""
SHOUTING = """
import os
from twisted.application.service import Service
from twisted.internet import reactor
from twisted.python import log, usage
from stackit.runtime.logs import LoggedService

class Options(usage.Options):
    pass

class Shouting(Service):
    def startService(self):
        print("printed\\x1b")
        log.msg("one\\ntwo")
        log.err(ValueError("a\\nb"), "why")
        reactor.callWhenRunning(reactor.stop)

def makeService(options):
    return LoggedService(Shouting(), options.parent, os.environ["FORMAT"], reactor)
"""


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("log_format", ["text", "json"])
async def test_under_twistd_every_line_has_the_format_twisteds_own_too(tmp_path: Path, log_format: Any) -> None:
    (tmp_path / "twisted/plugins").mkdir(parents=True)
    (tmp_path / "twisted/plugins/shouting_dropin.py").write_text(DROPIN)
    (tmp_path / "shouting.py").write_text(SHOUTING)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "FORMAT": log_format}
    twistd = str(Path(sys.executable).with_name("twistd"))
    out, err, code = await getProcessOutputAndValue(
        twistd, ["-n", "--pidfile=", "shouting"], env=environment, path=str(tmp_path)
    )
    assert (code, err) == (0, b"")
    lines = out.decode().splitlines()
    if log_format == "json":
        messages = [json.loads(line)["message"] for line in lines]
        assert "printed\x1b" in messages
        assert "one\ntwo" in messages
    else:
        assert all(line[:4].isdigit() and " [" in line for line in lines)
        assert any(line.endswith(r"printed\x1b") for line in lines)
        assert any(line.endswith(r"one\ntwo") for line in lines)
    assert len([line for line in lines if "Shut Down" in line]) == 1


@pytest.mark.parametrize(("make", "text"), FAULTS, ids=IDS)
def test_whatever_is_logged_it_is_a_line_also_where_it_cannot_say_what_it_is(log: Any, make: Any, text: Any) -> None:
    class Silent:
        def __str__(self) -> str:
            raise make()

        def __format__(self, _: str) -> str:
            raise make()

        __repr__ = __str__

    log.write(summary="said", fields={"value": Silent(), "list": [Silent()], "other": 1})
    log.write(log_format="said {value}", value=Silent())
    log.write(log_failure=Failure(make()), log_format="failed")
    assert len(log.lines()) == len(log.records()) == 3
    assert "other=1" in log.lines()[0]
    assert text.partition(":")[0] in log.lines()[0]
    assert log.lines()[2].partition("failed: ")[2].startswith(text.partition(":")[0])
    assert log.records()[2]["error"].startswith(text.partition(":")[0])


@pytest.mark.parametrize(
    ("name", "fields", "level", "message"),
    [
        ("deployed", {"repo": WIDGET, "seconds": 2.5}, "info", "deployed repo=octo/widget seconds=2.5"),
        ("roll_back", {"reason": "tests failed"}, "info", 'roll back reason="tests failed"'),
        ("roll_back", {"repo": WIDGET, "error": "no"}, "warn", "roll back repo=octo/widget error=no"),
        ("100%s", {"count": 3}, "info", "100%s count=3"),
    ],
)
def test_an_occurrence_of_a_plugins_own_has_a_line_with_its_name_and_fields(
    log: Any, name: str, fields: dict[str, Any], level: str, message: str
) -> None:
    observe(name=name, **fields)
    (line,) = log.lines()
    (record,) = log.records()
    assert line.partition(" ")[2] == f"{level} [stackit] {message}"
    assert (record["occurrence"], record["level"]) == (name, level)


def test_the_name_of_an_occurrence_can_begin_no_line(log: Any) -> None:
    observe(name=HOSTILE, repo=WIDGET)
    (line,) = log.lines()
    assert line.isprintable()
