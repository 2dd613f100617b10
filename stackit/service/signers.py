"""Which signer may tell of which event."""

from __future__ import annotations

import msgspec

from stackit.api.events import Event
from stackit.github.scopes import speaks_for
from stackit.registry import Registry


class Signers:
    """The scopes of webhook secrets, and the repositories that they may tell of now."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def speaks_for(self, signer: str, event: Event) -> bool:
        """Return whether a signer may tell of an event.

        The id of a repository, or a former name, may lead to another one than that of the name: then both have to be
        the signer's.
        """
        if not self._may_name(signer, event):
            return False
        reached = self._registry.repos.of(event)
        if reached is None or event.repo is None or reached.repo.key == event.repo.key:
            return True
        return self._may_name(signer, msgspec.structs.replace(event, repo=reached.repo))

    def _may_name(self, signer: str, event: Event) -> bool:
        """Return whether a signer may tell of the repository that an event names."""
        own = speaks_for(signer, event, self._registry.repos.get)
        return own and self._registry.speaks_for(signer, event)
