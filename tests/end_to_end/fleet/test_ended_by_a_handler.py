"""A handler that ends its process takes no node after the other for ever: its event is given up by the fleet."""

from __future__ import annotations

import re
from pathlib import Path

import pytest_twisted
from fleet_load import StartFleet
from twisted.internet.defer import Deferred

from stackit.testing import RunningFleet, payload_for
from stackit.testing.fleet_node import FleetNode
from stackit.testing.process import StackitFailed

HANDLER = """
import os
import time
from pathlib import Path
from stackit import on


@on("issues", thread=True)
def fragile(event):
    if "ends" in event.payload and not Path(os.environ["MENDED"]).exists():
        with Path(os.environ["BEGUN"]).open("a") as begun:
            begun.write(f"{os.getpid()}\\n")
        time.sleep(0.3)
        os._exit(7)
"""


class Supervisor:
    """Starts each node again that ended, as systemd does. ``ends`` are the names of those that ended."""

    def __init__(self, fleet: RunningFleet) -> None:
        self.ends: list[str] = []
        self._fleet = fleet
        self._starting: set[str] = set()

    def look(self) -> None:
        """Start what is to be started."""
        for node in self._fleet.nodes.values():
            if not node.is_running and node.name not in self._starting:
                self.ends.append(node.name)
                self._starting.add(node.name)
                Deferred.fromCoroutine(self._start(node))

    def is_idle(self) -> bool:
        """Return whether all are up."""
        return not self._starting and all(node.is_running for node in self._fleet.nodes.values())

    async def _start(self, node: FleetNode) -> None:
        try:
            await node.start()
        except StackitFailed:
            pass  # it ended before it answered
        finally:
            self._starting.discard(node.name)


@pytest_twisted.ensureDeferred
async def test_an_event_whose_handler_ends_each_node_is_given_up(running_fleet: StartFleet, tmp_path: Path) -> None:
    module = tmp_path / "fragile.py"
    module.write_text(HANDLER)
    mended, begun = tmp_path / "mended", tmp_path / "begun"
    fleet = await running_fleet(
        fleet={"lease": "4s"},
        config={"plugins": {"fragile": {"file": str(module)}}},
        environment={"MENDED": str(mended), "BEGUN": str(begun)},
    )
    supervisor = Supervisor(fleet)

    async def deliver(guid: str, repo: str, **more: object) -> None:
        answer = await fleet.deliver("issues", {**payload_for("issues", "opened", repo), **more}, guid=guid)
        assert answer.status == 202

    await deliver("fragile", "octo/widget", ends=True)
    for number in range(12):
        await deliver(f"other-{number}", f"octo/other-{number}")

    async def given_up() -> bool:
        supervisor.look()
        return bool(await fleet.query("SELECT 1 FROM outcomes WHERE state = 'x'"))

    await fleet.until(given_up, "the event to be given up", within=180)

    async def all_up() -> bool:
        """All that had begun with it have ended, also those that did while another node gave it up."""
        supervisor.look()
        has_begun = begun.read_text().split()
        return supervisor.is_idle() and not any(str(node.pid) in has_begun for node in fleet.nodes.values())

    await fleet.until(all_up, "all nodes to be up")
    await fleet.settled()
    assert 3 <= len(supervisor.ends) <= 5
    receipt = await fleet.wait_for("fragile", "dead")
    (handling,) = receipt["handlings"]
    # Nodes that start again at the same time have each counted an end before any of them gives it up.
    assert re.match("its handler ended the process [345] times: by a crash in C, by an exit, by", handling["error"])
    await deliver("behind", "octo/widget")
    for guid in ("behind", *(f"other-{number}" for number in range(12))):
        await fleet.wait_for(guid)
    assert supervisor.is_idle()

    async def forgotten() -> bool:
        return await fleet.query("SELECT 1 FROM documents WHERE collection = 'crashes'") == []

    await fleet.until(forgotten, "the ends that were counted to be forgotten")

    mended.touch()
    assert (await fleet["a"].admin("POST", f"/api/v1/deliveries/{receipt['id']}/replay")).json()["replayed"] == 1
    await fleet.wait_for("fragile")
