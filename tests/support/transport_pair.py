"""A transport beside a server that writes any bytes, over TLS too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from byte_server import ByteServer
from certificates import Authority, server_options
from twisted.internet import reactor as the_reactor
from twisted.internet.task import LoopingCall, deferLater

from stackit.github.api.answer import NoAnswer
from stackit.github.api.transport import Transport

reactor: Any = the_reactor


class TransportPair:
    """A transport, and the server that it asks."""

    def __init__(self) -> None:
        self.server = ByteServer(reactor)
        self.transports: list[Transport] = []
        self._dripping: list[LoopingCall] = []
        self.transport = self.make()

    def make(self, **options: Any) -> Transport:
        self.transports.append(Transport(reactor, **options))
        return self.transports[-1]

    async def get(self, method: str = "GET", transport: Transport | None = None, **options: Any) -> bytes:
        url = f"http://127.0.0.1:{self.server.port}/x"
        answer = await (transport or self.transport).request(method, url, {}, **options)
        return answer.body

    def drip(self, peer: Any) -> None:
        """An answer that goes on for ever, a byte now and then."""
        peer.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        dripping = LoopingCall(peer.transport.write, b"x")
        dripping.clock = reactor
        self._dripping.append(dripping)
        dripping.start(0.01)

    async def stop(self) -> None:
        for dripping in self._dripping:
            dripping.stop()
        for each in self.transports:
            await each.close()
        await self.server.stop()


class Tls:
    """The server of a pair once more, over TLS; ``lost`` counts the connections that ended."""

    def __init__(self, pair: TransportPair, directory: Path, **options: Any) -> None:
        self.authority = Authority(directory)
        self.identity = self.authority.issue("server")
        self._port = reactor.listenSSL(0, pair.server, server_options(*self.identity, **options), interface="127.0.0.1")
        self.url = f"https://127.0.0.1:{self._port.getHost().port}/x"

    async def stop(self) -> None:
        await self._port.stopListening()


async def until(ready: Any) -> None:
    for _ in range(5000):
        if ready():
            return
        await deferLater(reactor, 0.01)
    raise AssertionError("waited in vain")


async def problem_of(asked: Any) -> NoAnswer:
    with pytest.raises(NoAnswer) as raised:
        await asked
    return raised.value
