"""Webhook secrets of Apps, owners and repositories: what one proves, and what it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest_twisted
from outside import check_log

from stackit.testing import PretendGitHub
from stackit.testing.catalogue import payload_for

PLUGIN = """
import json
import os

from stackit import hookimpl, on


def note(**fields):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(json.dumps(fields) + "\\n")


@hookimpl
def stackit_expect(event):
    note(by="expect", repo=str(event.repo), signer=event.signer)


@on("*")
def events(event):
    note(by="event", event=event.name, repo=str(event.repo), signer=event.signer)
"""


@pytest_twisted.ensureDeferred
async def test_a_secret_moves_nothing_that_is_anothers(
    running_stackit: Any, pretend_github: PretendGitHub, tmp_path: Path
) -> None:
    github = pretend_github
    for repo in ("octo/widget", "acme/engine", "acme/other"):
        await github.create(repo)
        await github.commit(repo)
    secrets: dict[str, str] = {}
    apps = []
    for name, owner in (("one", "octo"), ("two", "acme")):
        app = github.apps.create(name, owner=owner)
        await app.install(owner)
        secrets[name] = app.webhook_secret
        key = tmp_path / f"{name}.pem"
        key.write_text(app.private_key)
        apps.append(
            {
                "name": name,
                "app_id": app.id,
                "private_key_file": str(key),
                "secret_files": [str(tmp_path / name)],
                "api_url": github.api_url,
            }
        )
    secrets |= {"octo": "the-secret-of-the-owner-octo", "other": "the-secret-of-acme-other"}
    for name, text in secrets.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "plugin.py").write_text(PLUGIN)
    notes = tmp_path / "notes"
    server = await running_stackit(
        config={
            "apps": apps,
            "owners": [{"name": "octo", "secret_files": [str(tmp_path / "octo")]}],
            "repos": [
                {"name": "octo/widget", "url": github.url("octo/widget"), "app": "one"},
                {"name": "acme/engine", "url": github.url("acme/engine"), "app": "two"},
                {"name": "acme/other", "url": github.url("acme/other"), "secret_files": [str(tmp_path / "other")]},
            ],
            "sync": {"interval": "0"},
            "plugins": {"plugin": {"file": str(tmp_path / "plugin.py")}},
        },
        environment={"NOTES": str(notes)},
        secret=None,
    )

    async def deliver(secret: str, event: str, repo: str, action: str | None = None) -> int:
        payload = payload_for(event, action, repo)
        return int((await server.deliver(event, payload, secret=secrets[secret])).status)

    own = [("one", "octo/widget"), ("two", "acme/engine"), ("octo", "octo/widget"), ("other", "acme/other")]
    others = [
        ("one", "acme/engine"),
        ("two", "octo/widget"),
        ("octo", "acme/engine"),
        ("other", "octo/widget"),
        ("other", "acme/engine"),
    ]
    for name, repo in others:
        for event, action in (
            ("push", None),
            ("repository", "deleted"),
            ("repository", "renamed"),
            ("issues", "opened"),
        ):
            assert await deliver(name, event, repo, action) == 401, (name, event, repo)
    assert not notes.exists(), "nobody heard of any of them"
    assert (await server.admin("GET", "{prefix}/deliveries")).json()["deliveries"] == []
    metrics = await server.metrics()
    assert metrics['stackit_requests_refused_total{reason="scope"}'] == 4 * len(others)
    assert metrics['stackit_requests_refused_total{reason="signature"}'] == 0
    for name, repo in own:
        assert await deliver(name, "push", repo) == 202

    async def told() -> list[Any]:
        lines = notes.read_text().splitlines() if notes.exists() else []
        found = [json.loads(line) for line in lines]
        return found if sum(each["by"] == "event" for each in found) == len(own) else []

    seen = await server.until(told, "the deliveries to be handled")
    signers = {"one": "app:one", "two": "app:two", "octo": "owner:octo", "other": "repo:acme/other"}
    for by in ("expect", "event"):
        found = sorted((each["signer"], each["repo"]) for each in seen if each["by"] == by)
        assert found == sorted((signers[name], repo) for name, repo in own)
    check_log(server.log)
