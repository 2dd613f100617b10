"""``GET {prefix}/config`` of both sides: what a client has to know before it asks anything else."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from stackit.api.admin import AdminRequest, Response, Route
from stackit.api.version import VERSION
from stackit.config.model import Config


class About(msgspec.Struct, frozen=True):
    """What a client has to know.

    ``read_only``: the admin side changes nothing. ``auth_required``: it tells nothing without a token or a login.
    """

    version: str
    read_only: bool
    auth_required: bool


def about(config: Config) -> About:
    """Return what a configuration says to clients."""
    is_closed = config.has_tokens or config.login.app is not None
    return About(VERSION, config.read_only, is_closed and config.login.anonymous == "none")


def config_route(config: Callable[[], Config]) -> Route:
    """Return the route of the admin side. ``config`` returns the configuration of now."""

    def show(_: AdminRequest) -> Response:
        return Response(body=about(config()))

    summary = "Say what a client has to know before it asks anything else."
    return Route("GET", "{prefix}/config", show, query=(), open=True, summary=summary, returns=About)
