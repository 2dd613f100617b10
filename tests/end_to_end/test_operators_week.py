"""The first week of an operator, from the check of a configuration to a restored backup.

``make dist`` runs it with stackit as it comes out of a wheel, in an environment of its own (tests/install.sh);
``make test`` with the stackit of the checkout.
"""

from __future__ import annotations

import itertools
import json
import os
import shlex
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_twisted
from outside import Notebook, check_log, shell
from rawhttp import Answer, Client, request
from supervisor import Supervisor, on_loopback, on_path
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, connectProtocol

from stackit.api.reactor import sleep
from stackit.subprocesses import Finished
from stackit.testing import PretendGitHub, delivery, payload_for

INSTALLED = os.environ.get("STACKIT_PROGRAMS")
"""The directory of the installed programs; without it those of the checkout."""

UPGRADE = os.environ.get("STACKIT_UPGRADE")
"""A command line that installs stackit again."""

OLD, NEW = "the-secret-of-last-year", "the-secret-of-this-year"
WIDGET = "octo/widget"
MAIN = "refs/heads/main"

MOODY = """
import os
from stackit import on

@on("deployment")
def moody(event):
    if not os.path.exists(os.environ["WELL"]):
        raise OSError("not well today")
"""


def programs() -> tuple[list[str], list[str]]:
    """The command lines of ``stackit`` and ``twistd``."""
    if INSTALLED is not None:
        return [f"{INSTALLED}/stackit"], [f"{INSTALLED}/twistd"]
    script = "import sys; from twisted.scripts.twistd import run; sys.exit(run())"
    return [sys.executable, "-P", "-m", "stackit"], [sys.executable, "-P", "-c", script]


STACKIT, TWISTD = programs()


class Operator:
    """What an operator has: files, a shell, a supervisor, and a look at GitHub's settings."""

    def __init__(self, reactor: Any, home: Path) -> None:
        self.home = home
        self.state = home / "state"
        self.config = home / "twistd.conf"
        self.notebook = Notebook(home / "notebook")
        self.well = home / "well"
        self._reactor = reactor
        self._public = on_loopback()
        self._port: int = self._public.getsockname()[1]
        for name, secret in (("old", OLD), ("new", "")):
            (home / name).write_text(secret)
        (home / "moody.py").write_text(MOODY)
        (home / "backups").mkdir()
        measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
        self.supervisor = Supervisor(
            reactor,
            home,
            [*TWISTD, "--nodaemon", "--pidfile=", "stackit", "--config", str(self.config)],
            {
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "HOME": str(home),
                "LANG": "C.UTF-8",
                "WELL": str(self.well),
                **self.notebook.environment,
                **measured,
            },
            {"public": self._public, "admin": on_path(home / "admin.sock")},
        )

    @property
    def webhook_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/api/v1/webhooks/github"

    def configure(self, *, secrets: list[str], repos: dict[str, str], more: str = "") -> None:
        """Write the configuration; ``repos`` are URLs by name."""
        lines = [
            f'state_dir = "{self.state}"',
            more,
            "[admin]",
            f'listen = "unix:{self.home}/admin.sock"',
            "[webhook]",
            f"secret_files = {[str(self.home / each) for each in secrets]}",
            "[plugins.notebook]",
            f'file = "{self.notebook.table["file"]}"',
            "[plugins.moody]",
            'file = "moody.py"',
        ]
        lines += [f'[[repos]]\nname = "{name}"\nurl = "{url}"' for name, url in repos.items()]
        self.config.write_text("\n".join(lines))

    async def run(self, *arguments: object) -> Finished:
        """``stackit …``, with the configuration."""
        return await shell(*STACKIT, *map(str, arguments), "--config", str(self.config))

    async def ask(self, *arguments: object) -> Any:
        """The answer to ``stackit …``, which must work."""
        done = await self.run(*arguments, "--json")
        assert done.status == 0, done.stderr
        return json.loads(done.stdout)

    async def metric(self, name: str) -> float | None:
        """One value of ``/metrics``, None where there is none; asked by the socket of the admin side."""
        endpoint = UNIXClientEndpoint(self._reactor, str(self.home / "admin.sock"))
        client = await connectProtocol(endpoint, Client())
        client.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer: Answer = await client.answer()
        assert answer.status == 200
        found = [line.rpartition(" ")[2] for line in answer.body.decode().splitlines() if line.startswith(f"{name} ")]
        return float(found[0]) if found else None

    async def verified_by(self, secret: str) -> float | None:
        return await self.metric(f'stackit_deliveries_verified_total{{secret="{self.home / secret}"}}')

    async def send(self, guid: str, *, event: str = "issues", secret: str) -> int | str:
        """Send a delivery as GitHub does, on a connection of its own; returns the status, or what went wrong."""
        signed = delivery(event, {**payload_for(event), "mark": guid}, secret=secret, guid=guid)
        endpoint = HostnameEndpoint(self._reactor, "127.0.0.1", self._port)
        client = await connectProtocol(endpoint, Client())
        client.send(request("/api/v1/webhooks/github", headers=signed.headers, body=signed.body))
        found = await client.until(client._parse)
        client.transport.loseConnection()
        return int(found[0].status) if found is not None else f"no answer, but {client.received!r}"

    async def until(self, found: Any, what: str) -> None:
        """Wait until a coroutine function returns something true."""
        deadline = self._reactor.seconds() + 60
        while not await found():
            assert self._reactor.seconds() < deadline, f"waited in vain for {what}:\n{self.supervisor.log[-4000:]}"
            await sleep(self._reactor, 0.1)

    async def in_step(self, repo: str) -> bool:
        """Whether a mirror is managed, and equals its remote."""
        found = (await self.ask("repos"))["repos"]
        return [each["state"] for each in found if each["name"] == repo] == ["in_step"]

    async def state_of(self, guid: str) -> str | None:
        found = (await self.ask("deliveries", "--delivery", guid))["deliveries"]
        return str(found[0]["state"]) if found else None

    async def refs(self, repo: str) -> dict[str, str]:
        """The refs of a mirror."""
        listed = await shell(
            "git", f"--git-dir={self.state}/mirrors/{repo}.git", "for-each-ref", "--format=%(objectname) %(refname)"
        )
        assert listed.status == 0, listed.stderr
        return {ref: oid for oid, _, ref in (line.partition(" ") for line in listed.stdout.decode().splitlines())}

    def announced(self, repo: str) -> list[list[str]]:
        """The changes of a mirror that plugins were told of, in order."""
        notes = self.notebook.read("refs")
        return [change for note in notes if note["repo"] == repo for change in note["changes"]]


