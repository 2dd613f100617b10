"""What the login asks of the admin side, which has the sessions and writes down who came in and who did not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from stackit.api.admin import AdminRequest, Response
from stackit.api.person import Person


class People(Protocol):
    """The people who are logged in."""

    def people(self) -> Sequence[Person]:
        """Return everybody who has a session, each once."""

    def update(self, person: Person) -> None:
        """Have the sessions of a person (by ``id``) go on with another role or name."""

    def end_user(self, person_id: str) -> int:
        """End every session of a person; return how many there were."""


class Entrance(Protocol):
    """The door of the admin side, for people whom GitHub knows."""

    @property
    def sessions(self) -> People:
        """The people who are logged in."""

    def admit(self, request: AdminRequest, person: Person, following: str) -> Response:
        """Begin a session of the browser that asks, and send it to ``following``, a path of the admin side."""

    def issue(self, request: AdminRequest, person: Person) -> tuple[str, float]:
        """Begin a session of a shell; return its token, and when it ends at the latest, in seconds since the epoch."""

    def refuse(self, request: AdminRequest, name: str, reason: str) -> None:
        """Write down that somebody was refused. ``name`` tells people who it is, "" where that is not known."""

    def leave(self, request: AdminRequest, following: str) -> Response:
        """End the session of the one who asks."""
