"""The set-up of an App in a browser: nobody but the browser that opened the printed address comes to its end."""

from __future__ import annotations

import html
import re
import shutil
import stat
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
import pytest_twisted
import treq
from outside import check_log, files, process_file, shell
from twisted.internet.defer import Deferred
from twisted.web.http_headers import Headers

from stackit.config.load import load
from stackit.testing import PretendGitHub, RunningStackit

TOKEN = "the-token-of-the-admin-side-4f21"
NOTHING = "this address is of no use (any more); stackit app create gives another one"


class Page(msgspec.Struct):
    """What a browser was answered."""

    status: int
    text: str
    cookie: str | None
    location: str | None
    headers: dict[str, str]


class Browser:
    """A browser: without the token of the admin side, with its own cookies, following nothing by itself."""

    def __init__(self) -> None:
        self.cookie: str | None = None
        self.seen: list[str] = []

    async def get(self, url: str, method: str = "GET", **headers: str) -> Page:
        if self.cookie is not None:
            headers["Cookie"] = self.cookie
        return await self._ask(method, url, headers, None)

    async def submit(self, page: Page) -> Page:
        """Press the button of a form."""
        action = re.search(r'<form method="post" action="([^"]+)">', page.text)
        manifest = re.search(r'name="manifest" value="([^"]+)"', page.text)
        assert action is not None
        assert manifest is not None
        return await self._ask("POST", html.unescape(action[1]), {}, {"manifest": html.unescape(manifest[1])})

    async def _ask(self, method: str, url: str, headers: dict[str, str], form: Any) -> Page:
        self.seen.append(url)
        answer: Any = await treq.request(
            method,
            url,
            headers=Headers({name: [value] for name, value in headers.items()}),
            data=form,
            allow_redirects=False,
            persistent=False,
            timeout=60,
        )
        text = (await treq.content(answer)).decode()
        found = {name.decode().lower(): values[0].decode() for name, values in answer.headers.getAllRawHeaders()}
        set_cookie = found.get("set-cookie")
        if set_cookie is not None and "stackit_setup" in set_cookie:
            self.cookie = set_cookie.partition(";")[0]
        self.seen.append(text)
        return Page(answer.code, text, set_cookie, found.get("location"), found)


class SettingUp:
    """A stackit without an App, whose admin side wants a token."""

    def __init__(self, github: PretendGitHub, server: RunningStackit) -> None:
        self.github = github
        self.server = server
        self.browser = Browser()

    async def open(self, **query: Any) -> str:
        """Open a window, and return the address for the browser."""
        answer = await self.server.admin("POST", "{prefix}/setup/app", api_url=self.github.api_url, **query)
        assert answer.status == 201, answer.body
        return str(answer.json()["url"])

    async def refused(self, **query: Any) -> str:
        answer = await self.server.admin("POST", "{prefix}/setup/app", **query)
        assert answer.status == 400
        return str(answer.json()["error"])

    async def outcome(self) -> Any:
        return (await self.server.admin("GET", "{prefix}/setup/app")).json()

    async def at_github(self, url: str) -> str:
        """Open the address, have GitHub make the App, and return where it sends the browser."""
        page = await self.browser.get(url)
        assert page.status == 200, page.text
        sent = await self.browser.submit(page)
        assert sent.status == 302, sent.text
        assert sent.location is not None
        return sent.location

    @property
    def directory(self) -> Path:
        return self.server.state_dir / "apps"


CONFIG = {"public_url": "https://stackit.example.org/"}
ENVIRONMENT = {"STACKIT_API_TOKEN": TOKEN}


