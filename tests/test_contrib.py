"""The unit for systemd: what it starts is what the documentation says, and it may do little."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

UNIT = Path(__file__).parent.parent / "contrib" / "systemd" / "stackit.service"


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
