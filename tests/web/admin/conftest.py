"""A fixture that starts admin sides."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest_twisted
from admin_server import PREFIXES, Serve, Server
from twisted.internet.endpoints import serverFromString

from stackit import Route
from stackit.config.model import AdminConfig, Config
from stackit.config.secret import Secret
from stackit.web.admin.site import admin_site


@pytest_twisted.async_yield_fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts admin sides: ``await serve(routes, token=…, token_files=…, hosts=…, …)``."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    ports = []
    sites = []

    async def start(
        routes: Iterable[Route],
        *,
        token: str | None = None,
        token_files: Sequence[Path] = (),
        hosts: Sequence[str] = (),
        cors_origins: Sequence[str] = (),
        read_only: bool = False,
        **more: Any,
    ) -> Server:
        admin = AdminConfig(hosts=tuple(hosts), token_files=tuple(token_files), cors_origins=tuple(cors_origins))
        api_token = None if token is None else Secret(token)
        config = Config(
            state_dir=Path("unused"), api_prefixes=PREFIXES, admin=admin, api_token=api_token, read_only=read_only
        )
        site = admin_site(config, routes, reactor, **more)
        sites.append(site)
        port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(site)
        ports.append(port)
        return Server(reactor, port.getHost().port)

    yield start
    for port in ports:
        await port.stopListening()
    for site in sites:
        await site.wind_down(5)
