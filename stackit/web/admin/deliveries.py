"""The admin routes of deliveries: list them, show the receipt of one, replay."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from stackit.api.admin import AdminRequest, Response, Route, error, unavailable
from stackit.api.errors import JournalError, Permanent
from stackit.api.events import Repo
from stackit.api.schema import Parameter
from stackit.bus.bus import Bus
from stackit.journal import EventId, JournalProtocol, Receipt
from stackit.journal.records import REFS_EVENT, STATES
from stackit.text.times import parse_time, rfc3339
from stackit.web.admin.delivery_answers import (
    DEFAULT_LIMIT,
    LISTING,
    MAX_LIMIT,
    SHOWING,
    SUBSCRIBER,
    Deliveries,
    Delivery,
    Handling,
    NoDeliveries,
    Replayed,
    ReplayedDelivery,
)
from stackit.web.admin.paging import page_limit

_UNKNOWN = "no such delivery; it may be older than what the journal keeps"
_WORD = re.compile(r"[\x21-\x7e]{1,200}", re.ASCII)


class Replayer(Protocol):
    """The part of dispatch that these routes use. Both methods return how many handlings run again."""

    def replay(self, event_id: EventId, subscribers: Sequence[str] | None) -> Awaitable[int]:
        """Replay one event to subscriber keys, or to all that had it.

        Raises LookupError for an event that is not kept, ValueError for one that cannot be replayed.
        """

    def replay_dead(self, subscriber: str) -> Awaitable[int]:
        """Replay every dead letter of one subscriber key."""


class _BadRequestError(Exception):
    """A parameter is invalid; the text goes to the client."""


class _UnknownSubscriberError(_BadRequestError):
    """A subscriber neither runs nor had anything to handle."""


def delivery_routes(
    journal: JournalProtocol,
    dispatch: Replayer,
    bus: Bus,
    *,
    is_managed: Callable[[Repo], bool] = lambda _: False,
    now: Callable[[], float] = time.time,
) -> list[Route]:
    """Return the routes below ``{prefix}/deliveries``.

    ``is_managed`` returns whether a repository has a mirror, ``now`` is the wall clock.
    """
    receipts = _Deliveries(journal, dispatch, bus, is_managed, now)
    return [
        Route(
            "GET",
            "{prefix}/deliveries",
            _answered(receipts.listing),
            query=LISTING,
            summary="List deliveries, newest first.",
            returns=Deliveries,
            errors={404: NoDeliveries},
        ),
        Route(
            "POST",
            "{prefix}/deliveries/replay",
            _answered(receipts.replay_dead),
            query=(
                msgspec.structs.replace(SUBSCRIBER, required=True),
                Parameter("state", "Which to replay.", Literal["dead"], required=True),
            ),
            summary="Replay all dead letters of a subscriber.",
            returns=Replayed,
        ),
        Route(
            "GET",
            "{prefix}/deliveries/{id}",
            _answered(receipts.show),
            query=SHOWING,
            summary="Show the receipt of a delivery.",
            returns=Delivery,
            errors={404: _UNKNOWN},
        ),
        Route(
            "POST",
            "{prefix}/deliveries/{id}/replay",
            _answered(receipts.replay),
            query=(SUBSCRIBER,),
            summary="Replay a delivery to one of its handlers, or to all.",
            returns=ReplayedDelivery,
            errors={404: _UNKNOWN, 409: "Its payload is not kept."},
        ),
    ]


class _Deliveries:
    def __init__(
        self,
        journal: JournalProtocol,
        dispatch: Replayer,
        bus: Bus,
        is_managed: Callable[[Repo], bool],
        now: Callable[[], float],
    ) -> None:
        self._journal = journal
        self._dispatch = dispatch
        self._bus = bus
        self._is_managed = is_managed
        self._now = now

    async def listing(self, request: AdminRequest) -> Response:
        query = request.query
        for name in ("delivery", "event", "cursor"):
            if name in query and not _WORD.fullmatch(query[name]):
                raise _BadRequestError(f"{name}: expected 1 to 200 printable characters without a space")
        state, subscriber = query.get("state"), query.get("subscriber")
        if state not in (None, *STATES):
            raise _BadRequestError(f"state: expected one of {', '.join(STATES)}")
        repo = _repo(query.get("repo"))
        times = {name: self._time(name, query.get(name)) for name in ("since", "until")}
        limit = _limit(query.get("limit"))
        try:
            key = None if subscriber is None else await self._known_key(subscriber)
        except _UnknownSubscriberError as problem:
            return _none(400, str(problem))
        try:
            page = await self._journal.listing(
                delivery=query.get("delivery"),
                event=query.get("event"),
                repo=None if repo is None else str(repo),
                state=state,
                subscriber=key,
                cursor=query.get("cursor"),
                limit=limit,
                **times,
            )
        except ValueError:
            raise _BadRequestError("cursor: expected the next of an earlier answer") from None
        if repo is not None and not page.deliveries and not await self._is_known(repo):
            return _none(404, f"{repo} is not managed, and there is no delivery of it")
        deliveries = [self._shown(receipt) for receipt in page.deliveries]
        return Response(body=Deliveries(deliveries, page.next))

    async def show(self, request: AdminRequest) -> Response:
        with_payload, with_tracebacks = _flag(request.query, "payload"), _flag(request.query, "traceback")
        receipt = await self._receipt(request)
        if receipt is None:
            return _unknown()
        shown = self._shown(receipt)
        if with_tracebacks:
            tracebacks = await self._journal.tracebacks(receipt.id)
            handlings = [
                msgspec.structs.replace(each, traceback=tracebacks.get(handling.subscriber))
                for handling, each in zip(receipt.handlings, shown.handlings, strict=True)
            ]
            shown = msgspec.structs.replace(shown, handlings=handlings)
        if not with_payload:
            return Response(body=shown)
        try:
            stored = await self._journal.load(receipt.id)
        except Permanent as damage:
            return error(500, str(damage))
        body = stored.body if stored is not None else None
        # The body is sent as it was received: decoding and encoding 25 MiB would block the reactor, and could change
        # the payload.
        head = json.dumps(msgspec.to_builtins(shown)).removesuffix("}")
        return Response(body=b'%b, "payload": %b}\n' % (head.encode("ascii"), b"null" if body is None else body))

    async def replay(self, request: AdminRequest) -> Response:
        receipt = await self._receipt(request)
        if receipt is None:
            return _unknown()
        keys = None
        if "subscriber" in request.query:
            keys = [self._key(request.query["subscriber"], {handling.subscriber for handling in receipt.handlings})]
        try:
            replayed = await self._dispatch.replay(receipt.id, keys)
        except LookupError:
            return _unknown()
        except ValueError as problem:
            return error(409, f"this delivery cannot be replayed: {problem}")
        return Response(body=ReplayedDelivery(receipt.id, replayed))

    async def replay_dead(self, request: AdminRequest) -> Response:
        if request.query.get("state") != "dead":
            raise _BadRequestError("state: expected dead; what else there is can be replayed one by one")
        if "subscriber" not in request.query:
            raise _BadRequestError("subscriber: say whose dead letters to replay")
        replayed = await self._dispatch.replay_dead(await self._known_key(request.query["subscriber"]))
        return Response(body=Replayed(replayed))

    async def _receipt(self, request: AdminRequest) -> Receipt | None:
        return await self._journal.receipt(EventId(request.args["id"]))

    async def _known_key(self, name: str) -> str:
        """Return the key of the subscriber that a client names: one that runs, or that has a handling."""
        try:
            return self._key(name, ())
        except _UnknownSubscriberError:
            return self._key(name, await self._journal.subscribers())

    async def _is_known(self, repo: Repo) -> bool:
        """Return whether a repository is managed, or any delivery or ref change of it is kept."""
        if self._is_managed(repo):
            return True
        pages = [await self._journal.listing(repo=str(repo), event=event, limit=1) for event in (None, REFS_EVENT)]
        return any(page.deliveries for page in pages)

    def _time(self, name: str, text: str | None) -> float | None:
        try:
            return None if text is None else parse_time(text, self._now())
        except ValueError as problem:
            raise _BadRequestError(f"{name}: {problem}") from None

    def _key(self, name: str, kept: Collection[str]) -> str:
        """Return the key of the subscriber that a client names; it runs, or is one of the ``kept``."""
        if not _WORD.fullmatch(name):
            raise _BadRequestError("subscriber: expected the name of a plugin, or plugin:function")
        keys = self._bus.keys(name)
        if len(keys) > 1:
            raise _BadRequestError(f"subscriber: {name} has several handlers, name one: {', '.join(sorted(keys))}")
        running = {each.key for each in self._bus.subscribers()}
        if keys[0] not in running and keys[0] not in kept:
            names = ", ".join(sorted(self._bus.display(key) for key in running | set(kept)))
            raise _UnknownSubscriberError(f"subscriber: there is no {name}; there is {names or 'none at all'}")
        return keys[0]

    def _shown(self, receipt: Receipt) -> Delivery:
        return Delivery(
            id=receipt.id,
            delivery=receipt.delivery,
            hook=receipt.hook,
            via=receipt.via,
            event=receipt.event,
            action=receipt.action,
            repo=receipt.repo,
            received_at=rfc3339(receipt.received_at),
            state=receipt.state,
            visible_at=_time(receipt.visible_at),
            handlings=[
                Handling(
                    subscriber=self._bus.display(handling.subscriber),
                    state=handling.state,
                    attempts=handling.attempts,
                    error=handling.error,
                    next_at=_time(handling.next_at),
                    finished_at=_time(handling.finished_at),
                )
                for handling in receipt.handlings
            ],
        )


def _answered(
    handler: Callable[[AdminRequest], Awaitable[Response]],
) -> Callable[[AdminRequest], Awaitable[Response]]:
    """Return a handler that answers expected errors with their status."""

    async def answer(request: AdminRequest) -> Response:
        try:
            return await handler(request)
        except _BadRequestError as problem:
            return error(400, str(problem))
        except JournalError as problem:
            return unavailable(problem)

    return answer


def _flag(query: Mapping[str, str], name: str) -> bool:
    value = query.get(name, "0")
    if value not in ("0", "1"):
        raise _BadRequestError(f"{name}: expected 1 or 0")
    return value == "1"


def _repo(name: str | None) -> Repo | None:
    if name is None:
        return None
    try:
        return Repo.parse(name)
    except ValueError as problem:
        raise _BadRequestError(f"repo: {problem}") from None


def _limit(text: str | None) -> int:
    try:
        return page_limit(text, DEFAULT_LIMIT, MAX_LIMIT)
    except ValueError as problem:
        raise _BadRequestError(str(problem)) from None


def _time(epoch: float | None) -> str | None:
    return None if epoch is None else rfc3339(epoch)


def _none(status: int, reason: str) -> Response:
    """Return an error that is a list without deliveries, too: a name that nobody knows yet may be known later."""
    return Response(status=status, body=NoDeliveries(reason))


def _unknown() -> Response:
    return error(404, _UNKNOWN)
