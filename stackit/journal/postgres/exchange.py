"""What the nodes tell each other behind their commits: new work to its owner, and documents that changed to all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from stackit.api.reactor import Reactor
from stackit.journal.postgres.commit import Changes
from stackit.journal.postgres.connection import Connection
from stackit.journal.postgres.notices import EVERYBODY, Notice, Notices, channel_of
from stackit.journal.postgres.ownership import Ownership
from stackit.journal.postgres.watchers import Changed, Watchers, topic_of

_WORK = "work"
"""The topic of notices to the owner of new work: the rows of it."""
_LAST_ROW = 2**63 - 1
"""The largest number that the id of a row can be."""


class Exchange:
    """Tells others, and takes what they tell.

    ``connect`` returns a connection for the thread of ``notices``. ``arrived`` is called with the rows of work that is
    this process's, ``missed`` when some may have been missed. All in the reactor's thread.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        reactor: Reactor,
        ownership: Ownership,
        *,
        arrived: Callable[[Iterable[int]], object],
        missed: Callable[[], object],
    ) -> None:
        self.notices = Notices(connect, reactor, taken=self._take, missed=self._look_for_missed)
        self._watchers = Watchers(reactor)
        self._ownership = ownership
        self._listening_as = ownership.me
        self._arrived = arrived
        self._missed = missed

    def start(self) -> None:
        """Begin to listen."""
        self.notices.start(self._listening_as)
        self._watchers.start()

    def follow_incarnation(self) -> None:
        """Listen to what is told to this process, if it has entered a fleet anew."""
        if self._ownership.me != self._listening_as:
            self._listening_as = self._ownership.me
            self.notices.listen_as(self._listening_as)

    def watch(self, collection: str, changed: Changed) -> None:
        """Call ``changed`` with the keys of documents that another process has changed, None for any."""
        self._watchers.add(collection, changed)

    def tell(self, changes: Changes) -> None:
        """Tell the owners of new work, and those who watch the documents that changed."""
        rows: defaultdict[int, list[int]] = defaultdict(list)
        for shard, row in changes.works:
            rows[self._ownership.owners.get(shard, 0)].append(row)
        for owner, of_owner in rows.items():
            if owner == self._ownership.me:
                self._arrived(of_owner)
            elif owner:
                self.notices.tell(channel_of(owner), _WORK, of_owner)
        for collection, keys in changes.documents.items():
            self.notices.tell(EVERYBODY, topic_of(collection), sorted(keys))

    def stop_watching(self) -> None:
        """Call nobody any more who watches documents."""
        self._watchers.stop()

    async def close(self) -> None:
        """Tell what is to be told, then end the thread."""
        await self.notices.close()

    def _take(self, notices: Sequence[Notice]) -> None:
        for notice in notices:
            if notice.topic == _WORK:
                items = notice.items or ()
                self._arrived(each for each in items if isinstance(each, int) and 0 <= each <= _LAST_ROW)
            else:
                self._watchers.take(notice)

    def _look_for_missed(self) -> None:
        self._missed()
        self._watchers.all_may_have_changed()
