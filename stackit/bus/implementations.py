"""The implementations of hooks: registered with pluggy, and called one by one.

pluggy's own call stops at the first exception and leaves coroutines unawaited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pluggy
from pluggy import HookImpl

from stackit.api import hookspecs
from stackit.api.errors import PluginError, StackitError, describe
from stackit.api.hookimpl import ON, PROJECT
from stackit.api.hookspecs import HOOKS
from stackit.api.tracebacks import describe_with_place
from stackit.secrets.redactor import Redact
from stackit.text.redaction import redacted


def plugin_manager() -> pluggy.PluginManager:
    """Return a plugin manager that knows the hooks, and no plugin."""
    plugins = pluggy.PluginManager(PROJECT)
    plugins.add_hookspecs(hookspecs)
    return plugins


def register(plugins: pluggy.PluginManager, name: str, plugin: object) -> None:
    """Register a plugin. Raises PluginError; the plugin may then be registered half-way."""
    try:
        plugins.register(plugin, name)
        plugins.check_pending()
    except pluggy.PluginValidationError as problem:
        raise PluginError(name, " ".join(str(problem).split())) from None
    except BaseException as problem:
        raise plugin_fault(name, "", problem) from problem


def plugin_fault(plugin: str, what: str, fault: BaseException, redact: Redact = redacted) -> PluginError:
    """Return the error of a plugin that raised an exception: ``what`` failed, and in which line of it."""
    text = describe(fault, redact) if isinstance(fault, StackitError) else describe_with_place(fault, redact)
    return PluginError(plugin, f"{what}: {text}" if what else text)


def implementations(plugins: pluggy.PluginManager, *hooks: str) -> Iterator[tuple[str, HookImpl]]:
    """Return the implementations of these hooks (default: of all), in the reverse of pluggy's call order."""
    for name in hooks or (*HOOKS, ON):
        caller = getattr(plugins.hook, name, None)  # without a specification there is none until it is implemented
        if caller is not None:
            yield from ((name, each) for each in caller.get_hookimpls())


def with_one_argument(implementation: HookImpl) -> Callable[[Any], Any]:
    """Return a function that calls an implementation with the one argument of its hook, and nothing in between."""
    function: Callable[..., Any] = implementation.function
    return function if implementation.argnames else lambda _: function()


def call_now(implementation: HookImpl, *values: object) -> Any:
    """Call an implementation and return its result.

    Raises its exception as an Exception: one such as SystemExit ends this call, and not stackit.
    """
    try:
        return implementation.function(*values[: len(implementation.argnames)])
    except Exception:
        raise
    except BaseException as leaving:
        raise RuntimeError(describe(leaving)) from leaving
