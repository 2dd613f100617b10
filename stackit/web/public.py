"""The public side: the webhook of each forge and ``config`` under every API prefix, and ``/healthz``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from stackit.api.admin import Refused, RequestHead, Response, error
from stackit.api.forge import Forge
from stackit.api.occurrences import Occurrence
from stackit.api.public import PublicRoute
from stackit.api.reactor import Reactor
from stackit.config.model import Config
from stackit.http.server.interfaces import SMALL_BODY, RequestHandler, ServerRequest, SmallBodySink
from stackit.http.server.refusals import TOO_LARGE, Refusal, method_not_allowed
from stackit.http.server.site import BoundedSite, Limits
from stackit.secrets.redactor import Redact
from stackit.text.redaction import redacted
from stackit.web.about import about
from stackit.web.connection_capacity import room_for_connections
from stackit.web.failures import log_failure
from stackit.web.plugin_routes import PluginRoutes
from stackit.web.refusals import RefusalReporter
from stackit.web.webhook import SpeaksFor, Take, Webhook, for_nothing
from stackit.web.webhook_secrets import Secrets

MEMORY = 256 * 2**20
"""Bytes that the bodies of all requests may have in memory at once. At least two of the largest fit."""

_SHARE_OF_PLUGINS = 4
"""Of so many connections, one may wait for the answer of a plugin's route."""


def public_site(
    config: Config,
    *,
    forges: Iterable[tuple[Forge, Secrets]],
    admit: Callable[[RequestHead], Refused | None],
    observe: Callable[[Occurrence], None],
    take: Take,
    reactor: Reactor,
    now: Callable[[], float],
    stuck: Callable[[], Sequence[str]],
    receives: bool = True,
    is_closed: Callable[[], bool] = lambda: False,
    client_of: Callable[[RequestHead], str | None] = lambda _: None,
    speaks_for: SpeaksFor = for_nothing,
    plugin_routes: Sequence[PublicRoute] = (),
    redact: Redact = redacted,
) -> PublicSite:
    """Return the site that listens on ``config.listen``.

    ``forges`` are served at ``{prefix}/webhooks/NAME``. ``now`` is the wall clock. ``stuck`` returns the parts of the
    process that make no progress. Without ``receives``, there is no webhook; ``is_closed`` tells whether deliveries
    should be sent to another node now. ``client_of`` returns the address of a client behind a trusted proxy, and None
    for others. ``speaks_for`` tells for which events the secret of a scope may speak. ``redact`` is for
    what ``plugin_routes`` fail with. Raises PluginError for one of them that cannot be served.
    """
    constant = Constant(about(config))
    routes: dict[bytes, RequestHandler] = {b"/healthz": Health(stuck, lambda: not receives or is_closed())}
    for prefix in config.api_prefixes:
        routes[f"{prefix}/config".encode()] = constant
    webhooks: dict[str, Webhook] = {}
    for forge, secrets in forges:
        webhooks[forge.name] = webhook = Webhook(
            forge,
            secrets=secrets,
            admit=admit,
            observe=observe,
            take=take,
            now=now,
            max_body=int(config.webhook.max_body),
            client_of=client_of,
            speaks_for=speaks_for,
        )
        for prefix in config.api_prefixes if receives else ():
            routes[f"{prefix}/webhooks/{forge.name}".encode()] = webhook
    on_refused = RefusalReporter(observe, client_of)
    connections = room_for_connections()
    shared = PluginRoutes(
        reactor=reactor,
        admit=admit,
        on_refused=on_refused,
        most=max(1, connections // _SHARE_OF_PLUGINS),
        redact=redact,
    )
    routes |= shared.handlers(plugin_routes, config.api_prefixes, routes)
    largest_of_plugins = max([each.max_body for each in plugin_routes], default=0)
    limits = Limits(
        deadline=float(config.webhook.deadline), connections=connections, memory=_memory(config, largest_of_plugins)
    )
    site = PublicSite(routes, reactor=reactor, on_refused=on_refused, on_failure=log_failure, limits=limits, now=now)
    site.webhooks, site.about, site.largest_of_plugins = webhooks, constant, largest_of_plugins
    return site


def _memory(config: Config, largest_of_plugins: int) -> int:
    return max(MEMORY, 2 * int(config.webhook.max_body), 2 * largest_of_plugins)


class PublicSite(BoundedSite):
    """The public side.

    ``webhooks`` are by the name of their forge, ``about`` is the answer of ``config``, ``largest_of_plugins`` the bytes
    of the largest body that a plugin's route takes.
    """

    webhooks: Mapping[str, Webhook]
    about: Constant
    largest_of_plugins: int

    def change(self, config: Config, forges: Iterable[tuple[Forge, Secrets]]) -> None:
        """Take other bounds and secrets of webhooks, for the requests from now on. ``forges`` are those of before."""
        for forge, secrets in forges:
            self.webhooks[forge.name].change(forge, secrets, int(config.webhook.max_body))
        memory = _memory(config, self.largest_of_plugins)
        self.change_limits(deadline=float(config.webhook.deadline), memory=memory)

    def change_about(self, config: Config) -> None:
        """Tell strangers of another configuration."""
        self.about.change(about(config))


class Constant:
    """A handler that answers GET and HEAD always the same."""

    def __init__(self, body: Any) -> None:
        self._response = Response(body=body)

    def change(self, body: Any) -> None:
        """Answer with another body from now on."""
        self._response = Response(body=body)

    def handle_head(self, head: RequestHead, length: int | None) -> SmallBodySink | Refusal:
        if head.method not in (b"GET", b"HEAD"):
            return method_not_allowed("GET, HEAD")
        return TOO_LARGE if length is not None and length > SMALL_BODY else SmallBodySink()

    def handle_request(self, request: ServerRequest) -> None:
        request.answer(self._response)


class Health(Constant):
    """A handler that answers whether every part of the process makes progress, and whether deliveries can be taken.

    Neither the parts nor the reasons are named to strangers.
    """

    def __init__(self, stuck: Callable[[], Sequence[str]], is_closed: Callable[[], bool]) -> None:
        super().__init__({"status": "ok"})
        self._stuck = stuck
        self._is_closed = is_closed

    def handle_request(self, request: ServerRequest) -> None:
        if self._stuck():
            request.answer(error(503, "a part of stackit does not move: /readyz on the admin side says which"))
        elif self._is_closed():
            request.answer(error(503, "this node takes no deliveries now: send them to another"))
        else:
            super().handle_request(request)
