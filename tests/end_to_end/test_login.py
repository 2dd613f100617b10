"""People who log in with GitHub, as they meet it: by a browser, by a shell, and out again when GitHub says so."""

from __future__ import annotations

import html
import json
import re
import stat
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest_twisted
import treq
from login_app import meet, members, tables
from outside import check_log, files, shell
from twisted.internet.defer import Deferred

from stackit.testing import RunningStackit
from stackit.testing.github import PretendGitHub
from stackit.testing.github_api.apps import PretendApp

Start = Callable[..., Awaitable[RunningStackit]]


class Page(msgspec.Struct):
    """What a browser was answered."""

    status: int
    text: str
    location: str


class Browser:
    """A browser, with the cookies of one stackit."""

    def __init__(self, server: RunningStackit) -> None:
        self.server = server
        self.cookies: dict[str, str] = {}

    async def get(self, url: str, *, accept: str = "text/html") -> Page:
        return await self._ask("GET", url, {"Accept": accept})

    async def submit(self, url: str, origin: str, **fields: str) -> Page:
        """Send a form of a page of ``origin``."""
        return await self._ask("POST", url, {"Accept": "text/html", "Origin": origin}, fields)

    async def _ask(
        self, method: str, url: str, headers: dict[bytes | str, bytes | str], form: dict[str, str] | None = None
    ) -> Page:
        ours = url.startswith(self.server.admin_url)
        if ours and self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer: Any = await treq.request(
            method, url, headers=headers, data=form, allow_redirects=False, persistent=False, timeout=20
        )
        text = (await treq.content(answer)).decode()
        for line in answer.headers.getRawHeaders("set-cookie") or ():
            name, _, value = line.partition(";")[0].partition("=")
            assert "HttpOnly" in line
            assert "SameSite=Lax" in line
            self.cookies[name] = value
        return Page(answer.code, text, (answer.headers.getRawHeaders("location") or [""])[0])

    async def at_github(self) -> str:
        """Ask for a page, follow the button of the login, say yes at GitHub; return where it sends the browser."""
        wanted = f"{self.server.admin_url}/api/v1/status?x=<b>"
        sent = await self.get(wanted)
        assert sent.status == 303
        page = await self.get(f"{self.server.admin_url}{sent.location}")
        (button,) = re.findall(r'href="([^"]*/login/github[^"]*)"', page.text)
        leaving = await self.get(html.unescape(button))
        assert leaving.status == 303, leaving.text
        back = await self.get(leaving.location)
        assert back.status == 302, back.text
        return back.location

    async def who(self) -> Any:
        """Ask who one is; None where nobody is known."""
        answer = await self.get(f"{self.server.admin_url}/api/v1/session", accept="application/json")
        return json.loads(answer.text) if answer.status == 200 else None

    async def log_in(self) -> Any:
        page = await self.get(await self.at_github())
        assert page.status == 303, page.text
        assert page.location.startswith("/api/v1/status")
        return await self.who()


async def is_out(browser: Browser) -> bool:
    return await browser.who() is None


@contextmanager
def secrets_kept(github: PretendGitHub, app: PretendApp, server: RunningStackit) -> Iterator[None]:
    """Nothing that is secret is in the log or on the disk."""
    yield
    check_log(server.log)
    secrets = {app.client_secret, *(each for each in github.api.credentials if each.startswith("ghu_"))}
    assert len(secrets) > 1
    kept = b"".join(file.read_bytes() for file in files(server.state_dir))
    for secret in secrets:
        assert secret not in server.log
        assert secret.encode() not in kept


