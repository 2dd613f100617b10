"""Recovery of the deliveries of all hooks: at the start, every few minutes, and when somebody asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.python.failure import Failure

from stackit.api.errors import StackitError, describe
from stackit.api.occurrences import Occurrence
from stackit.api.reactor import Timers, looping_call
from stackit.github.api import ApiError
from stackit.github.recovery.hook import COLLECTION, Documents, Found, HookRecovery
from stackit.github.recovery.losses import Losses
from stackit.github.recovery.metrics import RecoveryMetrics
from stackit.github.recovery.report import Report
from stackit.github.recovery.source import DeliverySource
from stackit.github.recovery.taking import Taker
from stackit.github.recovery.walk import Wanted

Sources = Callable[[], Awaitable[Iterable[DeliverySource]]]
"""The hooks whose deliveries can be listed now."""


class Recovery:
    """A walk through the list of each hook: at start, every ``interval`` seconds (0: when asked only), and by ``look``.

    Hooks do not wait for each other; one whose last walk still takes deliveries is left to it. ``pause`` are the
    seconds between two payloads of a hook. ``reconcile`` compares everything with GitHub, and returns whether that
    could be done: it is called when deliveries are lost.
    """

    def __init__(
        self,
        *,
        reactor: Timers,
        now: Callable[[], float],
        journal: Documents,
        taker: Taker,
        wanted: Wanted,
        sources: Sources,
        reconcile: Callable[[], Awaitable[bool]],
        observe: Callable[[Occurrence], None],
        interval: float,
        pause: float,
    ) -> None:
        self._reactor = reactor
        self._journal = journal
        self._taker = taker
        self._wanted = wanted
        self._sources = sources
        self._observe = observe
        self._interval = interval
        self._pause = pause
        self._running: dict[str, Deferred[None]] = {}
        self._asked: dict[str, float] = {}
        self._problems: dict[str, str] = {}
        self._stopping = False
        self._is_started = False
        self.hooks: dict[str, HookRecovery] = {}
        self.metrics = RecoveryMetrics(self.hooks, now)
        self.losses = Losses(self.hooks, reconcile, now, self._notice)
        self._loop = looping_call(reactor, self.look)

    # -- start and stop -------------------------------------------------------------

    def start(self) -> None:
        """Begin to look. After a stop, the marks are read anew: another node of the fleet may have moved them."""
        self._stopping = False
        self._is_started = True
        self._problems.clear()
        self._schedule()

    async def stop(self) -> None:
        """End all walks. What is left is found by the next start."""
        self._stopping = True
        self._is_started = False
        if self._loop.running:
            self._loop.stop()
        await self.losses.stop()
        for running in list(self._running.values()):
            running.cancel()
            await DeferredList([running])
        self.hooks.clear()  # the leader of a fleet knows more by now

    def change(self, *, interval: float, pause: float) -> None:
        """Take other settings, and look again: there may be other hooks."""
        self._interval, self._pause = interval, pause
        for hook in self.hooks.values():
            hook.pause = pause
        self._schedule()

    def _schedule(self) -> None:
        if self._loop.running:
            self._loop.stop()
        if self._is_started and self._interval:
            self._loop.start(self._interval, now=True)

    # -- walks ------------------------------------------------------------------------

    def look(self) -> None:
        """Look through the list of each hook, unless a walk through it is not over."""
        self._start("", self._look())

    async def _look(self) -> None:
        hooks = await self._known_hooks()
        self._problems.pop("", None)
        self.losses.reconcile()  # one that failed before
        for hook in hooks:
            self._start(hook.source.name, self._walk(hook))

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        if name in self._running or self._stopping:
            work.close()
            return

        def ended(result: object) -> None:
            del self._running[name]
            since = self._asked.pop(name, None)
            if since is not None and name in self.hooks:
                self._start(name, self._walk(self.hooks[name], since))
            if isinstance(result, Failure) and result.value is not None and not result.check(CancelledError):
                self._failed(name, result.value)

        running = Deferred.fromCoroutine(work)
        self._running[name] = running
        running.addBoth(ended)

    async def _known_hooks(self) -> list[HookRecovery]:
        """Return recovery for each hook that there is now; the mark of a new one is read from the journal."""
        sources = list(await self._sources())
        if any(each.name not in self.hooks for each in sources):
            documents = await self._journal.documents(COLLECTION)
            for source in sources:
                if source.name not in self.hooks:
                    self.hooks[source.name] = self._hook(source, documents.get(source.name))
        names = {each.name for each in sources}
        for name in self.hooks.keys() - names:
            del self.hooks[name]
        for source in sources:
            self.hooks[source.name].source = source
        return [self.hooks[each.name] for each in sources]

    def _hook(self, source: DeliverySource, document: bytes | None) -> HookRecovery:
        return HookRecovery(
            source,
            document,
            reactor=self._reactor,
            journal=self._journal,
            taker=self._taker,
            wanted=self._wanted,
            pause=self._pause,
            notice=self._notice,
        )

    async def _walk(
        self, hook: HookRecovery, since: float | None = None, tell: Callable[[Report], object] = lambda _: None
    ) -> None:
        """Look through the list of a hook and take what is missed; ``tell`` is given what was found, once."""
        name = hook.source.name
        try:
            found = await hook.find(since)
        except StackitError as problem:
            self._failed(name, problem)
            tell(Report(hook=name, error=str(problem)))
            return
        except CancelledError:
            tell(Report(hook=name, error="stackit is stopping"))
            raise
        tell(Report.of(hook, found, running=True))
        try:
            await self._take(hook, found)
        except StackitError as problem:
            self._failed(name, problem)

    async def _take(self, hook: HookRecovery, found: Found) -> None:
        """Take what was found. Raises StackitError."""
        name = hook.source.name
        if hook.state.mark is None and found.since is None:
            self._notice(f"recovery of missed deliveries of {name} begins now: what was missed before is left alone")
        if found.missed:
            self._notice(f"{len(found.missed)} deliveries of {name} were missed; they are taken from GitHub's list now")
        if found.lost is not None:
            await self.losses.admit(hook, found.lost)
        await hook.take(found)
        if found.walk.is_cut:
            raise ApiError("the list lacks what it showed before", reason="shape")
        self.metrics.succeeded(name)
        if self._problems.pop(name, None) is not None:
            self._notice(f"missed deliveries of {name} can be looked for again")

    def _failed(self, name: str, problem: BaseException) -> None:
        """Tell of a failure, once for each kind in a row."""
        if self._stopping:
            return  # it was cut off
        if not isinstance(problem, StackitError):
            kind = "bug"
        else:
            kind = problem.reason if isinstance(problem, ApiError) else "journal"
        self.metrics.failed(name, kind)
        if self._problems.get(name) != kind:
            self._problems[name] = kind
            again = f"again in {self._interval:g} s" if self._interval else "when somebody asks"
            self._notice(
                f"missed deliveries of {name or 'GitHub'} cannot be looked for, which is tried {again}: "
                f"{describe(problem)}"
            )

    # -- when somebody asks -----------------------------------------------------------

    async def recover(self, since: float | None = None, *, dry_run: bool = False) -> list[Report]:
        """Look through the lists now, back to ``since`` at least; return what is found, which is taken from then on.

        A hook of which deliveries are still taken is looked through after that. With ``dry_run`` nothing is taken.
        """
        return [await self._recover(hook, since, dry_run) for hook in await self._known_hooks()]

    async def _recover(self, hook: HookRecovery, since: float | None, dry_run: bool) -> Report:
        name = hook.source.name
        if dry_run:
            try:
                return Report.of(hook, await hook.find(since), running=False)
            except StackitError as problem:
                return Report(hook=name, error=str(problem))
        if name in self._running or self._stopping:
            if since is not None:
                self._asked[name] = min(since, self._asked.get(name, since))
            return Report(hook=name, left=hook.left, running=True)
        found: Deferred[Report] = Deferred()
        self._start(name, self._walk(hook, since, found.callback))
        return await found

    # -- state ------------------------------------------------------------------------

    def status(self) -> list[dict[str, Any]]:
        """Return the state of each hook for people."""
        return [hook.status() | {"problem": self._problems.get(name)} for name, hook in self.hooks.items()]

    def _notice(self, reason: str) -> None:
        self._observe(Occurrence(name="notice", reason=reason))
