"""What stands in front of a PostgreSQL elsewhere: TLS with certificates of one's own, or a pool."""

from __future__ import annotations

import re
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

_SSL_REQUEST = struct.pack("!II", 8, 80877103)
_KEY = re.compile(rb"K\0\0\0\x0c.{8}", re.DOTALL)
_VERSION = re.compile(rb"server_version\0\d\d")
_READY = b"Z\0\0\0\5I"
_ROUND = 0.05


class PostgresFront:
    """Listens on a port of 127.0.0.1, from ``__enter__`` to ``__exit__``, and forwards to a server's Unix socket.

    With ``certificate`` (its file and that of its key), it speaks TLS to clients, and with ``clients`` it wants theirs
    to be signed by that authority. With ``renames`` it gives clients keys of its own, as a pool does; with
    ``is_full`` it answers nothing after the login, as a pool without a connection left. ``version`` (two digits)
    is what it makes of the server's.
    """

    def __init__(
        self,
        target: str,
        *,
        certificate: tuple[Path, Path] | None = None,
        clients: Path | None = None,
        renames: bool = False,
        is_full: bool = False,
        version: bytes | None = None,
    ) -> None:
        self._held = 0
        self._served = 0
        self._target = target
        self._renames = renames
        self._is_full = is_full
        self._version = version
        self._context: ssl.SSLContext | None = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*certificate)
        if self._context is not None and clients is not None:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(clients)
        self._ends = False
        self._threads: list[threading.Thread] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]

    def __enter__(self) -> PostgresFront:
        self._listening.settimeout(_ROUND)
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._ends = True
        for each in self._threads:
            each.join()
        self._listening.close()

    def hold(self) -> None:
        """Let nothing pass any more through the connections that are there; none of them is closed."""
        self._held = self._served

    def heal(self) -> None:
        """Let everything pass again."""
        self._held = 0

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ends:
            with suppress(TimeoutError):
                self._start(self._serve, self._listening.accept()[0])

    def _serve(self, client: socket.socket) -> None:
        """Serve one client; it goes away where it does not like the certificate."""
        with suppress(OSError), closing(client), socket.socket(socket.AF_UNIX) as server:
            client.settimeout(60)
            near: socket.socket = client
            if self._context is not None:
                assert client.recv(8, socket.MSG_WAITALL) == _SSL_REQUEST
                client.sendall(b"S")
                near = self._context.wrap_socket(client, server_side=True)
            with closing(near):
                server.connect(self._target)
                self._forward(near, server)

    def _forward(self, near: socket.socket, server: socket.socket) -> None:
        self._served += 1
        number = self._served
        while not self._ends:
            ready, _, _ = select.select([near, server] if number > self._held else [], [], [], _ROUND)
            for source, sink in ((near, server), (server, near)):
                if source not in ready:
                    continue
                data = source.recv(65536)
                if not data:
                    return
                while isinstance(source, ssl.SSLSocket) and source.pending():
                    data += source.recv(65536)
                if source is server and self._renames:
                    data = _KEY.sub(lambda key: b"K\0\0\0\x0c" + struct.pack("!I", 7) + key[0][-4:], data)
                if source is server and self._version is not None:
                    data = _VERSION.sub(b"server_version\0" + self._version, data)
                sink.sendall(data)
                if source is server and self._is_full and data.endswith(_READY):
                    self.hold()
