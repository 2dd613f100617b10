"""The bus: who is registered, and each hook called so that no plugin is another's problem."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clocks import as_reactor
from foreign_faults import FAULTS, IDS
from log_capture import problems_logged
from places import without_place
from plugin_maker import bus_with, event, plugin, push, refs_changed
from prometheus_client import Gauge
from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, fail, inlineCallbacks, succeed
from twisted.internet.task import Clock

from stackit import (
    App,
    Command,
    Event,
    Markup,
    MirrorInfo,
    Occurrence,
    Page,
    PluginError,
    PublicRoute,
    Refused,
    Repo,
    RequestHead,
    Response,
    Route,
    hookimpl,
    on,
)
from stackit.api import hookspecs
from stackit.api.hookspecs import HookKind
from stackit.api.repos import Repos
from stackit.bus.bus import Bus
from stackit.bus.health import plugin_problems
from stackit.secrets.redactor import Redactor

REQUEST = RequestHead(client="192.0.2.1", method=b"POST", path=b"/", headers={})


def outcome(result: Deferred[Any] | None) -> Any:
    found: list[Any] = []
    if result is not None:
        result.addBoth(found.append)
    return found[0] if found else None


def app() -> App:
    async def never(*_: object) -> Any:
        raise AssertionError

    return App(
        reactor=as_reactor(Clock()),
        version="1",
        state_dir=Path("/nowhere"),
        repos=Repos(),
        sync_interval=0,
        grace=1,
        observe=lambda _: None,
        announced=never,
        announce=never,
        visible=never,
        pending=dict,
    )


def missing_key() -> Any:
    """Raises KeyError."""
    return {"y": 1}["x"]


def refused(plugin_of_it: object, name: str = "broken") -> str:
    """Why a plugin is refused: one line that names it; and nothing of it is registered."""
    bus = Bus()
    with pytest.raises(PluginError) as problem:
        bus.register(name, plugin_of_it)
    assert problem.value.plugin == name
    assert bus.plugins() == []
    assert bus.subscribers() == ()
    text = str(problem.value)
    assert text.startswith(f"plugin {name}: ")
    assert "\n" not in text
    return str(without_place(text))


# -- handlers ---------------------------------------------------------------------


def test_sync_functions_deferreds_and_coroutines_are_handlers_alike() -> None:
    @on("push")
    def plain(event: object) -> str:
        return "plain"

    @on("push")
    def deferred(event: object) -> Deferred[str]:
        return succeed("deferred")

    @on("push")
    async def coroutine(event: object) -> str:
        return await succeed("coroutine")

    @on("push")
    @inlineCallbacks
    def callbacks(event: object) -> Generator[Deferred[str], str, str]:
        return (yield succeed("callbacks"))

    bus = bus_with(mine=plugin(plain, deferred, coroutine, callbacks))
    results = {each.function: outcome(each.call(push())) for each in bus.subscribers()}
    # A name is the function's own, and inlineCallbacks keeps it.
    assert results == {name: name for name in ("plain", "deferred", "coroutine", "callbacks")}


def test_a_handler_that_returns_nothing_is_through_at_once() -> None:
    @on("push")
    def plain(event: object) -> None: ...

    (subscriber,) = bus_with(mine=plain).subscribers()
    assert subscriber.call(push()) is None


def test_a_handler_that_raises_is_a_failure_whatever_its_kind() -> None:
    @on("push")
    def plain(event: object) -> None:
        raise KeyError("plain")

    @on("push")
    def deferred(event: object) -> Deferred[None]:
        return fail(KeyError("deferred"))

    @on("push")
    async def coroutine(event: object) -> None:
        raise KeyError("coroutine")

    for each in bus_with(mine=plugin(plain, deferred, coroutine)).subscribers():
        assert outcome(each.call(push())).check(KeyError)


def test_a_handler_that_leaves_the_process_leaves_its_call_alone() -> None:
    @on("push")
    def leave(event: object) -> None:
        raise SystemExit(2)

    (subscriber,) = bus_with(mine=leave).subscribers()
    assert outcome(subscriber.call(push())).check(RuntimeError)
    with pytest.raises(RuntimeError, match="SystemExit: 2"):
        subscriber.run(push())


def test_the_argument_of_an_on_handler_may_have_any_name() -> None:
    seen = []

    @on("push")
    async def deploy(push: object) -> None:
        seen.append(push)

    (subscriber,) = bus_with(mine=deploy).subscribers()
    value = push()
    assert outcome(subscriber.call(value)) is None
    assert seen == [value]


def test_stackit_event_gets_every_event() -> None:
    seen = []

    @hookimpl
    def stackit_event(event: object) -> None:
        seen.append(event)

    bus = bus_with(mine=stackit_event)
    value = event("issues", "opened")
    assert bus.wanted_by(value) == ("mine:stackit_event",)
    (subscriber,) = bus.subscribers()
    outcome(subscriber.call(value))
    assert seen == [value]


def test_stackit_refs_changed_gets_ref_changes_and_no_events() -> None:
    seen = []

    @hookimpl
    def stackit_refs_changed(change: object) -> None:
        seen.append(change)

    bus = bus_with(mine=stackit_refs_changed)
    value = refs_changed()
    (subscriber,) = bus.subscribers(hookspecs.stackit_refs_changed)
    outcome(subscriber.call(value))
    assert seen == [value]
    assert bus.wanted_by(push()) == ()


def test_a_handler_that_needs_no_argument_is_called_without() -> None:
    calls = []

    @hookimpl
    def stackit_event() -> None:
        calls.append(1)

    (subscriber,) = bus_with(mine=stackit_event).subscribers()
    outcome(subscriber.call(push()))
    assert calls == [1]


def test_only_handlers_whose_filter_lets_it_pass_subscribe_to_an_event() -> None:
    @on("issues.opened")
    def opened(event: object) -> None: ...

    @on("issues.*", "push")
    def more(event: object) -> None: ...

    bus = bus_with(mine=plugin(opened, more))

    def wanting(name: str, action: str | None) -> list[str]:
        return sorted(bus.wanted_by(event(name, action)))

    assert wanting("issues", "opened") == ["mine:more", "mine:opened"]
    assert wanting("issues", "closed") == ["mine:more"]
    assert wanting("push", None) == ["mine:more"]
    assert wanting("star", "created") == []


def test_handlers_of_an_object_are_its_methods() -> None:
    class Notes:
        def __init__(self) -> None:
            self.seen: list[str] = []

        @on("push")
        async def write(self, push: Any) -> None:
            self.seen.append(push.name)

        @hookimpl
        def stackit_refs_changed(self, change: Any) -> None:
            self.seen.append(change.name)

    notes = Notes()
    for each in bus_with(notes=notes).subscribers():
        outcome(each.call(push() if each.function == "write" else refs_changed()))
    assert sorted(notes.seen) == ["push", "refs_changed"]


def test_a_subscriber_is_shown_by_its_plugin_and_by_its_function_where_there_are_several() -> None:
    @on("push")
    def one(event: object) -> None: ...

    @on("push")
    def two(event: object) -> None: ...

    bus = bus_with(**{"a:lone": one, "pair": plugin(one, two)})
    assert [bus.display(key) for key in ("a:lone:one", "pair:one", "gone:x")] == ["a:lone", "pair:one", "gone:x"]
    assert bus.keys("a:lone") == ("a:lone:one",)
    assert sorted(bus.keys("pair")) == ["pair:one", "pair:two"]
    assert bus.keys("pair:two") == ("pair:two",)
    assert bus.keys("gone") == ("gone",)


# -- what is refused --------------------------------------------------------------


def named(name: str, function: Callable[..., Any]) -> SimpleNamespace:
    return SimpleNamespace(**{name: function})


def test_a_plugin_without_a_hook_is_refused() -> None:
    assert "has no hook: mark a function with @hookimpl" in refused(plugin())
    assert "has no hook" in refused(None)


def test_a_misspelt_hook_is_refused() -> None:
    @hookimpl
    def stackit_evnt(event: object) -> None: ...

    assert "unknown hook 'stackit_evnt'" in refused(plugin(stackit_evnt))


def test_an_unknown_hook_under_another_name_is_refused() -> None:
    @hookimpl(specname="stackit_comit")
    def handle(event: object) -> None: ...

    assert "unknown hook 'stackit_comit'" in refused(plugin(handle))


def test_an_argument_that_the_hook_does_not_have_is_refused() -> None:
    @hookimpl
    def stackit_event(evnt: object) -> None: ...

    assert "'evnt'" in refused(plugin(stackit_event))


@pytest.mark.parametrize(
    "function",
    [lambda: None, lambda a, b: None, lambda event=None: None, lambda *events: None, lambda *, event: None],
    ids=["none", "two", "with a default", "any number", "by keyword"],
)
def test_an_on_handler_that_cannot_take_one_event_is_refused(function: Callable[..., Any]) -> None:
    assert "must take one argument, the event" in refused(named("handle", on("push")(function)))


def test_a_handler_that_needs_more_than_it_is_given_is_refused() -> None:
    @hookimpl
    def stackit_event(event: object, *, channel: str) -> None: ...

    assert "stackit_event cannot be called: missing a required argument: 'channel'" in refused(plugin(stackit_event))


@pytest.mark.parametrize("hook", [name for name, hook in hookspecs.HOOKS.items() if not hook.kind.may_be_async])
def test_a_hook_that_cannot_wait_is_refused_as_a_coroutine(hook: str) -> None:
    async def coroutine() -> None: ...

    assert f"{hook} cannot be async" in refused(named(hook, hookimpl(specname=hook)(coroutine)))


def test_a_generator_as_a_handler_is_refused_because_calling_it_does_nothing() -> None:
    @on("push")
    def lazy(event: object) -> Generator[None]:
        yield

    @on("push")
    async def lazier(event: object) -> Any:
        yield

    assert "lazy is a generator" in refused(plugin(lazy))
    assert "lazier is a generator" in refused(plugin(lazier))


def test_a_coroutine_in_a_thread_is_refused() -> None:
    @on("push", thread=True)
    async def both(event: object) -> None: ...

    assert "both is async: thread=True is for plain functions" in refused(plugin(both))


@pytest.mark.parametrize("kind", ["wrapper", "hookwrapper"])
def test_a_wrapper_is_refused(kind: str) -> None:
    import pluggy  # noqa: PLC0415 - only a plugin that goes behind stackit's back does this

    def stackit_event(event: object) -> Generator[None]:
        yield

    mark: Any = pluggy.HookimplMarker("stackit")
    mark(**{kind: True})(stackit_event)
    assert "stackit_event is a wrapper" in refused(plugin(stackit_event))


def test_a_class_is_refused() -> None:
    class Notes:
        @hookimpl
        def stackit_health(self) -> None: ...

    assert "Notes is a class: register an instance of it" in refused(Notes)


def test_two_handlers_of_one_function_name_are_refused() -> None:
    def made() -> Callable[..., Any]:
        @on("push")
        def handle(event: object) -> None: ...

        return handle

    assert "has two implementations named handle" in refused(SimpleNamespace(one=made(), two=made()))


def test_two_implementations_of_a_hook_that_handles_no_events_are_refused() -> None:
    @hookimpl(specname="stackit_backstop")
    def one() -> None: ...

    @hookimpl(specname="stackit_backstop")
    def two() -> None: ...

    assert "has two implementations named stackit_backstop" in refused(plugin(one, two))


def test_a_plugin_whose_attributes_raise_is_refused_or_works() -> None:
    class Hostile:
        def __dir__(self) -> list[str]:
            raise OSError("no directory for you")

    assert "OSError: no directory for you" in refused(Hostile())


@pytest.mark.parametrize(("make", "text"), FAULTS, ids=IDS)
def test_whatever_looking_at_a_plugin_raises_it_is_refused(make: Callable[[], BaseException], text: str) -> None:
    class Hostile:
        def __dir__(self) -> list[str]:
            raise make()

    assert refused(Hostile()) == f"plugin broken: {text}"


def test_a_handler_with_options_of_its_own_making_is_refused() -> None:
    @hookimpl
    def stackit_event(event: object) -> None: ...

    marked: Any = stackit_event
    marked.stackit_options = {"thread": True}
    assert "stackit_event has stackit_options that neither @on nor @hookimpl made" in refused(plugin(stackit_event))


def test_a_name_or_a_plugin_that_is_there_already_is_refused() -> None:
    @on("push")
    def handle(event: object) -> None: ...

    mine = plugin(handle)
    bus = bus_with(mine=mine)
    with pytest.raises(PluginError, match="plugin other: is there already, as mine"):
        bus.register("other", mine)
    with pytest.raises(PluginError, match="plugin mine: is there already"):
        bus.register("mine", plugin(handle))
    assert bus.plugins() == ["mine"]
    assert len(bus.subscribers()) == 1


def test_what_is_refused_leaves_the_others_as_they_were() -> None:
    @on("push")
    def handle(event: object) -> None: ...

    @hookimpl
    def stackit_evnt(event: object) -> None: ...

    bus = bus_with(good=handle)
    with pytest.raises(PluginError):
        bus.register("bad", plugin(handle, stackit_evnt))
    assert [each.key for each in bus.subscribers()] == ["good:handle"]
    bus.register("bad", plugin(handle))
    assert bus.plugins() == ["bad", "good"]


# -- admission --------------------------------------------------------------------


def admission(verdict: Callable[[], Any]) -> Any:
    @hookimpl
    def stackit_admit(request: RequestHead) -> Any:
        assert request is REQUEST
        return verdict()

    return plugin(stackit_admit)


def test_the_first_refusal_wins() -> None:
    too_many = Refused(status=429, reason="too_many")
    forbidden = Refused(status=403, reason="forbidden")
    bus = bus_with(a=admission(lambda: forbidden), b=admission(lambda: too_many), c=admission(lambda: None))
    assert (
        bus.first(hookspecs.stackit_admit, REQUEST) is too_many
    )  # the later registered is asked first, as pluggy has it


def test_without_a_refusal_a_request_is_admitted() -> None:
    assert bus_with(a=admission(lambda: None)).first(hookspecs.stackit_admit, REQUEST) is None
    assert Bus().first(hookspecs.stackit_admit, REQUEST) is None


def test_a_plugin_that_raises_admits_and_says_so_once() -> None:
    def broken() -> None:
        raise KeyError("x")

    no = Refused(status=403, reason="forbidden")
    bus = bus_with(strict=admission(lambda: no), broken=admission(broken))
    with problems_logged() as lines:
        assert [bus.first(hookspecs.stackit_admit, REQUEST), bus.first(hookspecs.stackit_admit, REQUEST)] == [no, no]
    assert lines == ["broken: KeyError: 'x'"]


@pytest.mark.parametrize("answer", [True, 403, "no", Deferred()])
def test_an_answer_that_is_no_refusal_admits_and_says_so_once(answer: object) -> None:
    bus = bus_with(odd=admission(lambda: answer))
    with problems_logged() as lines:
        assert [bus.first(hookspecs.stackit_admit, REQUEST), bus.first(hookspecs.stackit_admit, REQUEST)] == [
            None,
            None,
        ]
    assert lines == [f"odd: TypeError: returned {type(answer).__name__}, expected Refused or None"]


@pytest.mark.parametrize(
    "fields",
    [
        {"status": 599},
        {"status": 100},
        {"status": "403"},
        {"status": True},
        {"status": None},
        {"reason": None},
        {"reason": ""},
        {"reason": "two\r\nlines"},
        {"reason": "x" * 1000},
        {"retry_after": "7\r\nX-B: c"},
        {"retry_after": -1},
        {"retry_after": 1.5},
        {"retry_after": True},
        {"retry_after": "60"},
        {"retry_after": "1.5s"},
        {"retry_after": "soon"},
        {"unless_verified": "no"},
    ],
    ids=str,
)
def test_a_refusal_that_cannot_be_sent_is_a_500_and_is_said_once(fields: dict[str, Any]) -> None:
    odd: Any = Refused(**{"status": 403, "reason": "forbidden", **fields})
    bus = bus_with(odd=admission(lambda: odd))
    with problems_logged() as lines:
        assert [bus.first(hookspecs.stackit_admit, REQUEST), bus.first(hookspecs.stackit_admit, REQUEST)] == [
            Refused(status=500, reason="failed")
        ] * 2
    (line,) = lines
    assert line.startswith("odd: ValueError: ")


def test_a_refusal_that_cannot_be_sent_spares_what_verifies_where_it_said_so() -> None:
    bus = bus_with(odd=admission(lambda: Refused(status=599, reason="forbidden", unless_verified=True)))
    assert bus.first(hookspecs.stackit_admit, REQUEST) == Refused(status=500, reason="failed", unless_verified=True)


# -- observers --------------------------------------------------------------------


def test_every_observer_sees_what_happened_though_another_raises() -> None:
    seen = []

    @hookimpl
    def stackit_observe(occurrence: Occurrence) -> None:
        seen.append(occurrence)

    def raising(problem: BaseException) -> Any:
        @hookimpl(specname="stackit_observe")
        def watch(occurrence: Occurrence) -> None:
            raise problem

        return plugin(watch)

    bus = bus_with(a=stackit_observe, b=raising(ValueError("no")), c=stackit_observe, d=raising(SystemExit(1)))
    what = Occurrence(name="notice", reason="x")
    with problems_logged() as lines:
        bus.observe(what)
        bus.observe(what)
    assert seen == [what] * 4
    assert lines == ["d: SystemExit: 1", "b: ValueError: no"]


# -- mirrors ----------------------------------------------------------------------


def test_the_first_plugin_that_keeps_a_mirror_of_a_repository_says_where_it_is() -> None:
    def keeping(name: str, place: str) -> Any:
        @hookimpl
        def stackit_mirror(repo: Repo) -> MirrorInfo | None:
            if repo.name != name:
                return None
            return MirrorInfo(repo=repo, path=Path(place), exists=True, state="in_step")

        return plugin(stackit_mirror)

    @hookimpl(specname="stackit_mirror", tryfirst=True)
    def fails(repo: Repo) -> Any:
        return "/a/path"

    bus = bus_with(a=keeping("widget", "/a"), b=keeping("gadget", "/b"), c=plugin(fails))

    def where(name: str) -> Path | None:
        found = bus.first(hookspecs.stackit_mirror, Repo("octo", name))
        return None if found is None else found.path

    with problems_logged() as lines:
        assert [where(each) for each in ("widget", "gadget", "website")] == [Path("/a"), Path("/b"), None]
    assert lines == ["c: TypeError: returned str, expected MirrorInfo or None"]


def test_the_copy_of_a_mirror_is_asked_for_beside_the_mirror() -> None:
    @hookimpl
    def stackit_mirror(repo: Repo) -> MirrorInfo | None:
        return None

    @hookimpl
    def stackit_mirror_copy(repo: Repo) -> MirrorInfo | None:
        return MirrorInfo(repo=repo, path=Path("/copy"), exists=True, state="in_step")

    bus = bus_with(a=plugin(stackit_mirror), b=plugin(stackit_mirror_copy))
    assert bus.first(hookspecs.stackit_mirror, Repo("octo", "widget")) is None
    copy = bus.first(hookspecs.stackit_mirror_copy, Repo("octo", "widget"))
    assert copy is not None
    assert copy.path == Path("/copy")


# -- what is expected -------------------------------------------------------------


def test_everyone_may_make_ready_for_an_event_and_changes_it_for_nobody() -> None:
    seen = []

    @hookimpl
    def stackit_expect(event: Event) -> None:
        seen.append(event)
        event.payload["mark"] = len(seen)

    @hookimpl(specname="stackit_expect")
    def fails(event: Event) -> None:
        raise ValueError("no")

    bus = bus_with(a=stackit_expect, b=plugin(fails), c=stackit_expect)
    coming = event("issues", "opened")
    with problems_logged() as lines:
        bus.notify(hookspecs.stackit_expect, coming)
        bus.notify(hookspecs.stackit_expect, coming)
    assert [each.payload["mark"] for each in seen] == [1, 2, 3, 4]
    assert "mark" not in coming.payload
    assert lines == ["b: ValueError: no"]


# -- backstop, services, routes, health -------------------------------------------


def test_every_plugin_with_a_backstop_is_asked_to_look() -> None:
    @hookimpl
    def stackit_backstop() -> str:
        return "looked"

    @hookimpl(specname="stackit_backstop")
    async def broken() -> None:
        raise KeyError("x")

    looks = dict(
        bus_with(good=stackit_backstop, bad=broken).ask(hookspecs.stackit_backstop, as_reactor(Clock()), timeout=0)
    )
    assert outcome(looks["good"]()) == "looked"
    assert outcome(looks["bad"]()).check(KeyError)


def test_every_service_is_asked_for_in_the_order_of_registration() -> None:
    services = {"one": Service(), "two": Service()}
    given = []

    def with_service(service: object) -> Any:
        @hookimpl
        def stackit_service(app: App) -> object:
            given.append(app)
            return service

        return plugin(stackit_service)

    bus = bus_with(one=with_service(services["one"]), none=with_service(None), two=with_service(services["two"]))
    running = app()
    assert bus.collect(hookspecs.stackit_service, running) == list(services.items())
    assert given == [running] * 3
    assert all(IService.providedBy(each) for each in services.values())


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda: 5, "plugin odd: stackit_service returned int, expected an IService"),
        (lambda: Service, "plugin odd: stackit_service returned type, expected an IService"),
        (missing_key, "plugin odd: stackit_service failed: KeyError: 'x'"),
        (lambda: exit(1), "plugin odd: stackit_service failed: RuntimeError: SystemExit: 1"),
    ],
)
def test_a_plugin_whose_service_cannot_be_had_is_named(answer: Callable[[], Any], reason: str) -> None:
    @hookimpl
    def stackit_service(app: App) -> Any:
        return answer()

    with pytest.raises(PluginError) as problem:
        bus_with(odd=stackit_service).collect(hookspecs.stackit_service, app())
    assert without_place(str(problem.value)) == reason


def test_the_first_plugin_that_knows_the_client_behind_a_proxy_says_who_it_is() -> None:
    @hookimpl
    def stackit_client(request: RequestHead) -> str | None:
        return "203.0.113.9" if b"x-real-ip" in request.headers else None

    bus = bus_with(one=stackit_client, broken=hookimpl(specname="stackit_client")(lambda request: 5))
    direct = RequestHead(client="192.0.2.1", method=b"POST", path=b"/", headers={})
    by_proxy = RequestHead(client="192.0.2.1", method=b"POST", path=b"/", headers={b"x-real-ip": (b"203.0.113.9",)})
    with problems_logged() as lines:
        assert bus.first(hookspecs.stackit_client, by_proxy) == "203.0.113.9"
    assert lines == ["broken: TypeError: returned int, expected an address or None"]
    assert bus.first(hookspecs.stackit_client, direct) is None


@pytest.mark.parametrize("hook", ["stackit_service", "stackit_routes"])
@pytest.mark.parametrize(("make", "text"), FAULTS, ids=IDS)
def test_whatever_a_plugin_raises_at_the_start_it_is_named(
    hook: str, make: Callable[[], BaseException], text: str
) -> None:
    @hookimpl(specname=hook)
    def asked(app: App) -> Any:
        raise make()

    with pytest.raises(PluginError) as problem:
        bus_with(odd=plugin(asked)).collect(getattr(hookspecs, hook), app())
    assert str(problem.value).startswith(f"plugin odd: {hook} failed: ")
    assert text in str(problem.value)


def test_routes_know_whose_they_are_and_cannot_say_that_they_are_anothers() -> None:
    @hookimpl
    def stackit_routes(app: App) -> list[Route]:
        return [Route("GET", "/a", lambda _: Response()), Route("GET", "/b", lambda _: Response(), "mirror")]

    assert [each.plugin for each in bus_with(odd=stackit_routes).collect_items(hookspecs.stackit_routes, app())] == [
        "odd",
        "odd",
    ]


def test_the_routes_of_all_plugins_come_together() -> None:
    def route(path: str) -> Route:
        return Route("GET", path, lambda _: Response())

    def with_routes(*paths: str) -> Any:
        @hookimpl
        def stackit_routes(app: App) -> list[Route]:
            return [route(path) for path in paths]

        return plugin(stackit_routes)

    bus = bus_with(one=with_routes("/a", "/b"), none=with_routes(), two=with_routes("/c"))
    assert [each.path for each in bus.collect_items(hookspecs.stackit_routes, app())] == ["/a", "/b", "/c"]


def test_routes_that_are_none_are_named() -> None:
    @hookimpl
    def stackit_routes(app: App) -> list[str]:
        return ["/a"]

    with pytest.raises(PluginError, match="plugin odd: stackit_routes returned list, expected a list of Route"):
        bus_with(odd=stackit_routes).collect_items(hookspecs.stackit_routes, app())


def test_commands_and_public_routes_know_whose_they_are() -> None:
    @hookimpl
    def stackit_commands() -> list[Command]:
        return [Command(name="greet", help="Greet.", run=print)]

    @hookimpl
    def stackit_public_routes(app: App) -> list[PublicRoute]:
        return [PublicRoute(method="GET", path="/a", handler=lambda _: Response())]

    @hookimpl
    def stackit_pages(app: App) -> list[Page]:
        return [Page("/a", "A", lambda _: Markup("<p>a</p>"))]

    bus = bus_with(mine=plugin(stackit_commands, stackit_public_routes, stackit_pages))
    assert [(each.path, each.plugin) for each in bus.collect_items(hookspecs.stackit_pages, app())] == [("/a", "mine")]
    assert [(each.name, each.plugin) for each in bus.collect_items(hookspecs.stackit_commands)] == [("greet", "mine")]
    routes = bus.collect_items(hookspecs.stackit_public_routes, app())
    assert [(each.path, each.plugin) for each in routes] == [("/a", "mine")]


def test_collectors_of_metrics_are_collectors() -> None:
    gauge = Gauge("mine", "Mine.", registry=None)

    @hookimpl
    def stackit_metrics() -> list[Any]:
        return [gauge]

    @hookimpl(specname="stackit_metrics")
    def odd() -> list[Any]:
        return [gauge, 5]

    assert bus_with(mine=plugin(stackit_metrics)).collect(hookspecs.stackit_metrics) == [("mine", [gauge])]
    with pytest.raises(PluginError, match="plugin odd: stackit_metrics returned list, expected a list of collectors"):
        bus_with(odd=plugin(odd)).collect(hookspecs.stackit_metrics)


def test_what_plugins_say_is_freed_of_secrets() -> None:
    @hookimpl
    def stackit_health() -> str:
        return "no answer to the-token-of-mine"

    @hookimpl
    def stackit_observe(occurrence: Occurrence) -> None:
        raise ValueError(b"the-token-of-mine".hex())

    bus = Bus(Redactor(["the-token-of-mine"]))
    bus.register("mine", plugin(stackit_health, stackit_observe))
    assert Deferred.fromCoroutine(plugin_problems(bus, as_reactor(Clock()))).result == ["mine: no answer to ***"]
    with problems_logged() as lines:
        bus.observe(Occurrence(name="notice", reason="x"))
    assert lines == ["mine: ValueError: ***"]


def test_health_tells_what_each_plugin_says_is_wrong() -> None:
    def with_health(answer: Callable[[], Any]) -> Any:
        @hookimpl
        def stackit_health() -> Any:
            return answer()

        return plugin(stackit_health)

    async def slow() -> str:
        await Deferred()
        return "never"

    clock = Clock()
    bus = bus_with(
        well=with_health(lambda: None),
        ill=with_health(lambda: "disk is full"),
        later=with_health(lambda: succeed("out of step")),
        broken=with_health(missing_key),
        hanging=with_health(slow),
    )
    asked = Deferred.fromCoroutine(plugin_problems(bus, as_reactor(clock), 5))
    assert not asked.called
    clock.advance(5)
    assert sorted(str(without_place(each)) for each in outcome(asked)) == [
        "broken: KeyError: 'x'",
        "hanging: HandlerTimeout: not finished after 5 s, cancelled",
        "ill: disk is full",
        "later: out of step",
    ]
    assert clock.getDelayedCalls() == []


# -- new settings -----------------------------------------------------------------


def test_new_settings_are_for_the_plugin_that_they_are_of_and_its_exception_is_the_callers() -> None:
    told: list[object] = []

    def reloading(fault: BaseException | None = None) -> Any:
        @hookimpl
        def stackit_reload(settings: object) -> None:
            told.append(settings)
            if fault is not None:
                raise fault

        return plugin(stackit_reload)

    bus = bus_with(mine=reloading(), other=reloading(ValueError("no")), leaving=reloading(SystemExit(1)))
    bus.tell(hookspecs.stackit_reload, "mine", "new")
    assert told == ["new"]
    with pytest.raises(ValueError, match="no"):
        bus.tell(hookspecs.stackit_reload, "other", "new")
    with pytest.raises(RuntimeError, match="SystemExit: 1"):
        bus.tell(hookspecs.stackit_reload, "leaving", "new")
    assert (bus.has(hookspecs.stackit_reload, "mine"), bus.has(hookspecs.stackit_reload, "none")) == (True, False)


# -- kinds ------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(hookspecs.HOOKS))
def test_every_hook_is_reached_by_the_one_way_of_its_kind(name: str) -> None:
    calls: list[str] = []

    @hookimpl(specname=name)
    def implementation() -> None:
        calls.append(name)

    bus, hook = bus_with(mine=plugin(implementation)), getattr(hookspecs, name)
    arguments = inspect.signature(hook).parameters
    match hookspecs.kind_of(name):
        case HookKind.FIRST:
            bus.first(hook, REQUEST)
        case HookKind.NOTIFY:
            bus.notify(hook, event())
        case HookKind.EVENT:
            for subscriber in bus.subscribers(hook):
                subscriber.call(event())
        case HookKind.ASK:
            for _, ask in bus.ask(hook, as_reactor(Clock()), timeout=0):
                ask()
        case HookKind.ONE:
            bus.tell(hook, "mine", object())
        case HookKind.COLLECT:
            bus.collect(hook, *[app()] * len(arguments))
        case HookKind.ONE:
            bus.tell(hook, "mine", None)
    assert calls == [name]


def test_a_part_of_stackit_is_called_as_a_plugin_and_is_none() -> None:
    heard: list[Occurrence] = []

    @hookimpl
    def stackit_observe(occurrence: Occurrence) -> None:
        heard.append(occurrence)

    bus = bus_with(mine=plugin(stackit_observe))
    bus.register("stackit.history", plugin(stackit_observe), own=True)
    bus.register("history", plugin(stackit_observe))
    bus.observe(Occurrence(name="notice", reason="hello"))
    assert [each.reason for each in heard] == ["hello"] * 3
    assert bus.plugins() == ["history", "mine"]
