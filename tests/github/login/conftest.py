"""The login with GitHub, in simulated time, and the pretend GitHub that people come from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest_twisted
import treq
from memory_journal import MemoryJournal
from shared_journals import PretendNode
from twisted.internet.defer import Deferred

from stackit import AdminRequest, Response
from stackit.api.peers import Affinity, NoAffinity
from stackit.api.person import Person
from stackit.config.apps import AppConfig
from stackit.config.login import LoginConfig
from stackit.config.model import AdminConfig, Config
from stackit.github.api import ApiClients
from stackit.github.apps import Apps
from stackit.github.login.part import LoginPart
from stackit.secrets.redactor import Redactor
from stackit.testing.github import PretendGitHub
from stackit.testing.github_api.owners import Owner
from stackit.testing.timelapse import Timelapse

Result = TypeVar("Result")
BASE = "http://127.0.0.1:8081"


class Door:
    """The people who are in, by the ids of their sessions, and those who were refused."""

    def __init__(self) -> None:
        self.inside: dict[str, Person] = {}
        self.refused: list[tuple[str, str]] = []
        self.went_on: list[str] = []

    @property
    def sessions(self) -> Door:
        return self

    def people(self) -> list[Person]:
        return list(self.inside.values())

    def update(self, person: Person) -> None:
        if person.id in self.inside:
            self.inside[person.id] = person

    def end_user(self, person_id: str) -> int:
        return 1 if self.inside.pop(person_id, None) is not None else 0

    def admit(self, _: AdminRequest, person: Person, following: str) -> Response:
        self.inside[person.id] = person
        self.went_on.append(following)
        return Response(status=303, headers={"Location": following})

    def issue(self, _: AdminRequest, person: Person) -> tuple[str, float]:
        self.inside[person.id] = person
        return "stks_a-token", 1_800_000_000.0

    def leave(self, _: AdminRequest, following: str) -> Response:
        return Response(status=303, headers={"Location": following})

    def refuse(self, _: AdminRequest, name: str, reason: str) -> None:
        self.refused.append((name, reason))


class Browser:
    """A browser: it has a cookie, and follows GitHub."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self.cookie = ""
        self.state: dict[str, str] = {}

    async def leave(self, following: str = "/repositories") -> str:
        """Leave for GitHub, and return the address there."""
        answer = await self._login.ask("GET", "/login/github", {"next": following}, cookie=self.cookie)
        assert answer.status == 303, answer
        self.cookie = answer.headers["Set-Cookie"].partition(";")[0]
        return str(answer.headers["Location"])

    async def granted(self, address: str) -> dict[str, str]:
        """Say yes at GitHub, and return what it sends the browser back with."""
        sent: Any = await treq.get(address, allow_redirects=False, persistent=False)
        assert sent.code == 302, await sent.text()
        place = sent.headers.getRawHeaders("location")[0]
        assert place.startswith(f"{BASE}/login/github/callback?"), place
        return dict(parse_qsl(urlsplit(place).query))

    async def come_back(self, query: dict[str, str]) -> Response:
        return await self._login.ask("GET", "/login/github/callback", query, cookie=self.cookie)

    async def log_in(self, following: str = "/repositories") -> Response:
        return await self.come_back(await self.granted(await self.leave(following)))


class Journal(MemoryJournal):
    """The journal of a process that has started: nobody may wait for it in the reactor's thread."""

    def documents_now(self, collection: str) -> dict[str, bytes]:
        raise AssertionError(f"{collection} is read in the reactor's thread")


class Login:
    """The part, asked as the admin side asks it."""

    def __init__(self, time: Timelapse, github: PretendGitHub, directory: Path) -> None:
        self.time = time
        self.github = github
        self.notices: list[str] = []
        self.door = Door()
        self.node = PretendNode("a", leads=True)
        self.journal: MemoryJournal = Journal(time)
        self.app = github.apps.create(
            permissions={"contents": "read", "metadata": "read", "members": "read"}, events=["push", "organization"]
        )
        self.app.callback_urls = [f"{BASE}/login/github/callback"]
        self.octo = github.owners.get("octo")
        self.octocat = self.person("octocat")
        github.logins.browser = self.octocat
        key, secret = directory / "app.pem", directory / "client-secret"
        key.write_text(self.app.private_key)
        secret.write_text(self.app.client_secret)
        self.config = Config(
            state_dir=directory,
            admin=AdminConfig(url=BASE),
            apps=(
                AppConfig(
                    name="main",
                    issuer=str(self.app.id),
                    private_key_file=key,
                    api_url=github.api_url,
                    web_url=github.web_url,
                ),
            ),
            login=LoginConfig(
                app="main",
                client_id=self.app.client_id,
                client_secret_file=secret,
                viewers=("octo",),
                operators=("octo/ops",),
            ),
        )
        self.clients = ApiClients(time, time.now, notice=self.notices.append)
        self.apps = Apps(
            self.config.apps,
            reactor=time,
            now=time.now,
            clients=self.clients,
            redact=Redactor(),
            notice=self.notices.append,
        )
        self.affinity: Affinity = NoAffinity()
        self.part = self.made()

    def made(self) -> LoginPart:
        """Make one more part, with the journal and the node of now."""
        return LoginPart(
            lambda: self.config,
            reactor=self.time,
            now=self.time.now,
            apps=self.apps,
            clients=self.clients,
            journal=self.journal,
            entrance=self.door,
            notice=self.notices.append,
            nodes=self.node,
            affinity=self.affinity,
        )

    async def restart(self) -> None:
        """Have the part anew, as after a restart of stackit."""
        await self.part.stop()
        self.part = self.made()

    def person(self, login: str) -> Owner:
        return self.github.owners.get(login, "User")

    def let_in(self, **settings: Any) -> None:
        """Have other settings of ``[login]``."""
        self.config = msgspec.structs.replace(self.config, login=msgspec.structs.replace(self.config.login, **settings))

    async def ask(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        *,
        cookie: str = "",
        body: bytes = b"",
        **more: Any,
    ) -> Response:
        (route,) = [each for each in self.part.routes() if each.method == method and each.path == path]
        about = {"query": query or {}, "body": body, "cookie": cookie, "client": "192.0.2.7", **more}
        request = AdminRequest(method=method, path=path, args={}, **about)
        answer: Any = route.handler(request)
        if not isinstance(answer, Response):
            answer = await self.done(answer)
        assert isinstance(answer, Response)
        return answer

    async def done(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Return what a coroutine returns, while time passes. Raises what it raises."""
        running = Deferred.fromCoroutine(work)
        await self.until(lambda: running.called, 60)
        return await running

    async def until(self, holds: Callable[[], bool], seconds: float) -> None:
        """Let time pass until something holds. Raises AssertionError if it does not within so many seconds."""
        end = self.time.seconds() + seconds
        while not holds():
            assert self.time.seconds() < end, (self.notices, list(self.github.api.calls)[-6:])
            await self.time.pass_time(1.0)


@pytest_twisted.async_yield_fixture
async def login(tmp_path: Path) -> AsyncIterator[Login]:
    from twisted.internet import reactor  # noqa: PLC0415

    time = Timelapse(reactor)
    github = PretendGitHub(time.now)
    await github.start(reactor, tmp_path / "github")
    made = Login(time, github, tmp_path)
    await made.app.install("octo")
    try:
        yield made
    finally:
        await made.part.stop()
        await made.apps.stop()
        await made.clients.close()
        await github.stop()
