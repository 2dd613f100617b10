"""What the routes of the mirrors answer."""

from __future__ import annotations

from typing import Literal

import msgspec

from stackit import Timestamp
from stackit.plugins.mirror.sync.status import State


class Repository(msgspec.Struct, frozen=True, kw_only=True):
    """A repository, and the state of its mirror.

    ``source`` is what has it mirrored, ``added_by`` the person or the rule. ``verified_at``: the mirror had every ref
    of its remote as it was at this time. ``next_at`` is when a failing one is tried again.
    ``held_deletions``: the mirror keeps refs that the remote deleted, until a person accepts that. ``node`` is the node
    of a fleet that has the mirror, null without a fleet, and ``path`` the mirror's directory there.
    """

    name: str
    url: str
    source: Literal["file", "people", "discover"]
    added_by: str | None
    state: State
    verified_at: Timestamp | None
    error: str | None
    next_at: Timestamp | None
    held_deletions: bool
    node: str | None
    path: str | None


class Repositories(msgspec.Struct, frozen=True, omit_defaults=True):
    """The managed repositories.

    Of a list in pages, ``next`` is the cursor of the next page, null on the last, and ``states`` has the number of
    repositories in each state, of all whose name fits ``q``.
    """

    repos: list[Repository]
    next: str | msgspec.UnsetType | None = msgspec.UNSET
    states: dict[State, int] | msgspec.UnsetType = msgspec.UNSET


class Ref(msgspec.Struct, frozen=True):
    """A ref of a mirror, and the object id that it is at. A byte that is not UTF-8 is shown as ``\\xNN``."""

    ref: str
    oid: str


class Refs(msgspec.Struct, frozen=True, kw_only=True):
    """Refs of a mirror, sorted by name.

    ``total`` is the number of all its refs, ``head`` the ref that its HEAD names. ``next`` is the cursor of the next
    page, null on the last.
    """

    refs: list[Ref]
    total: int
    head: str | None
    next: str | None


class StateChange(msgspec.Struct, frozen=True):
    """A state that a mirror came into, when, and why."""

    state: State
    at: Timestamp
    error: str | None


class StateChanges(msgspec.Struct, frozen=True):
    """The last changes of a mirror's state, the newest first."""

    history: list[StateChange]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A ref that moved: object ids are full hex, all zeros for none."""

    ref: str
    old: str
    new: str
    kind: Literal["created", "updated", "deleted"]
    forced: bool


class Changes(msgspec.Struct, frozen=True):
    """What a sync changed."""

    changes: list[Change]
