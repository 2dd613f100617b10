"""The description of the admin routes, against the real admin side: it is whole, true, and what the docs say."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest_twisted
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import positive_data_acceptance
from twisted.internet.threads import deferToThread

from stackit.testing import PretendGitHub, RunningStackit, push_payload

DOCS = Path(__file__).parent.parent.parent / "docs" / "http-api.md"
STREAMS = {"/api/v1/events"}
"""Answers without an end: tests/live has them."""

EXAMPLES = 4
PATIENCE = 60.0
TOKEN = "a-token-that-is-never-slowed-down"


Operation = tuple[str, str, dict[str, Any]]
"""A method, a path, and what the description says of it."""


async def operations(server: RunningStackit) -> list[Operation]:
    said = (await server.admin("GET", "{prefix}/openapi.json")).json()
    return [
        (method.upper(), path.replace(f"{server.prefix}/", "{prefix}/", 1), operation)
        for path, methods in said["paths"].items()
        for method, operation in methods.items()
    ]


@pytest_twisted.ensureDeferred
async def test_every_route_says_what_it_does_takes_and_answers(receiver: Any) -> None:
    silent = []
    for method, path, operation in await operations(receiver.server):
        name = f"{method} {path}"
        if operation["summary"].startswith(f"{method} "):
            silent.append(f"{name}: summary")
        good = {status: answer for status, answer in operation["responses"].items() if status < "400"}
        if not any("content" in answer or status == "204" for status, answer in good.items()):
            silent.append(f"{name}: returns")
        silent += [
            f"{name}: {each['name']}"
            for each in operation["parameters"]
            if each["in"] == "query" and not each["description"]
        ]
    assert silent == []


@pytest_twisted.ensureDeferred
async def test_the_answers_are_as_they_are_described(pretend_github: PretendGitHub, running_stackit: Any) -> None:
    """schemathesis asks each route with parameters that are right, and with such as are wrong."""
    await pretend_github.create("octo/widget")
    moved = await pretend_github.commit("octo/widget")
    repos = [{"name": "octo/widget", "url": pretend_github.url("octo/widget")}]
    server: RunningStackit = await running_stackit(
        config={"sync": {"interval": "0"}, "repos": repos}, environment={"STACKIT_API_TOKEN": TOKEN}
    )
    await server.deliver("push", push_payload("octo/widget", after=moved.after), guid="a-push")
    receipt = await server.wait_for("a-push")
    known = {"owner": "octo", "name": "widget", "id": receipt["id"], "subscriber": "mirror"}
    said = (await server.admin("GET", "{prefix}/openapi.json")).json()
    schema = schemathesis.openapi.from_dict(said)
    schema.validate()
    await deferToThread(_try_all, schema, known, server.admin_url)


def _try_all(schema: Any, known: dict[str, str], url: str) -> None:
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {TOKEN}"
        for found in schema.get_all_operations():
            operation = found.ok()
            if operation.full_path in STREAMS:
                continue
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                _try(operation.as_strategy(generation_mode=mode), url, session)
            if operation.path_parameters:
                args = {each.name: known[each.name] for each in operation.path_parameters}
                _try(operation.as_strategy(path_parameters=args), url, session)


def _try(strategy: Any, url: str, session: Any) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def ask(case: Any) -> None:
        # What is valid has a grammar of its own (times, names), and a 502 or 503 may be true.
        left_out = [positive_data_acceptance, not_a_server_error]
        answer = case.call_and_validate(base_url=url, session=session, timeout=PATIENCE, excluded_checks=left_out)
        assert answer.status_code != 500

    with suppress(Unsatisfiable):  # nothing about it can be wrong
        ask()


def documented() -> set[tuple[str, str]]:
    """The requests of the tables of docs/http-api.md, as method and path."""
    tables = DOCS.read_text("utf-8").partition("## The admin side")[2]
    cells = "\n".join(re.findall(r"^\| (`[A-Z]+ /?.*?) \|", tables, re.MULTILINE))
    return {(method, path) for method, path in re.findall(r"`([A-Z]+) ([^`?]+)[^`]*`", cells)}


@pytest_twisted.ensureDeferred
async def test_every_described_route_is_documented(receiver: Any) -> None:
    routes = {(method, path) for method, path, _ in await operations(receiver.server)}
    assert routes - documented() == set()


@pytest_twisted.ensureDeferred
async def test_every_documented_route_is_there(receiver: Any) -> None:
    gone = []
    routes = {(method, path) for method, path, _ in await operations(receiver.server)}
    for method, path in sorted(documented() - routes):  # pages, which are not described
        answer = await receiver.server.admin("OPTIONS", re.sub(r"\{(?!prefix)[a-z]+\}", "x", path))
        if answer.status != 405 or method not in answer.headers["allow"]:
            gone.append(f"{method} {path}")
    assert gone == []


@pytest_twisted.ensureDeferred
async def test_every_parameter_is_documented(receiver: Any) -> None:
    text = DOCS.read_text("utf-8")
    untold = [
        f"{method} {path}: {each['name']}"
        for method, path, operation in await operations(receiver.server)
        for each in operation["parameters"]
        if each["in"] == "query" and not re.search(rf"(`|[?&]){each['name']}(`|=)", text)
    ]
    assert untold == []