@pytest_twisted.async_yield_fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    made = Operator(reactor, tmp_path)
    yield made
    await made.supervisor.kill()
    made.supervisor.close()


@pytest_twisted.ensureDeferred
async def test_the_first_week_of_an_operator(operator: Operator, pretend_github: PretendGitHub) -> None:
    widget = await pretend_github.create(WIDGET)
    await pretend_github.commit(WIDGET)
    await monday_it_is_checked_and_started(operator)
    await tuesday_a_repository_is_added(operator, pretend_github, {WIDGET: widget})
    await wednesday_the_secret_is_changed(operator, {WIDGET: widget})
    pretend_github.webhook(operator.webhook_url, NEW)
    await thursday_it_is_upgraded(operator)
    await friday_the_disk_is_lost(operator, pretend_github)
    assert await operator.supervisor.stop() == 0
    check_log(operator.supervisor.log)


async def monday_it_is_checked_and_started(operator: Operator) -> None:
    operator.configure(secrets=["old", "new"], repos={}, more="grace = 10")
    wrong = await operator.run("check-config")
    assert wrong.status == 2
    assert wrong.stderr.decode().startswith(f"stackit: {operator.config}: grace: expected a duration")
    operator.configure(secrets=["old", "new"], repos={})
    right = await operator.run("check-config")
    assert right.status == 0, right.stderr
    assert not exists(operator.state)
    await operator.supervisor.start()
    assert (await operator.ask("status"))["ready"] is True
    assert await operator.send("first", secret=OLD) == 202
    assert await operator.send("forged", secret="a guess") == 401


async def tuesday_a_repository_is_added(operator: Operator, github: PretendGitHub, repos: dict[str, str]) -> None:
    operator.configure(secrets=["old", "new"], repos=repos, more="grace = 10")
    assert "nothing changed" in await operator.supervisor.reload()
    assert not await operator.in_step(WIDGET)
    operator.configure(secrets=["old", "new"], repos=repos)
    await operator.supervisor.reload()
    await operator.until(lambda: operator.in_step(WIDGET), "the mirror to be in step")
    assert await operator.refs(WIDGET) == await github.refs(WIDGET)


