"""What can be done to a stackit from outside: raw bytes, a shell, signals; and a notebook that its plugins write."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rawhttp import Answer, Client
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from waiting import until

from stackit.subprocesses import Finished, ProcessLimits, run
from stackit.testing import PretendGitHub, RunningStackit

LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z (debug|info|warn|error|critical) \[\S+\] .+")
WEBHOOK = "/api/v1/webhooks/github"
ZEROS = "0" * 40

NOTEBOOK = """
import json
import os

from stackit import hookimpl, on


def note(**fields):
    with open(os.environ["NOTES"], "a") as notes:
        # A disk that is full may have taken a part of the note before.
        notes.write("\\n" + json.dumps(fields) + "\\n")


@on("*")
def events(event):
    note(by="events", guid=event.delivery, event=event.name, action=event.action, repo=event.repo and str(event.repo))


@hookimpl
async def stackit_refs_changed(change):
    changes = [[each.ref, each.old, each.new] for each in change.changes]
    note(by="refs", id=change.id, repo=str(change.repo), cause=change.cause, changes=changes)
"""


class Notebook:
    """A plugin that notes what it sees in a file: pass ``table`` as its configuration, ``environment`` to stackit."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self._notes = directory / "notes"
        self._module = directory / "notebook.py"
        self._module.write_text(NOTEBOOK)
        self.table = {"file": str(self._module)}
        self.environment = {"NOTES": str(self._notes)}

    def read(self, by: str = "events") -> list[dict[str, Any]]:
        """What was noted by one of its handlers so far, in order. A note that a full disk cut short is none."""
        if not self._notes.exists():
            return []
        whole = self._notes.read_text().rpartition("\n")[0]  # the last line may be about to be written
        notes = [json.loads(line) for line in whole.splitlines() if line.endswith("}")]
        return [note for note in notes if note["by"] == by]

    def seen(self) -> Counter[str]:
        """How often each delivery was seen."""
        return Counter(note["guid"] for note in self.read())

    def replayed_refs(self, repo: str) -> dict[str, str]:
        """The announced changes of a repository, applied in order to nothing.

        A change that was announced twice (its handler may run again) counts once; each must fit the one before.
        """
        refs: dict[str, str] = {}
        announced = {note["id"]: note for note in reversed(self.read("refs")) if note["repo"] == repo}
        for note in reversed(list(announced.values())):
            for ref, old, new in note["changes"]:
                assert refs.pop(ref, ZEROS) == old, f"{ref}: announced {old} -> {new} after {refs}"
                if new != ZEROS:
                    refs[ref] = new
        return refs


async def connect(server: RunningStackit, port: int | None = None) -> Client:
    """A connection to the public side, or to another port."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    endpoint = HostnameEndpoint(reactor, "127.0.0.1", port or urlsplit(server.url).port or 0)
    client: Client = await connectProtocol(endpoint, Client())
    return client


async def hang_up(*clients: Client) -> None:
    """End connections that may be open still."""
    for client in clients:
        if not client.gone:
            client.transport.abortConnection()
            await client.closed


async def ask(server: RunningStackit, data: bytes) -> Answer:
    """The first answer on a new connection that is sent ``data``."""
    client = await connect(server)
    try:
        return await client.send(data).answer()
    finally:
        await hang_up(client)


async def shell(*argv: str, **environment: str) -> Finished:
    """Run a program to its end, from a directory that has no twistd.conf."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8", **measured, **environment}
    return await run(reactor, argv, env=env, limits=ProcessLimits(timeout=90))


async def command(server: RunningStackit, *arguments: str) -> Finished:
    """``python -m stackit …``, asking this server."""
    return await shell(sys.executable, "-m", "stackit", *arguments, "--admin-url", server.admin_url)


async def twistd(*arguments: str, **environment: str) -> Finished:
    """``twistd -n stackit …``, which is expected to end by itself."""
    script = "import sys; from twisted.scripts.twistd import run; sys.exit(run())"
    start = (sys.executable, "-P", "-c", script, "--nodaemon", "--pidfile=", "stackit")
    return await shell(*start, *arguments, **environment)


async def all_handled(server: RunningStackit) -> None:
    """Wait until no delivery is pending."""

    async def nothing_pending() -> bool:
        page = await server.admin("GET", "{prefix}/deliveries", state="pending", limit="1")
        return not page.json()["deliveries"]

    await server.until(nothing_pending, "every delivery to be handled", within=60)


async def mirror_refs(server: RunningStackit, repo: str) -> dict[str, str]:
    """The refs of a mirror, as git reads them."""
    path = server.state_dir / "mirrors" / f"{repo}.git"
    listed = await shell("git", f"--git-dir={path}", "for-each-ref", "--format=%(objectname) %(refname)")
    assert listed.status == 0, listed.stderr
    return {ref: oid for oid, _, ref in (line.partition(" ") for line in listed.stdout.decode().splitlines())}


def descendants(pid: int | None) -> list[int]:
    """The processes below a process, as the kernel tells now."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in brackets may hold anything; the parent is the second field after it.
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents.setdefault(parent, []).append(int(stat.parent.name))
    found, unseen = [], [pid or 0]
    while unseen:
        children = parents.get(unseen.pop(), [])
        found += children
        unseen += children
    return found


def alive(pids: list[int]) -> list[int]:
    """Those that run; one that ended and was not collected by its parent does not."""
    running = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            running.append(pid)
    return running


async def all_ended(pids: list[int]) -> None:
    """Wait until these have ended: one that was killed ends when it is its turn on a busy machine."""
    await until(lambda: not alive(pids), f"the end of {pids}")


class Held:
    """While it is entered, the pretend GitHub hears nothing: who asks it hangs, and then goes on where it was."""

    def __init__(self, github: PretendGitHub) -> None:
        self._port: Any = github._site._port
        self._connections: Any = github._site._connections
        self._deaf: list[Any] = []

    def __enter__(self) -> None:
        self._port.stopReading()
        self._deaf = [each.transport for each in self._connections.protocols]
        for transport in self._deaf:
            transport.pauseProducing()

    def __exit__(self, *_: object) -> None:
        self._port.startReading()
        for transport in self._deaf:
            if transport.connected:
                transport.resumeProducing()


async def git_runs(server: RunningStackit) -> list[int]:
    """Wait until git runs under this stackit: its processes."""

    async def running() -> list[int]:
        return [pid for pid in alive(descendants(server.pid)) if process_file(pid, "comm").startswith(b"git")]

    return await server.until(running, "git to run")


async def together(*coroutines: Any) -> list[Any]:
    """The results of all, which run at the same time."""
    return await gatherResults([Deferred.fromCoroutine(each) for each in coroutines], consumeErrors=True)


def check_log(log: str) -> None:
    """Every line is one that stackit wrote, and none tells of a bug but a plugin's."""
    strange = [line for line in log.splitlines() if not LOG_LINE.fullmatch(line)]
    assert not strange, strange[:5]
    assert "Traceback" not in log.replace("[stackit] | Traceback", "")
    assert "Unhandled" not in log


def process_file(pid: int | None, name: str) -> bytes:
    """What the kernel tells of a process: its ``comm``, ``cmdline`` or ``environ``; nothing of one that is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def files(directory: Path) -> dict[Path, bytes]:
    """Every file below a directory."""
    return {
        Path(where) / name: (Path(where) / name).read_bytes()
        for where, _, names in os.walk(directory)
        for name in names
    }
