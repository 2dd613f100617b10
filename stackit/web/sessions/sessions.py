"""The sessions of people: made, found, ended, kept over a restart, and shared by the nodes of a fleet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import msgspec

from stackit.api.errors import JournalError
from stackit.api.person import Person
from stackit.api.reactor import Timers, looping_call
from stackit.journal import JournalProtocol
from stackit.web.sessions.kept import Changes, KeptSessions, decoded
from stackit.web.sessions.session import Kind, Session, is_token, key_of, new_token

MOST = 2000
"""Sessions in all."""
MOST_OF_ONE = 50
"""Sessions of one person. Where there are more, the one that was seen longest ago ends."""

_SWEEP = 30.0
_LATE = 300.0
"""Seconds by which the time that is kept of the last request may be behind."""
_SKEW = 300.0
"""Seconds by which a session may have been made in the future, by a clock that was set back since."""
_APART = 5.0
"""Seconds by which a look at the role of a person may seem to be yet to come, by another node's measure of the time."""
_REMEMBERED = 600.0
"""Seconds for which a session that was ended here is not taken from the journal any more, whatever it says;
longer where that could not be written yet.
"""
_MISSED = 30.0
_MOST_MISSED = 1000
"""Seconds for which a token without a session is not looked up again, and the number of them."""


