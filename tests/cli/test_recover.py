"""``stackit recover``, with the route that it asks and a recovery behind it."""

from __future__ import annotations

import io
import json
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from clocks import as_reactor
from delivery_list import ListedHook
from recovery_harness import NOW, RecoveryHarness
from twisted.internet.defer import Deferred

from stackit.api.admin import AdminRequest
from stackit.api.commands import Printer, Shell
from stackit.api.errors import JournalError, StackitError
from stackit.cli.commands.recover import COMMAND
from stackit.github.api import ApiError
from stackit.github.recovery.routes import recovery_routes

DAY = 86400.0


class Recovering:
    """A recovery that was started an hour ago, and the command that asks it."""

    def __init__(self) -> None:
        self.hook = ListedHook(lambda: NOW)
        self.harness = RecoveryHarness(self.hook)
        self.hook.clock = self.harness.now
        self.hook.add("before", NOW - DAY)
        self.harness.start()
        self.said = ""
        (self.route,) = recovery_routes(self.harness.recovery, self.harness.now)

    async def ask(self, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None) -> Any:
        assert (method, "{prefix}" + path) == (self.route.method, self.route.path)
        asked = dict(query or {})
        assert set(asked) <= {each.name for each in self.route.parameters}
        request = AdminRequest(method=method, path=path, args={}, query=asked, body=b"")
        answer: Any = await self.route.handler(request)  # type: ignore[misc]  # it is asynchronous
        if answer.status != 200:
            raise StackitError(answer.body["error"])
        return json.loads(msgspec.json.encode(answer.body))

    def __call__(self, *arguments: str, as_json: bool = False) -> str:
        """Run the command; return what it prints. Raises what it raises."""
        parser = ArgumentParser()
        assert COMMAND.arguments is not None
        COMMAND.arguments(parser)
        options = parser.parse_args(arguments)
        assert COMMAND.check is not None
        COMMAND.check(options)
        out = io.StringIO()
        printer = Printer(out, as_json=as_json, now=self.harness.now)
        shell = Shell(
            reactor=as_reactor(self.harness.clock),
            options=options,
            printer=printer,
            environ={},
            cwd=Path(),
            connect=lambda: self,
        )
        failures: list[Any] = []
        Deferred.fromCoroutine(COMMAND.run(shell)).addErrback(failures.append)  # type: ignore[arg-type]
        self.said = out.getvalue()
        if failures:
            failures[0].raiseException()
        return self.said


@pytest.fixture
def recover() -> Recovering:
    return Recovering()


def test_what_was_missed_is_a_table_and_taken(recover: Recovering) -> None:
    recover.hook.add("first", NOW + 1)
    recover.hook.add("second", NOW + 2, event="issues", action="opened", status_code=0)
    recover.hook.add("third", NOW + 3, event="star")
    recover.harness.clock.advance(10)
    lines = recover("--dry-run").splitlines()
    assert lines[0].split() == ["DELIVERED", "HOOK", "EVENT", "DELIVERY", "STATUS"]
    assert [line.split()[1:] for line in lines[1:3]] == [
        ["app:main", "push", "first", "502"],
        ["app:main", "issues.opened", "second", "0"],
    ]
    assert lines[-1] == "app:main: 4 entries read, 2 missed, 1 events that no plugin handles"
    assert recover.harness.taken() == []
    assert recover().endswith("; they are taken now, oldest first (stackit deliveries)\n")
    assert recover().splitlines() == [
        "no other delivery was missed",
        "app:main: deliveries are being taken already, 2 are left",
    ]
    recover.harness.clock.pump([1] * 5)
    assert recover.harness.taken() == ["first"]  # the payload of the other is that of no issue
    assert recover().splitlines()[0] == "no delivery was missed"
    recover.harness.stop()


def test_since_looks_behind_the_mark(recover: Recovering) -> None:
    assert "no delivery was missed" in recover("--dry-run")
    (hook,) = json.loads(recover("--since", "2d", "--dry-run", as_json=True))["hooks"]
    assert [each["delivery"] for each in hook["deliveries"]] == ["before"]
    assert "before" in recover("--since", "2026-11-17T00:00:00Z", "--dry-run")
    recover.harness.stop()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--since", "yesterday"], "since: expected a time"),
        (["--since", "2030-01-01T00:00:00Z"], "since: expected a time that is over"),
        (["--acknowledge", "--dry-run"], "goes with nothing else"),
        (["--acknowledge", "--since", "2d"], "goes with nothing else"),
    ],
)
def test_what_makes_no_sense_is_said(recover: Recovering, arguments: list[str], problem: str) -> None:
    with pytest.raises((StackitError, ValueError), match=problem):
        recover(*arguments)
    recover.harness.stop()


@pytest.mark.parametrize("query", [{"dry_run": "yes"}, {"acknowledge": "2"}, {"acknowledge": "1", "dry_run": "1"}])
def test_the_route_takes_flags_of_0_and_1(recover: Recovering, query: dict[str, str]) -> None:
    answers: list[Any] = []
    Deferred.fromCoroutine(recover.ask("POST", "/recover", query)).addBoth(answers.append)
    assert answers[0].check(StackitError)
    recover.harness.stop()


def test_a_lost_window_is_named_until_a_person_acknowledges_it(recover: Recovering) -> None:
    recover.harness.comparison = False
    recover.harness.stop()
    recover.harness.clock.advance(4 * DAY)
    recover.harness.recovery = recover.harness._make()
    recover.harness.interval = 0
    (recover.route,) = recovery_routes(recover.harness.recovery, recover.harness.now)
    said = recover()
    assert "what was delivered from 2026-11-18T10:51:40.000Z to 2026-11-19T11:06:40.000Z may be lost" in said
    assert len(recover.harness.recovery.losses.problems()) == 1
    assert recover("--acknowledge") == "1 time of lost deliveries acknowledged\n"
    assert recover("--acknowledge") == "no delivery is lost, as far as stackit knows\n"
    assert recover.harness.recovery.losses.problems() == []
    recover.harness.stop()


def test_failures_are_told(recover: Recovering) -> None:
    def unreachable() -> None:
        raise ApiError("GitHub cannot be reached", reason="network")

    def full() -> None:
        raise JournalError("the disk is full")

    recover.hook.step = unreachable
    for arguments in ([], ["--dry-run"]):
        with pytest.raises(StackitError, match="the deliveries of 1 of 1 webhooks could not be listed"):
            recover(*arguments)
        assert recover.said.splitlines() == [
            "whether deliveries were missed is not known",
            "app:main: its deliveries cannot be listed: GitHub cannot be reached",
        ]
    recover.harness.hooks.append(ListedHook(recover.harness.now, name="app:new"))
    recover.harness.journal.step = full
    with pytest.raises(StackitError, match="the disk is full"):
        recover()
    recover.harness.stop()


def test_without_a_hook_that_can_be_listed_it_says_so(recover: Recovering) -> None:
    recover.harness.hooks.clear()
    assert recover() == "there is no webhook whose deliveries could be listed\n"
    recover.harness.stop()
