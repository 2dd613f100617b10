"""The values that handlers receive: repositories, events, and moved refs. All are frozen."""

from __future__ import annotations

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

# GitHub's rules: an owner is 1 to 39 letters, digits and inner hyphens (managed users carry "_shortcode"
# as well, and old accounts begin or end with a hyphen); a repository is up to 100 of letters, digits, ".", "-", "_".
_OWNER = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}", re.ASCII)
# Words of an owner elsewhere, such as GitLab's groups, may have dots.
_OWNER_WORD = _NAME
_RESERVED_NAMES = {".", ".."}
# A dot or a port tells a host from an owner on GitHub.
_HOST = re.compile(r"(?=[a-z0-9-]*[.:])[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
_LONGEST_OWNER = 240
"""Characters of a host and an owner, which together are the name of one directory."""
_MOST_PARTS = 32

LONGEST_ACTION = 128
"""Characters of an action. That of a ``repository_dispatch`` may be any text of up to 100, chosen by its sender."""

_MOST_DIGITS = 300
"""Digits of an integer that is decoded as one. Python's own limit is 4,300."""

Kind = Literal["created", "updated", "deleted"]
Via = Literal["webhook", "api"]
"""The way by which a delivery came: sent by the forge, or taken from its list of deliveries."""


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


class Repo(msgspec.Struct, frozen=True, order=True, omit_defaults=True, repr_omit_defaults=True):
    """A repository on a forge.

    On GitHub, ``owner`` and ``name`` are one word each, and ``host`` is "". On any other forge, ``host`` is the name
    of its host, with a port where it has one (``git.example.org``, ``git.example.org:8443``), and ``owner`` may be
    several words (``group/subgroup``, as on GitLab).

    ``str(repo)`` is ``owner/name``, with ``host/`` before it where there is one. Forges find a repository without
    regard to case: compare ``key``, show ``str``.
    """

    owner: str
    name: str
    host: str = ""

    def __str__(self) -> str:
        return f"{self.host}/{self.owner}/{self.name}" if self.host else f"{self.owner}/{self.name}"

    @property
    def key(self) -> str:
        """``str(repo)`` in lower case: equal for every spelling of one repository."""
        return str(self).lower()

    @property
    def path(self) -> str:
        """Two segments of a path, for a directory or a URL: ``owner/name``, or ``host+group+subgroup/name``.

        ``host,8443+group/name`` where the host has a port. Different for every repository, and no path is below
        another's, since neither ``+`` nor ``,`` occurs in a name. ``parse`` reads it.
        """
        if not self.host:
            return f"{self.owner}/{self.name}"
        return f"{self.host}/{self.owner}".replace("/", "+").replace(":", ",") + f"/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Repo:
        """Return the repository of which ``text`` is the ``str`` or the ``path``.

        Raises ValueError where the name is not allowed: without a host by GitHub's rules, else by those that forges
        have in common.
        """
        parts = text.split("/", _MOST_PARTS)
        if len(parts) == 2 and "+" in parts[0]:
            parts = [*parts[0].replace(",", ":").split("+"), parts[1]]
        host, *owners, name = parts if len(parts) > 2 else ["", *parts]
        allowed = _OWNER_WORD if host else _OWNER
        if (
            len(parts) < 2
            or (len(parts) > 2 and not host)
            or (host and not (_HOST.fullmatch(host) and len(host) + len("/".join(owners)) <= _LONGEST_OWNER))
            or not all(allowed.fullmatch(each) and each not in _RESERVED_NAMES for each in owners)
            or not _NAME.fullmatch(name)
            or name in _RESERVED_NAMES
        ):
            raise ValueError(f"not a repository name: {text[:80]!r} (expected owner/name)")
        return cls("/".join(owners), name, host.lower())


class Event(msgspec.Struct, frozen=True, kw_only=True, dict=True, eq=False):
    """A verified delivery.

    ``name`` is the type of the event (``issues``). ``action`` is the payload's action (``opened``), None without one;
    that of a ``repository_dispatch`` is any text that its sender chose. ``repo`` is the repository of the event, None
    without one. ``delivery`` is the forge's delivery id. ``hook`` is the id of the webhook, "" if it has none,
    ``NAME:ID`` for a forge other than GitHub. ``id`` is stackit's own id of the delivery. ``received_at`` is in
    seconds since the epoch. ``body`` is the JSON text that was signed. ``repo_id`` is the forge's own id of the
    repository, which stays when the name changes; None where the payload has none.

    ``signer`` is the scope of the secret that verified the delivery: "" for one that may speak for any repository, else
    ``app:NAME``, ``owner:NAME`` or ``repo:OWNER/NAME``. ``via`` is ``api`` where the delivery was missed, and taken
    from the forge's list of deliveries.
    """

    name: str
    id: str
    delivery: str
    received_at: float
    body: bytes
    action: str | None = None
    repo: Repo | None = None
    repo_id: int | None = None
    hook: str = ""
    signer: str = ""
    via: Via = "webhook"

    @cached_property
    def payload(self) -> dict[str, Any]:
        """The whole JSON object, decoded at first use. Every handler has a copy of its own.

        A number that is too large for a float is infinite.
        """
        try:
            return msgspec.json.decode(self.body, type=dict[str, Any])
        except msgspec.DecodeError:
            found: dict[str, Any] = json.loads(self.body, parse_int=_number, parse_float=float)
            return found

    def __str__(self) -> str:
        return f"{self.name}.{self.action}" if self.action else self.name


class Push(Event, frozen=True, kw_only=True, dict=True, eq=False):
    """A ``push``: a ref moved at the forge.

    ``ref`` is a full name (``refs/heads/main``). ``before`` and ``after`` are full object ids in hex, zeros for none.
    Each of the three is None where the payload has no value of it that git accepts: the event then only says that
    something moved.
    """

    ref: str | None = None
    before: str | None = None
    after: str | None = None
    created: bool = False
    deleted: bool = False
    forced: bool = False


class RefChange(msgspec.Struct, frozen=True):
    """The move of one ref of a mirror from ``old`` to ``new`` (full object ids in hex, zeros for none).

    ``ref`` is a full name, with surrogateescape for bytes that are not UTF-8. ``forced`` is true of an update whose
    ``old`` is not an ancestor of ``new``.
    """

    ref: str
    old: str
    new: str
    kind: Kind
    forced: bool = False


class RefsChanged(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The moves of refs in the mirror of ``repo``, complete.

    ``cause`` is the cause of the sync that found them: ``push``, ``backstop``, ``manual`` or ``start``. ``delivery`` is
    the forge's id of the delivery that announced them, None without one. ``mirror`` is the path of the mirror, None
    where none is kept any more.
    """

    repo: Repo
    changes: tuple[RefChange, ...]
    cause: str
    delivery: str | None = None
    id: str = ""
    received_at: float = 0.0
    mirror: Path | None = None

    name: ClassVar[str] = "refs_changed"


class DeliveryResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a delivery that was made durable.

    ``id`` is stackit's own. ``duplicate``: the delivery came before, and is handled or in hand. ``handled``: the event
    has subscribers. ``refused``: its body came before under another delivery id, and the configuration refuses such
    replays.
    """

    id: str
    duplicate: bool
    handled: bool
    refused: bool = False
