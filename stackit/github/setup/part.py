"""The set-up of an App as one part of the service: the routes of the command, and those of the browser."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import msgspec
from prometheus_client.registry import Collector

from stackit.api.admin import AdminRequest, Response, Route, error
from stackit.api.errors import StackitError
from stackit.api.nodes import Alone, Nodes
from stackit.api.peers import Affinity, NoAffinity
from stackit.api.reactor import Reactor
from stackit.api.schema import Parameter, Timestamp
from stackit.config.admin_url import admin_base
from stackit.config.apps import GITHUB_API, api_url, app_name, web_url
from stackit.config.model import Config
from stackit.github.api import ApiClients, ApiError, NoCredential
from stackit.github.names import parse_repo
from stackit.github.pages import cookie_of
from stackit.github.setup import pages
from stackit.github.setup.any_node import PURPOSE, AnyNode, Handler
from stackit.github.setup.conversion import AppFiles, NewApp, convert
from stackit.github.setup.manifest import AppWish
from stackit.github.setup.window import OPEN_FOR, SetupWindow
from stackit.secrets.redactor import Redactor
from stackit.text.times import rfc3339

FORM, CALLBACK = "/setup/app", "/setup/app/callback"
LOGIN_CALLBACK = "/login/github/callback"
"""Where GitHub sends people who log in."""
_STATE = "state"
_CODE = re.compile(r"[A-Za-z0-9_-]{1,200}", re.ASCII)
_SILENT = "the node of the fleet where this set-up began does not answer"
_TRY_AGAIN = {"network", "server", "rate_limited", "secondary_limit"}


class SetupWindowOpened(msgspec.Struct, frozen=True, omit_defaults=True):
    """The address for the browser, and when it is of no use any more.

    ``setup`` is by what any node of a fleet says how far it is.
    """

    url: str
    open_until: Timestamp
    setup: str | msgspec.UnsetType = msgspec.UNSET


class SetupState(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far the set-up is. One that is ``done`` tells of the App, one that ``failed`` of the problem.

    ``node`` is the node of a fleet that has the ``directory``.
    """

    state: Literal["closed", "open", "done", "failed"]
    app: str | msgspec.UnsetType = msgspec.UNSET
    owner: str | msgspec.UnsetType = msgspec.UNSET
    toml: str | msgspec.UnsetType = msgspec.UNSET
    install_url: str | msgspec.UnsetType = msgspec.UNSET
    directory: str | msgspec.UnsetType = msgspec.UNSET
    node: str | msgspec.UnsetType = msgspec.UNSET
    problem: str | msgspec.UnsetType = msgspec.UNSET


class _Setup(msgspec.Struct, frozen=True, eq=False):
    window: SetupWindow
    wish: AppWish
    files: AppFiles


