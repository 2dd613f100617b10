"""The sessions of people: made, found, ended, and kept over a restart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import msgspec
from twisted.internet.task import LoopingCall

from stackit.api.person import Person
from stackit.api.reactor import Timers
from stackit.journal import JournalProtocol
from stackit.journal.write_behind import WriteBehind
from stackit.web.sessions.session import Kind, Session, key_of, new_token

COLLECTION = "sessions"
MOST = 2000
"""Sessions in all."""
MOST_OF_ONE = 50
"""Sessions of one person. Where there are more, the one that was seen longest ago ends."""

_SWEEP = 30.0
_LATE = 300.0
"""Seconds by which the time that is kept of the last request may be behind."""
_SKEW = 300.0
"""Seconds by which a session may have been made in the future, by a clock that was set back since."""


class Sessions:
    """The sessions. ``now`` is the wall clock, ``idle`` and ``absolute`` are the seconds after which they end."""

    def __init__(
        self, journal: JournalProtocol, *, reactor: Timers, now: Callable[[], float], idle: float, absolute: float
    ) -> None:
        self._kept = WriteBehind(journal, COLLECTION)
        self._journal = journal
        self._now = now
        self._idle = idle
        self._absolute = absolute
        self._sessions: dict[str, Session] = {}
        self._kept_at: dict[str, float] = {}  # the ``seen_at`` that the journal has
        self._on_end: defaultdict[str, list[Callable[[], None]]] = defaultdict(list)
        self._sweeping = LoopingCall(self.sweep)
        self._sweeping.clock = reactor  # type: ignore[assignment]  # Twisted asks for a zope interface

    @property
    def absolute(self) -> float:
        """Return the seconds after which every session ends."""
        return self._absolute

    def change(self, *, idle: float, absolute: float) -> None:
        """Have sessions end after other times, those that are there too."""
        self._idle, self._absolute = idle, absolute
        self.sweep()

    def load(self) -> None:
        """Read the sessions of the last process. It blocks. Raises JournalError."""
        for key, document in self._journal.documents_now(COLLECTION).items():
            try:
                session = msgspec.json.decode(document, type=Session)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self._kept.put(key, None)
                continue
            self._sessions[key] = session
            self._kept_at[key] = session.seen_at

    def start(self) -> None:
        """End sessions in time from now on."""
        self._sweeping.start(_SWEEP, now=True)

    async def stop(self) -> None:
        """Write what the journal does not have yet."""
        if self._sweeping.running:
            self._sweeping.stop()
        for session in self._sessions.values():
            self._keep(session)
        await self._kept.flush()

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
        self._keep(session)
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
                self._keep(session)
        return session

    def end(self, key: str) -> None:
        """End a session by its key, and tell those who wait for that."""
        if self._sessions.pop(key, None) is not None:
            self._kept_at.pop(key, None)
            self._kept.put(key, None)
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
        for key, session in list(self._sessions.items()):
            if session.person.id == person.id and session.person != person:
                self._sessions[key] = msgspec.structs.replace(session, person=person)
                self._keep(self._sessions[key])
                if session.person.role != person.role:
                    self._tell(key)

    def end_user(self, person_id: str) -> int:
        """End every session of a person; return how many there were."""
        keys = [key for key, session in self._sessions.items() if session.person.id == person_id]
        for key in keys:
            self.end(key)
        return len(keys)

    # -- time and the journal -----------------------------------------------------

    def sweep(self) -> None:
        """End the sessions whose time is over, and write again what could not be written."""
        now = self._now()
        for key in [key for key, session in self._sessions.items() if self._has_ended(session, now)]:
            self.end(key)
        self._kept.write()

    def _has_ended(self, session: Session, now: float) -> bool:
        age = now - session.created_at
        return not -_SKEW <= age < self._absolute or now - session.seen_at >= self._idle

    def _keep(self, session: Session) -> None:
        self._kept.put(session.key, msgspec.json.encode(session))
        self._kept_at[session.key] = session.seen_at


def _nothing() -> None:
    """Call nothing off."""