async def wednesday_the_secret_is_changed(operator: Operator, repos: dict[str, str]) -> None:
    write(operator.home / "new", NEW)  # the file was in the list from the beginning: no reload is needed
    await operator.until(lambda: taken(operator, "new", NEW), "the new secret to be taken")
    before = await operator.verified_by("old"), await operator.verified_by("new")
    assert await operator.send("still-the-old-one", secret=OLD) == 202
    for number in range(3):  # and now it was changed at GitHub
        assert await operator.send(f"changed-{number}", secret=NEW) == 202
    # The old one counts no more: it is out of use.
    assert (before[0], before[1]) != (None, None)
    assert await operator.verified_by("old") == (before[0] or 0) + 1
    assert await operator.verified_by("new") == (before[1] or 0) + 3
    operator.configure(secrets=["new"], repos=repos)
    await operator.supervisor.reload()
    assert await operator.send("with-the-old-one", secret=OLD) == 401
    assert await operator.send("with-the-new-one", secret=NEW) == 202


async def taken(operator: Operator, name: str, secret: str) -> bool:
    return await operator.send(f"try-{name}", secret=secret) == 202


async def thursday_it_is_upgraded(operator: Operator) -> None:
    answers: dict[str, int | str] = {}
    ended: list[bool] = []

    async def github(name: str) -> None:
        for number in itertools.count():
            if ended:
                return
            guid = f"{name}-{number}"
            answers[guid] = await operator.send(guid, secret=NEW)

    sending = [Deferred.fromCoroutine(github(name)) for name in ("one", "two")]
    if UPGRADE is not None:
        installed = await shell(*shlex.split(UPGRADE))
        assert installed.status == 0, installed.stderr
    for _ in range(3):
        assert await operator.supervisor.stop() == 0
        await operator.supervisor.start()
        more = len(answers) + 5
        await operator.until(lambda more=more: enough(answers, more), "deliveries to be taken")
    ended.append(True)
    await DeferredList(sending, fireOnOneErrback=True)
    assert {guid: status for guid, status in answers.items() if status != 202} == {}
    await operator.until(lambda: nothing_pending(operator), "every delivery to be handled")
    seen = operator.notebook.seen()
    assert {guid: seen[guid] for guid in answers} == dict.fromkeys(answers, 1)


async def enough(answers: dict[str, int | str], count: int) -> bool:
    return len(answers) >= count


async def nothing_pending(operator: Operator) -> bool:
    return not (await operator.ask("deliveries", "--state", "pending"))["deliveries"]


async def only_one_pending(operator: Operator) -> bool:
    pending: int = (await operator.ask("status"))["pending"]
    return pending == 1


async def friday_the_disk_is_lost(operator: Operator, github: PretendGitHub) -> None:
    pushed = await github.push(WIDGET)
    await operator.until(lambda: done(operator, pushed.guid), "the push to be handled")
    assert await operator.send("ailing", event="deployment", secret=NEW) == 202
    await operator.until(lambda: only_one_pending(operator), "all but the ailing handler to be through")
    backup = operator.home / "backups" / "friday.sqlite3"
    made = await operator.ask("backup", backup)
    assert made["pending"] == 1
    later = await github.push(WIDGET)
    await operator.until(lambda: done(operator, later.guid), "the push to be handled")

    await operator.supervisor.kill()
    remove(operator.state)
    told = await operator.ask("restore", backup)
    assert (told["deliveries"], told["pending"]) == (made["deliveries"], 1)
    write(operator.well, "")
    await operator.supervisor.start()

    await operator.until(lambda: operator.in_step(WIDGET), "the mirror to be in step")
    assert await operator.refs(WIDGET) == await github.refs(WIDGET)
    await operator.until(lambda: done(operator, "ailing"), "what was pending to be handled")
    assert await operator.state_of("first") == "done"
    assert await operator.state_of(pushed.guid) == "done"
    assert await operator.state_of(later.guid) is None
    assert pushed.moved is not None
    assert later.moved is not None
    change = [MAIN, pushed.moved.after, later.moved.after]
    await operator.until(lambda: announced_last(operator, change, 2), "the lost change to be announced again")
    assert (await github.redeliver(pushed.guid)).status == 202
    assert operator.notebook.seen()[pushed.guid] == 1
    assert (await github.redeliver(later.guid)).status == 202
    await operator.until(lambda: done(operator, later.guid), "the redelivery to be handled")
    newest = await github.push(WIDGET)
    await operator.until(lambda: done(operator, newest.guid), "a new push to be handled")
    assert await operator.refs(WIDGET) == await github.refs(WIDGET)


async def done(operator: Operator, guid: str) -> bool:
    return await operator.state_of(guid) == "done"


async def announced_last(operator: Operator, change: list[str], times: int) -> bool:
    return operator.announced(WIDGET).count(change) == times


def exists(path: Path) -> bool:
    return path.exists()


def write(file: Path, text: str) -> None:
    file.write_text(text)


def remove(directory: Path) -> None:
    shutil.rmtree(directory)
