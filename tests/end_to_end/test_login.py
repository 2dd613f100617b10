"""People who log in with GitHub, as they meet it: by a browser, by a shell, and out again when GitHub says so."""

from __future__ import annotations

import json
import re
import stat
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest_twisted
from login_app import meet, members, tables
from login_browser import Browser
from outside import check_log, files, shell
from twisted.internet.defer import Deferred
from waiting import until

from stackit.testing import RunningStackit
from stackit.testing.github import PretendGitHub
from stackit.testing.github_api.apps import PretendApp

Start = Callable[..., Awaitable[RunningStackit]]


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
    browser, other = Browser(server.admin_url), Browser(server.admin_url)
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
        told = "is logged out: the authorization of the App was revoked at GitHub"
        await until(lambda: told in server.log, "the log to tell")
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
    browser = Browser(server.admin_url)
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
