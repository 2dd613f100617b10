"""The interface of a forge: everything that stackit has to know of GitHub, or of another host of repositories.

GitHub is ``stackit.github.GitHub``. A package adds a forge of its own by an entry point of the group
``stackit.forges``; see docs/forges.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, Protocol, Self, runtime_checkable

import msgspec

from stackit.api.errors import StackitError
from stackit.api.events import Event, Repo

GITHUB = "github"
"""The name of the forge that every stackit has."""

Headers = Mapping[bytes, tuple[bytes, ...]]
"""The headers of a request: the values of each name, which is in lower case, in the order of the request."""

Unrecognised = Literal["event_name", "content_type", "shape"]
"""Reasons for which a verified body is no event: its event name is missing, its type or its keys are not supported."""

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}", re.ASCII)


class Mac(Protocol):
    """A keyed digest of bytes that are added piece by piece. ``hmac.HMAC`` is one."""

    def copy(self) -> Self:
        """Return an independent copy of the digest so far."""

    def update(self, data: bytes, /) -> None:
        """Add bytes."""

    def digest(self) -> bytes:
        """Return the digest of all bytes so far."""


class Claim(msgspec.Struct, frozen=True):
    """The signature that the head of a request carries, not yet verified.

    ``digest`` is the digest that the body has to have. ``before`` are bytes that are signed in front of the body,
    such as an id and a time from the headers. ``covers_body`` is False where the signature is the same for every
    body, such as a shared token in a header.
    """

    digest: bytes
    before: bytes = b""
    covers_body: bool = True


@runtime_checkable
class Forge(Protocol):
    """A host of repositories that sends webhooks.

    All methods are called in the reactor's thread and must not block. ``claim``, ``delivery``, ``hook`` and
    ``decode`` are given what a stranger sent, and must not raise for it.
    """

    @property
    def name(self) -> str:
        """The name in routes (``{prefix}/webhooks/NAME``), in the configuration and in environment variables.

        Letters in lower case, digits, ``_`` and ``-``; the name of the entry point.
        """

    def mac(self, secret: bytes) -> Mac:
        """Return the digest of no bytes under a secret. It is made once for each secret, and copied for each body."""

    def claim(self, headers: Headers) -> Claim | None:
        """Return the signature of a request; None where it is missing, repeated or malformed."""

    def delivery(self, headers: Headers) -> str:
        """Return the id of the delivery, the same when it is sent again; "" where it is missing or malformed."""

    def hook(self, headers: Headers) -> str:
        """Return the id of the webhook that sends; "" where it is missing or malformed."""

    def decode(
        self, headers: Headers, body: bytes, *, delivery: str, hook: str, received_at: float
    ) -> Event | Unrecognised:
        """Return the event in a verified body, or the reason why it is none.

        The headers are not signed: the event has to be recognisable by the body. A push is a ``stackit.Push``.
        ``Event.body`` is JSON text; ``Event.id`` is "". ``received_at`` is in seconds since the epoch.
        """

    def is_ping(self, event: Event) -> bool:
        """Return whether an event only tests the webhook. It is answered, and reaches no handler."""

    def restore(
        self,
        name: str,
        body: bytes,
        *,
        id: str,  # noqa: A002 - the field of Event
        delivery: str,
        hook: str,
        received_at: float,
    ) -> Event | None:
        """Return the event that ``decode`` returned, from its name and its body as the journal kept them.

        None where the body is not of such an event.
        """

    def doubt(self, name: str, action: str | None) -> str | None:
        """Return why the forge is not known to send an event of this name and action (None for any); None where it is.

        An operator is told once at the start if a plugin waits for an event that no forge is known to send.
        """

    def repo(self, name: str) -> Repo:
        """Return the repository of this name, as people write it in the configuration.

        Raises ValueError where the forge does not allow the name.
        """

    def clone_url(self, repo: Repo) -> str:
        """Return the URL from which git fetches a repository, without credentials."""


def secret_variable(forge: str) -> str:
    """Return the name of the environment variable that may hold the webhook secret of a forge."""
    return f"STACKIT_{forge.upper().replace('-', '_')}_WEBHOOK_SECRET"


def check_forge(forge: object, name: str) -> Forge:
    """Return ``forge``. Raises ValueError where it lacks a member of ``Forge``, or is not called ``name``."""
    if not isinstance(forge, Forge):
        members = (each for each in vars(Forge) if not each.startswith("_"))
        missing = [each for each in members if not hasattr(forge, each)]
        raise ValueError(f"it is no Forge: it lacks {', '.join(missing)}")
    if forge.name != name:
        raise ValueError(f"its name is {str(forge.name)[:40]!r}, but its entry point is called {name!r}")
    if not _NAME.fullmatch(name):
        raise ValueError("its name must be lower-case letters, digits, _ and -, of at most 40 characters")
    return forge


class Forges:
    """The forges of a running stackit, found by the events that they sent.

    ``Event.hook`` tells the forge of an event: it is the bare id of the hook for GitHub, and ``NAME:ID`` for any other.
    So equal ids of two forges never meet in the journal.
    """

    def __init__(self, forges: Iterable[Forge]) -> None:
        self._forges = {forge.name: forge for forge in forges}

    def __iter__(self) -> Iterator[Forge]:
        return iter(self._forges.values())

    def is_ping(self, event: Event) -> bool:
        """Return whether an event only tests the webhook."""
        return self._of(event.hook).is_ping(event)

    def doubt(self, name: str, action: str | None) -> str | None:
        """Return why no forge is known to send an event of this name and action; None where one is."""
        doubts = [forge.doubt(name, action) for forge in self]
        return None if None in doubts else "; ".join(str(each) for each in doubts)

    def restore(
        self,
        name: str,
        body: bytes,
        *,
        id: str,  # noqa: A002 - the field of Event
        delivery: str,
        hook: str,
        received_at: float,
    ) -> Event | None:
        """Return an event from its body in the journal; None where the body is of no such event.

        Raises StackitError where its forge is not installed any more.
        """
        forge = self._of(hook)
        return forge.restore(name, body, id=id, delivery=delivery, hook=hook, received_at=received_at)

    def _of(self, hook: str) -> Forge:
        name, colon, _ = hook.partition(":")
        forge = self._forges.get(name if colon else GITHUB)
        if forge is None:
            raise StackitError(f"the forge {name} is not installed, which sent this delivery")
        return forge


def qualified_hook(forge: Forge, hook: str) -> str:
    """Return the value of ``Event.hook`` for a hook of this forge."""
    return hook if forge.name == GITHUB else f"{forge.name}:{hook}"
