"""The repositories, each with an id of its own for ever, by their names of today and of yesterday."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from stackit.api.events import Repo
from stackit.testing.bare import BareRepository
from stackit.testing.faults import Faults
from stackit.testing.github_api.clock import text
from stackit.testing.github_api.owners import Owner, Owners, unused
from stackit.testing.objects import API, EPOCH, Json, repository
from stackit.testing.smarthttp import Served

Visibility = Literal["public", "private", "internal"]


class HostedRepository:
    """A repository: GitHub's record of it, and the bare repository that git reads.

    ``template`` is a bare repository that its git directory is copied from when it is first needed; None where the
    directory is there. With ``private_token``, git may read it with that token, too.
    """

    def __init__(
        self,
        id: int,  # noqa: A002 - GitHub's word
        owner: Owner,
        name: str,
        bare: BareRepository,
        *,
        visibility: Visibility = "public",
        private_token: str | None = None,
        template: Path | None = None,
    ) -> None:
        self.id = id
        self.owner = owner
        self.name = name
        self.visibility = visibility
        self.archived = self.disabled = self.fork = self.is_template = self.deleted = False
        self.topics: tuple[str, ...] = ()
        self.size = 1  # KiB, and never more than a hint
        self.pushed_at = float(EPOCH)
        self.private_token = private_token
        self._bare = bare
        self._served = Served(bare.path, Faults(bare.path))
        self._template = template

    @property
    def repo(self) -> Repo:
        """The name of today."""
        return Repo(self.owner.login, self.name)

    @property
    def private(self) -> bool:
        """Whether only those may read it whom its owner lets."""
        return self.visibility != "public"

    @property
    def default_branch(self) -> str:
        return self._bare.default_branch

    @property
    def directory(self) -> Path:
        """Where the git repository is, or will be as soon as it is needed."""
        return self._bare.path

    @property
    def bare(self) -> BareRepository:
        """The git repository, with its directory."""
        self._make_directory()
        self._bare.repo = self.repo
        return self._bare

    @property
    def served(self) -> Served:
        """What git clients are served, with its directory."""
        self._make_directory()
        return self._served

    def _make_directory(self) -> None:
        if self._template is not None:
            shutil.copytree(self._template, self._bare.path)
            self._template = None

    def json(self, site: str, api: str = API) -> Json:
        """Return it as payloads and the API show it; ``site`` is where git finds it, ``api`` the base of its API."""
        owner, branch = self.owner.json(), self.default_branch
        found = repository(self.repo, private=self.private, default_branch=branch, owner=owner, api=api)
        return found | {
            "id": self.id,
            "node_id": f"R_{self.id}",
            "clone_url": f"{site}/{self.repo}.git",
            "visibility": self.visibility,
            "archived": self.archived,
            "disabled": self.disabled,
            "fork": self.fork,
            "is_template": self.is_template,
            "topics": list(self.topics),
            "size": self.size,
            "pushed_at": text(self.pushed_at),
        }


class Repositories:
    """Every repository that was not deleted. Names are found in any letter case."""

    def __init__(self, owners: Owners) -> None:
        self._owners = owners
        self._by_id: dict[int, HostedRepository] = {}
        self._by_name: dict[str, HostedRepository] = {}
        self._former: dict[str, HostedRepository] = {}
        self._ids: set[int] = set()

    def __iter__(self) -> Iterator[HostedRepository]:
        """Iterate in the order in which they were made."""
        return iter(self._by_id.values())

    @property
    def made(self) -> int:
        """How many were ever made."""
        return len(self._ids)

    def add(
        self,
        repo: Repo,
        bare: BareRepository,
        *,
        visibility: Visibility = "public",
        private_token: str | None = None,
        template: Path | None = None,
    ) -> HostedRepository:
        """Host a repository. Its name leads nowhere else from now on. Raises ValueError for a name that is taken."""
        self._check_free(repo)
        owner = self._owners.get(repo.owner)
        number = unused(repo.key, self._ids)
        made = HostedRepository(
            number, owner, repo.name, bare, visibility=visibility, private_token=private_token, template=template
        )
        self._by_id[number] = made
        self._name(made)
        return made

    def by_id(self, id: int) -> HostedRepository | None:  # noqa: A002 - GitHub's word
        """Return the repository with an id, or None."""
        return self._by_id.get(id)

    def find(self, repo: Repo) -> HostedRepository | None:
        """Return the repository that has the name today, or None."""
        return self._by_name.get(repo.key)

    def formerly(self, repo: Repo) -> HostedRepository | None:
        """Return the repository that had the name, where none has it today; None where none had it."""
        found = self._former.get(repo.key)
        return None if found is None or found.deleted else found

    def of(self, repo: Repo | str) -> HostedRepository:
        """Return a repository by its name of today. Raises LookupError."""
        found = self.find(repo if isinstance(repo, Repo) else Repo.parse(repo))
        if found is None:
            raise LookupError(f"the pretend GitHub has no {repo}: create it first")
        return found

    def owned(self, owner: Owner) -> list[HostedRepository]:
        """Return the repositories of an owner."""
        return [each for each in self if each.owner is owner]

    def move(self, moved: HostedRepository, owner: Owner, name: str) -> None:
        """Give a repository another owner or name. The old name leads to it until another repository has it.

        Raises ValueError for a name that is taken.
        """
        self._check_free(Repo(owner.login, name), moved)
        self._unname(moved)
        moved.owner, moved.name = owner, name
        self._name(moved)

    def rename_owner(self, owner: Owner, login: str) -> None:
        """Give an owner another login, and so its repositories other names. Raises ValueError for one that is taken."""
        owned = self.owned(owner)
        self._owners.check_free(login, owner)
        for each in owned:
            self._unname(each)
        self._owners.rename(owner, login)
        for each in owned:
            self._name(each)

    def remove(self, gone: HostedRepository) -> None:
        """Delete a repository. Its id is of no other, ever."""
        gone.deleted = True
        del self._by_id[gone.id]
        del self._by_name[gone.repo.key]

    def _check_free(self, repo: Repo, besides: HostedRepository | None = None) -> None:
        found = self.find(repo)
        if found is not None and found is not besides:
            raise ValueError(f"there is a repository {repo} already")

    def _name(self, named: HostedRepository) -> None:
        self._by_name[named.repo.key] = named
        self._former.pop(named.repo.key, None)

    def _unname(self, named: HostedRepository) -> None:
        del self._by_name[named.repo.key]
        self._former[named.repo.key] = named
