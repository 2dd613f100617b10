"""The bus: the registered plugins, and one way to call the hooks of each kind, each plugin in isolation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, ParamSpec, TypeVar

import msgspec
from pluggy import HookImpl
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from stackit.api import hookspecs
from stackit.api.errors import PluginError
from stackit.api.events import Event
from stackit.api.hookimpl import ON, OPTIONS_ATTRIBUTE, HandlerOptions, read_pattern
from stackit.api.hookspecs import HOOKS, Hook, HookKind, kind_of
from stackit.api.occurrences import Occurrence
from stackit.api.reactor import Reactor
from stackit.api.tracebacks import describe_with_place, release_frames, traceback_of
from stackit.bus import checks
from stackit.bus.implementations import (
    call_now,
    implementations,
    plugin_fault,
    plugin_manager,
    register,
    with_one_argument,
)
from stackit.bus.subscribers import Subscriber
from stackit.bus.timeouts import call, with_timeout
from stackit.text.redaction import redacted

_log = Logger(namespace="stackit")

Value = TypeVar("Value")
Result = TypeVar("Result")
Item = TypeVar("Item", bound=msgspec.Struct)
Arguments = ParamSpec("Arguments")


class WrongResult(TypeError):
    """An implementation returned something that its hook does not allow."""


class Bus:
    """The registered plugins.

    A hook is named by its specification in ``stackit.api.hookspecs``, which also gives the call its types: ``first``,
    ``notify``, ``ask`` and ``collect`` are for the kinds of those names; the implementations of event hooks are
    ``subscribers``.
    """

    __slots__ = (
        "_displayed",
        "_failed_before",
        "_implementations",
        "_in_line",
        "_own",
        "_plugins",
        "_subscribers",
        "_wanting",
        "redact",
    )

    def __init__(self, redact: Callable[[str], str] = redacted) -> None:
        """``redact`` is for texts of plugins, which may hold a secret."""
        self.redact = redact
        self._plugins = plugin_manager()
        self._subscribers: dict[str, tuple[Subscriber, ...]] = {}
        self._in_line: dict[Callable[..., Any], tuple[tuple[HookImpl, Callable[[Any], Any]], ...]] = {}
        self._displayed: dict[str, str] = {}
        self._implementations: dict[str, tuple[HookImpl, ...]] = {}
        self._failed_before: set[str] = set()
        self._own: set[str] = set()
        self._wanting = lru_cache(maxsize=1024)(self._find_wanting)
        self._prepare()

    # -- registration -------------------------------------------------------------

    def register(self, name: str, plugin: object, *, own: bool = False) -> None:
        """Add a plugin. Raises PluginError, with nothing registered, where it cannot work.

        ``own`` is for a part of stackit itself, which is called as plugins are and is no plugin to people.
        """
        for other, there in self._plugins.list_name_plugin():
            if name == other or plugin is there:
                raise PluginError(name, f"is there already, as {other}")
        # A plugin that fails validation half-way would stay registered: try it apart first.
        trial = plugin_manager()
        register(trial, name, plugin)
        checks.check(name, plugin, implementations(trial))
        register(self._plugins, name, plugin)
        if own:
            self._own.add(name)
        self._prepare()

    def _prepare(self) -> None:
        """Look up once what every delivery needs."""
        self._implementations.clear()
        self._subscribers = {
            name: tuple(map(Subscriber.of, self._of(name))) for name in (*HOOKS, ON) if kind_of(name) is HookKind.EVENT
        }
        self._wanting.cache_clear()
        self._in_line = {
            getattr(hookspecs, name): tuple((each, _prepared(each, hook)) for each in self._of(name))
            for name, hook in HOOKS.items()
            if hook.kind in (HookKind.FIRST, HookKind.NOTIFY)
        }
        handlers = Counter(each.plugin for each in self.subscribers())
        self._displayed = {each.key: each.plugin for each in self.subscribers() if handlers[each.plugin] == 1}

    def plugins(self) -> list[str]:
        """Return the names of all registered plugins, without the parts of stackit itself."""
        return sorted(name for name, _ in self._plugins.list_name_plugin() if name not in self._own)

    def doubts(self, doubt: checks.Doubt) -> list[str]:
        """Return a line for each pattern of a handler that no event may ever match; ``doubt`` knows the events."""
        return [
            line
            for each in sorted(self.subscribers(hookspecs.stackit_event), key=lambda each: each.key)
            for line in checks.doubts(each.plugin, each.function, each.options, doubt)
        ]

    # -- subscribers --------------------------------------------------------------

    def subscribers(self, hook: Callable[..., Any] | None = None) -> tuple[Subscriber, ...]:
        """Return the subscribers of an event hook, or of all, in call order; ``@on`` counts as ``stackit_event``."""
        if hook is hookspecs.stackit_event:
            return self._subscribers["stackit_event"] + self._subscribers[ON]
        if hook is not None:
            return self._subscribers[hook.__name__]
        return tuple(each for subscribers in self._subscribers.values() for each in subscribers)

    def wanted_by(self, event: Event) -> tuple[str, ...]:
        """Return the keys of the handlers whose filter lets this event pass, in call order."""
        return self._wanting(event.name, event.action)

    def wants(self, name: str, action: str | None) -> bool:
        """Return whether a handler's filter lets an event of this name and action pass."""
        return bool(self._wanting(name, action))

    def _find_wanting(self, name: str, action: str | None) -> tuple[str, ...]:
        events = self.subscribers(hookspecs.stackit_event)
        return tuple(each.key for each in events if each.options.wants(name, action))

    def event_names(self, *, besides: str = "") -> frozenset[str | None]:
        """Return the names of the events that handlers wait for; None stands for any.

        ``besides`` is a plugin whose handlers do not count.
        """
        events = [each for each in self.subscribers(hookspecs.stackit_event) if each.plugin != besides]
        return frozenset(read_pattern(pattern)[0] for each in events for pattern in each.options.patterns)

    def display(self, key: str) -> str:
        """Return a subscriber's name for people: its plugin, with ``:function`` where the plugin has several."""
        return self._displayed.get(key, key)

    def keys(self, name: str) -> tuple[str, ...]:
        """Return the subscriber keys that a name for people stands for; an unknown name stands for itself."""
        found = tuple(each.key for each in self.subscribers() if name in (each.key, each.plugin))
        return found or (name,)

    # -- the other hooks, by kind -------------------------------------------------

    def first(self, hook: Callable[[Value], Result | None], value: Value) -> Result | None:
        """Return the first result other than None. Never raises: an exception is logged once and counts as None."""
        for each, function in self._in_line[hook]:
            try:
                result = function(value)
                if result is None:
                    continue
                unfit = _unfit(HOOKS[hook.__name__], result)
            except BaseException as fault:  # noqa: BLE001 - foreign code: its fault must not become the request's
                self._log_once(each, hook.__name__, fault)
                continue
            if unfit:
                self._log_once(each, hook.__name__, TypeError(unfit))
                continue
            try:
                HOOKS[hook.__name__].check(result)
            except ValueError as fault:
                self._log_once(each, hook.__name__, fault)
                result = HOOKS[hook.__name__].replace(result)
            return result  # type: ignore[no-any-return]  # its specification says what fits
        return None

    def notify(self, hook: Callable[[Value], None], value: Value) -> None:
        """Call every implementation. Never raises: an exception is logged once."""
        for each, function in self._in_line[hook]:
            try:
                function(value)
            except BaseException as fault:  # noqa: BLE001 - foreign code: it changes nothing for anybody else
                self._log_once(each, hook.__name__, fault)

    def observe(self, occurrence: Occurrence) -> None:
        """Notify ``stackit_observe``, which nearly every part of stackit does."""
        self.notify(hookspecs.stackit_observe, occurrence)

    def ask(
        self, hook: Callable[[], Any], reactor: Reactor, *, timeout: float
    ) -> list[tuple[str, Callable[[], Deferred[Any]]]]:
        """Return each implementation with the name of its plugin: a function that returns a Deferred and never raises.

        The Deferred fails with HandlerTimeout after ``timeout`` seconds (0: no limit), and with WrongResult where the
        result does not fit. Cancelling it cancels the implementation.
        """
        name = hook.__name__

        def start(implementation: HookImpl) -> Deferred[Any]:
            return with_timeout(reactor, call(call_now, implementation), timeout).addCallback(_checked, name)

        return [(each.plugin_name, partial(start, each)) for each in self._of(name)]

    def needing_mirrors(self, hook: Callable[..., Any]) -> frozenset[str]:
        """Return the plugins whose implementation of a hook says that it needs the mirrors of its node."""
        found = self._of(hook.__name__)
        return frozenset(
            each.plugin_name
            for each in found
            if getattr(each.function, OPTIONS_ATTRIBUTE, HandlerOptions()).needs_mirror
        )

    def collect(
        self, hook: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> list[tuple[str, Result]]:
        """Return every result other than None, with the name of its plugin, in the order of registration.

        Arguments are positional. Raises PluginError, which names the first plugin that fails.
        """
        del kwargs  # only there for the type checker
        name = hook.__name__
        results = []
        for each in reversed(self._of(name)):
            try:
                result = call_now(each, *args)
                unfit = None if result is None else _unfit(HOOKS[name], result)
            except BaseException as fault:  # foreign code: named, and the start stops
                raise plugin_fault(each.plugin_name, f"{name} failed", fault, self.redact) from fault
            if unfit:
                raise PluginError(each.plugin_name, f"{name} {unfit}")
            if result is not None:
                results.append((each.plugin_name, result))
        return results

    def collect_items(
        self, hook: Callable[Arguments, Sequence[Item]], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> list[Item]:
        """Return the items of every list that ``collect`` returns, each with its ``plugin`` filled in."""
        found = self.collect(hook, *args, **kwargs)
        return [msgspec.structs.replace(each, plugin=plugin) for plugin, items in found for each in items]

    def has(self, hook: Callable[..., Any], plugin: str) -> bool:
        """Return whether a plugin implements a hook."""
        return any(each.plugin_name == plugin for each in self._of(hook.__name__))

    def tell(self, hook: Callable[[Value], None], plugin: str, value: Value) -> None:
        """Call the implementation of one plugin. Raises its exception, as an Exception."""
        for each in self._of(hook.__name__):
            if each.plugin_name == plugin:
                call_now(each, value)

    def kind(self, plugin: str) -> type | None:
        """Return the class of a registered plugin; None for a name that is not registered."""
        found = self._plugins.get_plugin(plugin)
        return None if found is None else type(found)

    def _of(self, hook: str) -> tuple[HookImpl, ...]:
        """Return the implementations in pluggy's call order: tryfirst, later-registered first, trylast."""
        found = self._implementations.get(hook)
        if found is None:
            found = tuple(each for _, each in implementations(self._plugins, hook))[::-1]
            self._implementations[hook] = found
        return found

    def _log_once(self, implementation: HookImpl, hook: str, fault: BaseException) -> None:
        name = f"{implementation.plugin_name}.{hook}"
        if name not in self._failed_before:
            self._failed_before.add(name)
            _log.error(
                "plugin {plugin}: {hook} failed: {problem} (said once)",
                plugin=implementation.plugin_name,
                hook=hook,
                problem=describe_with_place(fault, self.redact),
                traceback=traceback_of(fault, self.redact),
            )
        release_frames(fault)


def _prepared(implementation: HookImpl, hook: Hook) -> Callable[[Any], Any]:
    function = with_one_argument(implementation)
    return (lambda value: function(msgspec.structs.replace(value))) if hook.copies else function


def _unfit(hook: Hook, result: object) -> str | None:
    return None if hook.fits(result) else f"returned {type(result).__name__}, expected {hook.expected}"


def _checked(result: object, hook: str) -> object:
    unfit = None if result is None else _unfit(HOOKS[hook], result)
    if unfit:
        raise WrongResult(f"{hook} {unfit}")
    return result
