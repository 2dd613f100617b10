"""Files for operators: the units for systemd may do little, and the dashboard is what its script makes."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "contrib" / "systemd" / "stackit.service"
DASHBOARD = ROOT / "contrib" / "grafana"


def exposure(unit: Path) -> str:
    """What systemd thinks of a unit: where it is not installed, what it would think of this one."""
    program = shutil.which("systemd-analyze")
    if program is None:
        return "OK"
    done = subprocess.run(
        [program, "security", "--offline=true", str(unit)], capture_output=True, text=True, check=False
    )
    found = re.search(r"Overall exposure level for \S+: [\d.]+ (\w+)", done.stdout)
    assert found is not None, done
    return found[1]


def test_the_unit_may_do_no_more_than_it_needs() -> None:
    assert exposure(UNIT) == "OK"


def test_the_unit_tells_systemd_of_its_life_and_reloads() -> None:
    lines = UNIT.read_text("utf-8").splitlines()
    for line in ("Type=notify", "ExecReload=/bin/kill -HUP $MAINPID", "StateDirectoryMode=0700", "WatchdogSec=60"):
        assert line in lines
    # TLS would fail: OpenSSL calls back into Python.
    assert not any(line.startswith("MemoryDenyWriteExecute") for line in lines)


def test_systemd_understands_every_line_of_the_units(tmp_path: Path) -> None:
    units = [Path(shutil.copy(each, tmp_path)) for each in UNIT.parent.iterdir()]
    service = tmp_path / UNIT.name
    service.write_text(re.sub("^ExecStart=.*$", "ExecStart=/bin/true", service.read_text("utf-8"), flags=re.MULTILINE))
    program = shutil.which("systemd-analyze") or "true"
    done = subprocess.run([program, "verify", *units], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if any(each.name in line for each in units)] == []


def panels() -> list[dict[str, Any]]:
    return list(json.loads((DASHBOARD / "stackit.json").read_text("utf-8"))["panels"])


def test_the_dashboard_is_what_its_script_makes() -> None:
    made = runpy.run_path(str(DASHBOARD / "dashboard.py"))["text"]()
    assert (DASHBOARD / "stackit.json").read_text("utf-8") == made, "run python contrib/grafana/dashboard.py"


def test_no_panel_of_the_dashboard_lies_on_another() -> None:
    places = [each["gridPos"] for each in panels()]
    assert all(each["x"] + each["w"] <= 24 for each in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)


def test_the_dashboard_asks_for_documented_metrics_of_the_chosen_instances() -> None:
    pages = "".join((ROOT / "docs" / name).read_text("utf-8") for name in ("operations.md", "fleet.md"))
    documented = set(re.findall(r"`((?:stackit|process)_\w+)`", pages))
    queries = [target["expr"] for each in panels() for target in each.get("targets", ())]
    asked = {name for query in queries for name in re.findall(r"(?:stackit|process)_\w+", query)}
    assert {re.sub("_bucket$", "", name) for name in asked} - documented == set()
    chosen = 'job=~"$job",instance=~"$instance"'
    assert [query for query in queries if query.count("{") != query.count("{" + chosen)] == []
