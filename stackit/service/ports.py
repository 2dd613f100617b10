"""The ports of the public and the admin side: bound as the configuration says, or handed over by a supervisor."""

from __future__ import annotations

import os
import socket
import stat
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from stackit.api.errors import StackitError
from stackit.api.reactor import Reactor
from stackit.config.checks import is_loopback
from stackit.config.model import Config
from stackit.runtime.activation import Sockets, adopt, inherited_sockets, path_of, start_environment
from stackit.runtime.listen import address, listen
from stackit.text.endpoints import ANYBODY, OWNER_ONLY

_log = Logger(namespace="stackit")

PUBLIC, ADMIN = "public", "admin"
"""The names of the sockets of both sides."""


def handed_over() -> Sockets:
    """Return the sockets that this process was started with. Raises StackitError for those that fit nothing."""
    return inherited_sockets(start_environment(), os.getpid(), (PUBLIC, ADMIN))


class Ports:
    """The open ports. ``addresses`` are where they listen, as URLs: those of the public side first."""

    def __init__(self, config: Config, reactor: Reactor, sockets: Sockets) -> None:
        """``sockets`` that were handed over take the place of ``listen`` and ``admin.listen``, each for its side."""
        self.addresses: list[str] = []
        self._config = config
        self._reactor = reactor
        self._sockets = sockets
        self._open: list[Any] = []
        self._open_to_others: list[str] = []  # why an admin socket that was handed over needs a token

    def listen(self, public: Factory[Any], admin: Factory[Any]) -> None:
        """Open the ports of both sides. Raises StackitError."""
        config = self._config
        self._check_apart()
        for side, setting, endpoint, site, unix_mode in (
            (PUBLIC, "listen", config.listen, public, ANYBODY),
            (ADMIN, "admin.listen", config.admin.listen, admin, OWNER_ONLY),
        ):
            given = self._sockets.get(side, ())
            for each in given:
                self._check(side, each, endpoint)
                self._add(side, adopt(self._reactor, each, site), "", " (handed over)")
            if not given:
                what = f"{config.where(setting)}: the {side} side"
                self._add(side, listen(self._reactor, endpoint, site, what, unix_mode=unix_mode), endpoint, "")

    def _add(self, side: str, port: Any, endpoint: str, how: str) -> None:
        self._open.append(port)
        self.addresses.append(address(port, endpoint))
        _log.info("{side} side on {address}{how}", side=side, address=self.addresses[-1], how=how)

    def _check(self, side: str, given: socket.socket, endpoint: str) -> None:
        """Raise StackitError for a socket that may not take the place of the endpoint of the configuration."""
        if endpoint.startswith("ssl:"):
            raise StackitError(
                f"{side} side: listens with TLS (ssl:), which a socket that was handed over (LISTEN_FDS) does not "
                "have: let a proxy do TLS, or leave the .socket unit out"
            )
        if side == ADMIN:
            self._check_admin(given)

    def _check_apart(self) -> None:
        """Raise StackitError where one socket is that of both sides: which one answers would be chance."""
        public, admin = ({each.getsockname() for each in self._sockets.get(side, ())} for side in (PUBLIC, ADMIN))
        if public & admin:
            raise StackitError(
                "admin side: the socket that was handed over (LISTEN_FDS) is where the public side listens, too: say "
                "another ListenStream= in its .socket unit"
            )

    def _check_admin(self, given: socket.socket) -> None:
        if given.family == socket.AF_UNIX:
            closed, reason, instead = _is_closed_to_others(given), "other users may open it", "SocketMode=0600"
        else:
            closed = is_loopback(given.getsockname()[0])
            reason, instead = "it listens not only on loopback", "ListenStream=127.0.0.1:8081"
        if not closed:
            self._open_to_others.append(
                f"admin side: the socket that was handed over (LISTEN_FDS) needs a token, since {reason}: set "
                f"STACKIT_API_TOKEN or admin.token_files, or say {instead} in its .socket unit"
            )
        self.check_token(self._config)

    def check_token(self, config: Config) -> None:
        """Check that a configuration has a token, if others than this machine, or this user, reach an admin socket.

        Raises StackitError.
        """
        if self._open_to_others and not config.has_tokens and config.login.app is None:
            raise StackitError(self._open_to_others[0])

    async def close(self) -> None:
        """Accept no more connections."""
        while self._open:
            await maybeDeferred(self._open.pop().stopListening)


def _is_closed_to_others(given: socket.socket) -> bool:
    """Return True for a unix socket that only the owner of its file may open."""
    path = path_of(given)
    try:
        return path is not None and not stat.S_IMODE(path.stat().st_mode) & 0o077
    except OSError:
        return False
