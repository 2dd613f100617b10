"""Changes of the life of repositories, owners, installations and Apps, told to whoever observes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from stackit.testing.github_api.apps import Installation, PretendApp
    from stackit.testing.github_api.owners import Owner
    from stackit.testing.github_api.repositories import HostedRepository

Observer = Callable[["Change"], Awaitable[None]]


class Change(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A change that has just been made.

    ``kind`` is GitHub's event and action (``repository.renamed``, ``installation.suspend``), or ``app.key_deleted``,
    ``installation.permissions_withdrawn``, for which it sends no event. ``changes`` is as in GitHub's payload.
    ``repositories`` were added to or removed from the installation. ``reached`` are the installations that reached
    the repository before the change.
    """

    kind: str
    repository: HostedRepository | None = None
    owner: Owner | None = None
    installation: Installation | None = None
    app: PretendApp | None = None
    repositories: tuple[HostedRepository, ...] = ()
    reached: tuple[Installation, ...] = ()
    changes: dict[str, Any] = {}


class Changes:
    """Who is told of changes."""

    def __init__(self) -> None:
        self._observers: list[Observer] = []

    def observe(self, observer: Observer) -> None:
        """Await ``observer(change)`` after each change from now on."""
        self._observers.append(observer)

    async def tell(self, change: Change) -> None:
        """Tell every observer, one after the other."""
        for observer in self._observers:
            await observer(change)
