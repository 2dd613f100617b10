"""The bus: who subscribes to an event, and each plugin called in isolation.

pluggy's own call stops at the first exception and leaves coroutines unawaited, so
the bus asks pluggy for the implementations and calls them one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import pluggy
from pluggy import HookImpl
from twisted.application.service import IService
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit.api import hookspecs
from stackit.api.admin import Refused, RequestHead, Route, check_refused
from stackit.api.app import App
from stackit.api.errors import PluginError, describe
from stackit.api.events import Event
from stackit.api.hookspecs import ON, OPTIONS_ATTRIBUTE, PROJECT, HandlerOptions
from stackit.api.occurrences import Occurrence
from stackit.api.reactor import Reactor
from stackit.bus import checks
from stackit.bus.timeouts import as_exception, call, to_deferred, with_timeout
from stackit.secrets.redactor import Redact
from stackit.text.redaction import redacted

_log = Logger(namespace="stackit")


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

    def call(self, value: object) -> Deferred[Any] | None:
        """Run the handler in this thread: None where it returned None, and is through.

        Else a Deferred of what it returned or raised, or what that comes to.
        """
        try:
            result = self.handler(value)
            return None if result is None else to_deferred(result)
        except BaseException:  # noqa: BLE001 - foreign code: whatever it raises is its outcome
            return fail(as_exception(Failure()))

    def run(self, value: object) -> object:
        """Run the handler in whatever thread this is, and return or raise what it does."""
        return _call_now(self.implementation, value)


class Bus:
    """The registered plugins, and how to reach each of their hooks."""

    __slots__ = (
        "_admitting",
        "_complained",
        "_displayed",
        "_events",
        "_expecting",
        "_implementations",
        "_observing",
        "_plugins",
        "_refs_changed",
        "_wanting",
        "redact",
    )

    def __init__(self, redact: Redact = redacted) -> None:
        """``redact`` is for texts of plugins, which may have them from anywhere."""
        self.redact = redact
        self._plugins = _plugin_manager()
        self._events: tuple[Subscriber, ...] = ()
        self._refs_changed: tuple[Subscriber, ...] = ()
        self._admitting: _Direct = ()
        self._expecting: _Direct = ()
        self._observing: _Direct = ()
        self._displayed: dict[str, str] = {}
        self._implementations: dict[str, tuple[HookImpl, ...]] = {}
        self._complained: set[str] = set()
        self._wanting = lru_cache(maxsize=1024)(self._find_wanting)

    # -- registration -------------------------------------------------------------

    def register(self, name: str, plugin: object) -> None:
        """Add a plugin. Raises PluginError, with nothing registered, where it cannot work."""
        for other, there in self._plugins.list_name_plugin():
            if name == other or plugin is there:
                raise PluginError(name, f"is there already, as {other}")
        # A plugin that fails validation half-way would stay registered: try it apart first.
        trial = _plugin_manager()
        _register(trial, name, plugin)
        checks.check(name, _implementations(trial))
        _register(self._plugins, name, plugin)
        self._implementations.clear()
        self._events = self._find_subscribers("stackit_event", ON)
        self._refs_changed = self._find_subscribers("stackit_refs_changed")
        self._wanting.cache_clear()
        self._admitting, self._expecting, self._observing = (
            tuple((each, _direct(each)) for each in self._called(hook))
            for hook in ("stackit_admit", "stackit_expect", "stackit_observe")
        )
        handlers = Counter(each.plugin for each in self.subscribers())
        self._displayed = {each.key: each.plugin for each in self.subscribers() if handlers[each.plugin] == 1}

    def plugins(self) -> list[str]:
        """The names of all registered plugins."""
        return sorted(name for name, _ in self._plugins.list_name_plugin())

    def doubts(self) -> list[str]:
        """What handlers ask for and may never get, one line for each pattern."""
        return [
            doubt
            for each in sorted(self._events, key=lambda each: each.key)
            for doubt in checks.doubts(each.plugin, each.function, each.options)
        ]

    # -- subscribers --------------------------------------------------------------

    def subscribers(self) -> tuple[Subscriber, ...]:
        """Every handler of events and of ref changes."""
        return self._events + self._refs_changed

    def wanted_by(self, event: Event) -> tuple[str, ...]:
        """The keys of the handlers whose filter lets this event pass, in call order."""
        return self._wanting(event.name, event.action)

    def _find_wanting(self, name: str, action: str | None) -> tuple[str, ...]:
        return tuple(each.key for each in self._events if each.options.wants(name, action))

    def refs_subscribers(self) -> tuple[Subscriber, ...]:
        """The handlers of ref changes, in call order."""
        return self._refs_changed

    def display(self, key: str) -> str:
        """A subscriber's name for people: its plugin, with ``:function`` where the plugin has several."""
        return self._displayed.get(key, key)

    def keys(self, name: str) -> tuple[str, ...]:
        """The subscriber keys that a name for people stands for; an unknown name stands for itself."""
        found = tuple(each.key for each in self.subscribers() if name in (each.key, each.plugin))
        return found or (name,)

    def _find_subscribers(self, *hooks: str) -> tuple[Subscriber, ...]:
        return tuple(
            Subscriber(
                key=f"{each.plugin_name}:{each.function.__name__}",
                plugin=each.plugin_name,
                function=each.function.__name__,
                options=getattr(each.function, OPTIONS_ATTRIBUTE, HandlerOptions()),
                implementation=each,
                handler=_direct(each),
            )
            for hook in hooks
            for each in self._called(hook)
        )

    # -- the other hooks ----------------------------------------------------------

    def admit(self, request: RequestHead) -> Refused | None:
        """The first refusal of a plugin; one that raises admits. A refusal that cannot be sent is a 500."""
        for each, admit in self._admitting:
            try:
                verdict = admit(request)
                if verdict is None:
                    continue
                if not isinstance(verdict, Refused):
                    raise TypeError(f"returned {type(verdict).__name__}, expected Refused or None")
            except BaseException as fault:  # noqa: BLE001 - foreign code: its fault must not become the request's
                self._complain(each, "stackit_admit", fault)
                continue
            try:
                check_refused(verdict)
            except ValueError as fault:
                self._complain(each, "stackit_admit", fault)
                return Refused(status=500, reason="failed", unless_verified=verdict.unless_verified is True)
            return verdict
        return None

    def expect(self, event: Event) -> None:
        """Tell of an event before it is durable. Never raises; a plugin that does is logged once."""
        for each, expect in self._expecting:
            try:
                expect(msgspec.structs.replace(event))
            except BaseException as fault:  # noqa: BLE001 - foreign code: the event goes its way all the same
                self._complain(each, "stackit_expect", fault)

    def observe(self, occurrence: Occurrence) -> None:
        """Tell every observer. Never raises; a plugin that does is logged once."""
        for each, observe in self._observing:
            try:
                observe(occurrence)
            except BaseException as fault:  # noqa: BLE001 - foreign code: an observer changes nothing for anyone
                self._complain(each, "stackit_observe", fault)

    def backstops(self) -> list[tuple[str, Callable[[], Deferred[Any]]]]:
        """Every ``stackit_backstop`` with the name of its plugin."""
        return [(each.plugin_name, lambda each=each: _call(each)) for each in self._called("stackit_backstop")]  # type: ignore[misc]

    def services(self, app: App) -> list[tuple[str, IService]]:
        """Each plugin's service, with the plugin's name. Raises PluginError naming the first plugin that fails."""
        return self._asked("stackit_service", app, IService.providedBy, "an IService")

    def routes(self, app: App) -> list[Route]:
        """Every plugin's admin routes. Raises PluginError naming the first plugin that fails."""
        found = self._asked("stackit_routes", app, _is_routes, "a list of Route")
        return [Route(each.method, each.path, each.handler, plugin) for plugin, routes in found for each in routes]

    async def health(self, reactor: Reactor, seconds: float = 5.0) -> list[str]:
        """What plugins say is wrong, one line each; one that does not answer in time is a problem too."""
        asked = [
            (each.plugin_name, with_timeout(reactor, _call(each), seconds)) for each in self._called("stackit_health")
        ]
        said = [(plugin, await answer.addCallback(_complaint).addErrback(self._failed)) for plugin, answer in asked]
        return [self.redact(f"{plugin}: {problem}")[:500] for plugin, problem in said if problem]

    def _failed(self, failure: Failure) -> str:
        return describe(failure.value, self.redact)

    def _asked(self, hook: str, app: App, fits: Callable[[Any], bool], wanted: str) -> list[tuple[str, Any]]:
        answers = []
        for each in reversed(self._called(hook)):
            try:
                answer = _call_now(each, app)
                is_right = answer is None or fits(answer)
            except BaseException as fault:  # foreign code: named, and the start stops
                raise PluginError(each.plugin_name, f"{hook} failed: {describe(fault)}") from fault
            if not is_right:
                raise PluginError(each.plugin_name, f"{hook} returned {type(answer).__name__}, expected {wanted}")
            if answer is not None:
                answers.append((each.plugin_name, answer))
        return answers

    def _called(self, hook: str) -> tuple[HookImpl, ...]:
        """The implementations in pluggy's call order: tryfirst, later-registered first, trylast."""
        found = self._implementations.get(hook)
        if found is None:
            found = tuple(each for _, each in _implementations(self._plugins, hook))[::-1]
            self._implementations[hook] = found
        return found

    def _complain(self, implementation: HookImpl, hook: str, fault: BaseException) -> None:
        name = f"{implementation.plugin_name}.{hook}"
        if name not in self._complained:
            self._complained.add(name)
            _log.error(
                "plugin {plugin}: {hook} failed: {problem} (said once)",
                plugin=implementation.plugin_name,
                hook=hook,
                problem=describe(fault, self.redact),
            )


