"""Checks of a plugin before it is ever called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator

from pluggy import HookImpl

from stackit.api.errors import PluginError
from stackit.api.hookimpl import ON, OPTIONS_ATTRIBUTE, HandlerOptions, read_pattern
from stackit.api.hookspecs import HookKind, kind_of

Doubt = Callable[[str, str | None], str | None]
"""Return why no event of a name and an action (None for any) is to be expected; None where one is."""


def check(plugin: str, registered: object, implementations: Iterable[tuple[str, HookImpl]]) -> None:
    """Raise PluginError for the first hook implementation of a plugin that could not work.

    ``registered`` is the plugin itself: a module or an object.
    """
    names: set[str] = set()
    for hook, each in implementations:
        _check_kind(plugin, hook, each)
        _check_arguments(plugin, hook, each)
        # A handler's name is part of its key in the journal; of other hooks one each is enough.
        name = each.function.__name__ if kind_of(hook) is HookKind.EVENT else hook
        if name in names:
            raise PluginError(plugin, f"has two implementations named {name}")
        names.add(name)
    if not names:
        raise PluginError(plugin, _without_hook(registered))


def doubts(plugin: str, function: str, options: HandlerOptions, doubt: Doubt) -> Iterator[str]:
    """Yield a line for each pattern of a handler that no event may ever match."""
    for pattern in options.patterns:
        name, action = read_pattern(pattern)
        reason = doubt(name, action) if name else None
        if reason:
            yield f"{plugin}: the handler {function} asks for {pattern!r}, which may never come: {reason}"


def _without_hook(registered: object) -> str:
    """Return what is wrong with a plugin that has no hook: often it is a module whose class should have been named."""
    if inspect.ismodule(registered):
        for name, each in vars(registered).items():
            if inspect.isclass(each) and any(hasattr(found, OPTIONS_ATTRIBUTE) for found in vars(each).values()):
                return f"has no hook, but its class {name} has: write :{name} after the name of the file or module"
    return "has no hook: mark a function with @hookimpl or @on(...)"


def _check_kind(plugin: str, hook: str, implementation: HookImpl) -> None:
    function, name = implementation.function, implementation.function.__name__
    if implementation.wrapper or implementation.hookwrapper:
        raise PluginError(plugin, f"{hook} is a wrapper: each handler is called by itself, so there is nothing to wrap")
    if inspect.isclass(implementation.plugin):
        raise PluginError(plugin, f"{implementation.plugin.__name__} is a class: register an instance of it")
    asynchronous = inspect.iscoroutinefunction(function)
    if asynchronous and not kind_of(hook).may_be_async:
        raise PluginError(plugin, f"{hook} cannot be async")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise PluginError(plugin, f"{name} is a generator, and calling it would do nothing: use async def and await")
    options = getattr(function, OPTIONS_ATTRIBUTE, None)
    if options is not None and not isinstance(options, HandlerOptions):
        raise PluginError(plugin, f"{name} has {OPTIONS_ATTRIBUTE} that neither @on nor @hookimpl made")
    if options is not None and options.thread and asynchronous:
        raise PluginError(plugin, f"{name} is async: thread=True is for plain functions that block")


def _check_arguments(plugin: str, hook: str, implementation: HookImpl) -> None:
    function, given = implementation.function, implementation.argnames
    if hook == ON and len(given) != 1:
        raise PluginError(plugin, f"{function.__name__} must take one argument, the event")
    try:
        inspect.signature(function).bind(*given)
    except (TypeError, ValueError) as problem:
        raise PluginError(plugin, f"{function.__name__} cannot be called: {problem}") from None
