"""Which signer may tell of which event."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from stackit.api.events import Event
from stackit.github.scopes import APP, speaks_for
from stackit.registry import Registry


class Signers:
    """The scopes of webhook secrets, and the repositories that they may tell of now."""

    def __init__(self, registry: Registry, is_anothers: Callable[[str, str], bool]) -> None:
        """``is_anothers`` returns whether another App than that of a name is installed for an owner, and not that."""
        self._registry = registry
        self._is_anothers = is_anothers

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
        """Return whether a signer may tell of the repository that an event names.

        One that is not mirrored is an App's, too: a handler may ask for it with the tokens of that App.
        """
        if not (speaks_for(signer, event, self._registry.repos.get) and self._registry.speaks_for(signer, event)):
            return False
        kind, _, name = signer.partition(":")
        if kind != APP or event.repo is None or self._registry.app_of(event.repo) is not None:
            return True
        return not self._is_anothers(name, event.repo.owner)
