"""The webhooks of Apps, organizations and repositories: their settings, and the deliveries they send."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from twisted.internet.defer import CancelledError, Deferred, gatherResults

from stackit.api.reactor import Reactor
from stackit.testing.catalogue import payload_for
from stackit.testing.deliveries import SignedDelivery, delivery
from stackit.testing.github_api.attempts import Mishap, recorded
from stackit.testing.github_api.delivery_log import DeliveryLog, DeliveryRecord, Keeping
from stackit.testing.objects import Json
from stackit.testing.webhooks import ANSWER_WITHIN, DeliverySent, Posted, Poster

if TYPE_CHECKING:
    from stackit.testing.github_api.apps import PretendApp

HookKind = Literal["integration", "organization", "repository"]
"""Whose the webhook is, in the words of X-GitHub-Hook-Installation-Target-Type. ``integration``: an App's."""

UNUSED: Json = {"code": None, "status": "unused", "message": None}
"""The ``last_response`` of a repository's webhook that has sent nothing yet."""

_FIRST_DELIVERY = 100_000_000_001
_MOST = 20_000
_MOST_OF_NO_OWNER = 1000
"""Deliveries of a webhook that are kept: no list of the API shows those of the webhook of no owner."""


class HookConfig(msgspec.Struct):
    """The ``config`` of a webhook. GitHub's default for ``content_type`` is ``form``."""

    url: str = ""
    content_type: str = "form"
    secret: str | bytes | None = None
    insecure_ssl: str = "0"

    def shown(self) -> Json:
        """Return it as the API shows it: without the secret, which is asterisks."""
        config = {"content_type": self.content_type, "insecure_ssl": self.insecure_ssl, "url": self.url}
        return config | ({"secret": "********"} if self.secret else {})


class Hook:
    """One webhook. ``target`` is the id of the App, organization or repository; ``config`` is free to change.

    ``deliveries`` are the attempts so far. With ``events`` None it wants every event.
    """

    def __init__(
        self,
        number: int,
        kind: HookKind | None,
        target: int,
        config: HookConfig,
        log: DeliveryLog,
        *,
        events: Iterable[str] | None,
        made_at: float,
    ) -> None:
        self.id = number
        self.kind = kind
        self.target = target
        self.config = config
        self.deliveries = log
        self.events: list[str] | None = None if events is None else list(events)
        self.active = True
        self.made_at = self.changed_at = made_at
        self.last_response: Json = UNUSED
        self._mishaps: deque[Mishap] = deque()

    def spoil(self, mishap: Mishap, count: int = 1) -> None:
        """Have the next ``count`` deliveries go wrong; those of earlier calls come first."""
        self._mishaps.extend([mishap] * count)

    def mishap(self) -> Mishap | None:
        """Return what goes wrong with a delivery that begins now."""
        return self._mishaps.popleft() if self._mishaps else None

    def wants(self, event: str) -> bool:
        """Return whether an event is sent."""
        if not self.active or not self.config.url:
            return False
        return event == "ping" or self.events is None or event in self.events or "*" in self.events

    def make(self, event: str, payload: Mapping[str, Any] | bytes, guid: str | None) -> SignedDelivery:
        """Return a delivery with the settings of now."""
        return delivery(
            event,
            payload,
            secret=self.config.secret or None,
            guid=guid,
            hook_id=self.id,
            target=None if self.kind is None else (self.kind, self.target),
            form=self.config.content_type != "json",
        )


