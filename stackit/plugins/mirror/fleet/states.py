"""The records of all mirrors of a fleet: each home writes its own a little later, and all nodes follow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from stackit import App, StackitError
from stackit.plugins.mirror.fleet.late_reads import LateReads
from stackit.plugins.mirror.fleet.late_writes import AT_ONCE, LateWrites
from stackit.plugins.mirror.fleet.records import MirrorRecord, decode_record

COLLECTION = "mirror-homes"
SOON = 0.2
"""Seconds until a record is written whose state changed, or for which other nodes wait."""
LATER = 10.0
"""Seconds until one is written of which only times changed."""
_AGAIN = 1.0
"""Seconds until the journal is asked again after an error, of which it tells by itself."""


class MirrorStates:
    """The records by the key of the repository.

    ``own(key)`` returns the record of a mirror whose home is here, as it is now, None for any other. ``awaited(key)``
    tells whether another node wants to hear of moved refs soon. ``changed`` is called with the keys of records that
    changed.
    """

    def __init__(
        self,
        app: App,
        *,
        own: Callable[[str], MirrorRecord | None],
        awaited: Callable[[str], bool],
        changed: Callable[[Collection[str]], object],
    ) -> None:
        self._app = app
        self._own = own
        self._awaited = awaited
        self._changed = changed
        self._records: dict[str, MirrorRecord] = {}
        self._moves: dict[str, int] = {}
        self._gone: set[str] = set()  # to be deleted
        self._writes = LateWrites(app.reactor, self._write, again=_AGAIN)
        self._reads = LateReads(app.reactor, self._read, again=_AGAIN)

    def begin(self) -> None:
        """Read what the homes wrote, and follow. Call it before anything else; it blocks for as long as that takes."""
        self._app.watch(COLLECTION, self._reads.note)
        try:
            documents = self._app.documents(COLLECTION)
        except StackitError:
            self._reads.note(None)
        else:
            self._take(documents, None)

    def get(self, key: str) -> MirrorRecord | None:
        """Return the record of a mirror; None where no node has had it yet."""
        return self._records.get(key)

    def note(self, key: str) -> None:
        """Have the record of a mirror written that is here, and whose state may have changed."""
        own, known = self.now(key), self._records.get(key)
        if own is None or own == known:
            return
        self._gone.discard(key)
        can_wait = known is not None and _is_alike(own, known, moves=self._awaited(key))
        self._writes.note(key, LATER if can_wait else SOON)

    def moved(self, key: str) -> None:
        """Note that refs of a mirror that is here were announced."""
        self._moves[key] = self._moves_of(key) + 1
        self.note(key)

    def now(self, key: str) -> MirrorRecord | None:
        """Return the record of a mirror that is here, as it would be written now."""
        own = self._own(key)
        return None if own is None else msgspec.structs.replace(own, moves=self._moves_of(key))

    async def claim(self, paths: Mapping[str, str]) -> None:
        """Make it durable that this node is the home of these mirrors (path by key): it announces nothing before.

        One that was another node's is ``inherited`` then. Raises JournalError.
        """
        here, keys = self._app.nodes.here, tuple(paths)
        self._take(await self._app.kept(COLLECTION, keys), keys)
        claimed = {}
        for key in keys:
            known = self._records.get(key) or MirrorRecord(node="", inherited=True)
            if known.node != here:
                claimed[key] = msgspec.structs.replace(known, node=here, path=paths[key], inherited=True)
        documents = [(key, msgspec.json.encode(record)) for key, record in claimed.items()]
        for at in range(0, len(documents), AT_ONCE):
            await self._app.keep(COLLECTION, dict(documents[at : at + AT_ONCE]))
        self._records |= claimed

    def forget(self, keys: Iterable[str]) -> None:
        """Forget the mirrors of repositories that are managed no more."""
        for key in keys:
            if self._records.pop(key, None) is not None:
                self._gone.add(key)
                self._writes.note(key, SOON)

    async def stop(self) -> None:
        """Write what is not written yet, and nothing after that."""
        await self._reads.stop()
        await self._writes.stop()

    # -- writing ------------------------------------------------------------------------

    def _moves_of(self, key: str) -> int:
        known = self._records.get(key)
        return max(self._moves.get(key, 0), 0 if known is None else known.moves)

    async def _write(self, keys: Collection[str]) -> None:
        gone = self._gone.intersection(keys)
        # A mirror that is elsewhere by now is the affair of its new home.
        own = {key: record for key in keys if key not in gone and (record := self.now(key)) is not None}
        documents = {key: msgspec.json.encode(record) for key, record in own.items()}
        await self._app.keep(COLLECTION, documents | dict.fromkeys(gone))
        self._gone -= gone
        self._records |= own

    # -- following ----------------------------------------------------------------------

    async def _read(self, keys: Collection[str] | None) -> None:
        changed = self._take(await self._app.kept(COLLECTION, keys), keys)
        if changed:
            self._changed(changed)

    def _take(self, documents: Mapping[str, bytes], keys: Collection[str] | None) -> set[str]:
        """Take what the journal has, of all mirrors or of those with these keys; return the keys of what changed."""
        changed = set()
        for key in (documents.keys() | self._records.keys()) if keys is None else keys:
            document = documents.get(key)
            record = None if document is None else decode_record(document)
            if record is not None and self._records.get(key) != record:
                self._records[key] = record
                changed.add(key)
            elif document is None and self._records.pop(key, None) is not None:
                changed.add(key)
        return changed


def _is_alike(own: MirrorRecord, known: MirrorRecord, *, moves: bool) -> bool:
    """Return True if only times differ, or the process, which can wait; with ``moves``, refs that moved cannot."""
    if (own.verified_at is None) != (known.verified_at is None) or (moves and own.moves != known.moves):
        return False
    times = {"verified_at": own.verified_at, "next_at": own.next_at}
    return own == msgspec.structs.replace(known, **times, moves=own.moves, incarnation=own.incarnation)
