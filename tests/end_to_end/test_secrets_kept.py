"""Secrets show nowhere: not in a log, an answer, a metric, a command line, an environment or a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from outside import Held, Notebook, check_log, descendants, files, git_runs, mirror_refs, process_file

from stackit.testing import PretendGitHub, RunningStackit

WEBHOOK_SECRET = "the-webhook-secret-6b1f"
FILE_SECRET = "the-secret-of-the-file-77aa"
REPOSITORY_TOKEN = "ghp_TheRepositoryToken0123456789"
WRONG_TOKEN = "ghp_AnotherRepositoryToken98765432"
API_TOKEN = "the-api-token-which-is-long-enough-9c"
SECRETS = [each.encode() for each in (WEBHOOK_SECRET, FILE_SECRET, REPOSITORY_TOKEN, WRONG_TOKEN, API_TOKEN)]


def tells(text: bytes) -> list[bytes]:
    return [secret for secret in SECRETS if secret in text]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("log_format", ["text", "json"])
async def test_secrets_show_nowhere(
    running_stackit: Any, pretend_github: PretendGitHub, tmp_path: Path, log_format: str
) -> None:
    token_files = {}
    for name, text in (("right", REPOSITORY_TOKEN), ("wrong", WRONG_TOKEN), ("webhook", FILE_SECRET)):
        token_files[name] = tmp_path / name
        token_files[name].write_text(f"{text}\n")
        token_files[name].chmod(0o600)
    private = await pretend_github.create("octo/private", private_token=REPOSITORY_TOKEN)
    locked = await pretend_github.create("octo/locked", private_token=REPOSITORY_TOKEN)
    for name in ("octo/private", "octo/locked"):
        await pretend_github.commit(name)
    notebook = Notebook(tmp_path / "notebook")
    server: RunningStackit = await running_stackit(
        secret=WEBHOOK_SECRET,
        config={
            "sync": {"interval": "0"},
            "log_format": log_format,
            "webhook": {"secret_files": [token_files["webhook"]]},
            "repos": [
                {"name": "octo/private", "url": private, "token_file": token_files["right"]},
                {"name": "octo/locked", "url": locked, "token_file": token_files["wrong"]},
            ],
            "plugins": {"notebook": notebook.table},
        },
        environment={**notebook.environment, "STACKIT_API_TOKEN": API_TOKEN},
    )
    pretend_github.webhook(server.webhook_url, WEBHOOK_SECRET)
    with Held(pretend_github):
        sent = await pretend_github.push("octo/private")
        assert sent.status == 202
        await git_runs(server)
        for pid in descendants(server.pid):
            assert not tells(process_file(pid, "environ"))
            assert not tells(process_file(pid, "cmdline"))
        assert not tells(process_file(server.pid, "cmdline"))
    await server.wait_for(sent.guid, visible=True)
    assert await mirror_refs(server, "octo/private") == await pretend_github.refs("octo/private")
    answers = [
        await server.deliver("issues", secret=FILE_SECRET),
        await server.deliver("issues", secret="wrong"),
        await server.ask("GET", f"{server.url}/?token={API_TOKEN}"),
        await server.ask("GET", f"{server.admin_url}/metrics"),
        await server.ask("GET", f"{server.admin_url}/metrics", headers={"Authorization": f"Bearer {API_TOKEN}x"}),
        await server.sync("octo/locked"),
        await server.admin("GET", "/metrics"),
        await server.admin("GET", "/readyz"),
        await server.admin("GET", "{prefix}/repos"),
        await server.admin("GET", "{prefix}/deliveries"),
        await server.ask("GET", f"{server.url}/api/v1/config"),
    ]
    assert [each.status for each in answers] == [202, 401, 404, 401, 401, 502, 200, 200, 200, 200, 200]
    for each in answers:
        assert not tells(each.body), each.body
    for path, content in files(server.state_dir).items():
        assert not tells(content), path
    assert await server.stop() == 0
    assert not tells(server.log.encode())
    for path, content in files(server.state_dir).items():
        assert not tells(content), path
    if log_format == "text":
        check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_a_secret_that_is_changed_in_its_file_is_valid_without_a_restart(
    running_stackit: Any, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text("  the old one\n")
    server: RunningStackit = await running_stackit(
        secret=None, config={"sync": {"interval": "0"}, "webhook": {"secret_files": [file]}}
    )
    assert (await server.deliver("issues", secret="the old one")).status in (202, 204)
    changed = tmp_path / "changed"
    changed.write_text("the new one, which is longer\n")
    changed.rename(file)

    async def taken() -> bool:
        return (await server.deliver("issues", secret="the new one, which is longer")).status in (202, 204)

    await server.until(taken, "the new secret to be valid")
    assert (await server.deliver("issues", secret="the old one")).status == 401
    assert await server.stop() == 0
    check_log(server.log)