class Sessions:
    """The sessions. ``now`` is the wall clock, ``idle`` and ``absolute`` are the seconds after which they end.

    Where the journal is ``shared``, other nodes begin and end sessions, too: what they do is followed, and a session
    that is not known here yet can be looked up.
    """

    def __init__(
        self,
        journal: JournalProtocol,
        *,
        reactor: Timers,
        now: Callable[[], float],
        idle: float,
        absolute: float,
        shared: bool = False,
    ) -> None:
        self._kept = KeptSessions(journal, shared=shared)
        self._reactor = reactor
        self._shared = shared
        self._now = now
        self._idle = idle
        self._absolute = absolute
        self._sessions: dict[str, Session] = {}
        self._people: dict[str, Person] = {}  # of whom a look at their role has told since they logged in
        self._kept_at: dict[str, float] = {}  # the ``seen_at`` that the journal has
        self._ended: dict[str, float] = {}
        self._missed: dict[str, float] = {}
        self._on_end: defaultdict[str, list[Callable[[], None]]] = defaultdict(list)
        self._sweeping = looping_call(reactor, self.sweep)

    @property
    def absolute(self) -> float:
        """Return the seconds after which every session ends."""
        return self._absolute

    def change(self, *, idle: float, absolute: float) -> None:
        """Have sessions end after other times, those that are there too."""
        self._idle, self._absolute = idle, absolute
        self.sweep()

    def load(self) -> None:
        """Read the sessions of the last process, and of other nodes. It blocks. Raises JournalError."""
        sessions, seen, people = self._kept.load()
        self._people = {**people, **self._people}
        for key, session in sessions.items():
            if key not in self._ended:
                self._take(session, seen.get(key))

    def start(self) -> None:
        """End sessions in time, and follow what other nodes do, from now on."""
        self._sweeping.start(_SWEEP, now=True)
        if self._shared:
            self._kept.follow(
                sessions=self._follow_sessions,
                seen=self._follow_seen,
                people=self._follow_people,
                known=lambda: [key for key in self._sessions if self._kept.is_written(key)],
                reactor=self._reactor,
            )

    async def stop(self) -> None:
        """Write what the journal does not have yet."""
        if self._sweeping.running:
            self._sweeping.stop()
        for key, session in self._sessions.items():
            if session.seen_at != self._kept_at[key]:
                self._keep_seen(session)
        await self._kept.stop()

    # -- one session --------------------------------------------------------------

    def create(self, person: Person, *, kind: Kind = "browser", proof: Callable[[str], str] = lambda _: "") -> str:
        """Begin a session, and return its token, which is kept nowhere. ``proof`` returns that of the token."""
        token, now = new_token(), self._now()
        session = Session(key=key_of(token), person=person, kind=kind, created_at=now, seen_at=now, proof=proof(token))
        same = [each for each in self._sessions.values() if each.person.id == person.id]
        for crowd, most in ((same, MOST_OF_ONE), (list(self._sessions.values()), MOST)):
            if len(crowd) >= most:
                self.end(min(crowd, key=lambda each: each.seen_at).key)
        self._sessions[session.key] = session
        self._kept.begin(session)
        self._kept_at[session.key] = now
        return token

    def find(self, token: str, kind: Kind = "browser", *, is_seen: bool = True) -> Session | None:
        """Return the session of a token, which ``is_seen`` by that; None where it has ended, or never was."""
        session = self._sessions.get(key_of(token))
        if session is None or session.kind != kind:
            return None
        now = self._now()
        if self._has_ended(session, now):
            self.end(session.key)
            return None
        if is_seen and now != session.seen_at:
            session = self._sessions[session.key] = msgspec.structs.replace(session, seen_at=now)
            if now - self._kept_at[session.key] >= min(_LATE, self._idle / 8):
                self._keep_seen(session)
        return session

    def may_be_known(self, token: str) -> bool:
        """Return whether a token that is not known here may be of a session that another node has just begun."""
        if not self._shared or not is_token(token):
            return False
        key = key_of(token)
        return not self._is_known(key) and not 0 <= self._now() - self._missed.get(key, -_MISSED) < _MISSED

    async def look_up(self, token: str) -> bool:
        """Take the session of a token from the journal, if it is there, and return whether it is.

        Whoever has a token of another node got it when that had written its session.
        """
        key = key_of(token)
        try:
            found = await self._kept.find(key)
        except JournalError:  # the journal tells of it itself
            return False
        if found is None:
            if len(self._missed) >= _MOST_MISSED:
                del self._missed[next(iter(self._missed))]
            self._missed[key] = self._now()
        elif not self._is_known(key):
            session, seen_at, people = found
            self._people.update(people)
            self._take(session, seen_at)
        return found is not None

    async def settled(self) -> None:
        """Return once the other nodes can know what was begun and ended here; at once where there are none."""
        if self._shared:
            await self._kept.written()

    def end(self, key: str) -> None:
        """End a session by its key, and tell those who wait for that."""
        self._ended[key] = self._now()
        if key in self._sessions:
            self._kept.end(key)
        self._forget(key)

    def _forget(self, key: str) -> None:
        session = self._sessions.pop(key, None)
        self._kept_at.pop(key, None)
        person = None if session is None else self._people.get(session.person.id)
        if person is not None and all(each.person.id != person.id for each in self._sessions.values()):
            del self._people[person.id]
            self._kept.forget_person(person.id)
        self._tell(key)

    def _tell(self, key: str) -> None:
        for tell in self._on_end.pop(key, ()):
            tell()

    def when_ended(self, key: str, tell: Callable[[], None]) -> Callable[[], None]:
        """Have ``tell`` called once when a session ends, or its person gets another role (at once, if it has ended).

        Returns a function that calls it off.
        """
        if key not in self._sessions:
            tell()
            return _nothing
        self._on_end[key].append(tell)

        def call_off() -> None:
            waiting = self._on_end.get(key, [])
            if tell in waiting:
                waiting.remove(tell)
            if not waiting:
                self._on_end.pop(key, None)

        return call_off

    # -- people -------------------------------------------------------------------

    def all(self) -> list[Session]:
        """Return the sessions that have not ended."""
        return list(self._sessions.values())

    def people(self) -> list[Person]:
        """Return everybody who has a session, each once."""
        return list({each.person.id: each.person for each in self._sessions.values()}.values())

    def update(self, person: Person) -> None:
        """Have the sessions of a person (by ``id``) go on with another role or name."""
        if any(each.person.id == person.id and each.person != person for each in self._sessions.values()):
            self._people[person.id] = person
            self._kept.person(person)
            self._give(person)

    def _give(self, person: Person) -> None:
        for key, session in list(self._sessions.items()):
            if session.person.id == person.id and session.person != person:
                self._sessions[key] = msgspec.structs.replace(session, person=person)
                if session.person.role != person.role:
                    self._tell(key)

    def end_user(self, person_id: str) -> int:
        """End every session of a person; return how many there were."""
        keys = [key for key, session in self._sessions.items() if session.person.id == person_id]
        for key in keys:
            self.end(key)
        return len(keys)

    # -- other nodes --------------------------------------------------------------

    def _is_known(self, key: str) -> bool:
        return key in self._sessions or key in self._ended

    def _take(self, session: Session, seen_at: float | None) -> None:
        """Take a session of the journal, with the role that its person has by now."""
        person = self._newer(session.person, self._people.get(session.person.id))
        seen_at = max(session.seen_at, session.seen_at if seen_at is None else seen_at)
        self._sessions[session.key] = msgspec.structs.replace(session, person=person, seen_at=seen_at)
        self._kept_at[session.key] = seen_at

    def _follow_sessions(self, changes: Changes) -> None:
        self._kept.write()  # the journal can be read: perhaps it is just back, and the others wait for what ended here
        begun = decoded(changes, Session)
        for key, document in changes.items():
            if document is None and key in self._sessions and self._kept.is_written(key):
                self._kept.drop(key)
                self._forget(key)
            elif key in begun and not self._is_known(key):
                self._take(begun[key], None)

    def _follow_seen(self, changes: Changes) -> None:
        for key, seen_at in decoded(changes, float).items():
            session = self._sessions.get(key)
            if session is not None and session.seen_at < seen_at:
                self._sessions[key] = msgspec.structs.replace(session, seen_at=seen_at)
                self._kept_at[key] = seen_at

    def _follow_people(self, changes: Changes) -> None:
        for person in decoded(changes, Person).values():
            known = self._people.get(person.id)
            known = known or next((each for each in self.people() if each.id == person.id), person)
            if self._newer(known, person) is person:
                self._people[person.id] = person
                self._give(person)

    def _newer(self, known: Person, told: Person | None) -> Person:
        """Return a person as they were looked up last; as they are told of where both are of the same time.

        A look that is yet to come was dated before the clock was set back: it is no reason to ignore what is told now.
        """
        if told is None:
            return known
        at = known.confirmed_at or 0.0
        return known if (told.confirmed_at or 0.0) < at <= self._now() + _APART else told

    # -- time and the journal -----------------------------------------------------

    def sweep(self) -> None:
        """End the sessions whose time is over, and write again what could not be written."""
        now = self._now()
        for key in [key for key, session in self._sessions.items() if self._has_ended(session, now)]:
            self.end(key)
        self._ended = {
            key: at for key, at in self._ended.items() if 0 <= now - at < _REMEMBERED or not self._kept.is_written(key)
        }
        self._missed = {key: at for key, at in self._missed.items() if 0 <= now - at < _MISSED}
        self._kept.write()

    def _has_ended(self, session: Session, now: float) -> bool:
        age = now - session.created_at
        return not -_SKEW <= age < self._absolute or now - session.seen_at >= self._idle

    def _keep_seen(self, session: Session) -> None:
        self._kept.seen(session.key, session.seen_at)
        self._kept_at[session.key] = session.seen_at


def _nothing() -> None:
    """Call nothing off."""
