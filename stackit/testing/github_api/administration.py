"""What administrators do to repositories, owners and members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stackit.api.events import Repo
from stackit.testing.github_api.apps import Apps, Installation
from stackit.testing.github_api.changes import Change, Changes
from stackit.testing.github_api.members import Members
from stackit.testing.github_api.owners import Owner, Owners
from stackit.testing.github_api.repositories import HostedRepository, Repositories


class Administration:
    """Changes of repositories and owners. Each is made at once, and then told to the observers of changes.

    Methods raise LookupError for a repository that is not there, and ValueError for a new name that is taken.
    """

    def __init__(
        self, owners: Owners, repositories: Repositories, apps: Apps, changes: Changes, members: Members
    ) -> None:
        self._owners = owners
        self._members = members
        self._repositories = repositories
        self._apps = apps
        self._changes = changes

    async def rename(self, repo: Repo | str, name: str) -> None:
        """Give a repository another ``name``, which is without its owner."""
        found = self._repositories.of(repo)
        old, reached = found.name, self._apps.reaching(found)
        self._repositories.move(found, found.owner, name)
        await self._tell("renamed", found, reached, {"repository": {"name": {"from": old}}})

    async def transfer(self, repo: Repo | str, owner: str, name: str | None = None) -> None:
        """Give a repository to another owner, with another ``name`` if one is given."""
        found = self._repositories.of(repo)
        old, reached = found.owner, self._apps.reaching(found)
        self._repositories.move(found, self._owners.get(owner), name or found.name)
        for each in reached:
            each.deselect(found)
        was = {"organization": old.organization()} if old.kind == "Organization" else {"user": old.json()}
        await self._tell("transferred", found, reached, {"owner": {"from": was}})

    async def delete(self, repo: Repo | str) -> None:
        """Delete a repository. Another one may have its name, and never its id."""
        found = self._repositories.of(repo)
        reached = self._apps.reaching(found)
        self._repositories.remove(found)
        await self._tell("deleted", found, reached)

    async def archive(self, repo: Repo | str) -> None:
        """Make a repository read-only."""
        self._repositories.of(repo).archived = True
        await self._tell("archived", self._repositories.of(repo))

    async def unarchive(self, repo: Repo | str) -> None:
        """Make an archived repository writable again."""
        self._repositories.of(repo).archived = False
        await self._tell("unarchived", self._repositories.of(repo))

    async def privatize(self, repo: Repo | str) -> None:
        """Hide a repository from the public."""
        self._repositories.of(repo).visibility = "private"
        await self._tell("privatized", self._repositories.of(repo))

    async def publicize(self, repo: Repo | str) -> None:
        """Show a repository to the public."""
        self._repositories.of(repo).visibility = "public"
        await self._tell("publicized", self._repositories.of(repo))

    async def set_topics(self, repo: Repo | str, topics: Sequence[str]) -> None:
        """Give a repository other topics."""
        found = self._repositories.of(repo)
        old, found.topics = found.topics, tuple(topics)
        await self._tell("edited", found, changes={"topics": {"from": list(old)}})

    async def rename_owner(self, owner: str, login: str) -> None:
        """Give an owner another login, and so each of its repositories another name. Raises LookupError."""
        found = self._owners.find(owner)
        if found is None:
            raise LookupError(f"the pretend GitHub has no owner {owner}")
        old = found.login
        self._repositories.rename_owner(found, login)
        reached = self._installations(found)
        changes = {"login": {"from": old}}
        await self._changes.tell(
            Change(kind="installation_target.renamed", owner=found, reached=reached, changes=changes)
        )

    async def remove_member(self, organization: str, person: str) -> None:
        """Take a person out of an organization and its teams. Raises LookupError."""
        about, gone = self._owners.find(organization), self._owners.find(person)
        found = None if about is None or gone is None else self._members.membership(about, gone)
        if about is None or gone is None or found is None:
            raise LookupError(f"{person} is no member of {organization}")
        self._members.leave(about, gone)
        reached = self._installations(about)
        changes = {"membership": {"state": found.state, "role": found.role, "user": gone.json()}}
        await self._changes.tell(
            Change(kind="organization.member_removed", owner=about, reached=reached, changes=changes)
        )

    def _installations(self, owner: Owner) -> tuple[Installation, ...]:
        return tuple(each for each in self._apps.installations.values() if each.owner is owner)

    async def _tell(
        self,
        action: str,
        found: HostedRepository,
        reached: tuple[Installation, ...] | None = None,
        changes: dict[str, Any] | None = None,
    ) -> None:
        before = self._apps.reaching(found) if reached is None else reached
        await self._changes.tell(
            Change(kind=f"repository.{action}", repository=found, reached=before, changes=changes or {})
        )
