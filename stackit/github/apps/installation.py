"""An installation of an App: its state, its tokens, and clients of the API that use them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from stackit.api.errors import StackitError
from stackit.api.reactor import sleep
from stackit.github.api import ApiClient, ApiError
from stackit.github.apps.errors import AccessError, State
from stackit.github.apps.records import Account, InstallationRecord, TokenRecord
from stackit.github.apps.token import InstallationToken, Narrowing

if TYPE_CHECKING:
    from stackit.github.apps.app import GitHubApp

GIT = Narrowing()
"""What git needs, and lists of repositories."""

_PAUSES: Mapping[State, float] = {"suspended": 3600.0, "uninstalled": 3600.0, "no_permission": 600.0}
"""Seconds until a token is asked for again, by the state in which there was none, unless GitHub tells of a change."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
"""Seconds after a failure that is none of the installation's, such as one of the network."""
_DENIED_FOR = 60.0
"""Seconds until a token is asked for again that the installation does not grant, while it grants others."""
_BETWEEN_LOOKS = 60.0
_ROUTE = "/app/installations/{installation_id}"


class Installation:
    """An installation, kept up to date by its App. ``state`` and ``reason`` say whether and why there is no token."""

    def __init__(self, app: GitHubApp, record: InstallationRecord) -> None:
        self.app = app
        self.record = record
        self.state: State = "active"
        self.reason = ""
        self._tokens: dict[Narrowing, InstallationToken] = {}
        self._clients: dict[Narrowing, ApiClient] = {}
        self._retry_at = 0.0
        self._failures = 0
        self._failure: StackitError | None = None
        self._denied: dict[Narrowing, tuple[float, StackitError]] = {}  # until when, by the reactor
        self._looked_at: float | None = None
        self._stopped = False
        if (state := state_of(record)) != "active":
            self._become(state)

    @property
    def id(self) -> int:
        """Return GitHub's id of the installation."""
        return self.record.id

    @property
    def account(self) -> Account:
        """Return whose repositories it is for."""
        return self.record.account

    @property
    def standing(self) -> State:
        """Return the state for people: ``unauthorized`` where GitHub refuses the App itself."""
        return "unauthorized" if self.state == "active" and self.app.problem is not None else self.state

    @property
    def client(self) -> ApiClient:
        """Return a client that may read contents and metadata, with the token that git has."""
        return self.client_for(GIT)

    def client_for(self, narrowing: Narrowing) -> ApiClient:
        """Return a client whose token is narrowed; ``Narrowing(permissions=())`` may do all that the App may."""
        client = self._clients.get(narrowing)
        if client is None:
            credential = InstallationCredential(f"{self.app.name}/{self.id}", self.token(narrowing))
            client = self._clients[narrowing] = self.app.clients.client(self.app.config.api_url, credential)
        return client

    def token(self, narrowing: Narrowing = GIT) -> InstallationToken:
        """Return the token of a narrowing."""
        token = self._tokens.get(narrowing)
        if token is None:

            async def make() -> TokenRecord:
                return await self._mint(narrowing)

            token = self._tokens[narrowing] = InstallationToken(self.app.reactor, self.app.github_now, make)
            if self._stopped:
                token.stop()
        return token

    def check_access(self) -> None:
        """Raise AccessError in a state in which no token works, also none that was made before."""
        if self.state != "active" and self.app.reactor.seconds() < self._retry_at:
            raise AccessError(self.reason, self.state)

    def _check(self) -> None:
        """Raise StackitError while it is known that there can be no new token."""
        self.app.check()
        if self._failure is not None and self.app.reactor.seconds() < self._retry_at:
            raise self._failure

    def update(self, record: InstallationRecord) -> None:
        """Take what GitHub says of it now. A state that has ended is tried at once."""
        before, self.record = self.record, record
        self.app.keep(self)
        state = state_of(record)
        if state != "active":
            self._become(state)
        elif self.state in ("suspended", "uninstalled") or record.permissions != before.permissions:
            self.recover()

    def disappear(self) -> None:
        """Take note that GitHub does not list it any more."""
        self._become("uninstalled")

    async def look(self, *, anew: bool = False) -> None:
        """Ask GitHub for its state, unless that was done a moment ago, or ``anew`` in any case. Never raises."""
        now = self.app.reactor.seconds()
        if not anew and self._looked_at is not None and now - self._looked_at < _BETWEEN_LOOKS:
            return
        self._looked_at = now
        try:
            self.update(await self.app.client.get(_ROUTE, InstallationRecord, installation_id=self.id))
        except ApiError as problem:
            if problem.reason == "not_found":
                self.app.miss(self)
            elif problem.reason == "unauthorized":
                self.app.refused(problem)
        except StackitError:
            return  # such as a key that cannot be read, of which the next token tells

    def recover(self) -> None:
        """Try it again at once."""
        self._failure, self._failures, self._retry_at = None, 0, 0.0
        self._denied.clear()
        self._become("active")
        for token in self._tokens.values():
            token.renew()

    def stop(self) -> None:
        """Make no more tokens."""
        self._stopped = True
        for token in self._tokens.values():
            token.stop()

    async def _mint(self, narrowing: Narrowing) -> TokenRecord:
        self._check()
        app = self.app
        until, denial = self._denied.get(narrowing, (0.0, None))
        if denial is not None and app.reactor.seconds() < until:
            raise denial
        try:
            made = await app.client.send(
                "POST", f"{_ROUTE}/access_tokens", narrowing.body(), TokenRecord, installation_id=self.id
            )
        except ApiError as problem:
            app.count_mint(problem.reason)
            raise self._failed(problem, narrowing) from None
        except StackitError as problem:  # the key cannot be read
            app.count_mint("key")
            raise app.refused(problem) from None
        app.count_mint("made")
        app.redact.add(made.token)
        self._failure, self._failures = None, 0
        self._denied.pop(narrowing, None)
        app.accepted()
        self._become("active")
        return made

    def _failed(self, problem: ApiError, narrowing: Narrowing) -> StackitError:
        """Take note of the reason for which there is no token, and return it as the error to raise."""
        if problem.reason == "unauthorized":
            return self.app.refused(problem)
        self.app.accepted()
        if problem.reason == "suspended":
            self._become("suspended")
        elif problem.reason == "not_found":
            self._become("uninstalled")
        elif problem.reason in ("forbidden", "validation"):
            if narrowing != GIT:  # such as a repository that it is not installed for: the others have their tokens
                self._denied[narrowing] = self.app.reactor.seconds() + _DENIED_FOR, problem
                return problem
            self._become("no_permission", str(problem))
        else:
            return self._not_now(problem)
        return AccessError(self.reason, self.state)

    def _not_now(self, problem: ApiError) -> StackitError:
        """Keep the state: this tells of the network or of GitHub, or of one repository alone."""
        app, now = self.app, self.app.reactor.seconds()
        self._failures += 1
        pause = min(_FIRST_PAUSE * 2.0 ** (self._failures - 1), _LONGEST_PAUSE)
        if problem.retry_at is not None:
            pause = max(pause, problem.retry_at - app.now())
        self._failure, self._retry_at = problem, now + pause
        return problem

    def _become(self, state: State, said: str = "") -> None:
        before, self.state = self.state, state
        if state == "active":
            self.reason = ""
        else:
            self.reason = explain(self, state, said)
            self._failure = AccessError(self.reason, state)
            self._retry_at = self.app.reactor.seconds() + _PAUSES.get(state, 0.0)
        if before != state:
            self.app.changed(self)

    def __repr__(self) -> str:
        return f"<Installation {self.id} of {self.app.name} for {self.account.login}: {self.state}>"


