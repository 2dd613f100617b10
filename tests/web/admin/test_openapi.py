"""The description of routes: what it tells clients of each, and which routes it refuses to describe."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
import pytest_twisted
from admin_server import PREFIXES, Serve, echo

from stackit import Parameter, PluginError, Route, Timestamp
from stackit.web.admin.openapi import openapi_route


class Ship(msgspec.Struct):
    """A ship."""

    name: str
    launched_at: Timestamp | None


class Sunk(msgspec.Struct):
    """It sank."""

    error: str
    at: Timestamp


LAUNCH = Route(
    "POST",
    "{prefix}/ships/{name}/launch",
    echo,
    plugin="harbour",
    query=(Parameter("tide", "The tide to wait for.", Literal["high", "low"], required=True), "flag"),
    summary="Launch a ship.",
    body=dict[str, int],
    returns=Ship,
    status=201,
    errors={404: "No such ship.", 410: Sunk},
)


async def described(serve: Serve, *routes: Route, prefix: str = PREFIXES[0]) -> Any:
    server = await serve([*routes, openapi_route(routes, PREFIXES)])
    return (await server.ask("GET", f"{prefix}/openapi.json")).json


@pytest_twisted.ensureDeferred
async def test_a_route_is_described_by_what_it_says_of_itself(serve: Any) -> None:
    said = await described(serve, LAUNCH)
    operation = said["paths"]["/api/v1/ships/{name}/launch"]["post"]
    assert (operation["summary"], operation["tags"], operation["x-role"]) == ("Launch a ship.", ["harbour"], "operator")
    inputs = {each["name"]: each for each in operation["parameters"]}
    assert (inputs["name"]["in"], inputs["name"]["required"]) == ("path", True)
    assert inputs["tide"] == {
        "name": "tide",
        "in": "query",
        "required": True,
        "description": "The tide to wait for.",
        "schema": {"enum": ["high", "low"]},
    }
    assert inputs["flag"]["schema"] == {"type": "string"}
    assert inputs["X-Stackit-CSRF"]["schema"] == {"const": "1"}
    assert operation["requestBody"]["content"]["application/json"]["schema"]["type"] == "object"
    answers = operation["responses"]
    shapes = {status: each["content"]["application/json"]["schema"]["$ref"] for status, each in answers.items()}
    assert shapes["201"] == "#/components/schemas/Ship"
    assert shapes["404"] == "#/components/schemas/ErrorAnswer"
    assert shapes["410"] == "#/components/schemas/Sunk"
    assert (answers["404"]["description"], answers["410"]["description"]) == ("No such ship.", "It sank.")
    assert {"400", "401", "403", "413", "421", "500", "503"} < answers.keys()
    launched = said["components"]["schemas"]["Ship"]["properties"]["launched_at"]
    assert launched == {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}


@pytest_twisted.ensureDeferred
async def test_each_prefix_has_a_description_with_its_own_paths(serve: Any) -> None:
    for prefix in PREFIXES:
        said = await described(serve, LAUNCH, prefix=prefix)
        assert set(said["paths"]) == {f"{prefix}/ships/{{name}}/launch", f"{prefix}/openapi.json"}


@pytest_twisted.ensureDeferred
async def test_pages_are_left_out_and_what_says_its_type_is_not(serve: Any) -> None:
    page = Route("GET", "/ships", echo, summary="A page.")
    metrics = Route("GET", "/metrics", echo, returns=str, content_type="text/plain")
    said = await described(serve, page, metrics)
    assert set(said["paths"]) == {"/metrics", "/api/v1/openapi.json"}
    assert said["paths"]["/metrics"]["get"]["responses"]["200"]["content"] == {
        "text/plain": {"schema": {"type": "string"}}
    }


@pytest_twisted.ensureDeferred
async def test_a_route_of_a_plugin_that_says_nothing_is_there_all_the_same(serve: Any) -> None:
    said = await described(serve, Route("GET", "{prefix}/ships", echo))
    operation = said["paths"]["/api/v1/ships"]["get"]
    assert operation["summary"] == "GET {prefix}/ships"
    assert operation["responses"]["200"] == {"description": "OK"}
    assert "403" not in operation["responses"]


@pytest_twisted.ensureDeferred
async def test_an_unknown_parameter_is_refused_with_the_names_of_the_known_ones(serve: Any) -> None:
    server = await serve([LAUNCH])
    answer = await server.ask("POST", "/api/v1/ships/a/launch?mast=1", "X-Stackit-CSRF: 1")
    assert (answer.status, answer.json) == (400, {"error": "unknown parameter 'mast'; there is tide, flag"})


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"returns": object()}, "a type that describes it has no schema"),
        ({"returns": "Ship"}, "a type that describes it has no schema"),
        ({"body": Annotated[object, 5]}, "has no schema: type <class 'object'> is not supported"),
        ({"summary": 5}, "must be text"),
        ({"query": (Parameter("a", None),)}, "must be text"),  # type: ignore[arg-type]  # wrong on purpose
        ({"query": (Parameter("a", "", type=type("Odd", (), {"__init__": None})),)}, "has no schema"),
        ({"errors": {999: "Odd."}}, "must be statuses of HTTP"),
        ({"errors": [404]}, "must be statuses of HTTP"),
        ({"status": "200"}, "must be statuses of HTTP"),
    ],
)
def test_a_description_that_is_none_names_the_plugin_and_the_route(wrong: dict[str, Any], reason: str) -> None:
    route = Route("GET", "{prefix}/ships", echo, plugin="harbour", **wrong)
    with pytest.raises(PluginError, match=f"harbour.*GET {{prefix}}/ships.*{reason}"):
        openapi_route([route], PREFIXES)
