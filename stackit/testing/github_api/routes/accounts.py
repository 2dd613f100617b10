"""The accounts of people and organizations, and what the API says of itself: limits, versions, addresses."""

from __future__ import annotations

from stackit.testing.github_api.answers import VERSIONS, ApiAnswer, ApiRefused, ApiRequest, forbidden, not_found
from stackit.testing.github_api.limits import Limits
from stackit.testing.github_api.owners import Kind, Owner, Owners
from stackit.testing.github_api.router import Router
from stackit.testing.github_api.shapes import at
from stackit.testing.objects import THEN, Json

_SEARCHES = {"limit": 30, "used": 0, "remaining": 30}


class AccountRoutes:
    """Their routes."""

    def __init__(self, owners: Owners, limits: Limits) -> None:
        self._owners = owners
        self._limits = limits

    def add_to(self, router: Router) -> None:
        """Serve them."""
        router.add("GET", "/user", self._caller, access="token")
        router.add("GET", "/user/{account_id}", self._by_id)
        router.add("GET", "/users/{username}", self._user)
        router.add("GET", "/orgs/{org}", self._organization)
        router.add("GET", "/rate_limit", self._rate_limit)
        own = {key: ["127.0.0.1/32"] for key in ("hooks", "web", "api", "git")}
        meta = ApiAnswer(body={"verifiable_password_authentication": False, **own})
        router.add("GET", "/meta", lambda _: meta)
        router.add("GET", "/versions", lambda _: ApiAnswer(body=list(VERSIONS)))

    def _caller(self, request: ApiRequest) -> ApiAnswer:
        if request.token.person is None:
            raise forbidden()
        return ApiAnswer(body=_account(request.token.person, request))

    def _by_id(self, request: ApiRequest) -> ApiAnswer:
        found = next((each for each in self._owners if str(each.id) == request.parameters["account_id"]), None)
        if found is None:
            raise not_found()
        return ApiAnswer(body=_account(found, request))

    def _user(self, request: ApiRequest) -> ApiAnswer:
        return ApiAnswer(body=_account(self._named(request.parameters["username"]), request))

    def _organization(self, request: ApiRequest) -> ApiAnswer:
        found = self._named(request.parameters["org"], "Organization")
        flags = dict.fromkeys(("has_organization_projects", "has_repository_projects"), True)
        about = at(request.api_url, found.organization())
        return ApiAnswer(body=_account(found, request) | about | flags | {"archived_at": None})

    def _named(self, login: str, kind: Kind | None = None) -> Owner:
        found = self._owners.find(login)
        if found is None or kind not in (None, found.kind):
            raise not_found()
        return found

    def _rate_limit(self, request: ApiRequest) -> ApiAnswer:
        if not self._limits.enabled:
            raise ApiRefused(404, "Rate limiting is not enabled.")
        core = self._limits.of(request.caller.label).json()
        return ApiAnswer(
            body={"resources": {"core": core, "search": {**_SEARCHES, "reset": core["reset"]}}, "rate": core}
        )


def _account(owner: Owner, request: ApiRequest) -> Json:
    """Return an account as its own page has it."""
    texts = ("name", "company", "blog", "location", "email", "hireable", "bio", "twitter_username")
    numbers = ("public_repos", "public_gists", "followers", "following")
    return {
        **at(request.api_url, owner.json()),
        **dict.fromkeys(texts),
        "blog": "",
        **dict.fromkeys(numbers, 0),
        "created_at": THEN,
        "updated_at": THEN,
    }
