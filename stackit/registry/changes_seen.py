"""The changes of the registry that this node had the leader make: it has seen them itself before it answers."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from twisted.internet.defer import Deferred

from stackit.api.admin import AdminRequest, Response
from stackit.api.events import Repo
from stackit.api.repos import Repos, ReposChange


class _Named(msgspec.Struct):
    name: str


class ChangesSeen:
    """Waits until the managed repositories are as an answer of the leader says."""

    def __init__(self, repos: Repos) -> None:
        self._repos = repos
        self._waiting: dict[Deferred[None], Callable[[], bool]] = {}
        repos.on_change(self._look)

    async def added(self, _: AdminRequest, response: Response) -> None:
        """Return once the repository of the answer is managed here. Cancel it to wait no longer."""
        await self._until(response, is_managed=True)

    async def removed(self, _: AdminRequest, response: Response) -> None:
        """Return once the repository of the answer is managed here no more. Cancel it to wait no longer."""
        await self._until(response, is_managed=False)

    async def _until(self, response: Response, *, is_managed: bool) -> None:
        if not isinstance(response.body, bytes):
            return
        repo = Repo.parse(msgspec.json.decode(response.body, type=_Named).name)

        def is_seen() -> bool:
            return (self._repos.get(repo) is not None) is is_managed

        if not is_seen():
            waiting: Deferred[None] = Deferred()
            self._waiting[waiting] = is_seen
            try:
                await waiting
            finally:
                self._waiting.pop(waiting, None)

    def _look(self, _: ReposChange) -> None:
        for waiting, is_seen in list(self._waiting.items()):
            if is_seen():
                waiting.callback(None)
