"""The events of changes, in the shapes in which GitHub sends them, and in no order that could be relied on.

Sources: "Webhook events and payloads" and "Troubleshooting webhooks" of GitHub's documentation.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable

from stackit.testing.github_api import shapes
from stackit.testing.github_api.apps import Apps, Installation
from stackit.testing.github_api.changes import Change
from stackit.testing.github_api.owners import Owner
from stackit.testing.github_api.publisher import Publisher, reference
from stackit.testing.github_api.repositories import HostedRepository
from stackit.testing.objects import Json, user

Sending = Callable[[], Awaitable[object]]


class Lifecycle:
    """Observes changes and sends their events.

    ``shuffle`` puts the events of one change in the order in which they are sent; tests may replace it. With
    ``added_when_created``, an installation on all repositories hears of a new one by ``installation_repositories``,
    too. ``sender`` is the login of who makes the changes.
    """

    def __init__(
        self, publisher: Publisher, apps: Apps, web_url: Callable[[], str], api_url: Callable[[], str]
    ) -> None:
        self.shuffle: Callable[[list[Sending]], None] = random.Random(16).shuffle  # noqa: S311 - no secret
        self.added_when_created = False
        self.sender = "octocat"
        self._publisher = publisher
        self._apps = apps
        self._web_url = web_url
        self._api_url = api_url

    async def changed(self, change: Change) -> None:
        """Send the events of a change, one after the other; each ends with the answers to it."""
        event, _, action = change.kind.partition(".")
        if event == "installation" and change.installation is not None and action != "permissions_withdrawn":
            await self._installation(change.installation, action, change.repositories)
        elif event == "installation_repositories" and change.installation is not None:
            await self._selection(change.installation, action, change.repositories)
        elif event == "installation_target":
            await self._owner_renamed(change)
        elif event == "github_app_authorization" and change.app is not None and change.owner is not None:
            await self._publisher.to_app(change.app, event, {"action": action, "sender": change.owner.json()})
        elif event == "organization" and change.owner is not None:
            await self._organization(change.owner, action, change)
        elif event == "repository" and change.repository is not None:
            await self._repository(change.repository, action, change)

    async def _installation(self, about: Installation, action: str, reached: Iterable[HostedRepository]) -> None:
        listed = reached if action in ("created", "deleted") else about.repositories()
        payload = self._of_app(about, action) | {"repositories": [_short(each) for each in listed]}
        if action == "created":
            payload["requester"] = None
        await self._publisher.to_app(about.app, "installation", payload)

    async def _selection(self, about: Installation, action: str, changed: Iterable[HostedRepository]) -> None:
        if about.suspended_at is not None or about.uninstalled:
            return
        names = [_short(each) for each in changed]
        payload = self._of_app(about, action) | {
            "repository_selection": about.selection,
            "repositories_added": names if action == "added" else [],
            "repositories_removed": names if action == "removed" else [],
            "requester": None,
        }
        await self._publisher.to_app(about.app, "installation_repositories", payload)

    async def _owner_renamed(self, change: Change) -> None:
        owner = change.owner
        if owner is None:
            return
        account = owner.organization() if owner.kind == "Organization" else owner.json()
        payload: Json = {
            "action": "renamed",
            "account": {**owner.json(), **account},
            "changes": change.changes,
            "target_type": owner.kind,
            "sender": user(self.sender),
        }
        for each in list(self._apps.installations.values()):
            if each.owner is owner and each.suspended_at is None:
                await self._publisher.to_app(
                    each.app, "installation_target", payload | {"installation": reference(each)}
                )
        if owner.kind == "Organization":
            renamed = {"action": "renamed", "changes": change.changes, "organization": account}
            await self._publisher.of_owner("organization", renamed | {"sender": user(self.sender)}, owner)

    async def _organization(self, owner: Owner, action: str, change: Change) -> None:
        """Send the event of an organization to its own webhooks, and to the Apps that subscribed to it."""
        payload = {"action": action, **change.changes, "organization": owner.organization()}
        payload["sender"] = user(self.sender)
        await self._publisher.of_owner("organization", payload, owner)
        for each in change.reached:
            if each.suspended_at is None and "members" in each.permissions:
                await self._publisher.to_app(each.app, "organization", payload | {"installation": reference(each)})

    async def _repository(self, repository: HostedRepository, action: str, change: Change) -> None:
        """Send the event of the repository, and those of the installations that reach it from now on, or no more."""
        payload = {"action": action, "repository": repository.json(self._web_url()), "sender": user(self.sender)}
        if change.changes:
            payload["changes"] = change.changes
        reaching = self._apps.reaching(repository)
        reached = change.reached if action != "created" else reaching

        async def told() -> None:
            await self._publisher.of_repository("repository", payload, repository, also=reached)

        sendings: list[Sending] = [told]
        sendings += [self._selected(each, "removed", repository) for each in reached if each not in reaching]
        joined = [each for each in reaching if each not in reached or (action == "created" and self.added_when_created)]
        sendings += [self._selected(each, "added", repository) for each in joined]
        self.shuffle(sendings)
        for send in sendings:
            await send()

    def _selected(self, about: Installation, action: str, repository: HostedRepository) -> Sending:
        return lambda: self._selection(about, action, [repository])

    def _of_app(self, about: Installation, action: str) -> Json:
        return {
            "action": action,
            "installation": shapes.installation(about, self._api_url()),
            "sender": user(self.sender),
        }


def _short(repository: HostedRepository) -> Json:
    """Return a repository as the events of installations name it."""
    return {
        "id": repository.id,
        "node_id": f"R_{repository.id}",
        "name": repository.name,
        "full_name": str(repository.repo),
        "private": repository.private,
    }
