"""Subscribers: the handlers of events and of ref changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from pluggy import HookImpl
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from stackit.api.hookimpl import OPTIONS_ATTRIBUTE, HandlerOptions
from stackit.bus.implementations import call_now, with_one_argument
from stackit.bus.timeouts import as_exception, to_deferred


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

    def call(self, value: object) -> Deferred[Any] | None:
        """Run the handler in this thread.

        Returns None where the handler returned None and so has finished, else a Deferred of its outcome. Never raises.
        """
        try:
            result = self.handler(value)
            return None if result is None else to_deferred(result)
        except BaseException:  # noqa: BLE001 - foreign code: whatever it raises is its outcome
            return fail(as_exception(Failure()))

    def run(self, value: object) -> object:
        """Run the handler in the calling thread; returns its result, raises its exception."""
        return call_now(self.implementation, value)
