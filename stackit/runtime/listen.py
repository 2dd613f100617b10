"""Listening on an endpoint at once, or with one line of reason why not."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import execute
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from stackit.api.errors import StackitError
from stackit.api.reactor import Reactor
from stackit.runtime.unix_port import listen_unix
from stackit.text.endpoints import ANYBODY, unix_socket


def listen(reactor: Reactor, endpoint: str, factory: Factory[Any], what: str, *, unix_mode: int = ANYBODY) -> Any:
    """Listen on an endpoint string now, and return the IListeningPort.

    ``unix_mode`` is the mode of a unix socket whose description says none. Raises StackitError, which says that
    ``what`` cannot listen, and why.
    """
    socket = unix_socket(endpoint, unix_mode)
    if socket is not None:
        listening = execute(listen_unix, reactor, socket, factory)
    else:
        listening = serverFromString(reactor, endpoint).listen(factory)
    # Every endpoint that twistd.conf documents listens, or fails, before listen() returns.
    outcome: list[object] = []
    listening.addBoth(outcome.append)
    if outcome and not isinstance(outcome[0], Failure):
        return IListeningPort(outcome[0])
    fault = outcome[0].value if outcome and isinstance(outcome[0], Failure) else None
    if isinstance(fault, CannotListenError | OSError):
        problem = fault if isinstance(fault, OSError) else fault.socketError
        reason = getattr(problem, "strerror", None) or str(problem)
    else:
        reason = str(fault) if fault else "it does not listen at once"
    raise StackitError(f"{what} cannot listen on {endpoint}: {reason}")


def address(port: Any, endpoint: str) -> str:
    """Return the address of an IListeningPort for people: ``http://127.0.0.1:8080``, ``unix:/run/x.sock``."""
    host = port.getHost()
    if isinstance(host, IPv4Address | IPv6Address):
        scheme = "https" if endpoint.startswith("ssl:") else "http"
        name = f"[{host.host}]" if isinstance(host, IPv6Address) else host.host
        return f"{scheme}://{name}:{host.port}"
    if isinstance(host, UNIXAddress):
        return f"unix:{os.fsdecode(host.name or b'')}"
    return str(host)
