"""A hook whose deliveries GitHub lists: the interface that recovery reads it by."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from stackit.github.recovery.records import Detail, Listed


class DeliverySource(Protocol):
    """The deliveries of one hook, as GitHub lists them. Requests raise ApiError."""

    @property
    def name(self) -> str:
        """The hook in logs, metrics and the journal: ``app:main``, ``owner:octo/17``, ``repo:octo/widget/17``."""

    @property
    def signer(self) -> str:
        """The scope of the secret that the hook signs with: ``app:main``, ``owner:octo``, ``repo:octo/widget``."""

    @property
    def hook(self) -> str | None:
        """The id of the hook where the configuration has it; that of an App is told by its deliveries alone."""

    @property
    def retention(self) -> float:
        """The seconds for which GitHub keeps a delivery in its list."""

    def now(self) -> float:
        """Return the time by GitHub's clock, as well as it is known."""

    def pages(self) -> AsyncIterator[Sequence[Listed]]:
        """List the deliveries, newest first, page by page."""

    async def detail(self, id: int) -> Detail:  # noqa: A002 - the name of GitHub's field
        """Return one delivery with its payload."""
