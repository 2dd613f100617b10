"""A 202 survives kill -9 at any instant, and so does every ref change."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random
from typing import Any

import pytest_twisted
from outside import Notebook, all_handled, check_log, mirror_refs
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectError
from twisted.internet.task import deferLater
from twisted.web.client import RequestTransmissionFailed, ResponseFailed

from stackit.testing import PretendGitHub, RunningStackit

KILLS = int(os.environ.get("STACKIT_TEST_KILLS", "10"))
SECOND = """
from pathlib import Path
from stackit import on
from twisted.internet import reactor
from twisted.internet.task import deferLater

@on("*")
async def second(event):
    await deferLater(reactor, 0.01)
    with Path("second").open("a") as seen:
        seen.write(f"{event.delivery}\\n")
"""
REPOS = ("octo/widget", "octo/other")


class Load:
    """Pushes and issues, sent as fast as they are answered, until it is told to stop."""

    def __init__(self, server: RunningStackit, github: PretendGitHub, random: Random) -> None:
        self.accepted: set[str] = set()
        self._server = server
        self._github = github
        self._random = random
        self._running = False

    def start(self) -> Deferred[Any]:
        self._running = True
        senders = [self._push(repo) for repo in REPOS] + [self._issues() for _ in range(3)]
        return gatherResults([Deferred.fromCoroutine(each) for each in senders], consumeErrors=True)

    def stop(self) -> None:
        self._running = False

    async def _push(self, repo: str) -> None:
        while self._running:
            sent = await self._github.push(repo, f"refs/heads/{self._random.choice('abc')}")
            if sent.status == 202:
                self.accepted.add(sent.guid)
            await self._change_silently(repo)

    async def _change_silently(self, repo: str) -> None:
        """Make, replace or delete a branch that nobody is told of, for the backstop to find."""
        ref = f"refs/heads/silent-{self._random.choice('abc')}"
        if ref not in await self._github.refs(repo):
            await self._github.commit(repo, ref)
        elif self._random.random() < 0.5:
            await self._github.force(repo, ref)
        else:
            await self._github.delete_ref(repo, ref)

    async def _issues(self) -> None:
        while self._running:
            guid = f"issue-{self._random.getrandbits(64):x}"
            try:
                answer = await self._server.deliver("issues", guid=guid)
            except (ConnectError, RequestTransmissionFailed, ResponseFailed):
                return
            if answer.status == 202:
                self.accepted.add(guid)


@pytest_twisted.ensureDeferred
async def test_after_kill_nine_at_random_instants_nothing_is_lost(
    running_stackit: Any, pretend_github: PretendGitHub, tmp_path: Path
) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    random = Random(os.urandom(8).hex())
    repos = []
    for name in REPOS:
        repos.append({"name": name, "url": await pretend_github.create(name)})
        await pretend_github.commit(name)
    (tmp_path / "second.py").write_text(SECOND)
    notebook = Notebook(tmp_path / "notebook")
    server: RunningStackit = await running_stackit(
        config={
            "repos": repos,
            # The backstop belongs to it: pushes that were never answered are not sent again.
            "sync": {"interval": "2s"},
            "plugins": {"notebook": notebook.table, "second": {"module": "second"}},
        },
        plugins=tmp_path,
        environment=notebook.environment,
    )
    pretend_github.webhook(server.webhook_url, server.secret or "")
    load = Load(server, pretend_github, random)
    for _ in range(KILLS):
        sending = load.start()
        await deferLater(reactor, random.uniform(0.02, 0.6))
        await server.kill()
        load.stop()
        await sending
        await server.start()
    await all_handled(server)

    assert load.accepted
    lost = load.accepted - set(notebook.seen())
    assert not lost
    second = (server.state_dir.parent / "home" / "second").read_text().split()
    assert not load.accepted - set(second)
    for name in REPOS:

        async def in_step(name: str = name) -> bool:
            return await mirror_refs(server, name) == await pretend_github.refs(name)

        await server.until(in_step, f"the mirror of {name} to equal its remote")
    await all_handled(server)
    assert await server.stop() == 0
    for name in REPOS:
        assert notebook.replayed_refs(name) == await mirror_refs(server, name)
    check_log(server.log)
