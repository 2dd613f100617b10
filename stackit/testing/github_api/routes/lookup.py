"""The repository that a path names."""

from __future__ import annotations

from stackit.api.events import Repo
from stackit.testing.github_api.answers import ApiRefused, ApiRequest, not_found
from stackit.testing.github_api.repositories import HostedRepository, Repositories


def repository_named(request: ApiRequest, repositories: Repositories) -> HostedRepository:
    """Return the repository of the path, for whomever. Raises ApiRefused, which redirects from a former name."""
    number = request.parameters.get("id")
    if number is not None:
        found = repositories.by_id(int(number)) if number.isascii() and number.isdigit() else None
        if found is None:
            raise not_found()
        return found
    try:
        repo = Repo.parse(f"{request.parameters['owner']}/{request.parameters['repo']}")
    except ValueError:
        raise not_found() from None
    found = repositories.find(repo)
    if found is not None:
        return found
    moved = repositories.formerly(repo)
    if moved is None or not (request.caller.sees(moved) or request.caller.app is not None):
        raise not_found()
    below = request.path.split("/", 4)[4:]
    location = "/".join([f"{request.api_url}/repositories/{moved.id}", *below])
    status = 301 if request.method == "GET" else 307
    message = "Moved Permanently" if status == 301 else "Temporary Redirect"
    raise ApiRefused(status, message, headers={"Location": location}, extra={"url": location})
