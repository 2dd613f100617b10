"""From the first byte of a lone delivery until its handler begins, in this process or at another node."""

from __future__ import annotations

import http.client
import time
from contextlib import ExitStack
from pathlib import Path

import fleet_setup
import harness
from receivers import SECRET

from stackit.testing import delivery, payload_for

SQLITE, HERE, THERE = "SQLite", "PostgreSQL, handled by the receiver", "PostgreSQL, handled by another node"
WAYS = (SQLITE, HERE, THERE)
PAUSE = 0.02

_PLUGIN = """
import time
from stackit import on

@on("issues")
def note(event):
    with open({file!r}, "a") as notes:
        notes.write(f"{{event.delivery}} {{time.monotonic()}}\\n")
"""


def measure(way: str, count: int) -> list[float]:
    """Send so many deliveries, one after the other; return the milliseconds of each, from fastest to slowest."""
    with harness.scratch() as directory, ExitStack() as running:
        notes = directory / "notes"
        (directory / "noting.py").write_text(_PLUGIN.format(file=str(notes)))
        config = {"plugins": {"noting": {"file": str(directory / "noting.py")}}}
        if way == SQLITE:
            receiver = running.enter_context(fleet_setup.node(directory, "a", None, config=config))
        else:
            server, conninfo = running.enter_context(fleet_setup.database(directory))
            roles = {HERE: {"a": ["receive", "handle", "mirror"]}, THERE: {"a": ["receive"], "b": ["handle", "mirror"]}}
            nodes = {
                name: running.enter_context(
                    fleet_setup.node(directory, name, conninfo, fleet={"roles": each}, config=config)
                )
                for name, each in roles[way].items()
            }
            fleet_setup.settle(server, conninfo, [list(nodes)[-1]])
            receiver = nodes["a"]
        sent = _send(receiver.port, count)
        harness.until(lambda: len(_begun(notes)) >= count, "every delivery to be handled")
        begun = _begun(notes)
        return sorted(1000 * (begun[guid] - at) for guid, at in sent.items())


def _send(port: int, count: int) -> dict[str, float]:
    """Return when each delivery was sent, by its id."""
    sent = {}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for number in range(count):
        signed = delivery("issues", payload_for("issues", "opened", f"octo/widget-{number % 50}"), secret=SECRET)
        sent[signed.guid] = time.monotonic()
        connection.request("POST", fleet_setup.WEBHOOK, signed.body, dict(signed.headers))
        answer = connection.getresponse()
        answer.read()
        if answer.status != 202:
            raise RuntimeError(f"answered {answer.status} instead of 202")
        time.sleep(PAUSE)
    connection.close()
    return sent


def _begun(notes: Path) -> dict[str, float]:
    lines = notes.read_text().rpartition("\n")[0].splitlines() if notes.exists() else []
    return {guid: float(at) for guid, at in (line.split() for line in lines)}
