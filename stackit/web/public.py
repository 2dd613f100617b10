"""The public side, put together: the webhook under every API prefix, ``config``, and ``/healthz``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

import stackit
from stackit.api.admin import Refused, RequestHead, Response, error
from stackit.api.occurrences import Occurrence
from stackit.api.reactor import Reactor
from stackit.config.model import Config
from stackit.github.signature import Secrets
from stackit.http.server import responses
from stackit.http.server.interfaces import SMALL_BODY, SmallBodySink
from stackit.http.server.limits import room_for_connections
from stackit.http.server.responses import Refusal
from stackit.http.server.site import Limits, PublicSite
from stackit.web.webhook import Take, Webhook, WebhookResource

MEMORY = 256 * 2**20
"""Bytes that the bodies of all requests may hold at once; at least two of the largest fit."""


def webhook_secrets(config: Config, notice: Callable[[str], None]) -> Secrets:
    """The webhook secrets of the environment and of the configured files."""
    fixed = [config.webhook_secret] if config.webhook_secret else []
    return Secrets(fixed, config.webhook.secret_files, notice)


def public_site(
    config: Config,
    *,
    secrets: Secrets,
    admit: Callable[[RequestHead], Refused | None],
    observe: Callable[[Occurrence], None],
    take: Take,
    reactor: Reactor,
    now: Callable[[], float],
    stuck: Callable[[], Sequence[str]],
) -> PublicSite:
    """What listens on ``config.listen``; ``now`` is the wall clock, ``stuck`` what of the process does not move."""
    webhook = WebhookResource(
        Webhook(
            secrets=secrets,
            admit=admit,
            observe=observe,
            take=take,
            now=now,
            max_body=int(config.webhook.max_body),
            accepts=config.webhook.content_type,
        )
    )
    about = {
        "version": stackit.__version__,
        "read_only": False,
        "auth_required": bool(config.api_token or config.admin.token_files),
    }
    routes: dict[bytes, Any] = {b"/healthz": Health(stuck)}
    for prefix in config.api_prefixes:
        routes[f"{prefix}/webhooks/github".encode()] = webhook
        routes[f"{prefix}/config".encode()] = Constant(about)
    limits = Limits(
        deadline=float(config.webhook.deadline),
        connections=room_for_connections(),
        memory=max(MEMORY, 2 * int(config.webhook.max_body)),
    )
    return PublicSite(routes, reactor=reactor, observe=observe, limits=limits, now=now)


@implementer(IResource)
class Constant:
    """A resource that always gives the same answer to GET and HEAD."""

    isLeaf = True
    server = None

    def __init__(self, body: Any) -> None:
        self._response = Response(body=body)

    def handle_head(self, head: RequestHead, length: int | None) -> SmallBodySink | Refusal:
        if head.method not in (b"GET", b"HEAD"):
            return responses.method("GET, HEAD")
        return responses.TOO_LARGE if length is not None and length > SMALL_BODY else SmallBodySink()

    def render(self, request: Any) -> int:
        request.answer(self._response)
        return NOT_DONE_YET

    def getChildWithDefault(self, _name: Any, _request: Any) -> Any:
        """Itself: paths are exact, so it has no children."""
        return self

    def putChild(self, _path: Any, _child: Any) -> None:
        raise NotImplementedError("a constant has no children")


class Health(Constant):
    """Whether all that must move does; strangers are not told what does not."""

    def __init__(self, stuck: Callable[[], Sequence[str]]) -> None:
        super().__init__({"status": "ok"})
        self._stuck = stuck

    def render(self, request: Any) -> int:
        if not self._stuck():
            return super().render(request)
        request.answer(error(503, "a part of stackit does not move: /readyz on the admin side says which"))
        return NOT_DONE_YET
