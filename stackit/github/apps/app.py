"""One GitHub App: its key, and its installations as GitHub lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from stackit.api.background import Background
from stackit.api.errors import StackitError
from stackit.api.reactor import Reactor
from stackit.config.apps import AppConfig
from stackit.github.api import ApiClient, ApiClients, ApiError, AppKey, JwtCredential
from stackit.github.apps.errors import AccessError
from stackit.github.apps.installation import Installation
from stackit.github.apps.key_standing import KeyStanding
from stackit.github.apps.metrics import AppCounts
from stackit.github.apps.records import InstallationRecord
from stackit.secrets.redactor import Redactor

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

WATCH_EVERY = 2.0
"""Seconds between two looks at the key file of an App that GitHub refuses."""
LOOK_EVERY = 300.0
"""Seconds between two lists of installations while one of them gives no token."""
_PATIENCE = 600.0
"""Seconds that a request waits for a limit: several installations may want a token, and there is one a second."""
_LONGEST_UNLISTED = 60.0
_MISSING_FOR = 60.0
"""Seconds for which an owner is believed to have no installation."""


class GitHubApp:
    """An App. Nothing is asked of GitHub before somebody needs it."""

    def __init__(
        self,
        config: AppConfig,
        *,
        reactor: Reactor,
        now: Callable[[], float],
        clients: ApiClients,
        counts: AppCounts,
        redact: Redactor,
        notice: Callable[[str], None],
        recovered: Callable[[GitHubApp], None],
        is_wanted: Callable[[GitHubApp, str], bool],
    ) -> None:
        """``recovered`` is called when tokens can be made again; ``is_wanted`` tells of an owner, in small letters,
        whether there are repositories that need its installation.
        """
        self.config = config
        self.reactor = reactor
        self.now = now
        self.clients = clients
        self.redact = redact
        self.listed_at: float | None = None
        """When GitHub last listed the installations, by the wall clock."""
        self._counts = counts
        self._notice = notice
        self._recovered = recovered
        self._is_wanted = is_wanted
        key = AppKey(reactor, config.private_key_file)
        self._standing = KeyStanding(config.name, key, reactor, notice)
        self._clock = clients.clock(config.api_url)
        credential = JwtCredential(config.name, config.issuer, key, self._clock)
        self.client: ApiClient = clients.client(config.api_url, credential, patience=_PATIENCE)
        """A client with the credential of the App itself."""
        self._by_id: dict[int, Installation] = {}
        self._by_login: dict[str, Installation] = {}
        self._missing: dict[str, float] = {}
        self._failure: StackitError | None = None  # of the last list
        self._failures = 0
        self._list_at = 0.0
        self._listing: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []
        self._background = Background()
        self._watch: DelayedCall | None = None
        self._next_look = 0.0
        self._stopped = False

    @property
    def name(self) -> str:
        """Return the name by which the configuration calls it."""
        return self.config.name

    def github_now(self) -> float:
        """Return the time by GitHub's clock."""
        return self._clock.now()

    # -- installations ------------------------------------------------------------

    def __iter__(self) -> Iterator[Installation]:
        """Yield the installations that are known, without asking."""
        return iter(tuple(self._by_id.values()))

    def find(self, owner: str) -> Installation | None:
        """Return the installation for an owner, in any letter case, if it is known."""
        return self._by_login.get(owner.lower())

    def by_id(self, installation_id: int) -> Installation | None:
        """Return the installation of an id, if it is known."""
        return self._by_id.get(installation_id)

    async def installation_for(self, owner: str) -> Installation:
        """Return the installation for an owner, and ask GitHub where it is not known.

        Raises AccessError where there is none, and StackitError where that cannot be known now.
        """
        found = self.find(owner)
        if found is None:
            now, asked = self.reactor.seconds(), self._missing.get(owner.lower())
            if self._failure is not None and now < self._list_at:
                raise self._failure
            if asked is None or now - asked >= _MISSING_FOR:
                await self.installations()
            found = self.find(owner)
        if found is None:
            self._missing.setdefault(owner.lower(), self.reactor.seconds())
            self._keep_watch()
            raise AccessError(self.no_installation(owner), "uninstalled")
        return found

    def no_installation(self, owner: str) -> str:
        """Return what an operator has to know of an owner without an installation."""
        return f"App {self.name} is not installed for {owner}: install it there at {self.config.web_url}"

    async def installations(self) -> tuple[Installation, ...]:
        """Ask GitHub for the installations, and return them. Several who ask at once share the requests.

        Raises StackitError where GitHub did not list all of them; then those that were known stay as they are.
        """
        self.check()
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        if self._listing is None:
            self._listing = listing = self._background.run(self._list())
            if listing.called:
                self._listing = None
        try:
            await waiting
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
        return tuple(self)

    async def _list(self) -> None:
        problem: StackitError | None = StackitError("stackit stops")
        try:
            listed: list[InstallationRecord] = []
            async for page in self.client.pages("/app/installations", list[InstallationRecord]):
                listed += page
            problem = None
        except ApiError as refused:
            problem = self.refused(refused) if refused.reason == "unauthorized" else self._not_listed(refused)
        except StackitError as unreadable:  # the key
            problem = self.refused(unreadable)
        else:
            self.accepted()
            await self._take(listed)
        finally:
            self._listing = None
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                if problem is None:
                    each.callback(None)
                else:
                    each.errback(problem)

    def _not_listed(self, problem: ApiError) -> ApiError:
        """Take note of a list that failed: those who look for an owner do not ask again at once."""
        self._failures += 1
        pause = min(2.0 ** (self._failures - 1), _LONGEST_UNLISTED)
        if problem.retry_at is not None:
            pause = max(pause, problem.retry_at - self.now())
        self._failure, self._list_at = problem, self.reactor.seconds() + pause
        return problem

    async def _take(self, listed: list[InstallationRecord]) -> None:
        self.listed_at = self.now()
        self._failure, self._failures = None, 0
        self._missing.clear()
        for record in listed:
            known = self._by_id.get(record.id)
            if known is None:
                self.keep(Installation(self, record))
            else:
                known.update(record)
        # A list may be wrong, or lack what moved to another page: what is not in it is asked for by its id.
        there = {record.id for record in listed}
        for each in self:
            if each.id not in there and each.state != "uninstalled":
                await each.look(anew=True)

    def keep(self, installation: Installation) -> None:
        """Find an installation by its id, and by the name of its account, also by those that it had before."""
        self._by_id[installation.id] = installation
        login = installation.account.login.lower()
        before, self._by_login[login] = self._by_login.get(login), installation
        if before is not None and before is not installation and before.state == "uninstalled":
            self._forget(before)  # the App was installed anew
            self._recovered(self)

    def miss(self, installation: Installation) -> None:
        """Take note that GitHub has no such installation any more."""
        if self.find(installation.account.login) is not installation:  # the App was installed anew
            self._forget(installation)
            self._recovered(self)
        elif self._is_wanted(self, installation.account.login.lower()):
            installation.disappear()
        else:
            self._forget(installation)

    def _forget(self, installation: Installation) -> None:
        installation.stop()
        self.clients.limits.forget(f"{self.name}/{installation.id}")
        self._by_id.pop(installation.id, None)
        for login in [login for login, each in self._by_login.items() if each is installation]:
            del self._by_login[login]

    # -- the App itself -----------------------------------------------------------

    @property
    def problem(self) -> str | None:
        """Return why GitHub refuses the App itself; None while it does not, as far as is known."""
        return self._standing.problem

    def check(self) -> None:
        """Raise AccessError while GitHub refuses the App, and it is too early to try again."""
        self._standing.check()

    def refused(self, problem: StackitError) -> AccessError:
        """Take note that GitHub refuses the App, or that its key cannot be read; return the error to raise."""
        error = self._standing.refused(problem)
        self._keep_watch()
        return error

    def accepted(self) -> None:
        """Take note that GitHub takes the App's key."""
        if self._standing.accepted():
            self._recovered(self)

    def changed(self, installation: Installation) -> None:
        """Tell of the new state of an installation."""
        if installation.state == "active":
            self._notice(f"App {self.name}: its installation for {installation.account.login} is active again")
            self._recovered(self)
        else:
            self._notice(installation.reason)
            self._keep_watch()

    def count_mint(self, result: str) -> None:
        """Count a request for a token, by how it ended."""
        self._counts.minted(self.name, result)

    # -- the watch ----------------------------------------------------------------

    def _keep_watch(self) -> None:
        """Look for the end of a trouble, from now on until there is none."""
        if self._watch is None and not self._stopped:
            self._next_look = self.reactor.seconds() + LOOK_EVERY
            self._watch = self.reactor.callLater(WATCH_EVERY, self._look)

    def _look(self) -> None:
        self._watch = None
        if not self._in_trouble():
            return
        now = self.reactor.seconds()
        self._watch = self.reactor.callLater(WATCH_EVERY, self._look)
        if self._standing.is_due if self.problem is not None else now >= self._next_look:
            self._next_look = now + LOOK_EVERY
            self._background.run(self.look_again())

    def _in_trouble(self) -> bool:
        return self.problem is not None or bool(self._missing) or any(each.state != "active" for each in self)

    async def look_at(self, installation_id: int | None) -> None:
        """Ask GitHub for an installation now, as after an event that tells of it. Never raises."""
        known = None if installation_id is None else self._by_id.get(installation_id)
        if known is None:
            await self.look_again()
        else:
            await known.look(anew=True)

    async def look_again(self) -> None:
        """Ask GitHub for the installations now. Never raises."""
        try:
            await self.installations()
        except StackitError as problem:
            if self.problem is None and self._failures == 1:
                self._notice(f"App {self.name}: its installations are not known anew: {problem}")

    async def stop(self) -> None:
        """End what runs in the background, and make no more tokens."""
        self._stopped = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        for each in self:
            each.stop()
        await self._background.stop()
