"""GitHub Apps, their keys, and where they are installed."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from stackit.testing.github_api.changes import Change, Changes
from stackit.testing.github_api.clock import SettableClock
from stackit.testing.github_api.owners import Owner, Owners
from stackit.testing.github_api.repositories import HostedRepository, Repositories

READ = {"contents": "read", "metadata": "read"}

Repos = Literal["all"] | Sequence[str]
"""All repositories of an owner, or some by their names."""


class PretendApp:
    """A GitHub App. ``private_key`` is the PEM text of its newest key, which GitHub itself does not keep.

    ``callback_urls``: where people may be sent back to after a login.
    """

    def __init__(self, apps: Apps, id: int, name: str, owner: Owner) -> None:  # noqa: A002 - GitHub's word
        self.id = id
        self.name = name
        self.slug = name.lower().replace(" ", "-")
        self.owner = owner
        self.client_id = f"Iv23li{secrets.token_hex(7)}"
        self.client_secret = secrets.token_hex(20)
        self.webhook_secret = secrets.token_hex(20)
        self.permissions: dict[str, str] = dict(READ)
        self.events: list[str] = ["push", "repository"]
        self.callback_urls: list[str] = []
        self.created_at = apps.clock.now()
        self.public_keys: list[RSAPublicKey] = []
        self.private_key = ""
        self._apps = apps
        self.add_key()

    def add_key(self) -> str:
        """Make another key, and return its PEM text. The older ones stay valid."""
        key = generate_private_key(public_exponent=65537, key_size=2048)
        self.public_keys.append(key.public_key())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        self.private_key = pem.decode()
        return self.private_key

    def write_key(self, path: Path) -> Path:
        """Write the private key to a file that nobody else can read, and return its path."""
        path.touch(mode=0o600)
        path.write_text(self.private_key)
        return path

    async def delete_keys(self) -> None:
        """Delete every key but one that ``add_key`` makes later: JWTs of it are refused from now on."""
        self.public_keys.clear()
        await self._apps.changes.tell(Change(kind="app.key_deleted", app=self))

    async def install(
        self, owner: str | Owner, repos: Repos = "all", *, permissions: Mapping[str, str] | None = None
    ) -> Installation:
        """Install it on the repositories of an owner. ``permissions`` are by default those that it asks for."""
        account = self._apps.owners.get(owner)
        if self._apps.installation(self, account) is not None:
            raise ValueError(f"{self.name} is installed on {account.login} already")
        made = Installation(self._apps, self, account, dict(permissions or self.permissions), repos)
        self._apps.installations[made.id] = made
        reached = tuple(made.repositories())
        await self._apps.changes.tell(Change(kind="installation.created", installation=made, repositories=reached))
        return made

    @property
    def installations(self) -> list[Installation]:
        """Where it is installed, suspended or not."""
        return [each for each in self._apps.installations.values() if each.app is self]


class Installation:
    """An App on the repositories of one owner."""

    def __init__(self, apps: Apps, app: PretendApp, owner: Owner, permissions: dict[str, str], repos: Repos) -> None:
        self.id = apps.next_installation()
        self.app = app
        self.owner = owner
        self.permissions = permissions
        self.events = list(app.events)
        self.created_at = self.updated_at = apps.clock.now()
        self.suspended_at: float | None = None
        self.uninstalled = False
        self._apps = apps
        self._selected = None if repos == "all" else {apps.repositories.of(each).id for each in repos}

    @property
    def selection(self) -> Literal["all", "selected"]:
        return "all" if self._selected is None else "selected"

    def reaches(self, repository: HostedRepository) -> bool:
        """Return whether the installation has access to a repository, suspended or not."""
        if repository.owner is not self.owner or repository.deleted or self.uninstalled:
            return False
        return self._selected is None or repository.id in self._selected

    def repositories(self) -> list[HostedRepository]:
        """Return the repositories that it has access to."""
        if self.uninstalled:
            return []
        owned, selected = self._apps.repositories.owned(self.owner), self._selected
        return owned if selected is None else [each for each in owned if each.id in selected]

    async def add(self, *repos: str) -> None:
        """Select more repositories, as its owner does on the page of the installation."""
        found = [self._apps.repositories.of(each) for each in repos]
        if self._selected is None:
            raise ValueError("the installation has all repositories of its owner")
        self._selected |= {each.id for each in found}
        await self._tell("installation_repositories.added", found)

    async def remove(self, *repos: str) -> None:
        """Take repositories out of the selection; from "all", the others of today stay selected."""
        found = [self._apps.repositories.of(each) for each in repos]
        selected = {each.id for each in self.repositories()} if self._selected is None else self._selected
        self._selected = selected - {each.id for each in found}
        await self._tell("installation_repositories.removed", found)

    def deselect(self, repository: HostedRepository) -> None:
        """Select a repository no more, as it went to another owner: it does not come back by itself."""
        if self._selected is not None:
            self._selected.discard(repository.id)

    async def suspend(self) -> None:
        """Suspend it: its tokens do nothing, and GitHub sends no events of its repositories."""
        self.suspended_at = self.updated_at = self._apps.clock.now()
        await self._tell("installation.suspend")

    async def unsuspend(self) -> None:
        """End a suspension."""
        self.suspended_at, self.updated_at = None, self._apps.clock.now()
        await self._tell("installation.unsuspend")

    async def uninstall(self) -> None:
        """Take the App away from its owner. Its id is of no other installation, ever."""
        reached = self.repositories()
        self.uninstalled = True
        del self._apps.installations[self.id]
        await self._tell("installation.deleted", reached)

    async def grant(self, **permissions: str) -> None:
        """Accept more permissions: ``contents="read"``."""
        self.permissions |= permissions
        await self._tell("installation.new_permissions_accepted")

    async def withdraw(self, *permissions: str) -> None:
        """Take permissions away, of which no event tells."""
        for each in permissions:
            self.permissions.pop(each, None)
        await self._tell("installation.permissions_withdrawn")

    async def _tell(self, kind: str, repositories: Iterable[HostedRepository] = ()) -> None:
        await self._apps.changes.tell(Change(kind=kind, installation=self, repositories=tuple(repositories)))


class Apps:
    """Every App and every installation."""

    def __init__(self, clock: SettableClock, owners: Owners, repositories: Repositories, changes: Changes) -> None:
        self.clock = clock
        self.owners = owners
        self.repositories = repositories
        self.changes = changes
        self.installations: dict[int, Installation] = {}
        self._apps: dict[int, PretendApp] = {}
        self._app_ids = count(101)
        self._installation_ids = count(50_001)

    def __iter__(self) -> Iterator[PretendApp]:
        return iter(self._apps.values())

    def create(
        self,
        name: str = "stackit",
        *,
        owner: str = "octo",
        permissions: Mapping[str, str] | None = None,
        events: Sequence[str] | None = None,
    ) -> PretendApp:
        """Register an App. Without ``permissions`` it may read contents and metadata."""
        made = PretendApp(self, next(self._app_ids), name, self.owners.get(owner))
        made.permissions = dict(permissions or made.permissions)
        made.events = list(events or made.events)
        self._apps[made.id] = made
        return made

    def issued_by(self, issuer: str) -> PretendApp | None:
        """Return the App that a JWT names, by its id or its client id."""
        return next((each for each in self if issuer in (str(each.id), each.client_id)), None)

    def installation(self, app: PretendApp, owner: Owner) -> Installation | None:
        """Return the installation of an App on an owner, or None."""
        return next((each for each in app.installations if each.owner is owner), None)

    def reaching(self, repository: HostedRepository) -> tuple[Installation, ...]:
        """Return the installations that have access to a repository."""
        return tuple(each for each in self.installations.values() if each.reaches(repository))

    def next_installation(self) -> int:
        """Return an id for a new installation."""
        return next(self._installation_ids)
