"""The pages and the route by which an App is made from a manifest."""

from __future__ import annotations

from stackit.testing.github_api import shapes
from stackit.testing.github_api.answers import ApiAnswer, ApiRequest, not_found
from stackit.testing.github_api.forms import fields, page, redirect
from stackit.testing.github_api.logins import Logins
from stackit.testing.github_api.manifests import ManifestRefused, Manifests
from stackit.testing.github_api.owners import Owners
from stackit.testing.github_api.router import Router


class ManifestRoutes:
    """The routes of manifests. Who is signed in in the browser, or else octocat, clicks "Create GitHub App" at once."""

    def __init__(self, manifests: Manifests, owners: Owners, logins: Logins) -> None:
        self._manifests = manifests
        self._owners = owners
        self._logins = logins

    def add_to(self, router: Router) -> None:
        """Serve them."""
        router.add("POST", "/settings/apps/new", self._register, access="none", web=True)
        router.add("POST", "/organizations/{org}/settings/apps/new", self._register, access="none", web=True)
        router.add("GET", "/apps/{slug}/installations/new", self._install, access="none", web=True)
        router.add("POST", "/app-manifests/{code}/conversions", self._convert, access="none")

    def _register(self, request: ApiRequest) -> ApiAnswer:
        person = self._logins.browser or self._owners.get("octocat", "User")
        owner = request.parameters.get("org", person.login)
        try:
            manifest, code = self._manifests.register(fields(request).get("manifest", ""), owner)
        except ManifestRefused as refused:
            return page("Register new GitHub App", str(refused), status=422)
        state = request.query.get("state")
        return redirect(manifest.redirect_url, {"code": code, **({} if state is None else {"state": state})})

    def _install(self, request: ApiRequest) -> ApiAnswer:
        return page("Install", f"Choose where {request.parameters['slug']} is installed.")

    def _convert(self, request: ApiRequest) -> ApiAnswer:
        app = self._manifests.convert(request.parameters["code"])
        if app is None:
            raise not_found()
        secret = {"webhook_secret": app.webhook_secret, "client_secret": app.client_secret, "pem": app.private_key}
        return ApiAnswer(status=201, body=shapes.app(app, request) | secret)
