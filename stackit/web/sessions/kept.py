"""What the journal keeps of sessions, so that each fact is written by itself.

A session is written once, and deleted once. When it was last seen, and the role that its person has by now, are
documents of their own. So a node of a fleet that notes either cannot bring back a session that another node has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

import msgspec

from stackit.api.person import Person
from stackit.api.reactor import Timers
from stackit.journal import JournalProtocol
from stackit.journal.followed import FollowedDocuments
from stackit.journal.write_behind import WriteBehind
from stackit.web.sessions.session import Session

COLLECTION = "sessions"
SEEN = "sessions-seen"
PEOPLE = "people"

Changes = Mapping[str, bytes | None]
Value = TypeVar("Value")


class KeptSessions:
    """The documents of sessions."""

    def __init__(self, journal: JournalProtocol, *, shared: bool) -> None:
        self._journal = journal
        self._shared = shared
        self._sessions = WriteBehind(journal, COLLECTION)
        self._seen = WriteBehind(journal, SEEN)
        self._people = WriteBehind(journal, PEOPLE)
        self._followed: list[FollowedDocuments] = []

    # -- write --------------------------------------------------------------------

    def begin(self, session: Session) -> None:
        """Keep a new session."""
        self._sessions.put(session.key, msgspec.json.encode(session))

    def end(self, key: str) -> None:
        """Keep nothing of a session any more."""
        self._sessions.put(key, None)
        self._seen.put(key, None)

    def drop(self, key: str) -> None:
        """Write nothing of a session that another node has ended."""
        self._sessions.drop(key)
        self._seen.drop(key)

    def seen(self, key: str, at: float) -> None:
        """Keep when a session was last seen."""
        self._seen.put(key, msgspec.json.encode(at))

    def person(self, person: Person) -> None:
        """Keep the role and the name that a person has by now."""
        self._people.put(person.id, msgspec.json.encode(person))

    def forget_person(self, person_id: str) -> None:
        """Keep nothing of a person who has no session any more."""
        self._people.put(person_id, None)

    def write(self) -> None:
        """Write what could not be written before."""
        for each in (self._sessions, self._seen, self._people):
            each.write()

    async def flush(self) -> None:
        """Write what is not written yet, as far as the journal takes it."""
        for each in (self._sessions, self._seen, self._people):
            await each.flush()

    async def written(self) -> None:
        """Return once what was begun and ended is written, as far as the journal takes it now."""
        await self._sessions.settled()

    def is_written(self, key: str) -> bool:
        """Return whether the journal has what became of a session."""
        return not self._sessions.is_pending(key)

    # -- read ---------------------------------------------------------------------

    def load(self) -> tuple[dict[str, Session], dict[str, float], dict[str, Person]]:
        """Return the sessions, when each was last seen, and the people. Blocks; raises JournalError.

        Documents that are none, and those of sessions that are gone, are thrown away; where the journal is ``shared``,
        nothing is as long as there is a session that cannot be read: it may be of a newer node.
        """
        documents = [self._journal.documents_now(each) for each in (COLLECTION, SEEN, PEOPLE)]
        sessions = decoded(documents[0], Session)
        seen, people = decoded(documents[1], float), decoded(documents[2], Person)
        unread = documents[0].keys() - sessions.keys()
        if unread and self._shared:
            return sessions, seen, people
        for key in unread:
            self._sessions.put(key, None)
        for key in documents[1].keys() - (seen.keys() & sessions.keys()):
            self._seen.put(key, None)
        for key in documents[2].keys() - {each.person.id for each in sessions.values()}:
            self._people.put(key, None)
        return sessions, seen, people

    async def find(self, key: str) -> tuple[Session, float | None, Mapping[str, Person]] | None:
        """Return a session that the journal has, when it was last seen, and its person as kept. Raises JournalError."""
        session = decoded(await self._journal.documents(COLLECTION, [key]), Session).get(key)
        if session is None:
            return None
        seen = decoded(await self._journal.documents(SEEN, [key]), float).get(key)
        return session, seen, decoded(await self._journal.documents(PEOPLE, [session.person.id]), Person)

    # -- other nodes --------------------------------------------------------------

    def follow(
        self,
        *,
        sessions: Callable[[Changes], None],
        seen: Callable[[Changes], None],
        people: Callable[[Changes], None],
        known: Callable[[], Collection[str]],
        reactor: Timers,
    ) -> None:
        """Be told of what other nodes write. ``known`` returns the keys of the sessions that the journal had."""
        for collection, take, keys in ((COLLECTION, sessions, known), (SEEN, seen, tuple), (PEOPLE, people, tuple)):
            self._followed.append(FollowedDocuments(self._journal, collection, take, known=keys, reactor=reactor))

    async def stop(self) -> None:
        """Be told of nothing more, and write everything."""
        for each in self._followed:
            await each.stop()
        await self.flush()


def decoded(documents: Changes, kind: type[Value]) -> dict[str, Value]:
    """Return the documents that are of a kind; others are left out."""
    found: dict[str, Value] = {}
    for key, document in documents.items():
        if document is not None:
            try:
                found[key] = msgspec.json.decode(document, type=kind)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
    return found
