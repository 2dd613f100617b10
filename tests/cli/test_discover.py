"""``stackit discover``, with the route that it asks."""

from __future__ import annotations

import io
import json
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from clocks import as_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from stackit.api.admin import AdminRequest
from stackit.api.commands import Printer, Shell
from stackit.api.errors import StackitError
from stackit.cli.commands.discover import COMMAND
from stackit.github.discovery.report import ListingReport, RepoReport
from stackit.github.discovery.routes import discovery_routes

FOUND = ListingReport(
    listing="main at octo",
    pages=1,
    listed=3,
    repos=(
        RepoReport(name="octo/widget", id=1, mirrored=True, reason="discover[1]: include '*'", change="added"),
        RepoReport(name="octo/Gadget", id=2, mirrored=True, reason="discover[1]: include '*'"),
        RepoReport(name="octo/tmp-1", id=3, mirrored=False, reason="discover[1]: exclude 'tmp-*'"),
    ),
)


class Discovering:
    """The command over the route. ``asked`` is what it wanted; ``reports`` are the outcome."""

    def __init__(self, *reports: ListingReport) -> None:
        self.reports = reports
        self.asked: list[dict[str, bool]] = []
        (self.route,) = discovery_routes(self._look)

    async def _look(self, *, accept: bool, dry: bool) -> Sequence[ListingReport]:
        self.asked.append({"accept": accept, "dry": dry})
        return self.reports

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
        """Run the command; return what it prints. Raises what it raises, with that as a note."""
        parser = ArgumentParser()
        assert COMMAND.arguments is not None
        COMMAND.arguments(parser)
        out = io.StringIO()
        shell = Shell(
            reactor=as_reactor(Clock()),
            options=parser.parse_args(arguments),
            printer=Printer(out, as_json=as_json),
            environ={},
            cwd=Path(),
            connect=lambda: self,
        )
        failures: list[Any] = []
        Deferred.fromCoroutine(COMMAND.run(shell)).addErrback(failures.append)  # type: ignore[arg-type]
        if failures:
            failures[0].value.add_note(out.getvalue())
            raise failures[0].value
        return out.getvalue()


def test_each_repository_is_shown_with_the_rule_that_decided() -> None:
    discover = Discovering(FOUND)
    lines = [line.split(maxsplit=2) for line in discover("--dry-run").splitlines()]
    assert lines == [
        ["NAME", "MIRRORED", "CHANGE  REASON"],
        ["octo/Gadget", "yes", "-       discover[1]: include '*'"],
        ["octo/tmp-1", "no", "-       discover[1]: exclude 'tmp-*'"],
        ["octo/widget", "yes", "added   discover[1]: include '*'"],
    ]
    assert discover.asked == [{"accept": False, "dry": True}]


def test_a_persons_word_is_passed_on() -> None:
    discover = Discovering()
    assert discover("--accept-removals") == "no repositories are listed\n"
    assert discover.asked == [{"accept": True, "dry": False}]


def test_the_answer_as_json_is_the_routes() -> None:
    (listing,) = json.loads(Discovering(FOUND)("--dry-run", as_json=True))["listings"]
    assert (listing["listing"], listing["complete"], listing["held"], listing["listed"]) == (
        "main at octo",
        True,
        None,
        3,
    )
    assert listing["repos"][2] == {
        "name": "octo/tmp-1",
        "id": 3,
        "mirrored": False,
        "reason": "discover[1]: exclude 'tmp-*'",
        "change": "none",
    }


def test_where_nothing_could_be_listed_it_does_not_say_that_there_is_nothing() -> None:
    with pytest.raises(StackitError) as raised:
        Discovering(ListingReport(listing="main at octo", problem="HTML"))()
    assert raised.value.__notes__ == ["no repositories could be listed\n"]


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (ListingReport(listing="main at octo", problem="HTML"), "main at octo: HTML"),
        (ListingReport(listing="App main", problem="App main: no key"), "App main: no key"),
        (ListingReport(listing="main at octo", held="60 of 100 …"), "main at octo: 60 of 100 …"),
    ],
)
def test_a_listing_that_is_not_complete_or_is_held_is_a_failure_with_the_reason(
    report: ListingReport, said: str
) -> None:
    with pytest.raises(StackitError) as raised:
        Discovering(FOUND, report)()
    assert str(raised.value) == said
    assert "octo/widget" in raised.value.__notes__[0]


@pytest.mark.parametrize("query", [{"dry_run": "yes"}, {"accept": "everything"}])
def test_the_route_refuses_what_it_does_not_know(query: dict[str, str]) -> None:
    discover = Discovering(FOUND)
    failures: list[Any] = []
    Deferred.fromCoroutine(discover.ask("POST", "/discover", query)).addErrback(failures.append)
    assert failures[0].type is StackitError
    assert discover.asked == []
