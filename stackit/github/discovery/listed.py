"""A repository as a listing of GitHub's API shows it."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated

import msgspec

from stackit.api.events import Repo

Id = Annotated[int, msgspec.Meta(gt=0)]


class ListedOwner(msgspec.Struct, frozen=True):
    """The account that a repository belongs to."""

    id: Id
    login: str


class ListedRepo(msgspec.Struct, frozen=True, dict=True):
    """A repository of a listing. ``size`` is in KiB, as GitHub last measured it.

    Decoding raises msgspec.ValidationError for what has another shape, also for a name that no repository has.
    """

    id: Id
    full_name: str
    owner: ListedOwner
    private: bool
    fork: bool
    archived: bool
    size: Annotated[int, msgspec.Meta(ge=0)] = 0
    disabled: bool = False
    visibility: str | None = None
    topics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        repo = self.repo  # its ValueError becomes a ValidationError
        if repo.host or repo.owner.lower() != self.owner.login.lower():
            raise ValueError(f"not a repository of {self.owner.login[:40]}: {self.full_name[:80]}")

    @cached_property  # a listing of 10,000 is asked for each several times
    def repo(self) -> Repo:
        """Return the name as a repository."""
        return Repo.parse(self.full_name)

    @property
    def seen_by(self) -> str:
        """Return ``public``, ``private`` or ``internal``; older servers tell the first two alone."""
        return self.visibility or ("private" if self.private else "public")


class InstallationPage(msgspec.Struct, frozen=True):
    """One page of ``GET /installation/repositories``."""

    total_count: Annotated[int, msgspec.Meta(ge=0)]
    repositories: tuple[ListedRepo, ...]
