"""The last changes of each mirror's state, bounded, and kept over a restart as documents of the journal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

import msgspec

from stackit import Timers
from stackit.plugins.mirror.fleet.late_reads import LateReads
from stackit.plugins.mirror.fleet.late_writes import LateWrites
from stackit.plugins.mirror.sync.status import State

COLLECTION = "mirror-states"
MOST = 30
"""Changes of one mirror that are kept."""
_LONGEST = 300
"""Characters of an error that are kept."""
_SAVE_AFTER = 5.0
"""Seconds until a change is written, and until the journal is asked again after an error."""

Keep = Callable[[str, Mapping[str, bytes | None]], Awaitable[None]]
Read = Callable[[str, Collection[str] | None], Awaitable[Mapping[str, bytes]]]
Watch = Callable[[str, Callable[[frozenset[str] | None], object]], None]


class Transition(msgspec.Struct, frozen=True, array_like=True):
    """A mirror came into a state, ``at`` epoch seconds, with an error if there was one."""

    state: State
    at: float
    error: str | None = None


_DECODER = msgspec.json.Decoder(tuple[Transition, ...])


class StateHistory:
    """The changes by the key of the repository, each the oldest first. What changed is written a little later.

    In a fleet, the home of a mirror notes its changes, and all nodes follow.
    """

    def __init__(
        self, clock: Timers, now: Callable[[], float], keep: Keep, *, leads: Callable[[], bool] = lambda: True
    ) -> None:
        """``clock`` is the reactor, ``now`` the wall clock. ``keep`` puts documents of a collection.

        ``leads`` returns whether this node writes down which repositories have gone, or have another name.
        """
        self._clock = clock
        self._now = now
        self._keep = keep
        self._leads = leads
        self._transitions: dict[str, tuple[Transition, ...]] = {}
        self._writes = LateWrites(clock, self._write, again=_SAVE_AFTER)
        self._reads: LateReads | None = None  # until it follows

    def load(self, documents: Mapping[str, bytes], managed: Iterable[str]) -> None:
        """Take what an earlier start kept, of the repositories with these keys; the rest is forgotten."""
        wanted = set(managed)
        for key, document in documents.items():
            if key in wanted:
                try:
                    self._transitions[key] = _DECODER.decode(document)
                except (msgspec.DecodeError, UnicodeDecodeError):  # of another stackit: it begins anew
                    self._change(key)
            elif self._leads():
                self._change(key)

    def follow(self, watch: Watch, read: Read) -> None:
        """Take what other nodes write from now on. ``watch`` tells of it, and ``read`` reads documents."""

        async def catch_up(keys: Collection[str] | None) -> None:
            documents = await read(COLLECTION, keys)
            for key in self._transitions.keys() | documents.keys() if keys is None else keys:
                if not self._writes.is_waiting(key):  # what is not written here yet will take its place
                    self._take(key, documents.get(key))

        self._reads = LateReads(self._clock, catch_up, again=_SAVE_AFTER)
        watch(COLLECTION, self._reads.note)

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
            if self._leads():
                self._change(old)
                self._change(new)

    def forget(self, keys: Iterable[str]) -> None:
        """Forget repositories that are managed no more."""
        for key in keys:
            if self._transitions.pop(key, None) is not None and self._leads():
                self._change(key)

    async def stop(self) -> None:
        """Write what is not written yet, and nothing after that."""
        if self._reads is not None:
            await self._reads.stop()
        await self._writes.stop()

    def _take(self, key: str, document: bytes | None) -> None:
        try:
            self._transitions[key] = _DECODER.decode(document or b"")
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._transitions.pop(key, None)

    def _change(self, key: str) -> None:
        self._writes.note(key, _SAVE_AFTER)

    async def _write(self, keys: Collection[str]) -> None:
        await self._keep(COLLECTION, {key: self._document(key) for key in keys})

    def _document(self, key: str) -> bytes | None:
        transitions = self._transitions.get(key)
        return None if transitions is None else msgspec.json.encode(transitions)
