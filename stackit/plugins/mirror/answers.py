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
    """

    name: str
    url: str
    source: Literal["file", "people", "discover"]
    added_by: str | None
    state: State
    verified_at: Timestamp | None
    error: str | None
    next_at: Timestamp | None


class Repositories(msgspec.Struct, frozen=True):
    """The managed repositories."""

    repos: list[Repository]


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