class InstallationCredential:
    """The token of an installation as the credential of requests to the API."""

    def __init__(self, key: str, token: InstallationToken) -> None:
        self.key = key
        self._token = token
        self._pause = 0.0

    async def authorization(self) -> str:
        """Return the token as a bearer token, when GitHub has had the time to know it. Raises StackitError."""
        pause, self._pause = self._pause, 0.0
        if pause:
            await sleep(self._token.reactor, pause)
        await self._token.ready()
        return f"Bearer {self._token.current()}"

    def rejected(self, authorization: str, status: int) -> bool:
        """Return True where the token is new, or another is to be made."""
        pause = self._token.judge(authorization.removeprefix("Bearer "), status)
        self._pause = pause or 0.0
        return pause is not None

    def answered(self, headers: Mapping[str, str]) -> None:
        """Take no note: the answer to the request for a token has its end."""


def state_of(record: InstallationRecord) -> State:
    """Return the state of an installation as GitHub lists it."""
    if record.suspended_at is not None:
        return "suspended"
    return "active" if record.permissions.get("contents") in ("read", "write") else "no_permission"


def explain(installation: Installation, state: State, said: str = "") -> str:
    """Return why an installation gives no token, and the way out."""
    app, owner = installation.app, installation.account.login
    what = f"App {app.name}: its installation for {owner}"
    texts: Mapping[State, str] = {
        "suspended": f"{what} is suspended: unsuspend it in the settings of {owner} at {app.config.web_url}",
        "uninstalled": f"{what} is gone: install the App for {owner} again at {app.config.web_url}",
        "no_permission": f"{what} does not grant to read contents and metadata: give the App these permissions, and "
        f"have {owner} accept them",
    }
    text = texts[state]
    return f"{text} ({said})" if said else text