@pytest_twisted.ensureDeferred
async def test_an_operator_is_in_until_github_says_otherwise(
    pretend_github: PretendGitHub, running_stackit: Start, tmp_path: Path
) -> None:
    github, app = pretend_github, members(pretend_github)
    await app.install("octo")
    config = tables(tmp_path, github, app)
    server = await running_stackit(config=config)
    meet(github, app, server)
    browser, other = Browser(server), Browser(server)
    octo, octocat = github.owners.get("octo"), github.owners.get("octocat")
    with secrets_kept(github, app, server):
        # Login CSRF: somebody else's way back from GitHub, in a browser that never left for it, or left on its own.
        mine = await browser.at_github()
        assert (await other.get(mine)).status == 403
        await other.at_github()
        assert (await other.get(mine)).status == 403
        assert await other.who() is None
        assert (await browser.get(mine)).status == 303
        assert await browser.who() == {"by": f"octocat (id {octocat.id})", "role": "operator", "logged_in": True}
        assert (await browser.get(mine)).status == 403, "a second use"
        # A restart keeps it.
        await server.stop()
        await server.start()
        assert (await browser.who())["role"] == "operator"
        # So does a reload, with the role that the new configuration gives.
        await server.reload(config | {"login": config["login"] | {"operators": ["octo/admins"]}})

        async def is_viewer() -> bool:
            return bool((await browser.who())["role"] == "viewer")

        await server.until(is_viewer, "the role of the new configuration")
        # Out at once when octocat leaves, and in again by nobody's word.
        await github.admin.remove_member("octo", "octocat")
        await server.until(lambda: is_out(browser), "the end of the session of a member who left")
        refused = await browser.get(await browser.at_github())
        assert (refused.status, "octocat may not come in" in refused.text) == (403, True)
        (stylesheet,) = re.findall(r'<link rel="stylesheet" href="([^"]+)">', refused.text)
        assert (await browser.get(f"{server.admin_url}{stylesheet}")).status == 200
        # As a viewer again, until the authorization is taken back at GitHub.
        github.members.join(octo, octocat)
        assert (await browser.log_in())["role"] == "viewer"
        await github.logins.revoke(app, octocat)
        await server.until(lambda: is_out(browser), "the end of the session after the authorization was revoked")
        assert "is logged out: the authorization of the App was revoked at GitHub" in server.log
    assert github.api.refusals == []


@pytest_twisted.ensureDeferred
async def test_a_shell_logs_in_by_a_code_and_out_again(
    pretend_github: PretendGitHub, running_stackit: Start, tmp_path: Path
) -> None:
    github, app = pretend_github, members(pretend_github)
    await app.install("octo")
    server = await running_stackit(config=tables(tmp_path, github, app))
    meet(github, app, server)

    async def stackit(*arguments: str) -> Any:
        argv = (sys.executable, "-m", "stackit", *arguments, "--admin-url", server.admin_url)
        return await shell(*argv, HOME=str(tmp_path))

    with secrets_kept(github, app, server):
        asked = await stackit("status")
        assert (asked.status, b"stackit login" in asked.stderr) == (1, True)
        logging_in = Deferred.fromCoroutine(stackit("login"))

        async def waits() -> list[str]:
            return github.logins.waiting

        (code,) = await server.until(waits, "the code of the shell")
        github.logins.enter(code, github.owners.get("octocat"))
        done = await logging_in
        assert done.status == 0, done.stderr
        assert code.encode() in done.stdout
        assert b"logged in as octocat" in done.stdout
        file = tmp_path / ".local/state/stackit/logins.json"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        (kept,) = json.loads(file.read_text()).values()
        assert kept["token"] not in server.log
        assert kept["token"].encode() not in done.stdout
        assert (await stackit("status")).status == 0
        out = await stackit("logout")
        assert (out.status, b"logged out" in out.stdout) == (0, True), out.stderr
        assert json.loads(file.read_text()) == {}
        file.write_text(json.dumps({server.admin_url: kept}))
        over = await stackit("status")
        assert (over.status, b"the login at" in over.stderr, b"is over" in over.stderr) == (1, True, True)
        file.chmod(0o644)
        open_to_others = await stackit("status")
        assert b"others can read it" in open_to_others.stderr


@pytest_twisted.ensureDeferred
async def test_the_form_for_a_code_is_of_this_very_host_and_a_hook_need_not_tell_of_people(
    pretend_github: PretendGitHub, running_stackit: Start, tmp_path: Path
) -> None:
    github, app = pretend_github, members(pretend_github)
    app.events = ["push"]
    await app.install("octo")
    config = tables(tmp_path, github, app)
    del config["login"]["client_secret_file"]
    server = await running_stackit(config=config)
    meet(github, app, server)
    url = f"{server.admin_url}/login/code"
    browser = Browser(server)
    for origin in ("null", "https://evil.example.org", f"{server.admin_url}0"):
        assert (await browser.submit(url, origin, next="/")).status == 403
    assert github.logins.waiting == []
    assert (await browser.submit(url, server.admin_url, next="/")).status == 303
    (code,) = github.logins.waiting
    assert code in (await browser.get(url)).text
    github.logins.enter(code, github.owners.get("octocat"))

    async def is_in() -> bool:
        await browser.get(url)
        return await browser.who() is not None

    await server.until(is_in, "the login by a code")
    shown = await browser.get(f"{server.admin_url}/api/v1/github", accept="application/json")
    hooks = json.loads(shown.text)["hooks"]
    assert "organization" not in json.dumps(hooks)
    check_log(server.log)
