"""The admin side: the routes and the pages of all parts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackit.api import hookspecs
from stackit.api.admin import Response
from stackit.api.app import App
from stackit.api.errors import PluginError
from stackit.api.events import Repo
from stackit.api.forge import Forge
from stackit.bus.bus import Bus
from stackit.config.model import Config
from stackit.dispatch.dispatch import Dispatch
from stackit.dispatch.pauses import Pauses
from stackit.dispatch.routes import control_routes
from stackit.dispatch.tallies import Tallies
from stackit.journal import JournalProtocol
from stackit.registry import Registry
from stackit.registry.routes import registry_routes
from stackit.secrets.redactor import Redactor
from stackit.service.condition import Condition
from stackit.service.github import GitHubParts
from stackit.service.live import LiveParts
from stackit.service.node import ThisNode
from stackit.service.people import People
from stackit.service.repositories import requested
from stackit.web.about import config_route
from stackit.web.admin.deliveries import delivery_routes
from stackit.web.admin.openapi import openapi_route
from stackit.web.admin.site import AdminSite, admin_site, no_handler
from stackit.web.pages.audit import audit_page
from stackit.web.pages.deliveries import delivery_pages
from stackit.web.pages.plugins import plugins_page
from stackit.web.pages.site import Pages
from stackit.web.sessions.pages import LoginWay

if TYPE_CHECKING:
    from stackit.service.peers import PeerParts


def make_admin_side(
    config: Callable[[], Config],
    *,
    app: App,
    bus: Bus,
    journal: JournalProtocol,
    dispatch: Dispatch,
    pauses: Pauses,
    tallies: Tallies,
    left_out: Sequence[PluginError],
    condition: Condition,
    started_at: float,
    registry: Registry,
    forge: Forge,
    people: People,
    github: GitHubParts,
    live: LiveParts,
    node: ThisNode,
    peers: PeerParts | None,
    redact: Redactor,
) -> AdminSite:
    """Return the admin side. ``config`` returns the configuration of now. Raises StackitError for routes that clash.

    ``left_out`` are the faults of plugins that are not loaded, ``forge`` is that of repositories that people add.
    """

    def find_requested(name: str, url: str | None) -> tuple[Repo, str]:
        return requested(config().access, forge, name, url)

    def mirror_path(repo: Repo) -> Path | None:
        mirror = app.mirror(repo)
        return None if mirror is None or not mirror.exists else mirror.path

    def login_ways() -> list[LoginWay]:
        """Return the ways to log in beside a token."""
        return [LoginWay(label, path) for label, path in github.login.ways().items()]

    def call(*asked: Any, **more: Any) -> Awaitable[Response]:
        """Ask a route of the admin side, which is made after its pages."""
        return admin.call(*asked, **more)

    def is_read_only() -> bool:
        return config().read_only

    prefixes = config().api_prefixes
    routes = [
        *delivery_routes(
            journal, dispatch, bus, is_managed=lambda repo: app.repos.get(repo) is not None, now=app.fleet_now
        ),
        *condition.routes(
            started_at=started_at, repos=lambda: len(app.repos), read_only=is_read_only, node=node.nodes.here
        ),
        *control_routes(bus, journal, dispatch, pauses, tallies, left_out),
        *registry_routes(registry, find_requested, mirror_path, node.nodes),
        *people.routes(login_ways),
        *github.routes(),
        *live.routes(people.sessions),
        *node.routes(),
        *bus.collect_items(hookspecs.stackit_routes, app),
        config_route(config),
    ]
    routes.append(openapi_route(routes, prefixes))
    of_plugins = bus.collect_items(hookspecs.stackit_pages, app)
    pages = Pages(
        [*delivery_pages(), *of_plugins, plugins_page(), *node.pages(), *github.pages(), audit_page()],
        reactor=app.reactor,
        now=app.fleet_now,
        prefix=prefixes[0],
        call=call,
        read_only=is_read_only,
        redact=redact,
    )
    admin = admin_site(
        config(),
        [*routes, *pages.routes()],
        app.reactor,
        client_of=partial(bus.first, hookspecs.stackit_client),
        redact=redact,
        sessions=people.sessions,
        note=people.audit.note,
        problem_page=pages.problem,
        peers=None if peers is None else peers.peers,
        own_handler=no_handler if peers is None else peers.git.find,
    )
    return admin
