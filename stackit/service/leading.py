"""A part of what stackit does at GitHub that works at one node of a fleet, the leader."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from stackit.api.nodes import Nodes
from stackit.service.part import Part


class AtLeader:
    """Starts a part while this node leads, and stops it when another one does. Without a fleet, this node leads."""

    def __init__(self, part: Part, nodes: Nodes) -> None:
        self._part = part
        self._nodes = nodes
        self._is_wanted = False
        self._is_running = False
        self._ending: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []
        nodes.when_changed(self._follow)

    def start(self) -> None:
        """Begin as soon as this node leads."""
        self._is_wanted = True
        self._follow()

    async def stop(self) -> None:
        """End what runs, and begin no more."""
        self._is_wanted = False
        self._follow()
        if self._ending is not None:
            ended: Deferred[None] = Deferred()
            self._waiting.append(ended)
            await ended

    def _follow(self) -> None:
        if self._ending is not None:
            return  # at its end this looks again
        leads = self._is_wanted and self._nodes.leads()
        if leads and not self._is_running:
            self._is_running = True
            self._part.start()
        elif self._is_running and not leads:
            self._ending = ending = Deferred.fromCoroutine(self._part.stop())
            ending.addBoth(self._ended)

    def _ended(self, result: None) -> None:
        self._ending = None
        self._is_running = False
        self._follow()
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)
        return result
