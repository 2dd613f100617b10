"""Errands: what one node of a fleet has the leader, or all nodes, do; kept in the journal until it is done."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Literal, Protocol

import msgspec
from twisted.internet.defer import Deferred

from stackit.api.background import Background
from stackit.api.errors import StackitError
from stackit.api.nodes import Nodes
from stackit.api.reactor import Timers
from stackit.journal.followed import FollowedDocuments, WatchedJournal

COLLECTION = "errands"
ANSWERS = "errand-answers"
KEPT = 3600.0
"""Seconds after which the leader removes errands, whoever has not done them: each node looks by itself at its start."""

Do = Callable[[str], Coroutine[Any, Any, bool]]
"""Do what an errand asks for, and return whether that ended well. It raises nothing."""


class ErrandJournal(WatchedJournal, Protocol):
    """The part of the journal that keeps errands."""

    async def put(self, collection: str, documents: Mapping[str, bytes | None]) -> None:
        """Keep documents by their key; None deletes one."""


Whose = Literal["leader", "all", "all, answered"]
"""Who has to do an errand, and whether somebody waits for how it ended."""


class Errand(msgspec.Struct, frozen=True):
    """What is to be done: its ``kind``, and the rest as text. ``at`` is in seconds since the epoch."""

    kind: str
    text: str
    whose: Whose
    by: str
    at: float


class Errands:
    """The errands of a fleet. Without one (not ``shared``), each is done at once, and nothing is kept.

    An errand is done at least once by those who are there, in any order. ``now`` is the wall clock.
    """

    def __init__(
        self, journal: ErrandJournal, nodes: Nodes, *, reactor: Timers, now: Callable[[], float], shared: bool
    ) -> None:
        self._journal = journal
        self._nodes = nodes
        self._now = now
        self._shared = shared
        self._kinds: dict[str, Do] = {}
        self._known: dict[str, Errand] = {}
        self._answers: dict[str, dict[str, bool]] = {}  # of own errands, by node
        self._asked: dict[str, Deferred[bool]] = {}
        self._among: dict[str, frozenset[str]] = {}
        self._background = Background()
        self._followed = [
            FollowedDocuments(journal, COLLECTION, self._take, known=lambda: list(self._known), reactor=reactor),
            FollowedDocuments(journal, ANSWERS, self._hear, known=tuple, reactor=reactor),
        ]
        self._led = nodes.leads()
        nodes.when_changed(self._nodes_changed)

    def on(self, kind: str, do: Do) -> None:
        """Do errands of a kind in this way."""
        self._kinds[kind] = do

    async def stop(self) -> None:
        """Do nothing more; who waits is answered."""
        for each in self._followed:
            await each.stop()
        await self._background.stop()
        for key in list(self._asked):
            self._answer(key, False)

    # -- have something done ------------------------------------------------------

    async def tell_leader(self, kind: str, text: str) -> None:
        """Have the leader do something, now or once there is one. Raises JournalError."""
        if not self._shared or self._nodes.leads():
            self._background.run(self._kinds[kind](text))
        else:
            await self._keep(*self._errand(kind, text, "leader"))

    async def tell_all(self, kind: str, text: str) -> None:
        """Do something here, and have every other node do it. Raises JournalError."""
        if self._shared:
            await self._keep(*self._errand(kind, text, "all"))
        await self._kinds[kind](text)

    async def ask_all(self, kind: str, text: str) -> bool:
        """Do that, and return whether it ended well at every node that is up; False where one goes meanwhile."""
        if not self._shared:
            return await self._kinds[kind](text)
        key, errand = self._errand(kind, text, "all, answered")
        asked: Deferred[bool] = Deferred()
        self._asked[key], self._answers[key] = asked, {}
        self._among[key] = self._up() - {self._nodes.here}
        try:
            await self._keep(key, errand)
            self._look(key)
            own = await self._kinds[kind](text)
            return await asked and own
        finally:
            heard = [*self._answers.pop(key, ()), *self._among.pop(key, ())]
            self._asked.pop(key, None)
            self._known.pop(key, None)
            self._background.run(self._remove({key: None}, {f"{key}/{name}": None for name in heard}))

    def _errand(self, kind: str, text: str, whose: Whose) -> tuple[str, Errand]:
        now = self._now()
        return f"{now:.3f}-{secrets.token_hex(4)}", Errand(kind, text, whose, self._nodes.here, now)

    async def _keep(self, key: str, errand: Errand) -> None:
        await self._journal.put(COLLECTION, {key: msgspec.json.encode(errand)})
        self._known[key] = errand

    async def _remove(self, errands: Mapping[str, None], answers: Mapping[str, None]) -> None:
        try:
            await self._journal.put(COLLECTION, errands)
            if answers:
                await self._journal.put(ANSWERS, answers)
        except StackitError:  # the leader removes it later
            return

    # -- what others have done ----------------------------------------------------

    def _up(self) -> frozenset[str]:
        return frozenset(each.name for each in self._nodes.nodes() if each.state in ("up", "draining"))

    def _hear(self, answers: Mapping[str, bytes | None]) -> None:
        for name, document in answers.items():
            key, _, node = name.partition("/")
            if document is not None and key in self._answers:
                self._answers[key][node] = document == b"true"
                self._look(key)

    def _look(self, key: str) -> None:
        answers, among = self._answers.get(key, {}), self._among.get(key, frozenset())
        if among <= answers.keys():
            self._answer(key, all(answers.values()))
        elif not (among - answers.keys()) <= self._up():
            self._answer(key, False)

    def _answer(self, key: str, well: bool) -> None:
        asked = self._asked.pop(key, None)
        if asked is not None and not asked.called:
            asked.callback(well)

    def _nodes_changed(self) -> None:
        led, self._led = self._led, self._nodes.leads()
        if self._shared and self._led and not led:
            self._followed[0].read_soon()
        for key in list(self._asked):
            self._look(key)

    # -- what others have done here -----------------------------------------------

    def _take(self, documents: Mapping[str, bytes | None]) -> None:
        for key, document in documents.items():
            if document is None:
                self._known.pop(key, None)
                continue
            try:
                errand = msgspec.json.decode(document, type=Errand)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # of a newer version
            is_mine = self._nodes.leads() if errand.whose == "leader" else key not in self._known
            self._known[key] = errand
            if is_mine and errand.kind in self._kinds:
                self._background.run(self._do(key, errand))
        if self._nodes.leads():
            old = {key: None for key, each in self._known.items() if self._now() - each.at > KEPT}
            if old:
                names = [each.name for each in self._nodes.nodes()]
                self._background.run(self._remove(old, {f"{key}/{name}": None for key in old for name in names}))

    async def _do(self, key: str, errand: Errand) -> None:
        well = await self._kinds[errand.kind](errand.text)
        if errand.whose == "leader":
            await self._remove({key: None}, {})
        if errand.whose != "all, answered":
            return
        try:
            await self._journal.put(ANSWERS, {f"{key}/{self._nodes.here}": b"true" if well else b"false"})
        except StackitError:  # who asks takes it for not done
            return
