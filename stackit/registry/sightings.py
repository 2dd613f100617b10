"""What discovery has seen at a forge, and tells the registry in one batch."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from stackit.api.events import Repo
from stackit.api.repos import DEFAULT_REFSPECS, REALM


class Discovered(msgspec.Struct, frozen=True, kw_only=True):
    """A repository that a rule takes: its id and its name now, and how it is to be mirrored.

    ``url`` is where git fetches. The other fields are those of a record.
    """

    id: int
    repo: Repo
    url: str
    rule: str
    app: str | None = None
    installation: int | None = None
    token_file: str | None = None
    refspecs: tuple[str, ...] = DEFAULT_REFSPECS
    keep_forced: bool = False
    deletes: bool = False


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A repository that the forge showed and no rule takes: its id and its name now."""

    id: int
    repo: Repo
    url: str


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What a part of a listing, or a look at a few repositories, has shown.

    ``found`` are mirrored from now on. ``seen`` only tell the ids of repositories that a file or a person has mirrored.
    ``removed`` and ``held`` are ids with a reason: the former are mirrored no more, the latter still are. ``purged``
    are ids of removed ones: what is kept of them is deleted.
    """

    realm: str = REALM
    found: tuple[Discovered, ...] = ()
    seen: tuple[Seen, ...] = ()
    removed: Mapping[int, str] = {}
    held: Mapping[int, str] = {}
    purged: tuple[int, ...] = ()