class SetupPart:
    """One set-up at a time. ``config`` returns the configuration of now.

    In a fleet, a set-up is known at the node that opened its window, where its files go; a browser or a command that
    comes to any other one is answered by what that node says.
    """

    name = "setup"
    settings: Sequence[str] = ("admin.url",)

    def __init__(
        self,
        *,
        reactor: Reactor,
        now: Callable[[], float],
        clients: ApiClients,
        config: Callable[[], Config],
        redact: Redactor,
        notice: Callable[[str], None],
        nodes: Nodes = Alone(),  # noqa: B008 - it has no state
        affinity: Affinity = NoAffinity(),  # noqa: B008 - it has no state
    ) -> None:
        self._here = nodes.here
        self._mark = partial(affinity.mark, PURPOSE)
        handlers: dict[str, Handler] = {_STATE: self._state, FORM: self._enter, CALLBACK: self._come_back}
        self._any_node = AnyNode(affinity, handlers, reactor.seconds)
        self._reactor = reactor
        self._now = now
        self._clients = clients
        self._config = config
        self._redact = redact
        self._notice = notice
        self._setup: _Setup | None = None
        self._outcome: SetupState | None = None

    def start(self) -> None:
        """Begin nothing: a command opens the window."""

    async def stop(self) -> None:
        """Close the window."""
        if self._setup is not None:
            self._setup.window.close()

    def status(self) -> Any:
        """Return whether a set-up is open."""
        return {"open": self._setup is not None and self._setup.window.is_open}

    def problems(self) -> Sequence[str]:
        """Return none."""
        return ()

    def collectors(self) -> Sequence[Collector]:
        """Return none."""
        return ()

    def plugin(self) -> object | None:
        """Return none."""
        return None

    def change(self, _: Config) -> Callable[[], None]:
        """Return a function that does nothing: the settings are looked up when they are needed."""
        return lambda: None

    def routes(self) -> Sequence[Route]:
        """Return the routes of the command, those of the browser, which has no token, and that of other nodes."""
        return [
            *(self._any_node.routes() if self._here else ()),
            Route(
                "POST",
                "{prefix}/setup/app",
                self._open,
                query=(
                    Parameter("name", "What the configuration calls the App (stackit by default)."),
                    Parameter("organization", "The organization that it belongs to; else a person."),
                    Parameter("api_url", "The API of the GitHub where it is made."),
                    Parameter("hooks", "Whether it manages webhooks.", Literal["true", "false"]),
                ),
                summary="Open the window for the set-up of an App.",
                returns=SetupWindowOpened,
                status=201,
            ),
            Route(
                "GET",
                "{prefix}/setup/app",
                self._show,
                query=(Parameter("setup", "In a fleet, the `setup` of the answer that opened the window."),),
                summary="Say how far the set-up of an App is.",
                returns=SetupState,
                errors={
                    429: "Too many questions from this address.",
                    502: "The node of the fleet where it began does not answer.",
                },
            ),
            Route("GET", FORM, self._form, query=None, open=True, summary="Send a browser to GitHub to make an App."),
            Route("GET", CALLBACK, self._callback, query=None, open=True, summary="Take the App that GitHub made."),
        ]

    # -- the command --------------------------------------------------------------

    def _open(self, request: AdminRequest) -> Response:
        try:
            wish = self._wish(request)
            files = AppFiles(self._config().state_dir, wish.name)
            files.check()
        except StackitError as problem:
            return error(400, str(problem))
        if self._setup is not None:
            self._setup.window.close()
        window = SetupWindow(self._reactor, self._mark)
        self._setup, self._outcome = _Setup(window, wish, files), None
        return Response(
            status=201,
            body=SetupWindowOpened(
                url=f"{wish.callback_url.removesuffix(CALLBACK)}{FORM}?ticket={window.ticket}",
                open_until=rfc3339(self._now() + OPEN_FOR),
                setup=self._mark(secrets.token_urlsafe(8)) if self._here else msgspec.UNSET,
            ),
        )

    async def _show(self, request: AdminRequest) -> Response:
        there = await self._any_node.answer(request, _STATE, request.query.get("setup", ""))
        if there is None:
            return self._state(request)
        return there or error(502, f"{_SILENT}: begin again")

    def _state(self, _: AdminRequest) -> Response:
        if self._outcome is not None:
            return Response(body=self._outcome)
        is_open = self._setup is not None and self._setup.window.is_open
        return Response(body=SetupState("open" if is_open else "closed"))

    def _wish(self, request: AdminRequest) -> AppWish:
        """Return the App that the command asks for. Raises StackitError."""
        config, query = self._config(), request.query
        name, organization = query.get("name", "stackit"), query.get("organization")
        api = query.get("api_url", GITHUB_API).rstrip("/")
        try:
            app_name(name)
            api_url(api)
        except ValueError as problem:
            raise StackitError(str(problem)) from None
        if organization is not None:
            try:
                parse_repo(f"{organization}/x")
            except ValueError:
                raise StackitError(f"not the name of an organization: {organization[:80]!r}") from None
        if any(each.name.lower() == name.lower() for each in config.apps):
            raise StackitError(f"[[apps]] has one that is called {name}: take another --name")
        if config.public_url is None:
            raise StackitError("the App has to be told where to send: set public_url, the URL of the public side")
        public = config.public_url.rstrip("/")
        return AppWish(
            name=name,
            organization=organization,
            api_url=api,
            web_url=web_url(api),
            public_url=public,
            webhook_url=f"{public}{config.api_prefixes[0]}/webhooks/github",
            callback_url=f"{admin_base(config)}{CALLBACK}",
            login_url=f"{admin_base(config)}{LOGIN_CALLBACK}",
            manages_hooks=query.get("hooks") == "true",
        )

    # -- the browser --------------------------------------------------------------

    async def _form(self, request: AdminRequest) -> Response:
        """Give the browser with the ticket a form for GitHub."""
        if request.method != "GET":  # a HEAD of something that only looks takes no window
            return pages.forbidden()
        there = await self._any_node.answer(request, FORM, request.query.get("ticket", ""))
        if there is None:
            return self._enter(request)
        return there or pages.failed(f"{_SILENT}: begin again, by stackit app create", 502)

    def _enter(self, request: AdminRequest) -> Response:
        setup = self._setup
        if setup is None:
            return pages.forbidden()
        entered = setup.window.enter(request.query.get("ticket", ""), cookie_of(request.cookie, pages.COOKIE))
        if entered is None:
            return pages.forbidden()
        cookie, state = entered
        return pages.form(setup.wish, state, cookie, int(OPEN_FOR))

    async def _callback(self, request: AdminRequest) -> Response:
        """Exchange the code that the browser brings back from GitHub."""
        if request.method != "GET" or not _CODE.fullmatch(request.query.get("code", "")):
            return pages.forbidden()
        there = await self._any_node.answer(request, CALLBACK, request.query.get("state", ""))
        if there is None:
            return await self._come_back(request)
        return there or pages.failed(
            f"{_SILENT}. Load this page again; where that does not help, delete the App at GitHub, and begin again, by "
            "stackit app create",
            502,
        )

    async def _come_back(self, request: AdminRequest) -> Response:
        setup, code = self._setup, request.query.get("code", "")
        if setup is None:
            return pages.forbidden()
        if not setup.window.use(request.query.get("state", ""), cookie_of(request.cookie, pages.COOKIE)):
            return pages.forbidden()
        client = self._clients.client(setup.wish.api_url, NoCredential("manifest"))
        try:
            made = await convert(client, code)
        except ApiError as problem:
            if problem.reason in _TRY_AGAIN:
                setup.window.reopen()
                return pages.failed(f"GitHub cannot be asked now; load this page again. ({problem})", 502)
            return self._failed(setup, f"GitHub does not tell of the App: {problem}", 502)
        return self._made(setup, made)

    def _made(self, setup: _Setup, made: NewApp) -> Response:
        wish, files, owner = setup.wish, setup.files, made.owner.login
        if setup is not self._setup:
            return self._failed(
                setup,
                f"another set-up was begun while the App {made.slug} was asked for: its secrets are thrown away; "
                f"delete it at {made.html_url}",
                409,
            )
        if wish.organization is not None and owner.lower() != wish.organization.lower():
            return self._failed(
                setup,
                f"the App {made.slug} belongs to {owner}, and not to {wish.organization}: its secrets are thrown away; "
                f"delete it at {made.html_url}",
                409,
            )
        try:
            files.write(made)
        except StackitError as problem:
            return self._failed(
                setup,
                f"the App {made.slug} is made, but its key could not be kept ({problem}); delete it at "
                f"{made.html_url}, and begin again",
                500,
            )
        self._redact.add_files(path for path in (files.private_key, files.webhook_secret, files.client_secret))
        toml, install_url = _toml(wish, files, made, self._config()), f"{made.html_url}/installations/new"
        self._outcome = SetupState(
            "done",
            app=made.slug,
            owner=owner,
            toml=toml,
            install_url=install_url,
            directory=str(files.directory),
            node=self._here or msgspec.UNSET,
        )
        self._notice(f"the GitHub App {made.slug} of {owner} was made; its secrets are in {files.directory}")
        return pages.done(install_url, toml, self._here)

    def _failed(self, setup: _Setup, problem: str, status: int) -> Response:
        if setup is self._setup:
            self._outcome = SetupState("failed", problem=problem)
        self._notice(f"no GitHub App was set up: {problem}")
        return pages.failed(problem, status)


