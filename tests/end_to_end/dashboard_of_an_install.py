"""What a real Prometheus has for each query of the dashboard, from real stackits: ``make test-dashboard``."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest_twisted
import yaml
from alert_rules import DIRECTORY
from twisted.internet.threads import deferToThread

from stackit.testing import PretendGitHub, RunningFleet, RunningStackit, payload_for
from stackit.testing.ports import free_ports
from stackit.testing.process import WaitedInVain

PROMETHEUS = Path(sys.executable).parent / "prometheus"
DASHBOARD = DIRECTORY.parent / "grafana" / "stackit.json"
PLUGIN = """
from stackit import Permanent, on

@on("issues")
def deploy(event):
    raise Permanent("no such place")
"""
VARIABLES = {"$job": "stackit", "$instance": ".*", "$__rate_interval": "10s", "$__range": "1m"}


@pytest_twisted.ensureDeferred
async def test_prometheus_has_something_for_every_query_of_the_dashboard(
    running_stackit: Any, running_fleet: Any, pretend_github: PretendGitHub, tmp_path: Path
) -> None:
    fleet: RunningFleet = await running_fleet(nodes=["a"])
    (tmp_path / "deploy.py").write_text(PLUGIN)
    app = pretend_github.apps.create()
    await pretend_github.create("octo/widget")
    await pretend_github.commit("octo/widget")
    await app.install("octo", ["octo/widget"])
    (tmp_path / "key.pem").write_text(app.private_key)
    (tmp_path / "secret").write_text(app.webhook_secret)
    keys = {"private_key_file": str(tmp_path / "key.pem"), "secret_files": [str(tmp_path / "secret")]}
    server: RunningStackit = await running_stackit(
        config={
            "apps": [{"name": "main", "app_id": app.id, "api_url": pretend_github.api_url, **keys}],
            "discover": [{"app": "main"}],
            "sync": {"interval": "2s"},
            "plugins": {"deploy": {"file": str(tmp_path / "deploy.py")}},
        }
    )

    async def in_step() -> bool:
        repos = (await server.admin("GET", "{prefix}/repos")).json()["repos"]
        return [each["state"] for each in repos] == ["in_step"]

    await server.until(in_step, "the mirror to be in step", 60)
    with prometheus(tmp_path, server.admin_url, fleet["a"].admin_url) as url:
        queries = {target["expr"] for panel in panels() for target in panel.get("targets", ())}
        missing = set(queries)

        async def all_are_answered() -> bool:
            """Ask for what had no answer yet, while something happens between two scrapes."""
            await server.deliver("push", secret="a guess of a stranger")
            await server.deliver("issues", payload_for("issues"))
            await pretend_github.commit("octo/widget")
            for query in sorted(missing):
                if await deferToThread(ask, url, query):
                    missing.discard(query)
            return not missing

        try:
            await server.until(all_are_answered, "an answer to every query", 60)
        except WaitedInVain:
            assert missing == set()
        rules = await deferToThread(get, f"{url}/api/v1/rules")
        assert {rule["health"] for group in rules["groups"] for rule in group["rules"]} == {"ok"}
        for name in ("job", "instance"):
            assert await deferToThread(get, f"{url}/api/v1/label/{name}/values?match[]=stackit_info")


def panels() -> list[dict[str, Any]]:
    return list(json.loads(DASHBOARD.read_text("utf-8"))["panels"])


def ask(url: str, query: str) -> list[Any]:
    """Return the series of a query, and fail if Prometheus does not understand it."""
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    return list(get(f"{url}/api/v1/query?{urllib.parse.urlencode({'query': query})}")["result"])


def get(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - on loopback
            return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{url}: {error.read().decode()}") from None


@contextmanager
def prometheus(directory: Path, *targets: str) -> Iterator[str]:
    """Run Prometheus with the configuration of contrib/prometheus, once a second, and yield its address."""
    config = yaml.safe_load((DIRECTORY / "prometheus.yml").read_text("utf-8"))
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DIRECTORY / name) for name in ("rules.yml", "fleet.yml")]
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": [urllib.parse.urlsplit(each).netloc for each in targets]}]
    job["scrape_timeout"] = "1s"
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    command = [str(PROMETHEUS), f"--config.file={directory / 'prometheus.yml'}", f"--web.listen-address={address}"]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--storage.tsdb.path={directory / 'tsdb'}"], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            wait_for(f"http://{address}/-/ready", process, directory / "prometheus.log")
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(60)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until something answers there."""
    for _ in range(300):
        try:
            urllib.request.urlopen(url, timeout=1).close()  # noqa: S310 - on loopback
        except OSError:
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
            break
        else:
            return
    raise AssertionError(log.read_text("utf-8"))
