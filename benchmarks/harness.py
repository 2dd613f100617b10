"""What the benchmarks share: servers on a core of their own, figures with their spread, and results on disk."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
VENV = HERE.parent / ".venv-bench"
SERVER_CORE, LOAD_CORE = 0, 1
CORES = os.sched_getaffinity(0)
PATIENCE = 60.0


@dataclass(frozen=True)
class Goal:
    """What was aimed at, and how far it is: ``measured`` is to be at least (or at most) ``wanted``."""

    text: str
    wanted: float
    measured: float | None
    at_most: bool = False
    reason: str = ""

    @property
    def reached(self) -> bool:
        if self.measured is None:
            return False
        return self.measured <= self.wanted if self.at_most else self.measured >= self.wanted

    def line(self) -> str:
        measured = "not measured" if self.measured is None else f"{self.measured:.3g}"
        verdict = "reached" if self.reached else "not reached"
        bound = "at most" if self.at_most else "at least"
        return f"{verdict}: {self.text}: {measured} ({bound} {self.wanted:g})" + (
            f"; {self.reason}" if self.reason else ""
        )


@dataclass
class Table:
    """Figures by row and column: every round adds one to each cell."""

    title: str
    unit: str
    columns: Sequence[str]
    cells: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, row: str, column: str, value: float) -> None:
        self.cells.setdefault(row, {}).setdefault(column, []).append(value)

    def median(self, row: str, column: str) -> float | None:
        values = self.cells.get(row, {}).get(column)
        return statistics.median(values) if values else None

    def ratio(self, row: str, other: str, column: str) -> float | None:
        """How many times the figure of ``other`` that of ``row`` is, round by round."""
        pairs = zip(self.cells.get(row, {}).get(column, ()), self.cells.get(other, {}).get(column, ()), strict=False)
        ratios = [mine / theirs for mine, theirs in pairs if theirs]
        return statistics.median(ratios) if ratios else None

    def markdown(self) -> str:
        lines = [f"**{self.title}** ({self.unit}; median of the rounds, lowest to highest)", ""]
        lines += ["| | " + " | ".join(self.columns) + " |", "|---|" + "---|" * len(self.columns)]
        for row, cells in self.cells.items():
            lines.append(f"| {row} | " + " | ".join(_shown(cells.get(each, [])) for each in self.columns) + " |")
        return "\n".join(lines) + "\n"


def _shown(values: Sequence[float]) -> str:
    if not values:
        return "-"
    low, middle, high = (number(each) for each in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high})" if len(values) > 1 else middle


def number(value: float) -> str:
    """Three digits that count, with commas: 12,345 and 0.0123."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


@dataclass(frozen=True)
class Report:
    """One benchmark's results: ``notes`` are facts that a reader needs, ``skipped`` the peers that could not run."""

    name: str
    title: str
    tables: Sequence[Table]
    goals: Sequence[Goal]
    notes: Sequence[str]
    skipped: Mapping[str, str]

    def write(self, **pictures: str) -> None:
        """Into ``results/``, and to the terminal. ``pictures`` are SVG by name."""
        RESULTS.mkdir(exist_ok=True)
        for picture, svg in pictures.items():
            (RESULTS / f"{picture}.svg").write_text(svg)
        about = machine()
        lines = [f"# {self.title}", "", *(f"- {each}" for each in [*_facts(about), *self.notes])]
        lines += [f"- skipped: {peer}: {why}" for peer, why in self.skipped.items()]
        lines += ["", *(f"![{picture}]({picture}.svg)\n" for picture in pictures)]
        lines += [*(each.markdown() for each in self.tables), "**Goals**", ""]
        lines += [f"- {each.line()}" for each in self.goals]
        text = "\n".join(lines).rstrip() + "\n"
        (RESULTS / f"{self.name}.md").write_text(text)
        figures = {
            "machine": about,
            "tables": [{"title": each.title, "unit": each.unit, "cells": each.cells} for each in self.tables],
            "goals": [
                {"text": each.text, "wanted": each.wanted, "measured": each.measured, "reached": each.reached}
                for each in self.goals
            ],
            "skipped": self.skipped,
        }
        (RESULTS / f"{self.name}.json").write_text(json.dumps(figures, indent=1) + "\n")
        print(text)


def machine() -> dict[str, str]:
    """The machine and the versions."""
    processor = [
        line.partition(":")[2].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")
    ]
    found = {
        "measured": time.strftime("%Y-%m-%d"),
        "processor": f"{(processor or [platform.machine()])[0]}, {os.cpu_count()} cores",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "git": _said("git", "--version"),
    }
    for name in ("stackit", "twisted", "httptools", "msgspec"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _facts(about: Mapping[str, str]) -> list[str]:
    return [f"{about['measured']}, {about['processor']}", ", ".join(f"{k} {v}" for k, v in list(about.items())[2:])]


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[0].split()[-1]
    except (OSError, subprocess.CalledProcessError):
        return "none"


# -- processes ----------------------------------------------------------------------


def pinned(core: int, argv: Sequence[str]) -> list[str]:
    """The command on one core, where the system can do that, and has it."""
    possible = shutil.which("taskset") and core in CORES
    return ["taskset", "-c", str(core), *argv] if possible else list(argv)


@contextmanager
def serving(
    argv: Sequence[str],
    port: int,
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
    core: int = SERVER_CORE,
) -> Iterator[subprocess.Popen[bytes]]:
    """A server on a core, from when it listens; ended, with all its children, on the way out."""
    with (log or cwd / "log").open("ab") as output:
        process = subprocess.Popen(
            pinned(core, argv),
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until(lambda: listens(port), f"{argv[0]} to listen on {port}", process)
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number_ in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number_)
            process.wait(15)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def until(ready: Callable[[], Any], what: str, process: subprocess.Popen[bytes] | None = None) -> Any:
    """What ``ready`` gives once it is true. Raises RuntimeError if that takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not (found := ready()):
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"ended with status {process.returncode} while waiting for {what}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {PATIENCE:g} s in vain for {what}")
        time.sleep(0.02)
    return found


def listens(port: int) -> bool:
    with socket.socket() as trial:
        trial.settimeout(1)
        return trial.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory on the disk of this checkout: /tmp may be memory, where an fsync costs nothing."""
    place = HERE.parent / ".bench"
    place.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(dir=place))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def load(
    port: int, path: str, secret: str, *, size: int, connections: int, seconds: float, core: int = LOAD_CORE
) -> dict[str, Any]:
    """One run of ``load.py`` on a core."""
    argv = [sys.executable, str(HERE / "load.py"), f"--port={port}", f"--path={path}", f"--secret={secret}"]
    argv += [f"--size={size}", f"--connections={connections}", f"--seconds={seconds}"]
    try:
        done = subprocess.run(pinned(core, argv), capture_output=True, text=True, timeout=seconds + 60, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"did not answer for {PATIENCE:g} s") from None
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "the load failed")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
