"""The condition of the running stackit, as ``/readyz``, the status and the metrics show it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from stackit.api.admin import Route
from stackit.api.reactor import Reactor
from stackit.api.vitals import Vitals
from stackit.bus.bus import Bus
from stackit.bus.health import plugin_problems
from stackit.dispatch.dispatch import Dispatch
from stackit.dispatch.stalls import StallDetector
from stackit.journal import JournalProtocol
from stackit.runtime.heartbeat import Heartbeat
from stackit.runtime.storage import Storage
from stackit.service.problem_watch import ProblemWatch
from stackit.web.admin.readyz import readyz
from stackit.web.admin.status import status
from stackit.web.webhook import Webhook


class Condition:
    """Readings of the parts that know how stackit is."""

    def __init__(
        self,
        *,
        reactor: Reactor,
        bus: Bus,
        journal: JournalProtocol,
        dispatch: Dispatch,
        stalls: StallDetector,
        heartbeat: Heartbeat,
        storage: Storage,
        github: Callable[[], Sequence[str]],
        node: Callable[[], Sequence[str]],
        paused: Callable[[], Sequence[str]],
        now: Callable[[], float],
    ) -> None:
        """``github`` returns the problems of what works at GitHub, ``node`` those of this node's place in its fleet.

        ``paused`` returns the names of paused subscribers, ``now`` is the wall clock.
        """
        self._reactor = reactor
        self._bus = bus
        self._journal = journal
        self._dispatch = dispatch
        self._stalls = stalls
        self._heartbeat = heartbeat
        self._storage = storage
        self._github = github
        self._node = node
        self._paused = paused
        self.watch = ProblemWatch(self._problems, reactor=reactor, now=now)

    def vitals(self, webhooks: Mapping[str, Webhook]) -> Vitals:
        """Return the readings of now; ``webhooks`` are those of the public side, by the name of their forge."""
        sizes = self._storage.sizes
        return Vitals(
            stuck=self._heartbeat.stuck(),
            journal_problems=self._journal.problems(),
            file_sizes=sizes.files,
            disk_free=sizes.disk_free,
            disk_size=sizes.disk_size,
            secrets={
                (forge, label): valid
                for forge, webhook in webhooks.items()
                for label, valid in webhook.known_secrets().items()
            },
        )

    def routes(
        self, *, started_at: float, repos: Callable[[], int], read_only: Callable[[], bool], node: str
    ) -> list[Route]:
        """Return ``/readyz`` and the status for the admin side; the arguments are those of ``status``."""
        return [
            readyz(self._problems),
            status(
                started_at=started_at,
                checks=self.watch.look,
                pending=self._dispatch.pending_everywhere,
                dead=self._dead,
                repos=repos,
                read_only=read_only,
                paused=self._paused,
                node=node,
            ),
        ]

    async def _problems(self) -> list[str]:
        """Return what keeps stackit from being ready, a line each: of its own parts, and as the plugins say."""
        own = [*self._heartbeat.stuck(), *self._journal.problems(), *self._dispatch.problems()]
        own += [*self._stalls.problems(), *self._github()]
        return [*own, *self._node(), *await plugin_problems(self._bus, self._reactor)]

    async def _dead(self) -> dict[str, int]:
        """Return the number of dead letters by the name of the subscriber."""
        return {self._bus.display(key): count for key, count in (await self._journal.dead()).items()}
