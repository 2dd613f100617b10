"""What both ways to log in have in common: the App, the person with their role, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from stackit.api.address_limiter import AddressLimiter
from stackit.api.admin import AdminRequest, Response
from stackit.api.errors import StackitError
from stackit.api.person import Person
from stackit.api.secret_file import SecretFile
from stackit.config.admin_url import admin_base
from stackit.config.checks import is_loopback
from stackit.config.model import Config
from stackit.github.api import ApiClients
from stackit.github.apps import Apps, GitHubApp
from stackit.github.login.entrance import Entrance
from stackit.github.login.identity import name_of, person_id
from stackit.github.login.membership import Membership
from stackit.github.login.oauth import GitHubUser, OAuth, OAuthError
from stackit.github.login.pages import LoginPages

_MISCONFIGURED = {"device_flow_disabled", "incorrect_client_credentials", "redirect_uri_mismatch"}
_BURST = _PER_MINUTE = 10
"""Logins of one address: so many at once, and so many more in a minute. Each costs requests to GitHub."""
_NO_APP = "nobody logs in with GitHub here: the configuration names no App in login.app"


class NotAdmitted(StackitError):
    """Somebody may not come in, or it cannot be known now whether they may. It is written down already."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Admission:
    """Decides who comes in. ``config`` returns the configuration of now, ``entrance`` has the sessions.

    ``now`` is the wall clock, ``seconds`` one that never runs backwards.
    """

    def __init__(
        self,
        config: Callable[[], Config],
        *,
        now: Callable[[], float],
        seconds: Callable[[], float],
        apps: Apps,
        clients: ApiClients,
        membership: Membership,
        entrance: Entrance,
        notice: Callable[[str], None],
        pages: LoginPages,
    ) -> None:
        self.entrance = entrance
        self.pages = pages
        self._config = config
        self._now = now
        self._apps = apps
        self._clients = clients
        self._membership = membership
        self._notice = notice
        self._limiter = AddressLimiter(seconds, burst=_BURST, per_minute=_PER_MINUTE, counted="logins")

    def wait(self, request: AdminRequest) -> Response | None:
        """Count a login of an address; return the answer to one that has to wait for its turn."""
        return self._limiter.admit(request.client)

    def app(self) -> GitHubApp | None:
        """Return the App by which people log in; None where there is none."""
        name = self._config().login.app
        return None if name is None else self._apps.get(name)

    def oauth(self) -> tuple[OAuth, GitHubApp]:
        """Return that App and its OAuth. Raises StackitError where there is none."""
        app, login = self.app(), self._config().login
        if app is None or login.client_id is None:
            raise OAuthError(_NO_APP, "no_app")
        secret = None if login.client_secret_file is None else SecretFile(login.client_secret_file)
        return OAuth(self._clients, app.config, login.client_id, secret), app

    def base(self) -> str:
        """Return where browsers reach the admin side. Raises StackitError where none of them may log in."""
        if self._config().login.client_secret_file is None:
            raise StackitError(
                "the login by a browser needs login.client_secret_file; a shell can log in without: stackit login"
            )
        base = admin_base(self._config())
        parts = urlsplit(base)
        if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            raise StackitError(f"a login would travel unencrypted to {base}: have admin.url begin with https://")
        return base

    async def person(self, request: AdminRequest, app: GitHubApp, user: GitHubUser) -> Person:
        """Return somebody with their role. Raises NotAdmitted."""
        standing = await self._membership.look_up(app, user, self._config().login)
        name = name_of(user)
        if standing.role is None:
            if standing.problems:
                problem = f"whether {user.login} may come in cannot be known now: {standing.problems[0]}"
            else:
                problem = (
                    f"{user.login} may not come in: they are none of the people in [login], and no active member of an "
                    "organization or team there (an invitation has to be accepted first)"
                )
            self.entrance.refuse(request, name, problem)
            raise NotAdmitted(problem, 503 if standing.problems else 403)
        for line in standing.problems:
            self._notice(f"{name} came in as {standing.role}, and might be more: {line}")
        return Person(
            id=person_id(app.config, user.id),
            name=name,
            role=standing.role,
            login=user.login,
            confirmed_at=self._now(),
        )

    def status_of(self, problem: StackitError) -> int:
        """Return the status for a login that failed; tell the operators where it is theirs to mend."""
        if not isinstance(problem, OAuthError):
            self._notice(f"nobody can log in with GitHub: {problem}")
            return 503
        if problem.code in _MISCONFIGURED:
            self._notice(f"nobody can log in with GitHub this way: {problem}")
        if problem.code == "no_app":
            return 404
        return 403 if problem.code else 502
