"""Subscribers: the handlers of events and of ref changes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from inspect import iscoroutine
from typing import Any

import msgspec
from pluggy import HookImpl
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from stackit.api.hookimpl import OPTIONS_ATTRIBUTE, HandlerOptions
from stackit.bus.implementations import call_now, with_one_argument
from stackit.bus.timeouts import as_exception, to_deferred

Watch = Callable[[Any, Coroutine[Any, Any, Any]], Coroutine[Any, Any, Any]]
"""Called with an event and the coroutine of its handler; returns the coroutine that is run in its place."""


def _as_it_is(_event: Any, coroutine: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
    return coroutine


class Subscriber(msgspec.Struct, frozen=True, eq=False):
    """One handler of one plugin.

    ``key`` (``plugin:function``) is its name in the journal: it stays the same when the
    plugin gains another handler.
    """

    key: str
    plugin: str
    function: str
    options: HandlerOptions
    implementation: HookImpl

    handler: Callable[[object], Any]

    @classmethod
    def of(cls, implementation: HookImpl) -> Subscriber:
        """Return the subscriber of an implementation."""
        name = implementation.function.__name__
        return cls(
            key=f"{implementation.plugin_name}:{name}",
            plugin=implementation.plugin_name,
            function=name,
            options=getattr(implementation.function, OPTIONS_ATTRIBUTE, HandlerOptions()),
            implementation=implementation,
            handler=with_one_argument(implementation),
        )

    def call(self, value: object, watch: Watch = _as_it_is) -> Deferred[Any] | None:
        """Run the handler in this thread; its coroutine is run as ``watch`` returns it.

        Returns None where the handler returned None and so has finished, else a Deferred of its outcome. Never raises.
        """
        try:
            result = self.handler(value)
            if result is None:
                return None
            return Deferred.fromCoroutine(watch(value, result)) if iscoroutine(result) else to_deferred(result)
        except BaseException:  # noqa: BLE001 - foreign code: whatever it raises is its outcome
            return fail(as_exception(Failure()))

    def run(self, value: object) -> object:
        """Run the handler in the calling thread; returns its result, raises its exception."""
        return call_now(self.implementation, value)
