"""A soak: good and hostile load with faults injected at random, for an hour or as long as you like.

``make soak MINUTES=60``. It runs ``twistd -n stackit`` beside the pretend GitHub, in rounds. In each round load and
faults come together; then all is healed, and in the quiet that follows everything must be handled and every mirror in
step. In the first quarter of the time the faults include ``kill -9`` and restarts. After that one process lives to the
end, and what it holds (memory, descriptors, threads, children) is measured in each quiet: it must not grow.

Exit status 0 says that nothing was lost and nothing grew; 1 is printed with what did.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

from injections import Injections
from outside import Notebook, all_handled, check_log, mirror_refs, together
from traffic import UNANSWERED, GoodLoad, HostileLoad
from twisted.internet.task import deferLater, react
from vitals import Vitals, growth

from stackit.testing import PretendGitHub, RunningStackit

REPOS = tuple(f"octo/soak-{number}" for number in range(8))
ROUND = 20.0
"""Seconds of load and faults before each quiet."""

ODD = """
import asyncio
import itertools
import threading

from stackit import Permanent, on
from twisted.internet.defer import Deferred

TURNS = itertools.count(1)


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


FAULTS = [ValueError("odd"), Unspeakable(), asyncio.CancelledError(), KeyboardInterrupt(), Permanent("no")]


@on("*")
def raises(event):
    turn = next(TURNS)
    if turn % 50 == 0:
        raise FAULTS[turn // 50 % len(FAULTS)]


@on("issues", timeout=0.5, ordered=False)
async def hangs(event):
    if event.delivery.endswith("17"):
        await Deferred()


@on("issues", thread=True, concurrency=2)
def blocks(event):
    threading.Event().wait(0.01)
"""


async def soak(reactor: Any, seconds: float, seed: int, directory: Path) -> list[str]:
    """Run it; what was wrong, a line each."""
    random = Random(seed)
    github = PretendGitHub()
    await github.start(reactor, directory / "github")
    notebook = Notebook(directory / "notebook")
    (directory / "odd.py").write_text(ODD)
    (directory / "secret").write_text("the secret of the file\n")
    repos = []
    for name in REPOS:
        repos.append({"name": name, "url": await github.create(name)})
        await github.commit(name, count=3)
    server = RunningStackit(
        reactor,
        directory,
        config={
            "repos": repos,
            "grace": "5s",
            "sync": {"interval": "3s"},
            "webhook": {"deadline": "3s", "secret_files": [str(directory / "secret")]},
            # What fails is tried again soon enough for the next quiet, and given up before the soak ends.
            "handlers": {"retry_for": "15s"},
            "journal": {"keep_bytes": "32 MiB"},
            "plugins": {
                "notebook": notebook.table,
                "odd": {"file": str(directory / "odd.py")},
                "mirror": {"timeout": "4s"},
            },
        },
        environment=notebook.environment,
    )
    await server.start()
    github.webhook(server.webhook_url, server.secret or "")
    good = GoodLoad(reactor, server, github, REPOS, random)
    hostile = HostileLoad(reactor, server, random)
    injections = Injections(reactor, server, github, REPOS, random, directory / "secret")
    measured: list[Vitals] = []
    problems: list[str] = []
    began = reactor.seconds()
    try:
        while (elapsed := reactor.seconds() - began) < seconds and not problems:
            restarts = elapsed < seconds / 4
            await together(good.run(ROUND), hostile.run(ROUND), injections.run(ROUND, restarts=restarts))
            problems += await quiet(server, github, good, notebook)
            vitals = Vitals.of(server.pid)
            if not restarts:
                measured.append(vitals)
            say(
                f"{elapsed + ROUND:5.0f} s: {len(good.accepted)} accepted, {good.refused} refused, "
                f"{hostile.sent} hostile, {injections.count} faults; {vitals}"
            )
            good.forget_what_was_seen(notebook.seen())
            await good.rewind()
    finally:
        status = await server.stop()
        await github.stop()
    if status != 0:
        problems.append(f"stackit ended with status {status} after SIGTERM")
    problems += growth(measured)
    try:
        check_log(server.log)
    except AssertionError as odd:
        problems.append(f"the log: {str(odd)[:500]}")
    if problems:
        (directory / "log").write_text(server.log)
    return problems


async def quiet(server: RunningStackit, github: PretendGitHub, good: GoodLoad, notebook: Notebook) -> list[str]:
    """Wait until all is handled and in step, and say what is not."""

    async def ready() -> bool:
        return (await server.admin("GET", "/readyz")).status == 200

    async def taken() -> bool:
        try:
            return (await server.deliver("issues", guid="after-the-faults")).status == 202
        except UNANSWERED:  # over a connection that was idle for too long
            return False

    problems = []
    try:
        await server.until(ready, "/readyz to say 200 again", within=90)
        await server.until(taken, "a delivery to be answered 202")
        await all_handled(server)
        for name in REPOS:
            # A remote that said 404 for long is in quarantine; a person who syncs by hand ends that.
            with contextlib.suppress(*UNANSWERED):
                await server.sync(name)

            async def in_step(name: str = name) -> bool:
                with contextlib.suppress(AssertionError):  # a mirror that is made anew is not there for a moment
                    return await mirror_refs(server, name) == await github.refs(name)
                return False

            await server.until(in_step, f"the mirror of {name} to equal its remote", within=60)
    except AssertionError as problem:
        problems.append(str(problem)[:3000])
    lost = good.accepted_now - set(notebook.seen())
    if lost:
        problems.append(f"{len(lost)} deliveries were answered 202 and reached no handler: {sorted(lost)[:5]}")
    return problems


def say(line: str) -> None:
    """Print a line at once, so that a long run shows where it is."""
    print(line, flush=True)


async def main(reactor: Any, minutes: float, seed: int) -> None:
    directory = Path(tempfile.mkdtemp(prefix="stackit-soak-"))
    say(f"soaking for {minutes:g} minutes, seed {seed}, in {directory}")
    began = time.monotonic()
    problems = await soak(reactor, minutes * 60, seed, directory)
    await deferLater(reactor, 0)
    for problem in problems:
        say(f"WRONG: {problem}")
    say(f"{'failed' if problems else 'nothing lost, nothing grew'} after {time.monotonic() - began:.0f} s")
    if problems:
        sys.exit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    react(main, (arguments.minutes, arguments.seed))
