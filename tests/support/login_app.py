"""An App that people log in by, at the pretend GitHub, and the configuration of a stackit that uses it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stackit.testing import RunningStackit
from stackit.testing.github import PretendGitHub
from stackit.testing.github_api.apps import PretendApp

EVENTS = ["push", "organization", "membership", "team"]


def members(github: PretendGitHub, events: Sequence[str] = EVENTS) -> PretendApp:
    """An App that people log in by, which is told of these events, and octocat, an operator of octo."""
    permissions = {"contents": "read", "metadata": "read", "members": "read"}
    app = github.apps.create(permissions=permissions, events=list(events))
    octo, octocat = github.owners.get("octo"), github.owners.get("octocat", "User")
    github.members.join(octo, octocat)
    github.members.join_team(github.members.team(octo, "ops"), octocat)
    github.logins.browser = octocat
    github.logins.device_flow.add(app.id)
    github.logins.poll_interval = 1.0
    return app


def tables(directory: Path, github: PretendGitHub, app: PretendApp) -> dict[str, Any]:
    for name, text in (("key", app.private_key), ("client", app.client_secret), ("hook", app.webhook_secret)):
        (directory / name).write_text(text)
    return {
        "sync": {"interval": "0"},
        "apps": [
            {
                "name": "main",
                "app_id": app.id,
                "private_key_file": directory / "key",
                "secret_files": [directory / "hook"],
                "api_url": github.api_url,
            }
        ],
        "login": {
            "app": "main",
            "client_id": app.client_id,
            "client_secret_file": directory / "client",
            "viewers": ["octo"],
            "operators": ["octo/ops"],
        },
    }


def meet(github: PretendGitHub, app: PretendApp, server: RunningStackit) -> None:
    """Have GitHub know where stackit is."""
    github.hooks.of_app(app).config.url = server.webhook_url
    app.callback_urls = [f"{server.admin_url}/login/github/callback"]
