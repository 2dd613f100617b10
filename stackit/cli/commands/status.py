"""``stackit status``: the state of the running stackit."""

from __future__ import annotations

from collections import Counter
from typing import Any

from stackit.api.commands import Command, Shell
from stackit.api.errors import NotFoundError


async def _run(shell: Shell) -> None:
    status = await shell.admin.ask("GET", "/status")
    mirrors = await _mirrors(shell)
    started = status["started_at"]
    state = "ready" if status["ready"] else "not ready"
    values = {
        "state": f"{state}, read-only" if status["read_only"] else state,
        **({"node": status["node"]} if "node" in status else {}),
        "version": status["version"],
        "started": f"{started} ({shell.printer.ago(started)})",
        "pending": status["pending"],
        "dead": status["dead"],
        "repos": status["repos"],
    }
    if mirrors is not None:
        values["mirrors"] = ", ".join(f"{count} {state}" for state, count in sorted(mirrors.items()))
    paused = [each["subscriber"] for each in status["subscribers"] if each["paused"]]
    if paused:
        values["paused"] = ", ".join(paused)
    rows = [[each["subscriber"], each["pending"], each["dead"]] for each in status["subscribers"]]
    shell.printer.report(
        {**status, "mirrors": mirrors},
        values,
        ["SUBSCRIBER", "PENDING", "DEAD"],
        rows,
        empty="no plugin handles events",
        note="\n".join(["\nproblems:", *(f"  {_line(shell, each)}" for each in status["since"])])
        if status["since"]
        else "",
    )


def _line(shell: Shell, each: dict[str, str]) -> str:
    return f"{each['problem']} (first seen {shell.printer.ago(each['since'])})"


async def _mirrors(shell: Shell) -> dict[str, int] | None:
    """Return the number of mirrors in each state; None without the plugin ``mirror``."""
    try:
        answer: Any = await shell.admin.ask("GET", "/repos")
    except NotFoundError:
        return None
    return dict(Counter(each["state"] for each in answer["repos"]))


COMMAND = Command(
    name="status",
    help="Show whether all is well, what waits, and the state of the mirrors.",
    run=_run,
    example="stackit status",
)
