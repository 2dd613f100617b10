"""The source of the tokens of repositories: an installation of an App, found by the owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackit.api.repos import AccessProblem
from stackit.github.apps.errors import AccessError, access_problem
from stackit.github.apps.installation import GIT, Installation
from stackit.github.apps.token import InstallationToken, Narrowing

if TYPE_CHECKING:
    from stackit.github.apps.apps import Apps

SourceKey = tuple[str, str, str | None]
"""The App, the owner and, for a token of its own, the repository; in small letters."""


class AppTokenSource:
    """A ``TokenSource``: tokens of the installation that an App has for an owner, whichever that is at the time.

    ``repository`` is the only one that the tokens are for; None stands for all of the installation.
    """

    def __init__(self, apps: Apps, app: str, owner: str, repository: str | None) -> None:
        self._apps = apps
        self._app = app
        self._owner = owner
        self._narrowing = GIT if repository is None else Narrowing(repository=repository)

    @property
    def problem(self) -> AccessProblem | None:
        """The state in which there is no token; None while there is none."""
        app = self._apps.get(self._app)
        if app is None:
            return "no_access"
        installation = app.find(self._owner)
        if installation is None:
            return None if app.listed_at is None and app.problem is None else "no_access"
        if installation.state == "active" and app.problem is not None and self._token(installation).left <= 0:
            return "no_access"
        return access_problem(installation.state)

    def current(self) -> str:
        """Return a token that is valid. Raises StackitError that says why there is none."""
        app = self._apps.named(self._app)
        installation = app.find(self._owner)
        if installation is None:
            raise AccessError(app.no_installation(self._owner), "uninstalled")
        return self._token(installation).current()

    async def ready(self) -> None:
        """Have a token that is valid for some minutes. Raises StackitError that says why none can be had."""
        installation = await self._installation()
        installation.check_access()
        await self._token(installation).ready()

    def accepted(self, token: str) -> None:
        """Note that the forge took a token."""
        app = self._apps.get(self._app)
        installation = None if app is None else app.find(self._owner)
        if installation is not None:
            self._token(installation).accepted(token)

    async def rejected(self, token: str, status: int) -> bool:
        """Wait until another try makes sense; return False where the refusal is about the repository.

        Raises StackitError where it is about the installation.
        """
        installation = await self._installation()
        installation.check_access()
        if await self._token(installation).rejected(token, status):
            return True
        await installation.look()
        installation.check_access()
        return False

    async def _installation(self) -> Installation:
        app = self._apps.named(self._app)
        return app.find(self._owner) or await app.installation_for(self._owner)

    def _token(self, installation: Installation) -> InstallationToken:
        return installation.token(self._narrowing)

    def __repr__(self) -> str:
        name = f"{self._owner}/{self._narrowing.repository}" if self._narrowing.repository else self._owner
        return f"<tokens of App {self._app} for {name}>"
