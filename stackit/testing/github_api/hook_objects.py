"""Webhooks as the API and their own events show them. The keys are those of GitHub's OpenAPI description."""

from __future__ import annotations

from stackit.testing.github_api.clock import text
from stackit.testing.github_api.hooks import Hook
from stackit.testing.github_api.owners import Owner
from stackit.testing.github_api.repositories import HostedRepository
from stackit.testing.objects import Json, user


def of_organization(hook: Hook, owner: Owner, api_url: str) -> Json:
    """Return an ``org-hook``."""
    url = f"{api_url}/orgs/{owner.login}/hooks/{hook.id}"
    return _common(hook, "Organization") | {
        "url": url,
        "ping_url": f"{url}/pings",
        "deliveries_url": f"{url}/deliveries",
    }


def of_repository(hook: Hook, repository: HostedRepository, api_url: str) -> Json:
    """Return a ``hook``, which is a repository's. It alone has ``last_response``."""
    url = f"{api_url}/repos/{repository.repo}/hooks/{hook.id}"
    return _common(hook, "Repository") | {
        "url": url,
        "test_url": f"{url}/test",
        "ping_url": f"{url}/pings",
        "deliveries_url": f"{url}/deliveries",
        "last_response": hook.last_response,
    }


def ping(hook: Hook, shown: Json, about: Json) -> Json:
    """Return the payload of a ``ping``. ``about``: the repository or the organization, by its key."""
    return {"zen": "Keep it logically awesome.", "hook_id": hook.id, "hook": shown, **about, "sender": user()}


def meta(hook: Hook, kind: str, about: Json) -> Json:
    """Return the payload of ``meta``, which a webhook gets when it is deleted."""
    return {"action": "deleted", "hook_id": hook.id, "hook": _common(hook, kind), **about, "sender": user()}


def _common(hook: Hook, kind: str) -> Json:
    return {
        "type": kind,
        "id": hook.id,
        "name": "web",
        "active": hook.active,
        "events": list(hook.events or ["*"]),
        "config": hook.config.shown(),
        "updated_at": text(hook.changed_at),
        "created_at": text(hook.made_at),
    }
