"""The window in which a browser may set up an App, in simulated time, and the exchange of its code."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
import pytest_twisted
import treq
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from stackit import AdminRequest, Response, StackitError
from stackit.api.nodes import Node
from stackit.config.admin_url import admin_base
from stackit.config.model import AdminConfig, Config
from stackit.github.api import ApiClients
from stackit.github.setup.any_node import AnyNode
from stackit.github.setup.conversion import AppFiles, AppOwner, NewApp
from stackit.github.setup.part import SetupPart
from stackit.github.setup.window import OPEN_FOR, SetupWindow
from stackit.secrets.redactor import Redactor
from stackit.testing.github import PretendGitHub

NEW = NewApp(
    id=7,
    slug="main",
    html_url="https://github.com/apps/main",
    owner=AppOwner("octo"),
    pem="-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    client_secret="0123456789abcdef0123456789abcdef01234567",
    webhook_secret="the-webhook-secret-of-the-app",
)


def test_a_window_is_open_for_a_quarter_of_an_hour_and_for_one_use() -> None:
    clock = Clock()
    window = SetupWindow(clock)
    entered = window.enter(window.ticket, "")
    assert entered is not None
    cookie, state = entered
    clock.advance(OPEN_FOR - 1)
    assert window.enter(window.ticket, cookie) == entered, "the same browser may load the page again"
    clock.advance(1)
    assert not window.is_open
    assert window.enter(window.ticket, cookie) is None
    assert not window.use(state, cookie)


def test_what_was_given_out_is_of_use_once_and_only_together() -> None:
    window = SetupWindow(Clock())
    assert not window.use("", ""), "nobody has entered"
    entered = window.enter(window.ticket, "")
    assert entered is not None
    cookie, state = entered
    assert len({cookie, state, window.ticket}) == 3
    assert window.enter(window.ticket, "") is None, "another browser"
    for wrong in (("", cookie), (state, ""), (cookie, state), (window.ticket, cookie), (state, f"{cookie}x")):
        assert not window.use(*wrong)
    assert window.use(state, cookie)
    assert not window.use(state, cookie)
    assert window.enter(window.ticket, cookie) is None
    window.reopen()
    assert window.use(state, cookie)


def test_the_secrets_of_an_app_are_in_files_that_nobody_else_may_read_or_in_none(tmp_path: Path) -> None:
    files = AppFiles(tmp_path, "main")
    files.check()
    assert list((tmp_path / "apps").iterdir()) == []
    files.write(NEW)
    assert files.private_key.read_text() == NEW.pem
    assert files.webhook_secret.read_text() == f"{NEW.webhook_secret}\n"
    assert files.client_secret.read_text() == f"{NEW.client_secret}\n"
    assert {stat.S_IMODE(each.stat().st_mode) for each in files.directory.iterdir()} == {0o600}
    assert {stat.S_IMODE(each.stat().st_mode) for each in (files.directory, files.directory.parent)} == {0o700}
    with pytest.raises(StackitError, match="has the files of an App of that name"):
        files.check()
    with pytest.raises(StackitError, match=r"apps/main: "):
        files.write(NEW)
    assert sorted(each.name for each in (tmp_path / "apps").iterdir()) == ["main"], "nothing is left half written"
    assert NEW.pem not in repr(NEW)
    assert NEW.client_secret not in repr(NEW)


@pytest.mark.parametrize(
    ("admin", "base"),
    [
        (AdminConfig(), "http://127.0.0.1:8081"),
        (AdminConfig(listen="tcp:9000:interface=\\:\\:1"), "http://[::1]:9000"),
        (AdminConfig(url="https://admin.example.org/", hosts=("admin.example.org",)), "https://admin.example.org"),
        (AdminConfig(url="http://localhost:9999"), "http://localhost:9999"),
    ],
)
def test_a_browser_comes_back_to_where_the_configuration_says(tmp_path: Path, admin: AdminConfig, base: str) -> None:
    assert admin_base(Config(state_dir=tmp_path, admin=admin)) == base


@pytest.mark.parametrize(
    ("admin", "problem"),
    [
        (AdminConfig(listen="unix:/run/stackit/admin.sock"), "set admin.url"),
        (AdminConfig(listen="tcp:0"), "set admin.url"),
        (AdminConfig(listen="systemd:domain=INET:index=0"), "set admin.url"),
        (AdminConfig(url="https://admin.example.org"), "add it to admin.hosts"),
    ],
)
def test_where_it_cannot_come_back_that_is_told(tmp_path: Path, admin: AdminConfig, problem: str) -> None:
    with pytest.raises(StackitError, match=problem):
        admin_base(Config(state_dir=tmp_path, admin=admin))


class Browsing:
    """The part, asked as the admin side asks it, and a browser with its cookie."""

    def __init__(self, github: PretendGitHub, reactor: Any, directory: Path) -> None:
        self.github = github
        self.directory = directory
        self.notices: list[str] = []
        self.clients = ApiClients(reactor, github.clock.now, notice=print)
        self.redact = Redactor()
        config = Config(state_dir=directory, public_url="https://stackit.example.org")
        self.part = SetupPart(
            reactor=reactor,
            now=github.clock.now,
            clients=self.clients,
            config=lambda: config,
            redact=self.redact,
            notice=self.notices.append,
        )
        self.cookie = ""

    async def ask(self, method: str, path: str, query: dict[str, str]) -> Response:
        (route,) = [each for each in self.part.routes() if (each.method, each.path) == (method, path)]
        request = AdminRequest(method=method, path=path, args={}, query=query, body=b"", cookie=self.cookie)
        answer: Any = route.handler(request)
        if not isinstance(answer, Response):
            answer = await Deferred.fromCoroutine(answer)
        assert isinstance(answer, Response)
        self.cookie = answer.headers.get("Set-Cookie", self.cookie).partition(";")[0]
        return msgspec.structs.replace(answer, body=msgspec.to_builtins(answer.body, builtin_types=(bytes,)))

    async def code(self) -> dict[str, str]:
        """Go to GitHub and back, and return what it sends."""
        opened = await self.ask("POST", "{prefix}/setup/app", {"api_url": self.github.api_url})
        ticket = parse_qs(urlsplit(opened.body["url"]).query)["ticket"][0]
        page = (await self.ask("GET", "/setup/app", {"ticket": ticket})).body.decode()
        state = page.partition("?state=")[2].partition('"')[0]
        sent: Any = await treq.post(
            f"{self.github.web_url}/settings/apps/new?state={state}",
            data={"manifest": '{"url": "https://x.example.org", "redirect_url": "http://127.0.0.1/", "name": "x"}'},
            allow_redirects=False,
            persistent=False,
        )
        found = parse_qs(urlsplit(sent.headers.getRawHeaders("location")[0]).query)
        return {name: values[0] for name, values in found.items()}

    async def come_back(self, query: dict[str, str]) -> Response:
        return await self.ask("GET", "/setup/app/callback", query)


@pytest_twisted.async_yield_fixture
async def browsing(pretend_github: PretendGitHub, tmp_path: Path) -> AsyncIterator[Browsing]:
    from twisted.internet import reactor  # noqa: PLC0415

    made = Browsing(pretend_github, reactor, tmp_path)
    yield made
    await made.part.stop()
    await made.clients.close()


@pytest_twisted.ensureDeferred
async def test_while_github_cannot_be_asked_the_browser_may_load_the_page_again(browsing: Browsing) -> None:
    query = await browsing.code()
    browsing.github.api.faults.begin("/app-manifests/{code}/conversions", 503, times=1)
    answer = await browsing.come_back(query)
    assert answer.status == 502
    assert b"load this page again" in answer.body
    assert query["code"].encode() not in answer.body
    shown = await browsing.ask("GET", "{prefix}/setup/app", {})
    assert shown.body == {"state": "open"}
    assert (await browsing.come_back(query)).status == 200
    assert (await browsing.come_back(query)).status == 403
    (app,) = browsing.github.apps
    assert browsing.redact(f"it said {app.client_secret} and {app.webhook_secret}") == "it said *** and ***"


@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_no_app_is_one_line(browsing: Browsing) -> None:
    query = await browsing.code()
    browsing.github.api.faults.begin("/app-manifests/{code}/conversions", "html", times=1)
    answer = await browsing.come_back(query)
    assert answer.status == 502
    (notice,) = browsing.notices
    assert notice.startswith("no GitHub App was set up: GitHub does not tell of the App: ")
    assert "\n" not in notice
    assert query["code"] not in notice


@pytest_twisted.ensureDeferred
async def test_a_cookie_counts_as_it_was_given_and_is_not_unescaped(browsing: Browsing) -> None:
    query = await browsing.code()
    name, _, value = (given := browsing.cookie).partition("=")
    # To undo 16 KiB of backslashes takes http.cookies a third of a second, in which stackit does nothing else.
    escaped = "".join(f"\\{ord(each):03o}" for each in value)
    browsing.cookie = f'{name}="{escaped}"'
    assert (await browsing.come_back(query)).status == 403
    browsing.cookie = f"other=1; {given}; {name}-too=2"
    assert (await browsing.come_back(query)).status == 200


@pytest_twisted.ensureDeferred
async def test_an_app_of_the_set_up_before_is_none_of_the_one_that_was_begun_meanwhile(browsing: Browsing) -> None:
    query = await browsing.code()
    coming = Deferred.fromCoroutine(browsing.come_back(query))  # GitHub is asked
    await browsing.ask("POST", "{prefix}/setup/app", {"api_url": browsing.github.api_url})
    answer = await coming
    assert answer.status == 409
    assert b"its secrets are thrown away; delete it at" in answer.body
    assert (await browsing.ask("GET", "{prefix}/setup/app", {})).body == {"state": "open"}
    assert not list(browsing.directory.glob("apps/*"))


@pytest_twisted.ensureDeferred
async def test_an_organization_that_can_be_none_is_refused_in_its_own_words(browsing: Browsing) -> None:
    answer = await browsing.ask("POST", "{prefix}/setup/app", {"organization": "no such"})
    assert (answer.status, answer.body) == (400, {"error": "not the name of an organization: 'no such'"})


class AskedOne:
    """The marks of a fleet of two, and how often the other node was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def mark(self, purpose: str, secret: str) -> str:
        return f"{secret}.{purpose}"

    def elsewhere(self, purpose: str, marked: str) -> Node | None:
        return Node(name="b") if marked == f"theirs.{purpose}" else None

    async def ask(self, *_: object) -> bytes | None:
        self.asked += 1
        return None


@pytest_twisted.ensureDeferred
async def test_another_node_is_asked_for_the_secrets_of_set_ups_alone_and_so_often_by_one_address() -> None:
    affinity, clock, here = AskedOne(), Clock(), AdminRequest(method="GET", path="/", args={}, query={}, body=b"")
    asking = AnyNode(affinity, {}, clock.seconds)
    assert await asking.answer(here, "form", "theirs.login") is None, "anybody begins a login"
    assert affinity.asked == 0
    answers = [await asking.answer(here, "form", "theirs.setup") for _ in range(100)]
    assert 0 < affinity.asked < 100
    assert answers[: affinity.asked] == [False] * affinity.asked
    assert {each.status for each in answers[affinity.asked :] if isinstance(each, Response)} == {429}
    asked = affinity.asked
    assert await asking.answer(msgspec.structs.replace(here, client="192.0.2.9"), "form", "theirs.setup") is False
    clock.advance(60)
    assert await asking.answer(here, "form", "theirs.setup") is False
    assert affinity.asked == asked + 2


@pytest_twisted.ensureDeferred
async def test_a_stop_closes_the_window(browsing: Browsing) -> None:
    query = await browsing.code()
    await browsing.part.stop()
    assert (await browsing.come_back(query)).status == 403