def _toml(wish: AppWish, files: AppFiles, made: NewApp, config: Config) -> str:
    """Return the tables for the configuration: of the App, and of the people who log in by it unless there is one."""
    lines = [
        "[[apps]]",
        f"name = {_text(wish.name)}",
        f"app_id = {made.id}",
        f"private_key_file = {_text(files.private_key)}",
    ]
    if made.webhook_secret:
        lines.append(f"secret_files = [{_text(files.webhook_secret)}]")
    if wish.api_url != GITHUB_API:
        lines.append(f"api_url = {_text(wish.api_url)}")
    if made.client_id and config.login.app is None:
        owner = made.owner.login
        lines += [
            "",
            "[login]",
            f"app = {_text(wish.name)}",
            f"client_id = {_text(made.client_id)}",
            f"client_secret_file = {_text(files.client_secret)}",
            # All of an organization may look; who may change things is for its owners to say.
            f"viewers = [{_text(owner)}]" if wish.organization is not None else f"operators = [{_text(f'@{owner}')}]",
        ]
        if wish.organization is not None:
            lines.append(f"# operators = [{_text(f'{owner}/TEAM')}]")
    return "\n".join(lines) + "\n"


def _text(value: object) -> str:
    """Return text in quotes, as TOML and JSON write it."""
    return json.dumps(str(value))
