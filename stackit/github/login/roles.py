"""The roles of the people who are logged in, looked up again every ten minutes, and when an event tells of a change."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec

from stackit.api.background import Background
from stackit.api.errors import StackitError
from stackit.api.person import Person
from stackit.api.reactor import Reactor
from stackit.config.login import LoginConfig
from stackit.config.model import Config
from stackit.github.apps import Apps, GitHubApp
from stackit.github.login.entrance import People
from stackit.github.login.identity import name_of, person_id, provider, user_id
from stackit.github.login.membership import Membership
from stackit.github.login.oauth import GitHubUser
from stackit.github.login.pins import Pins

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

EVERY = 600.0
"""Seconds between two looks at everybody."""
AGAIN = 60.0
"""Seconds until the next look after one at which GitHub could not be asked."""
GRACE = 3600.0
"""Seconds for which a role is believed that could not be looked up again."""
_SKEW = 300.0


class Roles:
    """Looks up the roles. ``config`` returns the configuration of now, ``now`` is the wall clock."""

    def __init__(
        self,
        people: People,
        membership: Membership,
        pins: Pins,
        apps: Apps,
        *,
        config: Callable[[], Config],
        reactor: Reactor,
        now: Callable[[], float],
        notice: Callable[[str], None],
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        """``leads`` returns whether this node looks at everybody: one of a fleet does, and the others follow."""
        self._leads = leads
        self._people = people
        self._membership = membership
        self._pins = pins
        self._apps = apps
        self._config = config
        self._reactor = reactor
        self._now = now
        self._notice = notice
        self._background = Background()
        self._timer: DelayedCall | None = None
        self._wanted: set[str] | None = set()  # ids; None for everybody
        self._is_looking = False
        self._stopped = False
        self.problems: tuple[str, ...] = ()
        """What could not be asked at the last look, a line each."""

    def start(self) -> None:
        """Look at everybody now, and every ten minutes."""
        self.look_at_everybody()

    async def stop(self) -> None:
        """Look no more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._background.stop()

    def look(self, people: Iterable[str] | None = None) -> None:
        """Look at people, by their ids of sessions, or at everybody, as soon as the look that goes on is over."""
        if self._stopped:
            return
        if people is None:
            self._wanted = None
        elif self._wanted is not None:
            self._wanted.update(people)
        if not self._is_looking and (self._wanted is None or self._wanted):
            self._is_looking = True
            self._background.run(self._look())

    def look_at_everybody(self) -> None:
        """Look at everybody, if this node does that, and again in a while."""
        if self._leads():
            self.look()
        else:
            self.problems = ()
            self._look_later(AGAIN)

    async def _look(self) -> None:
        try:
            while self._wanted is None or self._wanted:
                wanted, self._wanted = self._wanted, set()
                problems: dict[str, None] = {}
                if wanted is None:
                    problems |= dict.fromkeys(await self._look_at_logins())
                for person in list(self._people.people()):
                    if person.login and (wanted is None or person.id in wanted):
                        problems |= dict.fromkeys(await self._look_at(person))
                if wanted is None or problems:
                    self._tell(tuple(problems))
        finally:
            self._is_looking = False
            self._look_later(AGAIN if self.problems else EVERY)

    def _look_later(self, seconds: float) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None if self._stopped else self._reactor.callLater(seconds, self.look_at_everybody)

    def _tell(self, problems: tuple[str, ...]) -> None:
        for line in problems:
            if line not in self.problems:
                self._notice(f"roles of people are not known anew: {line}")
        self.problems = problems

    async def _look_at_logins(self) -> list[str]:
        """Remember whom the configuration names; return why that cannot be known."""
        login, app = self._of_now()
        names = [each[1:] for each in (*login.viewers, *login.operators) if each.startswith("@")]
        try:
            await self._pins.keep(names)
            if app is not None:
                await self._membership.pin(app, names)
        except StackitError as problem:
            return [str(problem)]
        return []

    async def _look_at(self, person: Person) -> list[str]:
        """Give a person the role of today; return what could not be asked."""
        login, app = self._of_now()
        known = user_id(person.id)
        if app is None or provider(app.config) != person.id.partition(":")[0] or known is None:
            self._end(person, "the configuration has another App for logins, or none")
            return []
        try:
            user = await self._membership.user(app, known)
        except StackitError as problem:
            self._unsure(person, person)
            return [str(problem)]
        if user is None:
            self._end(person, "GitHub has no such account any more")
            return []
        standing = await self._membership.look_up(app, user, login)
        if standing.role is None and not standing.problems:
            self._end(person, f"[login] has neither viewers nor operators that {user.login} is one of any more")
            return []
        if standing.problems and standing.role != person.role and standing.role != "operator":
            self._unsure(person, None if standing.role is None else self._person(user, person, standing.role))
            return list(standing.problems)
        self._people.update(
            msgspec.structs.replace(
                person,
                role=standing.role or person.role,
                login=user.login,
                name=name_of(user),
                confirmed_at=self._now(),
            )
        )
        return list(standing.problems)

    def _person(self, user: GitHubUser, person: Person, role: str) -> Person:
        return msgspec.structs.replace(person, role=role, login=user.login, name=name_of(user))

    def _unsure(self, person: Person, otherwise: Person | None) -> None:
        """Keep the role for the grace, as GitHub cannot be asked; after it, the person is ``otherwise`` or nobody."""
        age = self._now() - (person.confirmed_at or 0.0)
        if -_SKEW <= age < GRACE:
            return
        if otherwise is None or otherwise is person:
            self._end(person, "GitHub could not be asked for an hour")
        elif otherwise != person:
            self._people.update(otherwise)

    def _end(self, person: Person, reason: str) -> None:
        ended = self._people.end_user(person.id)
        if ended:
            self._notice(f"{person.name} is logged out: {reason}")

    def end(self, app: GitHubApp, user: int, reason: str) -> None:
        """End the sessions of a person whom an App knows by an id."""
        found = person_id(app.config, user)
        for person in list(self._people.people()):
            if person.id == found:
                self._end(person, reason)

    def ids(self, app: GitHubApp, users: Iterable[int]) -> list[str]:
        """Return the ids of sessions of people whom an App knows by these ids."""
        return [person_id(app.config, each) for each in users]

    def _of_now(self) -> tuple[LoginConfig, GitHubApp | None]:
        login = self._config().login
        return login, None if login.app is None else self._apps.get(login.app)
