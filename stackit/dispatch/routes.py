"""The admin routes of plugins and of their handlers: show them, pause and resume one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from stackit.api import hookspecs
from stackit.api.admin import AdminRequest, Response, Route, error, unavailable
from stackit.api.errors import JournalError, PluginError
from stackit.api.hookspecs import HOOKS, HookKind
from stackit.api.schema import Timestamp
from stackit.bus.bus import Bus
from stackit.bus.subscribers import Subscriber
from stackit.dispatch.dispatch import Dispatch
from stackit.dispatch.pauses import Pauses
from stackit.dispatch.tallies import Tallies
from stackit.journal import JournalProtocol
from stackit.text.times import rfc3339

_UNKNOWN = "There is no such subscriber; the text names those that there are."


class HandlerState(msgspec.Struct, frozen=True, kw_only=True):
    """A handler. ``events`` are the patterns of those it is called for, empty for all.

    ``pending`` and ``dead`` are events in the journal. ``handled`` and ``failed`` count attempts since the start,
    ``mean_seconds`` and ``max_seconds`` are of these.
    """

    subscriber: str
    function: str
    hook: str
    events: list[str]
    pending: int
    dead: int
    handled: int
    failed: int
    mean_seconds: float | None
    max_seconds: float | None
    last_error: str | None
    last_error_at: Timestamp | None
    paused: bool
    paused_by: str | None
    paused_at: Timestamp | None


class LoadedPlugin(msgspec.Struct, frozen=True):
    """A plugin that is loaded: the hooks that it implements, and its handlers."""

    name: str
    hooks: list[str]
    handlers: list[HandlerState]


class UnloadedSubscriber(msgspec.Struct, frozen=True, kw_only=True):
    """A subscriber that is paused or has events in the journal, and whose handler is not loaded."""

    subscriber: str
    pending: int
    dead: int
    paused: bool
    paused_by: str | None
    paused_at: Timestamp | None


class LeftOut(msgspec.Struct, frozen=True):
    """An installed plugin that does not work, and why."""

    name: str
    reason: str


class Plugins(msgspec.Struct, frozen=True):
    """All plugins, and what waits for handlers that are not there."""

    plugins: list[LoadedPlugin]
    left_out: list[LeftOut]
    unloaded: list[UnloadedSubscriber]


class PauseState(msgspec.Struct, frozen=True):
    """Whether a subscriber is paused, and how many events it still has to handle."""

    subscriber: str
    paused: bool
    pending: int


class _Control:
    def __init__(
        self,
        bus: Bus,
        journal: JournalProtocol,
        dispatch: Dispatch,
        pauses: Pauses,
        tallies: Tallies,
        left_out: Sequence[PluginError],
    ) -> None:
        self._bus = bus
        self._journal = journal
        self._dispatch = dispatch
        self._pauses = pauses
        self._tallies = tallies
        self._left_out = left_out

    async def show(self, _request: AdminRequest) -> Response:
        try:
            dead, pending = await self._journal.dead(), await self._dispatch.pending_everywhere()
        except JournalError as problem:
            return unavailable(problem)
        loaded: set[str] = set()
        handlers: dict[str, list[HandlerState]] = {name: [] for name in self._bus.plugins()}
        for name, hook in HOOKS.items():
            if hook.kind is HookKind.EVENT:
                for each in self._bus.subscribers(getattr(hookspecs, name)):
                    loaded.add(each.key)
                    shown = self._bus.display(each.key)
                    state = self._handler(name, each, pending.get(shown, 0), dead.get(each.key, 0))
                    handlers[each.plugin].append(state)
        plugins = [
            LoadedPlugin(
                plugin,
                [hook for hook in HOOKS if self._bus.has(getattr(hookspecs, hook), plugin)],
                sorted(found, key=lambda each: each.subscriber),
            )
            for plugin, found in handlers.items()
        ]
        left_out = [LeftOut(each.plugin, self._bus.redact(each.reason)) for each in self._left_out]
        waiting = {key for key, count in (*pending.items(), *dead.items()) if count}
        known = loaded | set(map(self._bus.display, loaded))
        unloaded = [
            self._unloaded(key, pending.get(key, 0), dead.get(key, 0))
            for key in sorted({*waiting, *self._pauses.paused()} - known)
        ]
        return Response(body=Plugins(plugins, left_out, unloaded))

    async def pause(self, request: AdminRequest) -> Response:
        return await self._change(request, self._pauses.pause)

    async def resume(self, request: AdminRequest) -> Response:
        return await self._change(request, self._pauses.resume)

    async def _change(self, request: AdminRequest, change: Callable[[str, str], Awaitable[None]]) -> Response:
        name = request.args["subscriber"]
        keys = self._bus.keys(name)
        if len(keys) > 1:
            return error(400, f"{name} has several handlers, name one: {', '.join(sorted(keys))}")
        key = keys[0]
        known = {*self._dispatch.queues(), *self._pauses.paused()}
        if key not in known:
            names = ", ".join(sorted(map(self._bus.display, known)))
            return error(404, f"there is no subscriber {name}; there is {names or 'none at all'}")
        try:
            await change(key, request.by)
            pending = await self._dispatch.pending_everywhere()
        except JournalError as problem:
            return unavailable(problem)
        shown = self._bus.display(key)
        return Response(body=PauseState(shown, key in self._pauses.paused(), pending.get(shown, 0)))

    def _handler(self, hook: str, subscriber: Subscriber, pending: int, dead: int) -> HandlerState:
        name = self._bus.display(subscriber.key)
        tally = self._tallies.of(name)
        paused, paused_by, paused_at = self._pause(subscriber.key)
        return HandlerState(
            subscriber=name,
            function=subscriber.function,
            hook=hook,
            events=list(subscriber.options.patterns),
            pending=pending,
            dead=dead,
            handled=tally.handled,
            failed=tally.failed,
            mean_seconds=tally.mean,
            max_seconds=tally.longest,
            last_error=tally.last_error,
            last_error_at=None if tally.last_error_at is None else rfc3339(tally.last_error_at),
            paused=paused,
            paused_by=paused_by,
            paused_at=paused_at,
        )

    def _unloaded(self, key: str, pending: int, dead: int) -> UnloadedSubscriber:
        paused, paused_by, paused_at = self._pause(key)
        return UnloadedSubscriber(
            subscriber=key, pending=pending, dead=dead, paused=paused, paused_by=paused_by, paused_at=paused_at
        )

    def _pause(self, key: str) -> tuple[bool, str | None, str | None]:
        """Return whether a subscriber is paused, by whom and since when."""
        pause = self._pauses.paused().get(key)
        if pause is None:
            return False, None, None
        return True, pause.by, None if pause.at is None else rfc3339(pause.at)


def control_routes(
    bus: Bus,
    journal: JournalProtocol,
    dispatch: Dispatch,
    pauses: Pauses,
    tallies: Tallies,
    left_out: Sequence[PluginError],
) -> list[Route]:
    """Return the routes. ``left_out`` are the faults of installed plugins that are not loaded."""
    control = _Control(bus, journal, dispatch, pauses, tallies, left_out)
    errors = {400: "A plugin with several handlers; the text names them.", 404: _UNKNOWN}
    return [
        Route(
            "GET",
            "{prefix}/plugins",
            control.show,
            query=(),
            summary="Show the plugins, and how their handlers do.",
            returns=Plugins,
        ),
        Route(
            "POST",
            "{prefix}/subscribers/{subscriber}/pause",
            control.pause,
            query=(),
            summary="Pause a subscriber: its events wait in the journal.",
            returns=PauseState,
            errors=errors,
        ),
        Route(
            "POST",
            "{prefix}/subscribers/{subscriber}/resume",
            control.resume,
            query=(),
            summary="Resume a subscriber that was paused.",
            returns=PauseState,
            errors=errors,
        ),
    ]
