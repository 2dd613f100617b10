"""The routes by which people add and remove repositories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_twisted
from peer_nodes import FleetMap, SeenFrom
from registry_harness import RegistryHarness, found, url

from stackit import AdminRequest, Repo
from stackit.api.admin import Response
from stackit.api.nodes import Alone, Node, Nodes
from stackit.config.access import Access
from stackit.github import GitHub
from stackit.registry.metrics import RegistryMetrics
from stackit.registry.routes import registry_routes
from stackit.service.repositories import requested


class Asked:
    """The routes over a registry, asked by somebody."""

    def __init__(self, *file: str, nodes: Nodes = Alone()) -> None:  # noqa: B008 - it has no state
        self.house = RegistryHarness(*file)

        def wanted(name: str, url: str | None) -> tuple[Repo, str]:
            return requested(Access(), GitHub(), name, url)

        self._routes = {
            each.method: each.handler
            for each in registry_routes(self.house.registry, wanted, lambda repo: Path("/mirrors") / repo.name, nodes)
        }

    async def add(self, body: Any) -> Response:
        """Ask for a repository; a body that is no bytes is sent as JSON."""
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self._ask("POST", sent)

    async def remove(self, owner: str, name: str) -> Response:
        """Ask for a repository to be removed."""
        return await self._ask("DELETE", b"", owner=owner, name=name)

    async def _ask(self, method: str, body: bytes, **args: str) -> Response:
        handler: Any = self._routes[method]
        request = AdminRequest(method=method, path="/", args=args, query={}, body=body, by="ops.token")
        answer: Response = await handler(request)
        return msgspec.structs.replace(answer, body=msgspec.to_builtins(answer.body))


@pytest_twisted.ensureDeferred
async def test_in_a_fleet_the_node_is_told_that_has_the_mirror() -> None:
    """The leader, who removes it, has perhaps a copy of its own."""
    fleet = FleetMap()
    for name in ("a", "b"):
        fleet.nodes[name] = Node(name=name)
    asked = Asked(nodes=SeenFrom(fleet, "a"))
    for home, expected in (("b", {"mirror": None, "node": "b"}), ("a", {"mirror": "/mirrors/widget", "node": "a"})):
        fleet.homes["octo/widget"] = home
        await asked.add({"name": "octo/widget"})
        assert (await asked.remove("octo", "widget")).body == {"name": "octo/widget", **expected}


@pytest_twisted.ensureDeferred
async def test_a_repository_is_added_and_removed_by_who_asks() -> None:
    asked = Asked()
    answer = await asked.add({"name": "octo/widget"})
    assert (answer.status, answer.body) == (
        201,
        {
            "name": "octo/widget",
            "url": url("octo/widget"),
            "source": "people",
            "added_by": "ops.token",
            "added_at": "1970-01-01T00:16:40.000Z",
        },
    )
    answer = await asked.remove("Octo", "Widget")
    assert (answer.status, answer.body) == (200, {"name": "octo/widget", "mirror": "/mirrors/widget"})
    assert asked.house.names() == {}
    answer = await asked.add({"name": "octo/widget", "url": "https://git.example.org/widget.git"})
    assert (answer.status, answer.body["url"]) == (201, "https://git.example.org/widget.git")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"not json", "JSON is malformed"),
        (b"\xff", "expected"),
        ([], "Expected `object`"),
        ({}, "missing required field `name`"),
        ({"name": "octo/widget", "token": "x"}, "unknown field `token`"),
        ({"name": "octo"}, "expected owner/name"),
        ({"name": "octo/wid get"}, "expected owner/name"),
        ({"name": "git.example.org/octo/widget"}, "not a repository"),
        ({"name": "octo/widget", "url": "https://me:hidden@example.org/x.git"}, "must not hold a user name, password"),
        ({"name": "octo/widget", "url": "ftp://example.org/x.git"}, "expected https://host/path"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_the_configuration_would_refuse_is_refused_with_the_reason(body: Any, reason: str) -> None:
    asked = Asked()
    answer = await asked.add(body)
    assert answer.status == 400
    assert reason in answer.body["error"]
    assert "hidden" not in answer.body["error"]
    assert asked.house.names() == {}


@pytest_twisted.ensureDeferred
async def test_conflicts_and_unknown_names_have_their_statuses_and_a_way_out() -> None:
    asked = Asked("octo/file")
    await asked.house.discover(found(7, "octo/gadget"))
    for answer, status, reason in (
        (await asked.add({"name": "octo/File"}), 409, "octo/file is mirrored already: twistd.conf has it"),
        (await asked.remove("octo", "file"), 409, "take it out of [[repos]] in twistd.conf"),
        (await asked.remove("octo", "gadget"), 409, 'exclude = ["octo/gadget"]'),
        (await asked.remove("octo", "none"), 404, "octo/none is not mirrored"),
        (await asked.remove("octo", "no name"), 404, "not a repository name"),
    ):
        assert (answer.status, reason in answer.body["error"]) == (status, True), answer.body
    await asked.house.journal.close()
    answer = await asked.add({"name": "octo/new"})
    assert (answer.status, answer.headers["Retry-After"]) == (503, "10")


@pytest_twisted.ensureDeferred
async def test_the_metric_counts_what_is_managed_held_and_removed() -> None:
    house = RegistryHarness("octo/file")
    await house.discover(found(1, "octo/a"), found(2, "octo/b"), found(3, "octo/c"))
    await house.discover(held={1: "too many"}, removed={2: "deleted"})
    (family,) = RegistryMetrics(house.registry.counts).collect()
    values = {sample.labels["state"]: sample.value for sample in family.samples}
    assert (family.name, values) == ("stackit_repos", {"managed": 2, "held": 1, "removed": 1})
