"""The ways out of a broken mirror: a repair of its files, or a fresh clone in its place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from stackit import App, ManagedRepo, Occurrence
from stackit.plugins.mirror.repository.fsck import Fsck, FsckSlots
from stackit.plugins.mirror.repository.repair import repair
from stackit.plugins.mirror.repository.repository import Repository
from stackit.plugins.mirror.sync.slot_holder import SlotHolder

REPLACE_EVERY = 3600.0
"""Seconds between two clones in the place of a mirror that stays broken."""


class Healer:
    """Heals the mirror that ``repository`` is; ``clone`` makes a fresh one in its place."""

    def __init__(
        self,
        app: App,
        managed: ManagedRepo,
        repository: Repository,
        *,
        fsck_slots: FsckSlots,
        slot: SlotHolder,
        clone: Callable[[], Awaitable[object]],
    ) -> None:
        self._app = app
        self._managed = managed
        self._directory = repository.directory
        self._fsck = Fsck(fsck_slots, repository)
        self._slot = slot
        self._clone = clone
        self._replaced_at: float | None = None

    async def heal(self, steps: list[str], said: str, began: float) -> bool:
        """Take steps, the smallest first, until one changes something; False if none does.

        ``steps`` are those that are left, of ``repair`` and ``replace``. ``said`` is what git wrote to stderr, and
        ``began`` when it started, in epoch seconds.
        """
        while steps and self._directory.exists():
            if steps.pop(0) == "repair":
                if self.repair(said, began):
                    return True
            elif await self.replace_if_broken():
                return True
        return False

    def repair(self, said: str, began: float) -> bool:
        """Repair files of the mirror; True if there was anything to repair."""
        done = repair(self._directory, said, began)
        for reason, count in done:
            self._observe(f"{reason}: {count}", count)
        return bool(done)

    async def replace_if_broken(self) -> bool | None:
        """Read all objects, and make a fresh clone if one is broken.

        Returns True after a clone, False if the mirror is sound, None if it could not be checked now: it was replaced
        or checked a short time ago, or the checks of other mirrors run.
        """
        now = self._app.reactor.seconds()
        if self._replaced_at is not None and now - self._replaced_at < REPLACE_EVERY:
            return None
        self._slot.leave()  # reading all objects takes long, and asks nothing of the remote
        sound = await self._fsck.is_sound()
        if sound is not False:
            return None if sound is None else False
        await self._clone()
        self._fsck.mark_replaced()
        self._replaced_at = now
        self._observe("the mirror was broken: a fresh clone took its place", 1)
        return True

    def _observe(self, reason: str, count: int) -> None:
        self._app.observe(Occurrence(name="healed", repo=self._managed.repo, reason=reason, count=count))
