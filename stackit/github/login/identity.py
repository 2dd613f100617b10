"""How people of GitHub are told apart: by the GitHub and the id, never by the login."""

from __future__ import annotations

from urllib.parse import urlsplit

from stackit.config.apps import AppConfig
from stackit.github.login.oauth import GitHubUser

GITHUB = "github"
_HOST = "github.com"


def provider(app: AppConfig) -> str:
    """Return the GitHub that knows the people of an App: ``github``, or the host of an Enterprise Server."""
    host = urlsplit(app.web_url).netloc.lower()
    return GITHUB if host == _HOST else host.replace(":", "-")


def person_id(app: AppConfig, user_id: int) -> str:
    """Return the id of a person in sessions: ``github:5``."""
    return f"{provider(app)}:{user_id}"


def user_id(person_id: str) -> int | None:
    """Return GitHub's id in the id of a person in sessions; None where it has none."""
    number = person_id.rpartition(":")[2]
    return int(number) if number.isascii() and number.isdigit() else None


def name_of(user: GitHubUser) -> str:
    """Return the name for people: the login, and the id that stays."""
    return f"{user.login} (id {user.id})"