@pytest.fixture(scope="module")
def one_stackit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStackit]:
    """A stackit that the tests share which leave no App behind."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    server = RunningStackit(reactor, tmp_path_factory.mktemp("setup"), config=CONFIG, environment=ENVIRONMENT)
    # pytest-twisted has coroutine fixtures for one test only.
    pytest_twisted.blockon(Deferred.fromCoroutine(server.start()))
    yield server
    assert pytest_twisted.blockon(Deferred.fromCoroutine(server.stop())) == 0


@pytest_twisted.async_yield_fixture
async def setting_up(one_stackit: RunningStackit, pretend_github: PretendGitHub) -> AsyncIterator[SettingUp]:
    yield SettingUp(pretend_github, one_stackit)
    shutil.rmtree(one_stackit.state_dir / "apps", ignore_errors=True)
    await one_stackit._client.close()  # what is kept for the next request would count as left behind
    check_log(one_stackit.log)


def assert_forbidden(*pages: Page) -> None:
    for page in pages:
        assert page.status == 403
        assert NOTHING in page.text
        assert page.cookie is None
        assert page.text == pages[0].text, "all refusals are one"


@pytest_twisted.ensureDeferred
async def test_an_app_is_made_by_a_command_and_a_browser_and_its_secrets_are_nowhere_but_in_their_files(
    running_stackit: Any, pretend_github: PretendGitHub
) -> None:
    server, github = await running_stackit(config=CONFIG, environment=ENVIRONMENT), pretend_github
    setting_up = SettingUp(github, server)
    running = Deferred.fromCoroutine(
        shell(
            *(sys.executable, "-m", "stackit", "app", "create", "--organisation", "octo"),
            *("--name", "main", "--api-url", github.api_url, "--admin-url", server.admin_url),
            STACKIT_API_TOKEN=TOKEN,
        )
    )

    async def is_open() -> bool:
        return bool((await setting_up.outcome())["state"] == "open")

    await server.until(is_open, "the window to be open")
    assert not setting_up.directory.exists() or list(setting_up.directory.iterdir()) == []
    # Only the command was told the address: another window is opened here, in place of that one.
    callback = await setting_up.at_github(await setting_up.open(organization="octo", name="main"))
    (app,) = github.apps
    assert (app.name, app.owner.login, app.permissions) == (
        "main",
        "octo",
        {"contents": "read", "members": "read", "metadata": "read"},
    )
    assert app.events == ["membership", "organization", "push", "repository", "team"]
    assert app.callback_urls == [f"{server.admin_url}/login/github/callback"]
    hook = github.hooks.of_app(app)
    assert hook.config.url == "https://stackit.example.org/api/v1/webhooks/github"
    page = await setting_up.browser.get(callback)
    assert page.status == 200
    assert f'<a href="{github.web_url}/apps/main/installations/new">' in page.text
    done = await running
    assert done.status == 0, done.stderr
    said = done.stdout.decode()
    assert f"{server.admin_url}/setup/app?ticket=" in said
    assert f"{github.web_url}/apps/main/installations/new" in said

    # What is printed is a table that a configuration takes.
    table = said[said.index("[[apps]]") : said.index("\nthen install")]
    assert html.escape(table.strip()) in page.text
    (server.state_dir.parent / "twistd.conf").write_text(table)
    loaded = load({}, {}, cwd=server.state_dir.parent)
    (configured,) = loaded.apps
    assert (loaded.login.app, loaded.login.client_id, loaded.login.viewers) == ("main", app.client_id, ("octo",))
    assert (configured.name, configured.issuer, configured.api_url) == ("main", str(app.id), github.api_url)
    assert tomllib.loads(table)["apps"][0]["private_key_file"] == str(setting_up.directory / "main/private-key.pem")

    held = {path.name: path for path in (setting_up.directory / "main").iterdir()}
    assert {name: path.read_text().strip() for name, path in held.items()} == {
        "private-key.pem": app.private_key.strip(),
        "webhook-secret": app.webhook_secret,
        "client-secret": app.client_secret,
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in held.values()} == {0o600}
    assert stat.S_IMODE((setting_up.directory / "main").stat().st_mode) == 0o700
    secrets = [app.webhook_secret, app.client_secret, *app.private_key.splitlines()[1:4]]
    others = [content for path, content in files(server.state_dir).items() if path not in held.values()]
    github_view = await setting_up.server.admin("GET", "{prefix}/github")
    told = [server.log, said, *setting_up.browser.seen, github_view.body.decode(), str(await setting_up.outcome())]
    told += [process_file(server.pid, name).decode() for name in ("cmdline", "environ")]
    for secret in secrets:
        assert not any(secret in each for each in told)
        assert not any(secret.encode() in each for each in others)

    # With the table in the configuration, the App is of use at once: its installation is found by its signed event.
    await github.create("octo/widget", private=True)
    await github.commit("octo/widget")
    hook.config.url = server.webhook_url
    base = 'public_url = "https://stackit.example.org/"\n'
    assert "apps" in await server.reload(f'{base}{table}\n[[discover]]\napp = "main"\n')
    await app.install("octo")

    async def mirrored() -> bool:
        repos = (await server.admin("GET", "{prefix}/repos")).json()["repos"]
        return [(each["name"], each["state"]) for each in repos] == [("octo/widget", "in_step")]

    await server.until(mirrored, "the repository to be mirrored")

    # It is over: the same browser, the same address, the same name.
    assert_forbidden(await setting_up.browser.get(callback))
    assert (await setting_up.outcome())["state"] == "done"
    assert "take another --name" in await setting_up.refused(name="main")
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_only_the_browser_that_opened_the_address_comes_to_its_end(setting_up: SettingUp) -> None:
    url = await setting_up.open()
    nosy = Browser()
    ticket = parse_qs(urlsplit(url).query)["ticket"][0]
    assert len(ticket) >= 43, "256 bits"
    base = url.partition("?")[0]
    assert_forbidden(
        await nosy.get(base),
        await nosy.get(f"{base}?ticket="),
        await nosy.get(f"{base}?ticket={ticket[:-1]}"),
        await nosy.get(f"{base}?ticket={ticket}x"),
        await nosy.get(f"{base}/callback?code=abc&state={ticket}"),
        await nosy.get(f"{base}/callback"),
    )
    assert (await nosy.get(url, method="HEAD")).status == 403, "what only looks takes no window"
    callback = await setting_up.at_github(url)
    query = parse_qs(urlsplit(callback).query)
    state, code = query["state"][0], query["code"][0]
    assert len(state) >= 43
    assert state != ticket
    assert "state=" not in url
    # Others who saw the address, or the way back from GitHub, have no use of it.
    assert_forbidden(await nosy.get(url), await nosy.get(callback))
    nosy.cookie = "stackit_setup=AAAA"
    assert_forbidden(await nosy.get(url), await nosy.get(callback))
    # The right browser, with a state that is not its own, or without one.
    assert_forbidden(
        await setting_up.browser.get(f"{base}/callback?code={code}"),
        await setting_up.browser.get(f"{base}/callback?code={code}&state={'A' * len(state)}"),
        await setting_up.browser.get(f"{base}/callback?code=../apps&state={state}"),
    )
    assert (await setting_up.browser.get(callback)).status == 200
    assert_forbidden(await setting_up.browser.get(callback), await setting_up.browser.get(url))


@pytest_twisted.ensureDeferred
async def test_a_new_window_closes_the_one_before(setting_up: SettingUp) -> None:
    first = await setting_up.open()
    callback = await setting_up.at_github(first)
    second = await setting_up.open(name="other")
    other = Browser()
    assert_forbidden(await setting_up.browser.get(callback), await other.get(first))
    assert (await other.get(second)).status == 200


@pytest_twisted.ensureDeferred
async def test_the_form_goes_to_github_alone_and_its_cookie_is_the_browsers_own(setting_up: SettingUp) -> None:
    page = await setting_up.browser.get(await setting_up.open())
    policy = page.headers["content-security-policy"]
    assert f"form-action {setting_up.github.web_url};" in policy
    assert "default-src 'none'" in policy
    assert page.headers["referrer-policy"] == "same-origin"
    assert page.headers["cache-control"] == "no-store"
    assert page.cookie is not None
    assert "HttpOnly" in page.cookie
    assert "SameSite=Lax" in page.cookie


@pytest_twisted.ensureDeferred
async def test_the_command_needs_the_token_and_the_browser_the_right_host(setting_up: SettingUp) -> None:
    server = setting_up.server
    url = f"{server.admin_url}{server.prefix}/setup/app"
    for method in ("GET", "POST"):
        assert (await server.ask(method, url, headers={"X-Stackit-CSRF": "1"})).status == 401
    address = await setting_up.open()
    assert (await setting_up.browser.get(address, Host="evil.example.org")).status == 421
    assert setting_up.browser.cookie is None


@pytest_twisted.ensureDeferred
async def test_what_github_refuses_is_one_clear_line_and_what_it_cannot_say_now_may_be_asked_again(
    setting_up: SettingUp,
) -> None:
    callback = await setting_up.at_github(await setting_up.open())
    wrong = re.sub(r"code=\w+", "code=0123456789abcdef", callback)
    page = await setting_up.browser.get(wrong)
    assert page.status == 502
    assert "GitHub does not tell of the App: " in page.text
    assert "0123456789abcdef" not in page.text
    assert_forbidden(await setting_up.browser.get(callback))
    outcome = await setting_up.outcome()
    assert outcome["state"] == "failed"
    assert "status 404" in outcome["problem"]


@pytest_twisted.ensureDeferred
async def test_an_app_of_somebody_else_is_not_taken(setting_up: SettingUp) -> None:
    url = await setting_up.open(organization="octo")
    page = await setting_up.browser.get(url)
    form = page.text.replace("/organizations/octo/settings/apps/new", "/settings/apps/new")
    sent = await setting_up.browser.submit(msgspec.structs.replace(page, text=form))
    assert sent.location is not None
    done = await setting_up.browser.get(sent.location)
    assert done.status == 409
    assert "and not to octo: its secrets are thrown away" in done.text
    assert not setting_up.directory.exists() or list(setting_up.directory.iterdir()) == []


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ({"name": "../x"}, "expected a short name"),
        ({"organization": "no body"}, "not the name of an organization"),
        ({"api_url": "http://api.example.org"}, "unencrypted"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_makes_no_sense_is_refused_before_a_window_opens(
    setting_up: SettingUp, query: dict[str, str], problem: str
) -> None:
    assert problem in await setting_up.refused(**query)


@pytest_twisted.ensureDeferred
async def test_without_the_public_url_the_way_out_is_told(running_stackit: Any) -> None:
    server = await running_stackit(config={"admin": {"url": "https://admin.example.org"}})
    answer = await server.admin("POST", "{prefix}/setup/app")
    assert "set public_url" in answer.json()["error"]
    await server.reload({"admin": {"url": "https://admin.example.org"}, "public_url": "https://x.example.org"})
    answer = await server.admin("POST", "{prefix}/setup/app")
    assert "add it to admin.hosts" in answer.json()["error"]
