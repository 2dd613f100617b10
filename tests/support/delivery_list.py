"""GitHub's list of the deliveries of a hook, in memory, with its oddities; and a journal that outlives a process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import msgspec
from twisted.python.failure import Failure

from stackit.api.events import DeliveryResult, Event
from stackit.github.recovery.records import Detail, Listed

RETENTION = 3 * 86400.0


class Died(BaseException):
    """The process ends here, as by kill -9."""


class Attempt(msgspec.Struct, frozen=True):
    """An entry of the list, and the time from which on it is listed."""

    entry: Listed
    listed_from: float


class ListedHook:
    """A ``DeliverySource``. ``clock`` is GitHub's; ``step`` is called at each thing that takes time."""

    def __init__(
        self, clock: Callable[[], float], *, name: str = "app:main", hook_id: str = "7", page: int = 3
    ) -> None:
        self.name = name
        self.signer = name
        self.hook: str | None = None
        self.retention = RETENTION
        self.hook_id = hook_id
        self.attempts: list[Attempt] = []
        self.step: Callable[[], None] = lambda: None
        self.listings = 0
        self.details = 0
        self.fetched: list[str] = []
        self.skew = 0.0
        self.faults: dict[int, Exception] = {}
        self.empty = False
        self.kept_for = RETENTION
        self.clock = clock
        self._page = page

    def add(
        self,
        guid: str,
        at: float,
        *,
        event: str = "push",
        action: str | None = None,
        status_code: int = 502,
        lag: float = 0.0,
    ) -> Listed:
        entry = Listed(len(self.attempts) + 1, guid, at, event, action, status_code)
        self.attempts.append(Attempt(entry, at + lag))
        return entry

    def now(self) -> float:
        return self.clock() + self.skew

    async def pages(self) -> AsyncIterator[Sequence[Listed]]:
        self.step()
        self.listings += 1
        now = self.clock()
        there = [
            each.entry
            for each in self.attempts
            if each.listed_from <= now and each.entry.at > now - self.kept_for and not self.empty
        ]
        there.sort(key=lambda each: (each.at, each.id), reverse=True)
        for start in range(0, max(len(there), 1), self._page):
            yield there[start : start + self._page]
            self.step()

    async def detail(self, id: int) -> Detail:  # noqa: A002 - the protocol's name
        self.step()
        self.details += 1
        entry = self.attempts[id - 1].entry
        if id in self.faults:
            raise self.faults[id]
        self.fetched.append(entry.guid)
        headers = {
            b"x-github-event": (entry.event.encode(),),
            b"x-github-delivery": (entry.guid.encode(),),
            b"x-github-hook-id": (self.hook_id.encode(),),
        }
        owner = b'{"login":"octo"}'
        body = b'{"ref":"refs/heads/main","repository":{"name":"widget","owner":%b},"number":%d}' % (owner, id)
        return Detail(headers, body)


class Recorded:
    """What a journal keeps: deliveries by hook and id, and documents. ``taken`` are those that came from the list."""

    def __init__(self) -> None:
        self.deliveries: dict[tuple[str, str], str] = {}
        self.taken: list[tuple[str, str]] = []
        self.kept: dict[str, bytes] = {}
        self.step: Callable[[], None] = lambda: None

    async def put(self, _: str, documents: Mapping[str, bytes | None]) -> None:
        self.step()
        self.kept |= {key: document for key, document in documents.items() if document is not None}
        self.step()

    async def documents(self, _: str) -> Mapping[str, bytes]:
        self.step()
        return dict(self.kept)

    async def recorded(self, hook: str, deliveries: Sequence[str]) -> set[str]:
        self.step()
        return {each for each in deliveries if (hook, each) in self.deliveries}

    def webhook(self, hook: str, guid: str) -> None:
        self.deliveries.setdefault((hook, guid), "webhook")

    def take(self, event: Event, _: bytes, done: Callable[[DeliveryResult | Failure], object]) -> None:
        self.step()
        key = (event.hook, event.delivery)
        duplicate = key in self.deliveries
        if not duplicate:
            self.deliveries[key] = event.via
            self.taken.append(key)
        self.step()
        done(DeliveryResult(id="1", duplicate=duplicate, handled=True))
