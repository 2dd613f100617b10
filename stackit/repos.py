"""The managed repositories, found by owner and name without regard to case."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from stackit import watched_file
from stackit.errors import StackitError
from stackit.events import Repo

DEFAULT_REFSPECS = (
    "+refs/heads/*:refs/heads/*",
    "+refs/tags/*:refs/tags/*",
    "+refs/stackit/*:refs/stackit/*",
)


class ManagedRepo(msgspec.Struct, frozen=True, kw_only=True):
    """A repository that stackit keeps a mirror of: where from, which refs, with what token.

    ``keep_forced``: where a push replaces history, the mirror keeps the old tip under ``refs/stackit-kept/``.
    """

    repo: Repo
    url: str
    refspecs: tuple[str, ...] = DEFAULT_REFSPECS
    token_file: Path | None = None
    keep_forced: bool = False

    def token(self) -> str | None:
        """The token for the remote as its file holds it now; None where none is configured.

        Raises StackitError where the file cannot be read or is empty.
        """
        if self.token_file is None:
            return None
        try:
            token = watched_file.read(self.token_file).decode("utf-8").strip()
        except (OSError, ValueError) as problem:
            reason = watched_file.reason(problem)
            raise StackitError(f"token file {self.token_file} cannot be read: {reason}") from None
        if not token or any(character.isspace() for character in token):
            raise StackitError(f"token file {self.token_file} does not hold one token")
        return token


class Repos:
    """The registry of managed repositories."""

    def __init__(self, managed: Iterable[ManagedRepo] = ()) -> None:
        self._managed = {each.repo.key: each for each in managed}

    def get(self, repo: Repo) -> ManagedRepo | None:
        """The managed repository of this name in any letter case, or None."""
        return self._managed.get(repo.key)

    def __iter__(self) -> Iterator[ManagedRepo]:
        return iter(self._managed.values())

    def __len__(self) -> int:
        return len(self._managed)
