"""Users and organizations, which own repositories."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from stackit.testing.objects import Json, number, organization, user

Kind = Literal["Organization", "User"]


class Owner:
    """A user or an organization. Its id stays when its login changes."""

    def __init__(self, login: str, kind: Kind, id: int) -> None:  # noqa: A002 - GitHub's word
        self.login = login
        self.kind = kind
        self.id = id

    def json(self) -> Json:
        """Return it as ``account`` or ``owner`` of another object."""
        return {**user(self.login, self.kind), "id": self.id, "node_id": self.node_id}

    @property
    def node_id(self) -> str:
        return f"{'O' if self.kind == 'Organization' else 'U'}_{self.id}"

    def organization(self) -> Json:
        """Return it as the ``organization`` of an event."""
        return {**organization(self.login), "id": self.id, "node_id": self.node_id}


class Owners:
    """Every owner, by its login in any letter case."""

    def __init__(self) -> None:
        self._by_login: dict[str, Owner] = {}
        self._ids: set[int] = set()

    def __iter__(self) -> Iterator[Owner]:
        return iter(self._by_login.values())

    def find(self, login: str) -> Owner | None:
        """Return an owner, or None."""
        return self._by_login.get(login.lower())

    def get(self, login: str | Owner, kind: Kind = "Organization") -> Owner:
        """Return an owner, made where there is none with that login. ``kind`` is that of a new one."""
        if isinstance(login, Owner):
            return login
        found = self.find(login)
        if found is None:
            found = self._by_login[login.lower()] = Owner(login, kind, unused(login, self._ids))
        return found

    def check_free(self, login: str, besides: Owner) -> None:
        """Raises ValueError where another owner than ``besides`` has the login."""
        if self._by_login.get(login.lower(), besides) is not besides:
            raise ValueError(f"there is an owner {login} already")

    def rename(self, owner: Owner, login: str) -> None:
        """Give an owner another login; the old one is free for others. Raises ValueError for one that is taken."""
        self.check_free(login, owner)
        del self._by_login[owner.login.lower()]
        owner.login = login
        self._by_login[login.lower()] = owner


def unused(name: str, taken: set[int]) -> int:
    """Return an id for what is called ``name``: the same on every run, and of nothing else, also of nothing past."""
    attempt = 1
    while (found := number(name if attempt == 1 else f"{name}#{attempt}")) in taken:
        attempt += 1
    taken.add(found)
    return found
