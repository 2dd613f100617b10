"""A mirror that another node has, or none now, as far as it is known here."""

from __future__ import annotations

import msgspec

from stackit import ManagedRepo, Node
from stackit.plugins.mirror.fleet.records import MirrorRecord
from stackit.plugins.mirror.sync.status import State


class DistantMirror(msgspec.Struct, frozen=True, eq=False):
    """The mirror of ``managed``. ``home`` is None while no node is chosen, ``record`` None before its first words.

    ``here`` is the name of this node: it has no part of the work where the home is here all the same.
    """

    managed: ManagedRepo
    home: Node | None
    record: MirrorRecord | None
    here: str

    @property
    def presumed_state(self) -> State:
        """The state, as its home wrote it. What another node had is not in step before the new home has compared it."""
        record = self.record
        if record is None:
            return "cloning"
        is_new = record.inherited or (self.home is not None and self.home.name != record.node)
        return "behind" if is_new and record.state == "in_step" else record.state

    @property
    def problem(self) -> str | None:
        """The reason why it is not known to be in step; None if none is known."""
        if self.home is None:
            return "no node of the fleet keeps mirrors: stackit fleet"
        if self.home.name == self.here:
            return "this node has no part of the work now: stackit fleet"
        if self.home.state == "away":
            return f"its node {self.home.name} is away: stackit fleet"
        return None if self.record is None else self.record.error
