"""The doubt whether a remote is still the repository that its mirror is of, and not another one with its name."""

from __future__ import annotations

from stackit import App, ManagedRepo, Push
from stackit.plugins.mirror.git.errors import GitError
from stackit.plugins.mirror.refs.listing import Listing
from stackit.plugins.mirror.repository.repository import Repository

RECENT = 60.0
"""Seconds for which a name that the forge has shown for a repository is taken for that of the repository."""


class RemoteIdentity:
    """Holds back fetches from a remote that has nothing of what the mirror has.

    git tells no id. So a remote without any ref at the commit that the mirror has is fetched only if the forge showed
    this repository under this name a short time ago: its webhook, or its listing. Discovery reads that at the start,
    and where a name is another repository's by now, the mirror moves before a round is tried again.
    """

    def __init__(self, app: App, repository: Repository) -> None:
        self._app = app
        self._repository = repository
        self._known_as: str | None = None

    def is_known(self, managed: ManagedRepo) -> bool:
        """Return True if a comparison of all refs has found the repository at this URL, or there is no id to tell."""
        return not _can_be_confirmed(managed) or self._known_as == managed.url

    async def check(self, managed: ManagedRepo, listing: Listing) -> None:
        """Raise GitError where the remote may be another repository, until the forge says that it is none."""
        if _can_be_confirmed(managed) and not await self._has_common(listing) and not self._is_confirmed(managed):
            raise GitError(
                f"the remote has nothing of what the mirror has: {managed.repo} may be the name of another repository "
                f"by now; it is fetched once GitHub has listed it again, or sent a push of it"
            )
        self._known_as = managed.url

    async def _has_common(self, listing: Listing) -> bool:
        here = set((await self._repository.refs()).as_dict().values())
        return not here or not here.isdisjoint(listing.refs.values())

    def _is_confirmed(self, managed: ManagedRepo) -> bool:
        at = None if managed.identity is None else self._app.repos.confirmed_at(managed.identity)
        return at is not None and at >= self._app.reactor.seconds() - RECENT


def _can_be_confirmed(managed: ManagedRepo) -> bool:
    return managed.identity is not None and managed.source == "discover"


def confirm_by_push(app: App, managed: ManagedRepo, push: Push) -> None:
    """Note that the forge showed a repository under its name when the push came, at whichever node of a fleet.

    One that was missed tells whose the name was then.
    """
    is_shown = push.repo_id is not None and push.repo is not None and push.repo.key == managed.repo.key
    if managed.identity is None or not is_shown or push.via != "webhook":
        return
    at = app.reactor.seconds() - max(0.0, app.fleet_now() - push.received_at)
    known = app.repos.confirmed_at(managed.identity)
    if known is None or known < at:
        app.repos.confirm(managed.identity, at)
