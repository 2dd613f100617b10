"""Recovery beside a GitHub whose answers are broken: nothing is taken for an empty list, and nothing is skipped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from delivery_list import Recorded
from twisted.internet import reactor

from stackit.github.api import ApiClients, ApiError, AppKey, JwtCredential
from stackit.github.recovery.api_source import ApiSource
from stackit.github.recovery.hook import HookRecovery
from stackit.github.recovery.taking import Taker
from stackit.testing.github import PretendGitHub

LIST, ONE = "/app/hook/deliveries", "/app/hook/deliveries/{delivery_id}"
WHOLE = ["html", "html_503", "blank", "shape", "items", "cut", "reset", 500, 502, 403, 404]


class Broken:
    """Recovery for the App of a pretend GitHub."""

    def __init__(self, github: PretendGitHub, directory: Path) -> None:
        self.github = github
        app = github.apps.create()
        self.app = app
        self.hook = github.hooks.of_app(app)
        self.hook.config.url = "http://127.0.0.1:9/api/v1/webhooks/github"
        key = directory / "app.pem"
        key.write_text(app.private_key)
        key.chmod(0o600)
        self.clients = ApiClients(reactor, github.clock.now, notice=lambda _: None)
        credential = JwtCredential("main", str(app.id), AppKey(reactor, key), self.clients.clock(github.api_url))
        client = self.clients.client(github.api_url, credential)
        self.source = ApiSource("app:main", client, signer="app:main", route=LIST)
        self.journal = Recorded()
        self.notices: list[str] = []
        self.recovery = self.make()

    def make(self) -> HookRecovery:
        taker = Taker(
            take=self.journal.take,
            observe=lambda _: None,
            now=self.github.clock.now,
            speaks_for=lambda _signer, _event: True,
            verify=lambda _body, _digest: None,
            max_body=lambda: 25 * 2**20,
        )
        return HookRecovery(
            self.source,
            self.journal.kept.get("app:main"),
            reactor=reactor,
            journal=self.journal,
            taker=taker,
            wanted=lambda name, _action: name == "push",
            pause=0,
            notice=self.notices.append,
        )

    async def walk(self) -> None:
        await self.recovery.take(await self.recovery.find())

    async def missed(self, count: int) -> list[str]:
        """Have so many pushes missed; return their ids."""
        self.hook.spoil("lost", count)
        moved = await self.github.commit("octo/widget")
        return [(await self.github.announce(moved)).guid for _ in range(count)]

    def taken(self) -> list[str]:
        return [guid for _, guid in self.journal.taken]


@pytest_twisted.async_yield_fixture
async def broken(pretend_github: PretendGitHub, tmp_path: Path) -> AsyncIterator[Broken]:
    await pretend_github.create("octo/widget")
    made = Broken(pretend_github, tmp_path)
    await made.app.install("octo")
    await made.missed(1)
    await made.walk()
    yield made
    await made.clients.close()


@pytest.mark.parametrize("page", [None, 2])
@pytest.mark.parametrize("kind", WHOLE)
@pytest_twisted.ensureDeferred
async def test_a_list_that_is_broken_on_any_page_moves_no_mark(broken: Broken, kind: Any, page: int | None) -> None:
    wanted = await broken.missed(120 if page else 2)
    before = broken.recovery.state
    if page is None:
        broken.github.api.faults.begin(LIST, kind)
    else:  # the pages of deliveries have cursors, and no numbers
        broken.github.api.faults.begin(LIST, kind, times=1000)
        first = broken.github.api.faults.next
        calls: list[Any] = []

        def after_the_first(request: Any) -> Any:
            calls.append(request)
            return None if len(calls) == 1 else first(request)

        broken.github.api.faults.next = after_the_first  # type: ignore[method-assign]
    with pytest.raises(ApiError):
        await broken.walk()
    assert (broken.taken(), broken.recovery.state) == ([], before)
    broken.github.api.faults.heal()
    await broken.walk()
    assert broken.taken() == wanted


@pytest_twisted.ensureDeferred
async def test_a_list_that_is_empty_by_mistake_moves_no_mark(broken: Broken) -> None:
    wanted = await broken.missed(2)
    broken.github.api.faults.begin(LIST, "empty", times=1)
    found = await broken.recovery.find()
    assert found.walk.is_cut
    before = broken.recovery.state
    await broken.recovery.take(found)
    assert broken.recovery.state == before
    await broken.walk()
    assert broken.taken() == wanted


@pytest.mark.parametrize("kind", WHOLE)
@pytest_twisted.ensureDeferred
async def test_a_payload_that_is_broken_is_taken_once_it_is_whole(broken: Broken, kind: Any) -> None:
    wanted = await broken.missed(3)
    broken.github.api.faults.begin(ONE, kind, times=1)
    for _ in range(3):
        try:
            await broken.walk()
        except ApiError:
            broken.recovery = broken.make()  # as after a restart
    assert sorted(broken.taken()) == sorted(wanted)
    assert broken.notices == []
