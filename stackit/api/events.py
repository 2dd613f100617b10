"""The values that travel on the bus: small, frozen, and safe to hand to anyone."""

from __future__ import annotations

import json
import re
from functools import cached_property
from typing import Any, ClassVar, Literal

import msgspec

# GitHub's rules: an owner is 1 to 39 letters, digits and inner hyphens (managed users carry "_shortcode"
# as well, and old accounts begin or end with a hyphen); a repository is up to 100 of letters, digits, ".", "-", "_".
_OWNER = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}", re.ASCII)
_RESERVED_NAMES = {".", ".."}

LONGEST_ACTION = 128
"""Characters of an action. GitHub lets whoever dispatches a ``repository_dispatch`` choose any text of up to 100."""

_MOST_DIGITS = 300
"""Of an integer; Python's own limit is 4,300."""

Kind = Literal["created", "updated", "deleted"]


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


class Repo(msgspec.Struct, frozen=True, order=True):
    """A repository on the forge, as ``owner`` and ``name``; ``str(repo)`` is ``owner/name``.

    GitHub finds both without regard to case: compare ``key``, show ``str``.
    """

    owner: str
    name: str

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def key(self) -> str:
        """``owner/name`` in lower case: equal for every spelling of one repository."""
        return f"{self.owner}/{self.name}".lower()

    @classmethod
    def parse(cls, full_name: str) -> Repo:
        """``"owner/name"`` as a Repo.

        Raises ValueError where GitHub would not allow the owner or the name.
        """
        owner, slash, name = full_name.partition("/")
        if not (slash and _OWNER.fullmatch(owner) and _NAME.fullmatch(name)) or name in _RESERVED_NAMES:
            raise ValueError(f"not a repository name: {full_name[:80]!r} (expected owner/name)")
        return cls(owner, name)


class Event(msgspec.Struct, frozen=True, kw_only=True, dict=True, eq=False):
    """A verified delivery.

    ``name`` is the event type (``issues``), ``action`` what happened (``opened``) where the
    payload says so (of a ``repository_dispatch`` any text that its sender chose), ``repo``
    the repository it is about where it has one. ``delivery`` is GitHub's delivery id,
    ``hook`` the id of the webhook ("" if it did not say), ``id`` stackit's own id of the
    delivery, ``received_at`` seconds since the epoch. ``body`` is the JSON text as signed.
    """

    name: str
    id: str
    delivery: str
    received_at: float
    body: bytes
    action: str | None = None
    repo: Repo | None = None
    hook: str = ""

    @cached_property
    def payload(self) -> dict[str, Any]:
        """The whole JSON object, decoded at first use; every handler has a copy of its own.

        A number beyond what a float can hold is infinite.
        """
        try:
            return msgspec.json.decode(self.body, type=dict[str, Any])
        except msgspec.DecodeError:
            found: dict[str, Any] = json.loads(self.body, parse_int=_number, parse_float=float)
            return found

    def __str__(self) -> str:
        return f"{self.name}.{self.action}" if self.action else self.name


class Push(Event, frozen=True, kw_only=True, dict=True, eq=False):
    """A ``push``: refs moved, go and look.

    ``ref`` is full (``refs/heads/main``), ``before`` and ``after`` are full hex object ids,
    zeros for none. All three are None where the delivery did not say, or said something
    that git would not accept.
    """

    ref: str | None = None
    before: str | None = None
    after: str | None = None
    created: bool = False
    deleted: bool = False
    forced: bool = False


class RefChange(msgspec.Struct, frozen=True):
    """One ref of a mirror moved from ``old`` to ``new`` (full hex object ids, zeros for none).

    ``ref`` is a str, with surrogateescape for bytes that are not UTF-8. ``forced`` means
    that ``old`` is not an ancestor of ``new``; it is only ever true of an update.
    """

    ref: str
    old: str
    new: str
    kind: Kind
    forced: bool = False


class RefsChanged(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Refs of the mirror of ``repo`` moved, exactly so.

    ``cause`` is what made stackit look: ``push``, ``backstop``, ``manual`` or ``start``.
    ``delivery`` is GitHub's id of the delivery that announced it, None where none did.
    """

    repo: Repo
    changes: tuple[RefChange, ...]
    cause: str
    delivery: str | None = None
    id: str = ""
    received_at: float = 0.0

    name: ClassVar[str] = "refs_changed"


class DeliveryResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a delivery that is durable now.

    ``id`` is stackit's own. ``duplicate``: it was here before, and is handled; ``handled``:
    some subscriber wants it. ``refused``: its body came before under another delivery id, and
    the configuration has such replays refused.
    """

    id: str
    duplicate: bool
    handled: bool
    refused: bool = False
