"""The secrets of a GitHub App show nowhere, though GitHub says them back in every answer."""

from __future__ import annotations

import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest_twisted
from outside import Held, check_log, descendants, files, git_runs, process_file

from stackit.testing import PretendGitHub, RunningStackit, payload_for

PLUGIN = """
import msgspec

from stackit import SecretFile, hookimpl, on


class Asker:
    class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        client_secret: SecretFile

    def __init__(self, settings):
        self.settings = settings

    @hookimpl
    def stackit_service(self, app):
        self.app = app

    @on("issues", timeout=5)
    async def ask(self, event):
        self.settings.client_secret.read()
        print("it is asked for", await self.app.github(event.repo).get("/repos/{owner}/{repo}", dict))
"""
WEB_TOKEN = re.compile(rb"eyJ[A-Za-z0-9_-]{16,}")
PIECE = 20
"""Characters: a piece of a secret that is as long as that is a leak."""


def pieces(secret: str) -> set[bytes]:
    """What may be seen of a secret, as it is and in base64."""
    lines = [each for each in re.split(r"[\s.]+", secret) if len(each) >= PIECE]
    found = {line[at : at + PIECE].encode() for line in lines for at in range(0, len(line) - PIECE + 1, PIECE)}
    for before in range(3):
        encoded = b64encode(b"x" * before + secret.encode())[4:-8]
        found |= {encoded[at : at + 32] for at in range(0, len(encoded) - 31, 32)}
    return found


class Secrets:
    """The secrets of an App: its key, those of its webhook and its client, and every token that it got."""

    def __init__(self, github: PretendGitHub, app: Any) -> None:
        self._github = github
        key = "\n".join(app.private_key.strip().splitlines()[1:-1])
        self._fixed = pieces(key) | pieces(app.webhook_secret) | pieces(app.client_secret)

    def check(self, content: bytes, where: object) -> None:
        """Fail for what shows any part of any of them."""
        known = self._fixed.union(*(pieces(each.value) for each in self._github.tokens))
        shown = [each for each in known if each in content] + WEB_TOKEN.findall(content)
        assert not shown, (where, shown[:3])


@pytest_twisted.ensureDeferred
async def test_no_secret_of_an_app_shows_in_whatever_github_says_back(
    running_stackit: Any, pretend_github: PretendGitHub, tmp_path: Path
) -> None:
    github = pretend_github
    github.tokens.format = "long"
    for name in ("octo/widget", "octo/gadget"):
        await github.create(name, private=True)
        await github.commit(name)
    app = github.apps.create("main")
    await app.install("octo")
    secrets = Secrets(github, app)
    (tmp_path / "client-secret").write_text(app.client_secret)
    (tmp_path / "webhook-secret").write_text(app.webhook_secret)
    (tmp_path / "asker.py").write_text(PLUGIN)
    server: RunningStackit = await running_stackit(
        config={
            "sync": {"interval": "1h"},
            "apps": [
                {
                    "name": "main",
                    "app_id": app.id,
                    "private_key_file": app.write_key(tmp_path / "app.pem"),
                    "secret_files": [tmp_path / "webhook-secret"],
                    "api_url": github.api_url,
                }
            ],
            "repos": [{"name": "octo/widget", "app": "main"}, {"name": "octo/gadget", "app": "main"}],
            "plugins": {
                "asker": {"file": str(tmp_path / "asker.py") + ":Asker", "client_secret": tmp_path / "client-secret"}
            },
        }
    )
    github.webhook(server.webhook_url, app.webhook_secret)

    async def state(repo: str = "octo/widget") -> str:
        return str((await server.admin("GET", f"{{prefix}}/repos/{repo}")).json()["state"])

    async def are_in_step() -> bool:
        return [await state(each) for each in ("octo/widget", "octo/gadget")] == ["in_step", "in_step"]

    await server.until(are_in_step, "the mirrors to be in step")

    # While git runs, and has all that it needs.
    with Held(github):
        sent = await github.push("octo/widget")
        sync = server.sync("octo/gadget")
        await git_runs(server)
        for pid in (server.pid, *descendants(server.pid)):
            for name in ("cmdline", "environ"):
                secrets.check(process_file(pid, name), (pid, name))
    await sync
    await server.wait_for(sent.guid, visible=True)

    # A remote says back to git what token it came with.
    github.fault("octo/gadget", "echo")
    answers = [await server.sync("octo/gadget")]
    assert answers[0].status == 502
    github.heal("octo/gadget")

    # Every answer of the API has all secrets in it: to who comes with a token, and to the App itself.
    await server.wait_for((await github.send("issues")).guid)
    said = [app.client_secret, app.webhook_secret, app.private_key, *(each.value for each in github.tokens)]
    github.api.faults.begin("", "echo", also=" and ".join(said))
    issues = [await github.send("issues", payload_for("issues", repo=each)) for each in ("octo/widget", "hubot/spoon")]

    async def failed() -> bool:
        receipts = [await server.receipt(each.guid) for each in issues]
        return all(each is not None and any(one["error"] for one in each["handlings"]) for each in receipts)

    await server.until(failed, "the handler to fail")
    for path in ("repos", "repos/octo/widget", "repos/octo/gadget", "deliveries", "github", "status"):
        answers.append(await server.admin("GET", f"{{prefix}}/{path}"))
        assert answers[-1].status == 200
    for issue in issues:
        receipt = await server.receipt(issue.guid)
        assert receipt is not None
        answers.append(await server.admin("GET", f"{{prefix}}/deliveries/{receipt['id']}", traceback="1"))
        assert b"Server Error: asked with Bearer ***" in answers[-1].body
    answers += [await server.admin("GET", "/metrics"), await server.admin("GET", "/readyz")]
    for answer in answers:
        secrets.check(answer.body, answer.body)
    assert await server.stop() == 0
    secrets.check(server.log.encode(), "the log")
    for file, content in files(server.state_dir).items():
        secrets.check(content, file)
    check_log(server.log)