class Hooks:
    """Every webhook of the pretend GitHub. ``now`` is its clock.

    ``keeping``: how long deliveries are kept and how late listed. ``answer_within``: seconds for an answer.
    """

    _poster: Poster | None = None

    def __init__(self, now: Callable[[], float]) -> None:
        self.keeping = Keeping()
        self.answer_within = ANSWER_WITHIN
        self._now = now
        self._hooks: dict[int, Hook] = {}
        self._ids = itertools.count(292_430_183)
        self._delivery_ids = itertools.count(_FIRST_DELIVERY)
        self._begun: set[Deferred[Any]] = set()

    def __iter__(self) -> Iterator[Hook]:
        return iter(self._hooks.values())

    def __len__(self) -> int:
        return len(self._hooks)

    def start(self, reactor: Reactor) -> None:
        """Deliveries can be sent from now on."""
        self._poster = Poster(reactor)

    def create(
        self,
        kind: HookKind | None,
        target: int,
        config: HookConfig,
        *,
        events: Iterable[str] | None,
        number: int | None = None,
    ) -> Hook:
        """Make a webhook; no ping is sent. ``kind`` None: the one webhook of no owner, for all repositories."""
        found = number or next(self._ids)
        log = DeliveryLog(self._now, self.keeping, most=_MOST if kind else _MOST_OF_NO_OWNER)
        hook = Hook(found, kind, target, config, log, events=events, made_at=self._now())
        self._hooks[found] = hook
        return hook

    def of_app(self, app: PretendApp) -> Hook:
        """Return the webhook of an App. It has no URL until it is given one (``hook.config.url``), and sends JSON."""
        found = self.of("integration", app.id)
        if found:
            return found[0]
        config = HookConfig(content_type="json", secret=app.webhook_secret)
        return self.create("integration", app.id, config, events=None)

    def of(self, kind: HookKind | None, target: int) -> list[Hook]:
        """Return the webhooks of an App, an organization or a repository, oldest first."""
        return [each for each in self._hooks.values() if each.kind == kind and each.target == target]

    def get(self, number: int) -> Hook | None:
        """Return the webhook with an id."""
        return self._hooks.get(number)

    def remove(self, hook: Hook) -> None:
        """Forget a webhook and its deliveries; nobody is told."""
        del self._hooks[hook.id]

    def changed(self, hook: Hook) -> None:
        """Note that a webhook was changed just now."""
        hook.changed_at = self._now()

    async def close(self) -> None:
        """End what is being sent, and close the connections to receivers."""
        for each in list(self._begun):
            each.cancel()
        await self.rest()
        if self._poster is not None:
            await self._poster.close()

    async def send(
        self, hook: Hook, event: str, payload: Mapping[str, Any] | bytes | None = None, *, guid: str | None = None
    ) -> DeliverySent:
        """Sign a delivery and send it; without ``payload``, one is made up."""
        chosen = payload_for(event) if payload is None else payload
        return await self._attempt(hook, event, chosen, hook.make(event, chosen, guid), redelivery=False)

    async def redeliver(self, hook: Hook, record: DeliveryRecord) -> DeliverySent:
        """Send a delivery again with its guid, under a new id, signed with the secret of now."""
        made = hook.make(record.event, record.payload, record.guid)
        return await self._attempt(hook, record.event, record.payload, made, redelivery=True)

    def begin(self, hook: Hook, event: str, payload: Mapping[str, Any]) -> None:
        """Send a delivery without waiting for its end; not if the webhook is switched off."""
        if hook.wants(event):
            self._begin(self.send(hook, event, payload))

    def begin_again(self, hook: Hook, record: DeliveryRecord) -> None:
        """Send a delivery again without waiting for its end."""
        self._begin(self.redeliver(hook, record))

    async def rest(self) -> None:
        """Wait until what was begun has ended: pings, and attempts that the API was asked for."""
        await gatherResults(list(self._begun))

    def _begin(self, sending: Coroutine[Any, Any, DeliverySent]) -> None:
        begun = Deferred.fromCoroutine(sending)
        self._begun.add(begun)
        begun.addErrback(lambda failure: failure.trap(CancelledError))

        def ended(result: object) -> object:
            self._begun.discard(begun)
            return result

        begun.addBoth(ended)

    async def _attempt(
        self,
        hook: Hook,
        event: str,
        payload: Mapping[str, Any] | bytes,
        made: SignedDelivery,
        *,
        redelivery: bool,
    ) -> DeliverySent:
        mishap = None if redelivery else hook.mishap()
        began = self._now()
        if mishap in (None, "timed_out"):
            assert self._poster is not None  # noqa: S101 - it was started
            posted = await self._poster.post(hook.config.url, made, self.answer_within)
        else:
            posted = Posted(seconds=0.0, error=f"{mishap} on purpose")
        if mishap == "timed_out":
            posted = Posted(seconds=self.answer_within, error="timed_out on purpose", late=True)
        if mishap != "unlisted":
            record = recorded(
                made,
                event,
                payload,
                posted,
                number=next(self._delivery_ids),  # in the order in which attempts end, as they are listed
                url=hook.config.url,
                began=began,
                redelivery=redelivery,
                mishap=mishap,
            )
            hook.deliveries.add(record)
            state = "active" if record.ok else "failed"
            hook.last_response = {"code": record.status_code, "status": state, "message": record.status}
        return DeliverySent(
            guid=made.guid, status=posted.status, seconds=posted.seconds, body=posted.body, error=posted.error
        )
