"""Answers every request at once and looks at nothing but its length: what the load could reach at most."""

import sys
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol

ANSWER = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"


class Nothing(Protocol):
    transport: Any  # a zope interface, which mypy does not know

    def connectionMade(self) -> None:
        self.head = b""
        self.left = 0

    def dataReceived(self, data: bytes) -> None:
        if self.left:
            self.left -= len(data)
        else:
            self.head += data
            head, found, body = self.head.partition(b"\r\n\r\n")
            if not found:
                return
            self.head = b""
            self.left = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]) - len(body)
        if self.left <= 0:
            self.transport.write(ANSWER)


the_reactor: Any = reactor
the_reactor.listenTCP(int(sys.argv[1]), Factory.forProtocol(Nothing), interface="127.0.0.1")
the_reactor.run()
