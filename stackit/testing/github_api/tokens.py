"""Tokens: those of installations, in both formats, and fine-grained personal ones."""

from __future__ import annotations

import base64
import secrets
import string
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Literal

from stackit.testing.github_api.apps import READ, Installation, PretendApp
from stackit.testing.github_api.clock import DAY, SettableClock
from stackit.testing.github_api.owners import Owner, Owners
from stackit.testing.github_api.repositories import HostedRepository

HOUR = 3600.0

Format = Literal["short", "long"]
"""40 characters; or some 520, which hold two dots."""

Usable = Literal["yes", "unknown yet", "without its permissions yet", "expired", "revoked"]


class Token:
    """A token: whom it stands for, what it may do to which repositories, and until when.

    ``repository_ids`` are those that it was narrowed to, or None. A token of an App has an ``installation``, a
    personal one an ``owner`` whose repositories it reads, and a ``person`` who made it.
    """

    def __init__(
        self,
        value: str,
        clock: SettableClock,
        *,
        permissions: Mapping[str, str],
        expires_at: float,
        owner: Owner,
        installation: Installation | None = None,
        person: Owner | None = None,
        repository_ids: frozenset[int] | None = None,
        delay: float = 0.0,
    ) -> None:
        self.value = value
        self.permissions = dict(permissions)
        self.created_at = clock.now()
        self.expires_at = expires_at
        self.owner = owner
        self.installation = installation
        self.person = person
        self.repository_ids = repository_ids
        self.revoked = False
        self._clock = clock
        self._delay = delay

    @property
    def usable(self) -> Usable:
        """Whether it can be used now. A new one is unknown to GitHub's servers at first, then without permissions."""
        now = self._clock.now()
        if self.revoked or (self.installation is not None and self.installation.uninstalled):
            return "revoked"
        if now >= self.expires_at:
            return "expired"
        if now < self.created_at + self._delay / 2:
            return "unknown yet"
        return "without its permissions yet" if now < self.created_at + self._delay else "yes"

    def may(self, permission: str, access: str = "read") -> bool:
        """Return whether it has a permission, which its installation has still."""
        granted = [self.permissions.get(permission)]
        if self.installation is not None:
            granted.append(self.installation.permissions.get(permission))
        enough = ("read", "write", "admin") if access == "read" else ("write", "admin")
        return all(each in enough for each in granted)

    def reaches(self, repository: HostedRepository) -> bool:
        """Return whether it stands for a repository, however little it may do there."""
        if self.repository_ids is not None and repository.id not in self.repository_ids:
            return False
        if self.installation is not None:
            return self.installation.reaches(repository)
        return repository.owner is self.owner and not repository.deleted


class Tokens:
    """Every token ever made.

    ``format`` is that of an installation's tokens from now on. ``replication_delay``: seconds in which a new token
    does not work yet. ``minted`` counts the tokens of each installation by its id.
    """

    def __init__(self, clock: SettableClock, owners: Owners) -> None:
        self.format: Format = "short"
        self.replication_delay = 0.0
        self.minted: Counter[int] = Counter()
        self._clock = clock
        self._owners = owners
        self._tokens: dict[str, Token] = {}

    def __iter__(self) -> Iterator[Token]:
        """Iterate over every token, also those that ended."""
        return iter(self._tokens.values())

    def find(self, value: str) -> Token | None:
        """Return a token by its text, also one that expired; None for what never was one."""
        return self._tokens.get(value)

    def mint(
        self,
        installation: Installation,
        *,
        permissions: Mapping[str, str] | None = None,
        repository_ids: frozenset[int] | None = None,
        format: Format | None = None,  # noqa: A002 - the word for it
    ) -> Token:
        """Make a token of an installation, which lasts an hour."""
        self.minted[installation.id] += 1
        value = _long(installation.app) if (format or self.format) == "long" else f"ghs_{_letters(36)}"
        made = Token(
            value,
            self._clock,
            permissions=installation.permissions if permissions is None else permissions,
            expires_at=self._clock.now() + HOUR,
            owner=installation.owner,
            installation=installation,
            repository_ids=repository_ids,
            delay=self.replication_delay,
        )
        self.add(made)
        return made

    def personal(
        self,
        person: str | Owner,
        owner: str | Owner,
        *,
        permissions: Mapping[str, str] = READ,
        expires_in: float = 366 * DAY,
        repository_ids: frozenset[int] | None = None,
    ) -> Token:
        """Make a fine-grained token of a person for repositories of an owner; its ``value`` is what is sent.

        ``expires_in`` is seconds. Every answer to it has the time when it ends.
        """
        made = Token(
            f"github_pat_{_letters(22)}_{_letters(59)}",
            self._clock,
            permissions=permissions,
            expires_at=self._clock.now() + expires_in,
            owner=self._owners.get(owner),
            person=self._owners.get(person, "User"),
            repository_ids=repository_ids,
        )
        self.add(made)
        return made

    def add(self, token: Token) -> None:
        """Let a token of any other kind in."""
        self._tokens[token.value] = token

    def revoke(self, value: str) -> None:
        """Revoke a token. Raises LookupError."""
        self._tokens[value].revoked = True

    def revoke_all(self, installation: Installation) -> None:
        """Revoke every token of an installation."""
        for each in self._tokens.values():
            each.revoked |= each.installation is installation


def _letters(length: int) -> str:
    alphabet = string.ascii_letters + string.digits
    return "".join(secrets.choice(alphabet) for _ in range(length))


def _long(app: PretendApp) -> str:
    """Return a token of the newer format: the App's id and what looks like a JWT, so with ``.``, ``_`` and ``-``."""
    head = base64.urlsafe_b64encode(b'{"alg":"ES256","typ":"JWT","kid":"1"}').decode().rstrip("=")
    return f"ghs_{app.id}_{head}.{_letters(200)}-{_letters(40)}_{_letters(135)}.{_letters(60)}-{_letters(25)}"
