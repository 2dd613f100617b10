"""Windows of time whose deliveries are lost: admitted, and everything compared with GitHub for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import msgspec
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.python.failure import Failure

from stackit.github.recovery.hook import HookRecovery
from stackit.github.recovery.records import HookState, Window, with_loss
from stackit.text.times import rfc3339

DAY = 86400.0


class Losses:
    """What is lost of ``hooks``, which are there by name.

    ``reconcile`` compares every mirror, and every listing of repositories, with GitHub; it returns whether all of them
    could be. A window is a problem until that was done after it was found, or a person says that they know of it.
    """

    def __init__(
        self,
        hooks: Mapping[str, HookRecovery],
        reconcile: Callable[[], Awaitable[bool]],
        now: Callable[[], float],
        notice: Callable[[str], None],
    ) -> None:
        self._hooks = hooks
        self._reconcile = reconcile
        self._now = now
        self._notice = notice
        self._running: Deferred[None] | None = None

    async def admit(self, hook: HookRecovery, lost: Window) -> None:
        """Keep in the journal that a window is lost, tell of it, and have everything compared. Raises JournalError."""
        before = hook.state.lost

        def admitted(state: HookState) -> HookState:
            state = with_loss(state, lost)
            mark = state.mark
            if mark is None or mark.seen_at >= lost.end:
                return state
            # Up to its end, all is accounted for: as lost.
            return msgspec.structs.replace(state, mark=msgspec.structs.replace(mark, seen_at=lost.end))

        await hook.change(admitted)
        if hook.state.lost != before:
            kept_for = f"{hook.source.retention / DAY:g} days"
            self._notice(
                f"deliveries of {hook.source.name} {named(hook.state.lost[-1])} may be lost: nobody looked at GitHub's "
                f"list for longer than the {kept_for} that it keeps them; every mirror is compared with GitHub now; "
                "what other events told is gone"
            )
        self.reconcile()

    def reconcile(self) -> None:
        """Have everything compared with GitHub if a window waits for it, unless that runs already."""
        if self._running is None and any(_waits(each) for hook in self._hooks.values() for each in hook.state.lost):
            self._running = running = Deferred.fromCoroutine(self._compare())
            running.addBoth(self._ended)

    async def _compare(self) -> None:
        windows = {name: set(hook.state.lost) for name, hook in self._hooks.items()}
        if not await self._reconcile():
            return
        for name, waiting in windows.items():
            hook = self._hooks.get(name)
            lost = [each for each in waiting if _waits(each)]
            if hook is None or not lost:
                continue
            at = self._now()
            await hook.change(lambda state, lost=lost, at=at: _with(state, lost, "reconciled_at", at))  # type: ignore[misc]
            self._notice(f"everything was compared with GitHub after deliveries of {name} were lost")

    def _ended(self, result: object) -> None:
        self._running = None
        if isinstance(result, Failure) and not result.check(CancelledError):
            self._notice(f"not everything could be compared with GitHub, that is tried again: {result.value}")

    async def acknowledge(self) -> int:
        """Keep that a person knows of every window; return how many were not known of. Raises JournalError."""
        count = 0
        for hook in self._hooks.values():
            unknown = [each for each in hook.state.lost if each.acknowledged_at is None]
            count += len(unknown)
            at = self._now()
            await hook.change(lambda state, unknown=unknown, at=at: _with(state, unknown, "acknowledged_at", at))  # type: ignore[misc]
        return count

    def problems(self) -> list[str]:
        """Return a line for each window that waits for a comparison or a person."""
        return [
            f"deliveries of {name} {named(each)} may be lost, and not every mirror was compared with GitHub since "
            "(stackit recover --acknowledge: you know)"
            for name, hook in self._hooks.items()
            for each in hook.state.lost
            if _waits(each)
        ]

    async def stop(self) -> None:
        """End a comparison."""
        running = self._running
        if running is not None:
            running.cancel()
            await DeferredList([running])


def named(window: Window) -> str:
    """Return the times of a window in words."""
    return f"from {rfc3339(window.begin)} to {rfc3339(window.end)}"


def _waits(window: Window) -> bool:
    return window.reconciled_at is None and window.acknowledged_at is None


def _with(state: HookState, windows: list[Window], field: str, at: float) -> HookState:
    """Return the state with a field of these windows set."""
    lost = tuple(msgspec.structs.replace(each, **{field: at}) if each in windows else each for each in state.lost)
    return msgspec.structs.replace(state, lost=lost)
