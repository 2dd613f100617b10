"""The events that tell of a change of repositories: each means to go and look, and moves nothing by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Literal

from stackit.api.events import Event
from stackit.api.hookimpl import on
from stackit.github.apps.events import installation_of

Use = Literal["looked", "ignored"]
USES: tuple[Use, ...] = ("looked", "ignored")

_APP, _OWNER = "app:", "owner:"


class DiscoveryEvents:
    """A plugin: has the sources that an event's signer speaks for read their listings.

    An App's secret moves nothing but the repositories of that App, whatever the payload says. A secret in
    ``[webhook]`` speaks for all. ``uses`` counts the events.
    """

    def __init__(
        self,
        look_at_app: Callable[[str, int | None], bool],
        look_at_owner: Callable[[str], bool],
        look_at_all: Callable[[], bool],
    ) -> None:
        """Each is told where to look, and returns False where there is nothing to read.

        The first is given the name of an App, and the id of an installation where only that is concerned.
        """
        self.uses: Counter[Use] = Counter()
        self._look_at_app = look_at_app
        self._look_at_owner = look_at_owner
        self._look_at_all = look_at_all

    @on("installation")
    def installation(self, event: Event) -> None:
        """Look: an installation was made, deleted, suspended or unsuspended, or has other permissions."""
        self._look(event, None)

    @on("installation_target")
    def installation_target(self, event: Event) -> None:
        """Look: an account has another name."""
        self._look(event, None)

    @on("installation_repositories")
    def installation_repositories(self, event: Event) -> None:
        """Look: repositories were added to an installation, or removed."""
        self._look(event, installation_of(event))

    @on("repository")
    def repository(self, event: Event) -> None:
        """Look: a repository was made, deleted, renamed, transferred, or has another property."""
        self._look(event, installation_of(event))

    @on("meta")
    def meta(self, event: Event) -> None:
        """Look: a webhook was deleted, and with it goes the news of what it would have told."""
        self._look(event, None)

    def _look(self, event: Event, installation: int | None) -> None:
        signer = event.signer
        if signer.startswith(_APP):
            looked = self._look_at_app(signer.removeprefix(_APP), installation)
        elif signer.startswith(_OWNER):
            looked = self._look_at_owner(signer.removeprefix(_OWNER))
        else:
            looked = not signer and self._look_at_all()
        self.uses["looked" if looked else "ignored"] += 1
