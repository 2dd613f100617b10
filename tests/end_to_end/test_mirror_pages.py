"""The pages of repositories and of GitHub in a running stackit, without a script: hostile names show as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest_twisted
from mirror_harness import Upstream

from stackit.testing import PretendGitHub

WIDGET = "octo/widget"
HOSTILE = "refs/heads/<script>alert(1)</script>\u202e"


async def state(server: Any, repo: str) -> str:
    found = await server.ask("GET", f"{server.admin_url}/api/v1/repos/{repo}")
    return found.json()["state"] if found.status == 200 else ""


async def page(server: Any, path: str) -> str:
    answer = await server.ask("GET", server.admin_url + path)
    assert answer.status == 200, (answer.body, server.log[-2000:])
    text: str = answer.body.decode()
    assert "<script>alert" not in text
    assert "\u202e" not in text
    return text


async def press(server: Any, path: str, **form: str) -> str:
    """Send the form of a button; returns the page that it leads to."""
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": server.admin_url}
    body = urlencode({"csrf": "", **form}).encode()
    answer = await server.ask("POST", server.admin_url + path, body=body, headers=headers)
    assert answer.status == 200, (answer.body, server.log[-2000:])
    text: str = answer.body.decode()
    return text


@pytest_twisted.ensureDeferred
async def test_a_repository_is_added_seen_synced_and_removed(
    running_stackit: Any, pretend_github: PretendGitHub, tmp_path: Path
) -> None:
    upstream = Upstream(tmp_path / "remote")
    oid = upstream.advance()
    upstream.set(HOSTILE, oid)
    for number in range(25):
        upstream.set(f"refs/heads/b{number}", oid)
    repos = [{"name": WIDGET, "url": upstream.url}]
    server = await running_stackit(config={"repos": repos})

    async def in_step() -> bool:
        return await state(server, WIDGET) == "in_step"

    await server.until(in_step, "the first clone")
    overview = await page(server, "/")
    assert "Mirrors by state" in overview
    assert '<a href="/repos?state=in_step">' in overview
    assert ">GitHub</a>" not in overview  # nothing is configured there

    listed = await page(server, "/repos?q=WIDG&state=in_step")
    assert 'href="/repos/octo/widget"' in listed
    assert "No repository fits." in await page(server, "/repos?q=nothing")
    wrong = await server.ask("GET", f"{server.admin_url}/repos?state=wrong")
    assert (wrong.status, "state: expected one of" in wrong.body.decode()) == (400, True)

    shown = await page(server, f"/repos/{WIDGET}")
    for said in (oid, "refs/heads/&lt;script&gt;alert(1)&lt;/script&gt;\\u202e", "refs/heads/main", "State over time"):
        assert said in shown, said
    assert "refs/heads/b7" not in await page(server, f"/repos/{WIDGET}?q=main")

    for ref in [each for each in upstream.refs() if each.startswith("refs/heads/b")]:
        upstream.delete(ref)
    held = await press(server, f"/repos/{WIDGET}/sync")
    assert "the remote deleted 25 of 27 refs" in held
    assert "Accept the deletions" in await page(server, f"/repos/{WIDGET}")
    assert "In step: 25 refs changed." in await press(server, f"/repos/{WIDGET}/accept")
    after = await page(server, f"/repos/{WIDGET}")
    assert "Accept the deletions" not in after
    assert "deleted" in after

    url = await pretend_github.create("octo/gadget")
    added = await press(server, "/repos/add", name="octo/gadget", url=url)
    assert "octo/gadget is mirrored from now on." in added
    again = await press(server, "/repos/add", name="octo/gadget", url=url)
    assert "octo/gadget" in again
    assert "is mirrored from now on" not in again
    assert "octo/gadget is mirrored no more." in await press(server, "/repos/octo/gadget/remove")
    missing = await server.ask("GET", f"{server.admin_url}/repos/octo/gadget")
    assert (missing.status, "is not managed" in missing.body.decode()) == (404, True)

    # The changes of its state outlast a restart.
    before = (await server.ask("GET", f"{server.admin_url}/api/v1/repos/{WIDGET}/history")).json()["history"]
    assert before
    await server.stop()
    await server.start()
    await server.until(in_step, "the next start")
    later = (await server.ask("GET", f"{server.admin_url}/api/v1/repos/{WIDGET}/history")).json()["history"]
    assert later[-len(before) :] == before


@pytest_twisted.ensureDeferred
async def test_github_shows_its_apps_and_held_removals_which_a_person_accepts(
    running_stackit: Any, pretend_github: PretendGitHub, tmp_path: Path
) -> None:
    app = pretend_github.apps.create()
    names = await pretend_github.create_many("octo", 20)
    await app.install("octo", names)
    (tmp_path / "app.pem").write_text(app.private_key)
    (tmp_path / "app-secret").write_text(app.webhook_secret)
    table = {
        "name": "main",
        "app_id": app.id,
        "private_key_file": tmp_path / "app.pem",
        "secret_files": [tmp_path / "app-secret"],
        "api_url": pretend_github.api_url,
    }
    config = {"apps": [table], "discover": [{"app": "main"}], "plugins": {"mirror": {"enabled": False}}}
    server = await running_stackit(config=config)
    pretend_github.hooks.of_app(app).active = False
    assert "Listings read: 1." in await press(server, "/github/discover")
    shown = await page(server, "/github")
    for said in ("Apps and installations", ">octo</td>", "Webhooks", "app:main", "Missed deliveries", "Limits", "core"):
        assert said in shown, said
    assert "Accept the removals" not in shown
    assert app.private_key.splitlines()[1] not in shown

    for name in names[:13]:
        await pretend_github.admin.delete(name)
    assert "13 of 20 repositories are gone" in await press(server, "/github/discover")
    assert "13 of 20 repositories are gone" in await page(server, "/")
    assert "Accept the removals" in await page(server, "/github")
    assert "Changes: 13." in await press(server, "/github/accept")
    after = await page(server, "/github")
    assert "Accept the removals" not in after
    assert "Removed last" in after
    assert "Missed deliveries found: " in await press(server, "/github/recover")
