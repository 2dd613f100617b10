"""Comments of issues and pull requests, which plugins write."""

from __future__ import annotations

from collections import defaultdict

from stackit.api.events import Repo
from stackit.testing.github_api.answers import ApiAnswer, ApiRefused, ApiRequest, forbidden, not_found
from stackit.testing.github_api.clock import SettableClock
from stackit.testing.github_api.paging import page_of
from stackit.testing.github_api.repositories import HostedRepository, Repositories
from stackit.testing.github_api.router import Router
from stackit.testing.github_api.routes.lookup import repository_named
from stackit.testing.github_api.tokens import Token
from stackit.testing.objects import Json, user

_ROUTE = "/repos/{owner}/{repo}/issues/{issue_number}/comments"


class CommentRoutes:
    """The routes of comments, and what was written. Every number is an issue that may be commented on."""

    def __init__(self, repositories: Repositories, clock: SettableClock) -> None:
        self._repositories = repositories
        self._clock = clock
        self._written: defaultdict[tuple[int, int], list[Json]] = defaultdict(list)
        self._made = 0

    def add_to(self, router: Router) -> None:
        """Serve them."""
        router.add("GET", _ROUTE, self._list)
        router.add("POST", _ROUTE, self._write, access="token")

    def of(self, repo: Repo | str, number: int) -> list[str]:
        """Return the texts below an issue or a pull request."""
        return [each["body"] for each in self._written[self._repositories.of(repo).id, number]]

    def _list(self, request: ApiRequest) -> ApiAnswer:
        found, number = self._issue(request)
        page, headers = page_of(request, self._written[found.id, number])
        return ApiAnswer(body=page, headers=headers)

    def _write(self, request: ApiRequest) -> ApiAnswer:
        found, number = self._issue(request)
        if not any(request.token.may(each, "write") for each in ("issues", "pull_requests")):
            raise forbidden()
        if found.archived:
            raise ApiRefused(403, "Repository was archived so is read-only.")
        text = request.object().get("body")
        if not isinstance(text, str) or not text:
            raise ApiRefused(422, "Validation Failed", extra={"errors": [{"field": "body", "code": "missing_field"}]})
        self._made += 1
        made = self._comment(request, found, number, text)
        self._written[found.id, number].append(made)
        return ApiAnswer(status=201, body=made, headers={"Location": made["url"]})

    def _issue(self, request: ApiRequest) -> tuple[HostedRepository, int]:
        found = repository_named(request, self._repositories)
        number = request.parameters["issue_number"]
        if not request.caller.sees(found) or not (number.isascii() and number.isdigit()):
            raise not_found()
        return found, int(number)

    def _comment(self, request: ApiRequest, found: HostedRepository, number: int, text: str) -> Json:
        url, page = f"{request.api_url}/repos/{found.repo}/issues", f"{request.site_url}/{found.repo}/issues/{number}"
        return {
            "id": self._made,
            "node_id": f"IC_{self._made}",
            "url": f"{url}/comments/{self._made}",
            "html_url": f"{page}#issuecomment-{self._made}",
            "issue_url": f"{url}/{number}",
            "body": text,
            "user": _author(request.token),
            "created_at": self._clock.text(),
            "updated_at": self._clock.text(),
            "author_association": "NONE",
            "performed_via_github_app": None,
        }


def _author(token: Token) -> Json:
    if token.installation is not None:
        return user(f"{token.installation.app.slug}[bot]", "Bot")
    return (token.person or token.owner).json()
