"""The roles of nodes: one that receives, one that handles, one that has the mirrors; each does its own and no more."""

from __future__ import annotations

import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_twisted

from stackit.testing import RunningFleet

PLUGIN = """
    import os
    from stackit import on

    def note(what, event):
        with open(os.environ["NOTES"], "a") as notes:
            notes.write(f"{what} {os.path.basename(os.path.dirname(os.environ['HOME']))} {event.delivery}\\n")

    class Noting:
        @on("push")
        def tell(self, event):
            note("tell", event)

        @on("push", needs_mirror=True)
        def read(self, event):
            note("read", event)
"""
ROLES = {"front": ["receive"], "worker": ["handle"], "store": ["mirror"]}


@pytest_twisted.async_yield_fixture
async def fleet(tmp_path: Path, postgres: str) -> AsyncIterator[RunningFleet]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "noting.py").write_text(textwrap.dedent(PLUGIN))
    made = RunningFleet(
        reactor,
        tmp_path,
        postgres,
        nodes=list(ROLES),
        fleet={"lease": "60s"},
        each={name: {"roles": roles} for name, roles in ROLES.items()},
        config={"plugins": {"noting": {"module": "noting:Noting"}, "mirror": {"enabled": False}}},
        plugins=tmp_path / "plugins",
        environment={"NOTES": str(tmp_path / "notes")},
    )
    yield made
    await made.stop()


@pytest_twisted.ensureDeferred
async def test_each_node_does_what_it_is_for_and_nothing_else(fleet: RunningFleet, tmp_path: Path) -> None:
    front, worker, store = (fleet[name] for name in ROLES)
    await front.start()
    payload: dict[str, Any] = {
        "ref": "refs/heads/main",
        "before": "0" * 40,
        "after": "1" * 40,
        "commits": [],
        "repository": {"name": "widget", "full_name": "octo/widget", "owner": {"login": "octo"}},
    }
    assert (await front.deliver("push", payload, guid="first")).status == 202  # nobody is there to handle it yet
    assert (await front.receipt("first") or {})["state"] == "pending"
    wrong = [
        "no node that is there has the role handle: events wait; start one, or add the role to a node",
        "no node that is there has the role mirror: mirrors stand still, and events that need them wait; start one, or "
        "add the role to a node",
    ]

    async def is_told() -> bool:
        return bool((await front.admin("GET", "/readyz")).json()["problems"] == wrong)

    await front.until(is_told, "what is missing to be told")
    for each in (worker, store):
        await each.start()
        assert (await each.ask("GET", f"{each.url}/healthz")).status == 503
        assert (await each.deliver("push", payload)).status == 404
    await fleet.wait_for("first")
    assert (
        await front.deliver("push", {**payload, "before": "1" * 40, "after": "2" * 40}, guid="second")
    ).status == 202
    await fleet.wait_for("second")
    assert sorted((tmp_path / "notes").read_text().splitlines()) == [
        "read store first",
        "read store second",
        "tell worker first",
        "tell worker second",
    ]
    await fleet.settled()

    async def all_is_well() -> bool:
        return all([(await each.admin("GET", "/readyz")).status == 200 for each in (front, worker, store)])

    await front.until(all_is_well, "nothing to be missing any more")

    async def shows_all() -> bool:
        shown = (await front.admin("GET", "{prefix}/fleet")).json()["nodes"]
        owned = {node["name"]: (node["handlers"], node["mirrors"]) for node in shown}
        return owned == {"front": (0, 0), "worker": (256, 0), "store": (0, 256)}

    await front.until(shows_all, "who does what to be shown")
