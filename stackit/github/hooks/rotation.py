"""A new secret for a webhook, without a delivery that is refused.

The steps, of which each leaves both secrets valid until the last:

1. the next secret is written beside the current one, and valid here;
2. GitHub is told to sign with it;
3. a delivery is provoked, and verifies by it;
4. after a while, for deliveries that are under way, the next secret replaces the current one.

Whatever fails, and wherever the process ends, the same command goes on: it finds the next secret in its file.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from stackit.api.background import Background
from stackit.api.errors import StackitError
from stackit.api.occurrences import Occurrence
from stackit.api.reactor import Reactor, sleep
from stackit.github.api import ApiClient
from stackit.github.hooks import changes
from stackit.github.hooks.deliveries import DeliveryWatch, ExpectedDelivery
from stackit.github.hooks.secret_files import SecretFiles
from stackit.github.hooks.target import HookTarget

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

KEEP_OLD = 30.0
"""Seconds for which the old secret stays valid once the new one is in use: GitHub waits ten for an answer."""
PATIENCE = 30.0
"""Seconds to wait for a delivery that was provoked."""
_ATTEMPTS = 3

State = Literal["changed", "waiting"]
Share = Callable[[Sequence[Path]], Awaitable[None]]
"""Return once all nodes have in these files what is in them here. Raises StackitError."""


class _Listed(msgspec.Struct, frozen=True):
    id: int
    status_code: int = 0


class Rotations:
    """The changes of secrets that are under way.

    ``home`` returns the file in which the secret of a target stays. ``refresh`` has the receiver take the secrets that
    are in the files now, ``share`` gives them to the other nodes of a fleet. ``notice`` is told how a change ended that
    no command waited for.
    """

    def __init__(
        self,
        reactor: Reactor,
        files: SecretFiles,
        watch: DeliveryWatch,
        *,
        home: Callable[[HookTarget], Path],
        refresh: Callable[[], None],
        share: Share,
        notice: Callable[[str], None],
    ) -> None:
        self._share = share
        self._background = Background()
        self._reactor = reactor
        self._files = files
        self._watch = watch
        self._home = home
        self._refresh = refresh
        self._notice = notice
        self._changing: dict[str, HookTarget] = {}
        self._labels: dict[str, str] = {}  # the path of a next secret -> the key of its target
        self._commands: set[str] = set()
        self._ending: dict[str, DelayedCall] = {}

    def start(self) -> None:
        """Take up the changes that the last process left. Raises StackitError."""
        self._know(self._files.changing())

    async def stop(self) -> None:
        """End no change any more: the next process takes them up."""
        await self._background.stop()
        for each in self._ending.values():
            each.cancel()
        self._ending.clear()

    def is_changing(self, target: HookTarget) -> bool:
        """Return whether a webhook has two secrets."""
        return target.key in self._changing

    def observe(self, occurrence: Occurrence) -> None:
        """End a change that no command waits for, once a delivery verified by the new secret."""
        key = self._labels.get(occurrence.verified_by or "")
        if key is not None and key not in self._commands and key not in self._ending:
            self._ending[key] = self._reactor.callLater(KEEP_OLD, self._end_later, key)

    async def rotate(self, client: ApiClient, target: HookTarget, hook: int | None, keep_old: float) -> State:
        """Change the secret of a webhook. ``hook`` is its id, None for that of an App.

        Returns ``waiting`` where no delivery verified by the new one yet: both are valid until one does. Raises
        StackitError where GitHub, or the disk, does not do as it should: then both are valid, too.
        """
        if target.key in self._commands:
            raise StackitError(f"the secret of {target.label} is being changed already")
        self._commands.add(target.key)
        ending = self._ending.pop(target.key, None)
        if ending is not None:
            ending.cancel()  # the command ends it
        try:
            return await self._rotate(client, target, hook, keep_old)
        finally:
            self._commands.discard(target.key)

    async def _rotate(self, client: ApiClient, target: HookTarget, hook: int | None, keep_old: float) -> State:
        path = self._files.next(target)
        secret = self._files.make(path)
        self._know([target])
        self._refresh()
        await self._share([path])
        label = str(path)
        with self._watch.expect(lambda it: it.verified_by == label) as verified:
            await changes.configure(client, target, hook, {"secret": secret})
            if not await self._provoke(client, target, hook, verified):
                return "waiting"
        await sleep(self._reactor, keep_old)
        await self._share(self._end(target))
        return "changed"

    async def _provoke(
        self, client: ApiClient, target: HookTarget, hook: int | None, verified: ExpectedDelivery
    ) -> bool:
        """Have GitHub send something, and return whether a delivery verified by the new secret."""
        for _ in range(_ATTEMPTS):
            if hook is not None:
                await changes.ping(client, target, hook)
            elif not await send_again(client):
                return verified.came
            if await verified.wait(PATIENCE / _ATTEMPTS):
                return True
        return False

    def _know(self, targets: Iterable[HookTarget]) -> None:
        for target in targets:
            self._changing[target.key] = target
            self._labels[str(self._files.next(target))] = target.key

    def _end_later(self, key: str) -> None:
        del self._ending[key]
        target = self._changing[key]
        self._background.run(self._end_alone(target))

    async def _end_alone(self, target: HookTarget) -> None:
        try:
            await self._share(self._end(target))
        except StackitError as problem:
            self._notice(f"{target.label}: its old secret is valid on: {problem}")
        else:
            self._notice(f"{target.label}: GitHub signs with the new secret, and the old one is removed")

    def _end(self, target: HookTarget) -> list[Path]:
        """Have the next secret take the place of the current one; return the files that have changed."""
        home, upcoming = self._home(target), self._files.next(target)
        self._files.replace(target, home)
        del self._changing[target.key]
        del self._labels[str(upcoming)]
        self._refresh()
        return [home, upcoming]


async def send_again(client: ApiClient) -> bool:
    """Have GitHub send the newest delivery of an App again, which has no ping. Return False where there is none.

    It is here already: so it is a duplicate, and reaches no handler again. Raises ApiError.
    """
    page = await client.get("/app/hook/deliveries", list[_Listed], {"per_page": 30})
    answered = [each for each in page if 200 <= each.status_code < 300]
    if not answered:
        return False
    await client.send("POST", "/app/hook/deliveries/{delivery}/attempts", delivery=answered[0].id)
    return True
