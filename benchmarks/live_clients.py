"""Live clients: many streams of events, read as fast as they come. ``live_clients.py PORT COUNT QUERY``.

Prints ``ready`` once all have begun, and ends when one is cut. ``{number}`` in the query is that of the client. They
come from several addresses of loopback, because one address may have only so many.
"""

from __future__ import annotations

import selectors
import socket
import sys

OF_ONE_ADDRESS = 25
REPOSITORIES = 100


def main() -> None:
    port, count, query = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    selector = selectors.DefaultSelector()
    for number in range(count):
        client = socket.create_connection(
            ("127.0.0.1", port), timeout=10, source_address=(f"127.0.0.{2 + number // OF_ONE_ADDRESS}", 0)
        )
        path = "/api/v1/events" + query.format(number=number % REPOSITORIES)
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        first = client.recv(2**12)
        if b" 200 OK\r\n" not in first:
            sys.exit(f"refused: {first!r}")
        client.setblocking(False)
        selector.register(client, selectors.EVENT_READ)
    print("ready", flush=True)
    room = bytearray(2**18)
    while True:
        for key, _ in selector.select():
            if not isinstance(key.fileobj, socket.socket) or not key.fileobj.recv_into(room):
                sys.exit("cut")


if __name__ == "__main__":
    main()
