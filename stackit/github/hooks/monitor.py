"""The look at every webhook, again and again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall

from stackit.api.errors import StackitError
from stackit.api.events import Repo
from stackit.api.occurrences import Occurrence
from stackit.api.reactor import Reactor, looping_call
from stackit.github.hooks.access import HookAccess
from stackit.github.hooks.alarms import HookAlarms
from stackit.github.hooks.faults import FAULTS, Fault, command
from stackit.github.hooks.inspection import Inspection, inspect
from stackit.github.hooks.silence import LATE, Silence, faults_by_target
from stackit.github.hooks.target import HookTarget
from stackit.github.hooks.wanted import WantedHook
from stackit.github.hooks.watched import WatchedHooks

FIRST_LOOK = 10.0
"""Seconds from the start to the first look, if the interval is not shorter."""

_INSPECTED = tuple(each for each in FAULTS if each != "silent")


WasTold = Callable[[Repo, float], Awaitable[bool]]
"""Return whether a delivery of a webhook told of a push since a time, at any node. Raises JournalError."""


class LastLook(msgspec.Struct, frozen=True):
    """What the last look at a webhook found; ``problem`` is why it could not be looked at."""

    inspection: Inspection | None
    problem: str | None
    looked_at: float


class HookMonitor:
    """Looks at every webhook that is watched, one after the other, every ``interval`` seconds (0: never).

    ``wanted`` returns what webhooks should be now, ``app_of`` the name of the App that has a repository. ``was_told``
    asks all nodes of a fleet; None without one.
    """

    def __init__(
        self,
        reactor: Reactor,
        now: Callable[[], float],
        *,
        watched: WatchedHooks,
        access: HookAccess,
        alarms: HookAlarms,
        silence: Silence,
        wanted: Callable[[], WantedHook],
        app_of: Callable[[Repo], str | None],
        notice: Callable[[str], None],
        was_told: WasTold | None = None,
    ) -> None:
        self._was_told = was_told
        self.states: dict[str, LastLook] = {}
        self._reactor = reactor
        self._now = now
        self._watched = watched
        self._access = access
        self.alarms = alarms
        self._silence = silence
        self._wanted = wanted
        self._app_of = app_of
        self._notice = notice
        self._heard: set[str] = set()
        self._interval = 0.0
        self._loop: LoopingCall | None = None
        self._round: Deferred[None] | None = None

    def start(self, interval: float) -> None:
        """Look every so many seconds from now on, in place of the interval before."""
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        self._interval = interval
        if interval:
            self._loop = looping_call(self._reactor, self._look_at_all)
            self._loop.start(min(FIRST_LOOK, interval), now=False)

    async def stop(self) -> None:
        """Look no more, and end the look that goes on."""
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        running, self._round = self._round, None
        if running is not None:
            running.cancel()
            await running

    def _look_at_all(self) -> None:
        if self._loop is not None:
            self._loop.interval = self._interval  # the first look was sooner
        if self._round is None:
            self._round = running = Deferred.fromCoroutine(self.look_at_all())
            running.addErrback(lambda failure: failure.trap(CancelledError) and None)
            running.addBoth(self._ended)

    def _ended(self, result: None) -> None:
        self._round = None
        return result

    async def look_at_all(self) -> None:
        """Look at every webhook that is watched, and raise or end its alarms. Never raises for GitHub or the disk."""
        try:
            await self._watched.load()
            targets = self._watched.targets()
        except StackitError as problem:
            self._notice(f"webhooks at GitHub are not looked at: {problem}")
            return
        self.alarms.forget(targets.values())
        for key in [key for key in self.states if key not in targets]:
            del self.states[key]
        for target in targets.values():
            await self.look(target)
        try:
            silent = await self._silent()
        except StackitError:
            return  # the journal tells of it; the next look is soon
        faults = faults_by_target(silent, targets, self._app_of)
        for key, target in targets.items():
            self.alarms.take(target, [faults[key]] if key in faults else [], about=("silent",))

    async def _silent(self) -> list[Repo]:
        """Return the repositories with a push that no delivery told of, at any node. Raises JournalError."""
        silent = self._silence.silent(min(LATE, self._interval or LATE))
        if self._was_told is None:
            return silent
        since = self._now() - self._silence.window - self._interval
        told = [each for each in silent if await self._was_told(each, since)]
        for each in told:
            self._silence.told(each)
        return [each for each in silent if each not in told]

    async def look(self, target: HookTarget) -> LastLook:
        """Look at one webhook, and raise or end its alarms."""
        inspection: Inspection | None = None
        problem: str | None = None
        try:
            labels = self._watched.labels(target)
            known = self._watched.id_of(target)
            inspection = await inspect(target, self._access, self._wanted(), known, has_secret=bool(labels))
            if inspection.found is not None and inspection.found.id is not None:
                await self._watched.learn(target, inspection.found.id)
            elif inspection.found is None and target.kind == "owner" and known is None:
                inspection = await self._without_organization_hook(target, inspection, labels)
        except StackitError as fault:
            problem = str(fault)
        if inspection is not None:
            self.alarms.take(target, inspection.faults, about=_INSPECTED)
        else:
            unseen = Fault("unchecked", f"cannot be looked at: {problem}", command("check", target))
            self.alarms.take(target, [unseen], about=("unchecked",))
        state = self.states[target.key] = LastLook(inspection, problem, self._now())
        return state

    async def _without_organization_hook(
        self, target: HookTarget, inspection: Inspection, labels: frozenset[str]
    ) -> Inspection:
        """Take no organization's webhook for missing whose secret signs deliveries: those are of repositories."""
        if not self._watched.is_known(target) and not self._heard.isdisjoint(labels):
            await self._watched.learn(target, None)
        return Inspection(None, ()) if self._watched.is_known(target) else inspection

    def observe(self, occurrence: Occurrence) -> None:
        """Take note of the secret by which a delivery verified."""
        if occurrence.verified_by is not None and occurrence.name in ("accepted", "duplicate"):
            self._heard.add(occurrence.verified_by)

    async def deleted(self, target: HookTarget, hook: object) -> None:
        """Take note of an event that tells that a webhook was deleted: look, or believe it where nobody may look."""
        if target.key not in self._watched.targets():
            self._notice(
                f"{target.label} (id {str(hook)[:20]}) was deleted at GitHub; make another: {command('create', target)}"
            )
        elif (await self.look(target)).problem is not None:
            fault = Fault("deleted", "was deleted at GitHub", command("create", target))
            self.alarms.take(target, [fault], about=("deleted",))
