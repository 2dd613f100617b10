"""Which webhooks an event goes to: those of its repository, of its owner, and of the Apps that reach it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator

from twisted.internet.defer import Deferred, gatherResults

from stackit.testing.github_api.apps import Apps, Installation, PretendApp
from stackit.testing.github_api.hooks import Hook, Hooks
from stackit.testing.github_api.owners import Owner
from stackit.testing.github_api.repositories import HostedRepository
from stackit.testing.objects import Json
from stackit.testing.webhooks import DeliverySent

ALWAYS = frozenset({"github_app_authorization", "installation", "installation_repositories", "installation_target"})
"""The events that every App gets. It gets no other that it did not subscribe to; other webhooks never get these."""

NEEDS = {"push": "contents", "create": "contents", "delete": "contents"}
"""The permission without which an installation does not get an event."""


class Publisher:
    """Sends an event to every webhook that wants it, with one guid for all."""

    def __init__(self, hooks: Hooks, apps: Apps) -> None:
        self._hooks = hooks
        self._apps = apps

    async def of_repository(
        self,
        event: str,
        payload: Json,
        repository: HostedRepository,
        *,
        also: Iterable[Installation] = (),
        guid: str | None = None,
    ) -> list[DeliverySent]:
        """Send an event of a repository. ``also``: installations that reached it until now.

        A suspended installation gets none. The outcomes begin with that of the webhook of no owner, if there is one.
        """
        owner = repository.owner
        whole = payload | ({"organization": owner.organization()} if owner.kind == "Organization" else {})
        sends = [(hook, whole) for hook in self._plain(repository)]
        # An App that had it by another installation until now hears of it by that of today.
        reaching = {each.app.id: each for each in (*also, *self._apps.reaching(repository))}
        sends += [
            (self._hooks.of_app(each.app), whole | {"installation": reference(each)})
            for each in reaching.values()
            if each.suspended_at is None and not each.uninstalled and self._subscribed(each, event)
        ]
        return await self._send(event, sends, guid)

    async def of_owner(self, event: str, payload: Json, owner: Owner) -> list[DeliverySent]:
        """Send an event of an organization to its own webhooks."""
        return await self._send(event, [(hook, payload) for hook in self._hooks.of("organization", owner.id)], None)

    async def to_app(self, app: PretendApp, event: str, payload: Json) -> list[DeliverySent]:
        """Send an event to one App: one that every App gets, or one that it subscribed to."""
        wanted = event in ALWAYS or event in app.events
        return await self._send(event, [(self._hooks.of_app(app), payload)] if wanted else [], None)

    def _plain(self, repository: HostedRepository) -> Iterator[Hook]:
        yield from self._hooks.of(None, 0)
        yield from self._hooks.of("repository", repository.id)
        if repository.owner.kind == "Organization":
            yield from self._hooks.of("organization", repository.owner.id)

    def _subscribed(self, installation: Installation, event: str) -> bool:
        needed = NEEDS.get(event)
        return event in installation.app.events and (needed is None or needed in installation.permissions)

    async def _send(self, event: str, sends: Iterable[tuple[Hook, Json]], guid: str | None) -> list[DeliverySent]:
        one = guid or str(uuid.uuid4())
        return await gatherResults(
            [
                Deferred.fromCoroutine(self._hooks.send(hook, event, payload, guid=one))
                for hook, payload in sends
                if hook.wants(event)
            ],
            consumeErrors=True,
        )


def reference(installation: Installation) -> Json:
    """Return an installation as events of repositories name it."""
    return {"id": installation.id, "node_id": f"MDIzOkludGVncmF0aW9uSW5zdGFsbGF0aW9u{installation.id}"}
