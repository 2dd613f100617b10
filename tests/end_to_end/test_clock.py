"""The wall clock of the machine is set while stackit runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from outside import all_handled, check_log, mirror_refs
from wrong_clock import WrongClock

from stackit.testing import PretendGitHub

DAY = 86400
WIDGET = "octo/widget"

FLAKY = """
from stackit import on

class Flaky:
    tried = set()

    @on("issues")
    def twice(self, event):
        if event.delivery not in self.tried:
            self.tried.add(event.delivery)
            raise OSError("not yet")
"""


@pytest.mark.parametrize("steps", [(-DAY, -400 * DAY), (DAY, 400 * DAY), (-DAY, DAY)])
@pytest_twisted.ensureDeferred
async def test_whoever_sets_the_clock_neither_stops_nor_hurries_anything(
    running_stackit: Any, pretend_github: PretendGitHub, tmp_path: Path, steps: tuple[float, ...]
) -> None:
    clock = WrongClock(tmp_path / "clock")
    (clock.plugins / "flaky.py").write_text(FLAKY)
    url = await pretend_github.create(WIDGET)
    await pretend_github.commit(WIDGET)
    server = await running_stackit(
        config={
            "repos": [{"name": WIDGET, "url": url}],
            "sync": {"interval": "2s"},
            "plugins": {"flaky": {"module": "flaky:Flaky"}},
        },
        plugins=clock.plugins,
        environment=clock.environment,
    )
    pretend_github.webhook(server.webhook_url, server.secret)
    for step in (0, *steps):
        failing = (await server.deliver("issues")).json()["id"]
        clock.set(step)
        sent = await pretend_github.push(WIDGET)
        await server.wait_for(sent.guid, visible=True)
        assert await mirror_refs(server, WIDGET) == await pretend_github.refs(WIDGET)
        await all_handled(server)  # also what failed at first
        receipt = (await server.admin("GET", f"{{prefix}}/deliveries/{failing}")).json()
        assert [each["attempts"] for each in receipt["handlings"] if each["subscriber"].startswith("flaky")] == [2]
        # A push whose delivery was lost: only the timer of the backstop brings it.
        lost = await pretend_github.commit(WIDGET)

        async def brought(wanted: str = lost.after) -> bool:
            return (await mirror_refs(server, WIDGET))["refs/heads/main"] == wanted

        await server.until(brought, "the backstop to find it")
        assert (await server.ask("GET", f"{server.admin_url}/readyz")).status == 200
    assert await server.stop() == 0
    check_log(server.log)
