"""The requests for a round, and the result that all of them share."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from stackit import RefChange, StackitError
from stackit.plugins.mirror.sync.fast_fetch import Target

REMOTE_CAUSES = ("push", "manual", "start", "backstop")
"""The causes of rounds that ask the remote, the most urgent first."""
FOREGROUND = ("push", "manual")
"""The causes for which a push or a person waits."""


class Stopping(StackitError):
    """The stop ended what was asked for, or came before it began: the next start takes it up."""

    def __init__(self) -> None:
        super().__init__("stackit is stopping")


class Unmanaged(StackitError):
    """The repository left the configuration, and is mirrored no more."""

    def __init__(self) -> None:
        super().__init__("it is managed no more")


class Moved(Stopping):
    """The repository has another name, or its name is another repository's: the mirror goes on in another place."""

    def __init__(self) -> None:
        StackitError.__init__(self, "the repository was renamed meanwhile: ask again, by its new name")


class Elsewhere(Stopping):
    """The mirror has its home at another node of the fleet, which goes on with it."""

    def __init__(self) -> None:
        StackitError.__init__(self, "another node has the mirror now: ask again")


class Request(msgspec.Struct, frozen=True):
    """A reason for a round, and the delivery that it comes from.

    ``cause``: ``push``, ``manual``, ``start`` and ``backstop`` ask the remote. ``compare`` only announces changes of
    refs, ``maintenance`` runs git's own. ``full``: compare all refs with the remote, deletions included. ``accept``: a
    person accepts any number of deletions. ``target``: the ref and commit that a push announced.
    """

    cause: str
    delivery: str | None = None
    full: bool = True
    accept: bool = False
    target: Target | None = None


class RoundResult(msgspec.Struct, frozen=True):
    """The result of a round that succeeded.

    ``unequal`` tells why the mirror still differs from its remote, None if it does not: it keeps refs that the remote
    deleted, or cannot hold some.
    """

    changes: tuple[RefChange, ...] = ()
    unequal: str | None = None


def targets_of(requests: Iterable[Request]) -> dict[str, Target]:
    """Return the target for each ref, the latest one; nothing if any request has none and needs all refs."""
    targets = [request.target for request in requests]
    if any(target is None for target in targets):
        return {}
    return {target.ref: target for target in targets if target is not None}
