"""A node of a fleet: it starts on its database or says why not in one line, and takes and gives part of the work."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from stackit.testing import RunningStackit
from stackit.testing.postgres import PostgresServer
from stackit.testing.process import SECRET

Start = Callable[..., Awaitable[RunningStackit]]
ADDRESS = "http://127.0.0.1:1"
"""Where nobody answers: after a while the nodes say so of each other."""
NEW, OLD = "1" * 40, "0" * 40
PLUGIN = """
    import os
    from stackit import App, hookimpl, on, sleep

    class Noting:
        @hookimpl
        def stackit_service(self, app: App) -> None:
            self.app = app

        @on("push")
        async def note(self, event):
            if event.payload.get("waits"):
                open(os.environ["NOTES"] + ".waits", "w").close()
                while not os.path.exists(os.environ["NOTES"] + ".go"):
                    await sleep(self.app.reactor, 0.05)
            with open(os.environ["NOTES"], "a") as notes:
                notes.write(f"{os.environ['NODE']} {event.repo} {event.delivery}\\n")
"""


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    directory = tmp_path / "plugins"
    directory.mkdir()
    (directory / "noting.py").write_text(textwrap.dedent(PLUGIN))
    return directory


class Nodes:
    """Nodes of one fleet, whose handlers write into one file. ``sent`` are the deliveries, by repository."""

    def __init__(self, start: Start, conninfo: str, plugins: Path) -> None:
        self._start = start
        self._conninfo = conninfo
        self._plugins = plugins
        self._notes = plugins / "notes"
        self._notes.touch()
        self.sent: dict[str, list[str]] = defaultdict(list)
        self._count = 0

    async def start(self, name: str, **fleet: Any) -> RunningStackit:
        """Start a node, and wait until the others have given it its part."""
        tables = {
            "grace": "50s",  # a handler may take longer than what happens beside it
            "fleet": {"postgres": self._conninfo, "node": name, "address": ADDRESS, "lease": "60s", **fleet},
            "plugins": {"noting": {"module": "noting:Noting"}, "mirror": {"enabled": False}},
        }
        environment = {"NOTES": str(self._notes), "NODE": name}
        node = await self._start(config=tables, plugins=self._plugins, environment=environment)

        async def owns_its_part() -> bool:
            seen = await self.fleet(node)
            return seen["unowned"]["handlers"] == 0 and all(each["handlers"] for each in seen["nodes"])

        await node.until(owns_its_part, "the work to be divided")
        return node

    async def fleet(self, node: RunningStackit) -> dict[str, Any]:
        seen: dict[str, Any] = (await node.admin("GET", "{prefix}/fleet")).json()
        return seen

    async def deliver(self, node: RunningStackit, repo: str | None = None, *, waits: bool = False) -> None:
        """Send a push of this repository, or of one of a few; the answer is 202. What ``waits`` waits for ``go``."""
        self._count += 1
        repo, guid = repo or f"octo/widget-{self._count % 7}", str(uuid4())
        payload: dict[str, Any] = {
            "ref": "refs/heads/main",
            "before": OLD,
            "after": NEW,
            "commits": [],
            "number": self._count,
            "waits": waits,
            "repository": {"name": repo[5:], "full_name": repo, "owner": {"login": "octo"}},
        }
        answer = await node.deliver("push", payload, guid=guid)
        assert answer.status == 202, answer.body
        self.sent[repo].append(guid)

    async def begun(self, node: RunningStackit) -> None:
        """Wait until a handler has begun that waits for ``go``."""

        async def has_begun() -> bool:
            return self._notes.with_suffix(".waits").exists()

        await node.until(has_begun, "the handler to begin")

    def go(self) -> None:
        """Let handlers that wait end."""
        self._notes.with_suffix(".go").touch()

    async def handled(self, node: RunningStackit, *, but: int = 0) -> None:
        """Wait until all was handled but so many."""

        async def as_many() -> bool:
            return len(self.lines()) >= self._count - but

        await node.until(as_many, f"{self._count - but} events to be handled")

    async def all_handled(self, node: RunningStackit) -> dict[str, set[str]]:
        """Wait until all was handled, once and in order; return which repositories each node had."""
        await self.handled(node)
        handled, nodes = defaultdict(list), defaultdict(set)
        for name, repo, guid in self.lines():
            handled[repo].append(guid)
            nodes[name].add(repo)
        assert handled == self.sent
        return nodes

    async def nothing_is_pending(self, node: RunningStackit) -> None:
        """Wait until a node counts nothing that is to be handled: outcomes are written down after handlers end."""

        async def is_nothing() -> bool:
            return (await node.metrics())['stackit_handlings_pending{subscriber="noting"}'] == 0

        await node.until(is_nothing, "nothing to be pending")

    async def replay(self, node: RunningStackit) -> None:
        """Have two events of each repository handled again, whoever has it; the answer tells of one subscriber."""
        before = len(self.lines())
        for guids in self.sent.values():
            for guid in guids[:2]:
                receipt = await node.receipt(guid)
                assert receipt is not None
                answer = await node.admin("POST", f"{{prefix}}/deliveries/{receipt['id']}/replay")
                assert (answer.status, answer.json()) == (200, {"id": receipt["id"], "replayed": 1})

        async def as_many() -> bool:
            return len(self.lines()) >= before + 2 * len(self.sent)

        await node.until(as_many, "what was replayed")
        self._notes.write_text("")
        self.sent.clear()
        self._count = 0

    def lines(self) -> list[list[str]]:
        """What was handled: the node, the repository and the delivery of each."""
        whole = self._notes.read_text().rpartition("\n")[0]  # the last line may be about to be written
        return [line.split() for line in whole.splitlines()]


@pytest.fixture
def nodes(postgres: str, running_stackit: Start, plugins: Path) -> Nodes:
    return Nodes(running_stackit, postgres, plugins)


@pytest_twisted.ensureDeferred
async def test_nodes_share_the_work_and_one_that_stops_gives_its_part_away(nodes: Nodes) -> None:
    one = await nodes.start("one")
    other = await nodes.start("other")
    for _ in range(30):
        await nodes.deliver(one)
        await nodes.deliver(other)
    had = await nodes.all_handled(one)
    assert set(had) == {"one", "other"}
    assert not had["one"] & had["other"]

    async def all_is_well() -> bool:
        found = [(await each.admin("GET", "/readyz")).json().get("problems", []) for each in (one, other)]
        return all(f"at {ADDRESS} does not answer" in line for problems in found for line in problems)

    await one.until(all_is_well, "no problem to be left")
    for each in (one, other):
        await nodes.nothing_is_pending(each)
    await nodes.replay(one)
    assert await other.stop() == 0

    async def has_all() -> bool:
        seen = await nodes.fleet(one)
        states = [each["state"] for each in seen["nodes"]]
        return (seen["unowned"]["handlers"], states) == (0, ["up", "away"])

    await one.until(has_all, "all work to be at the node that is left")
    for _ in range(10):
        await nodes.deliver(one)
    await nodes.all_handled(one)


@pytest_twisted.ensureDeferred
async def test_a_stop_gives_work_away_while_a_handler_still_runs_and_that_one_runs_once(nodes: Nodes) -> None:
    one = await nodes.start("one")
    other = await nodes.start("other")
    for _ in range(14):
        await nodes.deliver(one)
    kept, *given = sorted((await nodes.all_handled(one))["other"])
    await nodes.deliver(one, kept, waits=True)
    await nodes.begun(one)
    await nodes.deliver(one, kept)
    stopped = Deferred.fromCoroutine(other.stop())
    for repo in given * 3:
        await nodes.deliver(one, repo)
    await nodes.handled(one, but=2)
    assert not stopped.called
    nodes.go()
    assert await stopped == 0
    await nodes.all_handled(one)
    assert ["other", kept, nodes.sent[kept][-2]] in nodes.lines()


@pytest_twisted.ensureDeferred
async def test_a_node_takes_what_it_should_and_no_more(nodes: Nodes) -> None:
    one, other = await nodes.start("one"), await nodes.start("other")

    async def change(what: str, name: str, *health: int) -> str | None:
        """Drain a node or take that back, and wait for what ``/healthz`` of both says then; return the warning."""
        answer = await one.admin("POST", f"{{prefix}}/fleet/nodes/{name}/{what}")

        async def is_so() -> bool:
            return [(await each.ask("GET", f"{each.url}/healthz")).status for each in (one, other)] == list(health)

        await one.until(is_so, f"deliveries to go where they should: {health}")
        warning: str | None = answer.json()["warning"]
        return warning

    assert await change("drain", "one", 503, 200) is None
    await nodes.deliver(one)  # what comes all the same is taken
    warning = await change("drain", "other", 200, 200)
    assert warning == "it goes on to receive, handle, mirror: no other node that is up does"
    await nodes.deliver(one)
    await nodes.deliver(other)
    assert await change("undrain", "one", 200, 503) is None
    await nodes.all_handled(one)


# -- starts that fail


class Starts:
    """Starts of a node that are to fail."""

    def __init__(self, tmp_path: Path) -> None:
        self._directory = tmp_path
        self._state = tmp_path / "state"
        self._state.mkdir(mode=0o700)

    def fails(self, conninfo: str, *, path: Path | None = None) -> str:
        """Start with a database; return the one line of what is wrong."""
        config = self._directory / "stackit.toml"
        config.write_text(f'[fleet]\npostgres = "{conninfo}"\nnode = "one"\naddress = "http://127.0.0.1:1"\n')
        argv = [sys.executable, "-m", "twisted", "--log-level=critical", "stackit", "--config", str(config)]
        argv += ["--state-dir", str(self._state), "--listen", "tcp:0", "--admin-listen", "tcp:0:interface=127.0.0.1"]
        environment = {**os.environ, "STACKIT_GITHUB_WEBHOOK_SECRET": SECRET, "PYTHONPATH": str(path or "")}
        ran = subprocess.run(
            argv, capture_output=True, text=True, env=environment, check=False, timeout=60, cwd=self._directory
        )
        assert ran.returncode == 1
        assert not (self._state / "journal.sqlite3").exists()
        (line,) = (each for each in ran.stderr.splitlines() if each.startswith("stackit:"))
        assert "Traceback" not in ran.stderr
        return line


@pytest.fixture
def starts(tmp_path: Path) -> Starts:
    return Starts(tmp_path)


def test_a_database_that_is_away_is_one_line(starts: Starts) -> None:
    line = starts.fails("host=127.0.0.1 port=1 dbname=stackit user=stackit")
    assert "fleet.postgres" in line
    assert "refused" in line


def test_a_database_that_is_not_there_is_one_line(starts: Starts, postgres: str) -> None:
    line = starts.fails(postgres.replace("dbname=", "dbname=no_"))
    assert "does not exist" in line


def test_a_wrong_password_is_one_line_without_it(
    starts: Starts, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    guarded = postgres_server.database(password="right")
    file = tmp_path / "pgpass"
    file.write_text("*:*:*:*:mistaken\n")
    file.chmod(0o600)
    line = starts.fails(f"{guarded} passfile={file}".replace("password=right", ""))
    assert "password authentication failed" in line
    assert "mistaken" not in line


def test_missing_packages_are_one_line_that_says_how_to_get_them(starts: Starts, tmp_path: Path) -> None:
    package = tmp_path / "without" / "psycopg"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ModuleNotFoundError('No module named psycopg', name='psycopg')")
    line = starts.fails("host=127.0.0.1 dbname=stackit", path=package.parent)
    assert "psycopg" in line
    assert "pip install 'stackit[fleet]'" in line


def test_without_a_fleet_neither_its_journal_nor_its_peers_are_imported() -> None:
    code = "import sys, stackit.tap; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    imported = {*ran.stdout.split()} - {"stackit.fleet", "stackit.fleet.answers"}  # which say that there is none
    assert "stackit.service.journal" in imported
    theirs = ("psycopg", "stackit.fleet.fleet", "stackit.peers", "stackit.journal.postgres", "stackit.service.fleet")
    assert [each for each in imported if each.startswith(theirs)] == []
