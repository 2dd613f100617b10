"""The page of a fleet: what each node is, and what may be done with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
import pytest_twisted
from fleet_answers import OUT, out_of_the_fleet

from stackit import PageError, PageRequest, Response
from stackit.fleet.answers import Draining
from stackit.fleet.pages import fleet_page

NOW = 1_795_459_409.123


class Api:
    """The routes of a fleet, with known answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.fleet = out_of_the_fleet()

    async def __call__(self, method: str, path: str, *, query: Mapping[str, str] = {}, body: object = None) -> Response:
        self.asked.append((method, path))
        if method == "GET":
            return Response(body=msgspec.to_builtins(self.fleet))
        *_, node, what = path.split("/")
        warning = "it goes on to receive: no other node that is up does" if node == "last" else None
        return Response(status=202, body=msgspec.to_builtins(Draining(node, what == "drain", warning)))


def request(api: Api, **changes: Any) -> PageRequest:
    values: dict[str, Any] = {"path": "/fleet", "args": {}, "query": {}, "now": NOW, "prefix": "/api/v1", "api": api}
    return PageRequest(**values | changes)


async def html(asked: PageRequest) -> str:
    view: Any = await fleet_page().show(asked)  # type: ignore[misc]
    return str(view.body)


def row_of(page: str, node: str) -> str:
    return page.partition(f'<tr data-key="{node}">')[2].partition("</tr>")[0]


@pytest_twisted.ensureDeferred
async def test_a_node_that_is_out_says_so_and_that_the_others_are_as_it_saw_them_last() -> None:
    api = Api()
    page = await html(request(api))
    assert OUT in page
    assert "The other nodes are shown as this one saw them last." in page
    assert "out" in row_of(page, "a")
    assert "3 wait" in row_of(page, "a")
    assert "PostgreSQL 15.4" in page
    api.fleet = msgspec.structs.replace(api.fleet, nodes=api.fleet.nodes[1:], problems=[])
    page = await html(request(api))
    assert "saw them last" not in page
    assert 'id="problems"' not in page


@pytest_twisted.ensureDeferred
async def test_a_node_at_work_can_be_drained_and_one_that_drains_have_its_part_again() -> None:
    page = await html(request(Api()))
    does = {
        name: [what for what in ("/fleet/drain", "/fleet/undrain") if what in row_of(page, name)] for name in "abcd"
    }
    assert does == {"a": [], "b": ["/fleet/drain"], "c": ["/fleet/undrain"], "d": []}
    assert "/fleet/drain" not in await html(request(Api(), role="viewer"))


@pytest_twisted.ensureDeferred
async def test_a_drain_tells_what_comes_of_it() -> None:
    api, actions = Api(), fleet_page().actions

    async def act(what: str, **form: str) -> Any:
        return await actions[what](request(api, form=form))  # type: ignore[misc]

    assert (
        await act("drain", node="b") == "b is draining: it finishes what it has in hand, and its work goes to others."
    )
    assert await act("drain", node="last") == "last is draining: it goes on to receive: no other node that is up does."
    assert await act("undrain", node="b") == "b takes its part of the work again."
    assert api.asked[-1] == ("POST", "/fleet/nodes/b/undrain")
    with pytest.raises(PageError, match="names no node"):
        await act("drain")
