"""The secrets of an App show nowhere, whatever GitHub answers: its key, its JWTs, its tokens, its webhook secret."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest_twisted
from outside import Held, descendants, files, git_runs, process_file, together

from stackit.testing import Answer, PretendGitHub, RunningStackit

MINT = "/app/installations/{installation_id}/access_tokens"


class Secrets:
    """What must not show: known in full only at the end."""

    def __init__(self, github: PretendGitHub, *more: str) -> None:
        self._github = github
        self._more = more

    def in_any_form(self) -> list[bytes]:
        """Every secret as it is, in hex and in base64; of a longer one, its parts and its end, too."""
        whole = [*self._more, *self._github.api.credentials, *(each.value for each in self._github.tokens)]
        parts = {part for each in whole for part in (each, *each.split("."), each[-40:]) if len(part) >= 30}
        raw = [each.encode() for each in parts]
        return [*raw, *(each.hex().encode() for each in raw), *(b64encode(each)[:-4] for each in raw)]

    def told(self, text: bytes) -> list[bytes]:
        return [each for each in self.in_any_form() if each in text]


@pytest_twisted.ensureDeferred
async def test_the_secrets_of_an_app_show_nowhere(
    running_stackit: Any, pretend_github: PretendGitHub, tmp_path: Path
) -> None:
    github = pretend_github
    github.tokens.format = "long"
    app = github.apps.create()
    for name in ("octo/one", "hubot/two", "acme/three"):
        await github.create(name, private=True)
        await github.commit(name)
        await app.install(name.partition("/")[0])
    secret_file = tmp_path / "webhook-secret"
    secret_file.write_text(app.webhook_secret)
    secret_file.chmod(0o600)
    secrets = Secrets(github, app.webhook_secret, *app.private_key.split("\n"))
    github.api.faults.begin(MINT, "echo", times=1)
    server: RunningStackit = await running_stackit(
        secret=None,
        config={
            "sync": {"interval": "0"},
            "apps": [
                {
                    "name": "main",
                    "app_id": app.id,
                    "private_key_file": app.write_key(tmp_path / "app.pem"),
                    "secret_files": [secret_file],
                    "api_url": github.api_url,
                }
            ],
            "owners": [{"name": name, "app": "main"} for name in ("octo", "hubot", "acme")],
            "repos": [{"name": "octo/one"}, {"name": "hubot/two"}, {"name": "acme/three"}],
        },
    )
    github.hooks.of_app(app).config.url = server.webhook_url
    answers: list[Answer] = []

    async def sync(repo: str, status: int) -> None:
        async def synced() -> bool:
            answers.append(await server.sync(repo))
            return answers[-1].status == status

        await server.until(synced, f"{repo} to be answered with {status}", within=60)

    # An answer that says back the JWT, to the first mint of all; one that says back the token, to git.
    await together(*(sync(name, 200) for name in ("octo/one", "hubot/two", "acme/three")))
    github.fault("octo/one", "echo")
    [hubot] = [each for each in app.installations if each.owner.login == "hubot"]
    github.tokens.revoke_all(hubot)
    await app.delete_keys()
    await together(sync("octo/one", 502), sync("hubot/two", 503))
    github.heal("octo/one")
    with Held(github):
        sent = await github.push("acme/three")
        await git_runs(server)
        for pid in (server.pid, *descendants(server.pid)):
            assert secrets.told(process_file(pid, "cmdline")) == []
            assert secrets.told(process_file(pid, "environ")) == []
    await server.wait_for(sent.guid, visible=True)
    paths = ("/metrics", "/readyz", "{prefix}/repos", "{prefix}/github", "{prefix}/deliveries", "{prefix}/config")
    answers += [await server.admin("GET", path) for path in paths]
    for answer in answers:
        assert secrets.told(answer.body) == [], answer.body
    assert any(b"***" in answer.body for answer in answers)
    assert await server.stop() == 0
    assert len(list(github.tokens)) >= 3
    assert secrets.told(server.log.encode()) == []
    for path, content in files(server.state_dir).items():
        assert secrets.told(content) == [], path
