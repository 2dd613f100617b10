"""The last changes of each mirror's state, bounded, and kept over a restart as documents of the journal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec
from twisted.internet.defer import Deferred

from stackit import StackitError, Timers
from stackit.plugins.mirror.sync.status import State

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

COLLECTION = "mirror-states"
MOST = 30
"""Changes of one mirror that are kept."""
_LONGEST = 300
"""Characters of an error that are kept."""
_SAVE_AFTER = 5.0
_AT_ONCE = 500
"""Documents of one write."""

Keep = Callable[[str, Mapping[str, bytes | None]], Awaitable[None]]


class Transition(msgspec.Struct, frozen=True, array_like=True):
    """A mirror came into a state, ``at`` epoch seconds, with an error if there was one."""

    state: State
    at: float
    error: str | None = None


_DECODER = msgspec.json.Decoder(tuple[Transition, ...])


class StateHistory:
    """The changes by the key of the repository, each the oldest first. What changed is written a little later."""

    def __init__(self, clock: Timers, now: Callable[[], float], keep: Keep) -> None:
        """``clock`` is the reactor, ``now`` the wall clock. ``keep`` puts documents of a collection."""
        self._clock = clock
        self._now = now
        self._keep = keep
        self._transitions: dict[str, tuple[Transition, ...]] = {}
        self._unsaved: set[str] = set()
        self._timer: DelayedCall | None = None
        self._saving: Deferred[None] | None = None
        self._stopped = False

    def load(self, documents: Mapping[str, bytes], managed: Iterable[str]) -> None:
        """Take what an earlier start kept, of the repositories with these keys; the rest is forgotten."""
        wanted = set(managed)
        for key, document in documents.items():
            if key in wanted:
                try:
                    self._transitions[key] = _DECODER.decode(document)
                except msgspec.DecodeError:  # of another stackit: it begins anew
                    self._change(key)
            else:
                self._change(key)

    def of(self, key: str) -> tuple[Transition, ...]:
        """Return the changes of a repository, the newest first."""
        return self._transitions.get(key, ())[::-1]

    def note(self, key: str, state: State, error: str | None) -> None:
        """Note the state of a mirror. A state that it is in already is no change, with whatever error."""
        transitions = self._transitions.get(key, ())
        if not transitions or transitions[-1].state != state:
            cut = error if error is None or len(error) <= _LONGEST else f"{error[:_LONGEST]}…"
            self._transitions[key] = (*transitions[-MOST + 1 :], Transition(state, round(self._now(), 3), cut))
            self._change(key)

    def move(self, moved: Iterable[tuple[str, str]]) -> None:
        """Give the changes of repositories to other keys: old and new ones, all at once."""
        taken = [(old, new, self._transitions.pop(old, None)) for old, new in moved]
        for old, new, transitions in taken:
            if transitions is not None:
                self._transitions[new] = transitions
            self._change(old)
            self._change(new)

    def forget(self, keys: Iterable[str]) -> None:
        """Forget repositories that are managed no more."""
        for key in keys:
            if self._transitions.pop(key, None) is not None:
                self._change(key)

    async def stop(self) -> None:
        """Write what is not written yet, and nothing after that."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._saving is not None:
            await self._saving
        await self._save()

    def _change(self, key: str) -> None:
        self._unsaved.add(key)
        self._schedule()

    def _schedule(self) -> None:
        if not self._stopped and self._saving is None and (self._timer is None or not self._timer.active()):
            self._timer = self._clock.callLater(_SAVE_AFTER, self._begin)

    def _begin(self) -> None:
        self._saving = saving = Deferred.fromCoroutine(self._save())
        saving.addCallback(self._saved)

    def _saved(self, _: None) -> None:
        self._saving = None
        if self._unsaved:
            self._schedule()

    async def _save(self) -> None:
        while self._unsaved:
            keys = [self._unsaved.pop() for _ in range(min(_AT_ONCE, len(self._unsaved)))]
            documents = {key: self._document(key) for key in keys}
            try:
                await self._keep(COLLECTION, documents)
            except StackitError:  # such as a full disk, of which the journal itself tells: it is tried again
                self._unsaved.update(keys)
                return

    def _document(self, key: str) -> bytes | None:
        transitions = self._transitions.get(key)
        return None if transitions is None else msgspec.json.encode(transitions)
