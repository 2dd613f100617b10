"""Objects of the API, in the shapes of GitHub's OpenAPI description."""

from __future__ import annotations

from stackit.testing.github_api.answers import ApiRequest, Caller
from stackit.testing.github_api.apps import Installation, PretendApp
from stackit.testing.github_api.clock import text
from stackit.testing.github_api.repositories import HostedRepository
from stackit.testing.github_api.tokens import Token
from stackit.testing.objects import API, SITE, Json


def repository(found: HostedRepository, request: ApiRequest) -> Json:
    """A repository, with addresses of this API."""
    about = found.json(request.site_url, request.api_url)
    return about | {"permissions": _permissions(request.caller, found)}


def at(api_url: str, shown: Json) -> Json:
    """Return an object with addresses of this API."""
    return {
        name: api_url + value.removeprefix(API) if isinstance(value, str) and value.startswith(f"{API}/") else value
        for name, value in shown.items()
    }


def _permissions(caller: Caller, found: HostedRepository) -> dict[str, bool]:
    writes = caller.token is not None and caller.token.reaches(found) and caller.token.may("contents", "write")
    return {"admin": False, "maintain": False, "push": writes, "triage": False, "pull": True}


def app(found: PretendApp, request: ApiRequest) -> Json:
    """An App, as it sees itself."""
    return {
        "id": found.id,
        "slug": found.slug,
        "node_id": f"A_{found.id}",
        "client_id": found.client_id,
        "owner": found.owner.json(),
        "name": found.name,
        "description": None,
        "external_url": "https://example.org",
        "html_url": f"{request.site_url}/apps/{found.slug}",
        "created_at": text(found.created_at),
        "updated_at": text(found.created_at),
        "permissions": found.permissions,
        "events": found.events,
        "installations_count": len(found.installations),
    }


def installation(found: Installation, api_url: str) -> Json:
    """An installation."""
    page = f"{SITE}/organizations/{found.owner.login}" if found.owner.kind == "Organization" else SITE
    return {
        "id": found.id,
        "client_id": found.app.client_id,
        "account": found.owner.json(),
        "repository_selection": found.selection,
        "access_tokens_url": f"{api_url}/app/installations/{found.id}/access_tokens",
        "repositories_url": f"{api_url}/installation/repositories",
        "html_url": f"{page}/settings/installations/{found.id}",
        "app_id": found.app.id,
        "app_slug": found.app.slug,
        "target_id": found.owner.id,
        "target_type": found.owner.kind,
        "permissions": found.permissions,
        "events": found.events,
        "created_at": text(found.created_at),
        "updated_at": text(found.updated_at),
        "single_file_name": None,
        "has_multiple_single_files": False,
        "single_file_paths": [],
        "suspended_by": None if found.suspended_at is None else found.owner.json(),
        "suspended_at": None if found.suspended_at is None else text(found.suspended_at),
    }


def token(made: Token, request: ApiRequest, repositories: list[HostedRepository] | None) -> Json:
    """A new token of an installation; with the repositories that it was narrowed to."""
    assert made.installation is not None  # noqa: S101 - only installations mint
    found: Json = {
        "token": made.value,
        "expires_at": text(made.expires_at),
        "permissions": made.permissions,
        "repository_selection": made.installation.selection if repositories is None else "selected",
    }
    return (
        found
        if repositories is None
        else found | {"repositories": [repository(each, request) for each in repositories]}
    )