def _plugin_manager() -> pluggy.PluginManager:
    plugins = pluggy.PluginManager(PROJECT)
    plugins.add_hookspecs(hookspecs)
    return plugins


def _implementations(plugins: pluggy.PluginManager, *hooks: str) -> Iterator[tuple[str, HookImpl]]:
    """The implementations of these hooks (default: of all), in the reverse of pluggy's call order."""
    for name in hooks or (*(each for each in vars(hookspecs) if each.startswith(f"{PROJECT}_")), ON):
        caller = getattr(plugins.hook, name, None)  # without a specification there is none until it is implemented
        if caller is not None:
            yield from ((name, each) for each in caller.get_hookimpls())


def _register(plugins: pluggy.PluginManager, name: str, plugin: object) -> None:
    try:
        plugins.register(plugin, name)
        plugins.check_pending()
    except pluggy.PluginValidationError as problem:
        raise PluginError(name, " ".join(str(problem).split())) from None
    except BaseException as problem:  # noqa: BLE001 - foreign code: looking at its attributes may raise anything
        raise PluginError(name, describe(problem)) from None


def _is_routes(answer: object) -> bool:
    return isinstance(answer, Sequence) and all(isinstance(each, Route) for each in answer)


def _complaint(said: object) -> str:
    """What a plugin says is wrong with it, as one line; an empty text where nothing is."""
    if said is None or said is False:
        return ""
    if not isinstance(said, str):
        return f"stackit_health returned {type(said).__name__}, expected a line or None"
    return " ".join(said.split())


_Direct = tuple[tuple[HookImpl, Callable[[Any], Any]], ...]


def _direct(implementation: HookImpl) -> Callable[[Any], Any]:
    """What to call with the one value of a hook, and nothing between: for those that every delivery comes by."""
    function: Callable[..., Any] = implementation.function
    return function if implementation.argnames else lambda _: function()


def _call_now(implementation: HookImpl, *values: object) -> Any:
    """What the plugin returns. Raises what it raises, which is an Exception: it ends its call, never stackit."""
    try:
        return implementation.function(*values[: len(implementation.argnames)])
    except Exception:
        raise
    except BaseException as leaving:
        raise RuntimeError(describe(leaving)) from leaving


def _call(implementation: HookImpl, *values: object) -> Deferred[Any]:
    return call(_call_now, implementation, *values)
