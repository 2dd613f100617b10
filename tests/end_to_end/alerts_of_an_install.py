"""What Prometheus makes of a real stackit by the rules of contrib/prometheus: ``make test-alerts``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest_twisted
import yaml
from alert_rules import DIRECTORY
from twisted.internet.defer import Deferred, gatherResults

from stackit.testing import PretendGitHub, RunningStackit, delivery, payload_for
from stackit.testing.process import SECRET

PROMTOOL = Path(sys.executable).parent / "promtool"
PLUGIN = """
from stackit import Permanent, on

@on("issues")
def deploy(event):
    raise Permanent("no such place")
"""
AGE = 90_000
"""Seconds for which the process has run when Prometheus begins: only an increase tells of what is new."""


@pytest_twisted.ensureDeferred
async def test_a_new_install_alerts_of_nothing_and_then_of_each_thing_that_happens_to_it(
    running_stackit: Any, pretend_github: PretendGitHub, tmp_path: Path
) -> None:
    (tmp_path / "deploy.py").write_text(PLUGIN)
    url = await pretend_github.create("octo/widget")
    await pretend_github.commit("octo/widget")
    server: RunningStackit = await running_stackit(
        config={
            "repos": [{"name": "octo/widget", "url": url}],
            "plugins": {"deploy": {"file": str(tmp_path / "deploy.py")}, "ratelimit": {"burst": 1000}},
        }
    )

    async def in_step() -> bool:
        return bool((await server.admin("GET", "{prefix}/repos/octo/widget")).json()["state"] == "in_step")

    await server.until(in_step, "the mirror to be in step")
    healthy = await server.metrics()

    body = delivery("issues", payload_for("issues"), secret=SECRET)
    forged = [server.deliver("push", secret="a guess of a stranger") for _ in range(60)]
    answers = await gatherResults([Deferred.fromCoroutine(each) for each in forged], consumeErrors=True)
    assert {each.status for each in answers} == {401}
    assert (await server.post(body)).status == 202
    again = delivery("issues", body.body, secret=SECRET, guid="the-same-body-under-another-id")
    assert (await server.post(again)).status == 202
    await server.wait_for("the-same-body-under-another-id", "dead")
    troubled = await server.metrics()

    fired = ["StackitGivesUp", "StackitReplayed", "StackitSecret"]
    assert_firing(tmp_path, healthy, troubled, fired)


def assert_firing(directory: Path, before: Mapping[str, float], after: Mapping[str, float], alerts: list[str]) -> None:
    """Fail unless nothing fires in ten minutes of ``before``, and exactly ``alerts`` as soon as it is ``after``."""
    start = before["process_start_time_seconds"]
    series = [{"series": 'up{job="stackit"}', "values": "1x20"}]
    for name in sorted({*before, *after}):
        first, then = (_shifted(name, each.get(name), start) for each in (before, after))
        series.append({"series": _of_job(name), "values": f"{first}x9 {then}x10"})
    expression = 'count by (alertname) (ALERTS{alertstate="firing"})'
    case = {
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [
            {"expr": "ALERTS", "eval_time": "9m", "exp_samples": []},
            {
                "expr": expression,
                "eval_time": "10m",
                "exp_samples": [{"labels": f'{{alertname="{each}"}}', "value": 1} for each in alerts],
            },
        ],
    }
    file = directory / "install_test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(DIRECTORY / "rules.yml")], "tests": [case]}))
    done = subprocess.run([PROMTOOL, "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _of_job(name: str) -> str:
    metric, brace, labels = name.partition("{")
    return f'{metric}{{job="stackit",{labels}' if brace else f'{metric}{{job="stackit"}}'


def _shifted(name: str, value: float | None, start: float) -> str:
    """A value as promtool writes it. Times count from the start, but for that of the process, which is older."""
    if value is None:
        return "_"
    if name == "process_start_time_seconds":
        return f"{-AGE}"
    is_time = name.partition("{")[0].endswith(("_timestamp_seconds", "_created"))
    return f"{value - start if is_time and value else value:f}"
