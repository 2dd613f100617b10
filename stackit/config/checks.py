"""Checks of values: each returns the value or None, or raises ValueError that says what is expected.

The text of an error never repeats a value that could hold a secret, nor the content of a file.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor

from stackit.api.errors import StackitError
from stackit.api.secret_file import SecretFile
from stackit.secrets import watched_file
from stackit.text.endpoints import OWNER_ONLY, UnixSocket, unix_socket

HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])"
"""A pattern of the host in a URL: a name, or an address; of IPv6 in brackets."""

LARGEST_CONFIGURATION = 16 * 2**20
"""Bytes of a configuration file; 10,000 repositories take half of one of its 16 MiB."""
LOG_LEVELS = ("debug", "info", "warn", "error", "critical")

_HOST_NAME = re.compile(HOST, re.ASCII)
_LONGEST_SOCKET = 107
_BASE_URL = re.compile(rf"https?://{HOST}(?::(?P<port>[0-9]{{1,5}}))?(?:/[A-Za-z0-9._~-]+)*/?", re.ASCII)
_ORIGIN = re.compile(rf"(?P<scheme>https?)://{HOST}(?::(?P<port>[0-9]{{1,5}}))?", re.ASCII)
_SEGMENTS = re.compile(r"(?:/[A-Za-z0-9._~-]+)*", re.ASCII)


class Listening(msgspec.Struct, frozen=True):
    """The address of an endpoint, as far as its description tells.

    ``local`` means that only this machine can reach it; a unix socket, that only its owner can. ``socket`` is its path
    and mode then.
    """

    local: bool
    host: str | None = None
    port: int | None = None
    socket: UnixSocket | None = None

    @property
    def url(self) -> str | None:
        """The URL at which this machine reaches a TCP port that is known; None for anything else."""
        if not self.port:
            return None
        host = self.host or "127.0.0.1"
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - listening everywhere includes loopback
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def overlaps(self, other: Listening) -> bool:
        """Return True if both cannot be listened on at once."""
        if self.socket is not None and other.socket is not None:
            return Path(self.socket.path).resolve() == Path(other.socket.path).resolve()
        wild = {"", "0.0.0.0", "::"}  # noqa: S104 - compared with, not listened on
        hosts = {self.host or "", other.host or ""}
        return bool(self.port) and self.port == other.port and (len(hosts) == 1 or bool(hosts & wild))


def endpoint(description: str) -> Listening:
    """Return where a Twisted endpoint string listens."""
    expected = "expected a Twisted endpoint such as tcp:8080:interface=127.0.0.1"
    reactor = MemoryReactor()
    try:
        server: Any = serverFromString(reactor, description)
        socket = unix_socket(description, OWNER_ONLY)
    except Exception as problem:  # noqa: BLE001 - the parsers are plugins of Twisted, and raise what they like
        raise ValueError(f"{expected}: {problem}") from None
    kind = description.partition(":")[0].lower()
    if socket is not None:
        _check_socket(socket)
        return Listening(local=socket.is_private, socket=socket)
    if kind not in ("tcp", "tcp6", "ssl"):
        return Listening(local=False)
    # Listening in memory is the public way to learn what the description says.
    server.listen(Factory())
    listeners: list[Any] = [*reactor.tcpServers, *reactor.sslServers]
    port, host = listeners[0][0], listeners[0][-1]
    if not 0 <= port <= 65535:
        raise ValueError(f"{expected}: a port is a number from 0 to 65535")
    if host and not _is_address(host) and not re.search("[A-Za-z]", host):
        raise ValueError(f"{expected}: the interface is not an address")
    return Listening(local=is_loopback(host), host=host, port=port)


def _check_socket(socket: UnixSocket) -> None:
    # Without a path, Linux makes a name that has no mode, so that everybody on the machine may connect.
    if not socket.path or "\0" in socket.path:
        raise ValueError("expected the path of a unix socket, as in unix:/run/stackit/admin.sock")
    if len(os.fsencode(socket.path)) > _LONGEST_SOCKET:
        raise ValueError(f"the path of a unix socket has at most {_LONGEST_SOCKET} bytes")
    if not 0 <= socket.mode <= 0o777:
        raise ValueError("a mode is an octal number from 0 to 777")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return True for a name or an address that only this machine reaches."""
    if not _is_address(host):
        return host.lower() == "localhost"
    address = ipaddress.ip_address(host)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def path(text: Any, base: Path) -> Path:
    """Return an absolute path; a relative one starts at ``base``."""
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise ValueError("expected a path")
    if text.startswith("~"):
        raise ValueError("~ has no meaning here; write the whole path")
    return Path(os.path.normpath(base / text))


def configuration_file(file: Path) -> None:
    """Check that a file is regular, readable, and not larger than a configuration may be."""
    _read(file, LARGEST_CONFIGURATION)


def readable_files(files: Sequence[Path]) -> None:
    """Check that the files are regular and readable."""
    for file in files:
        _read(file)


def token_files(files: Sequence[Path]) -> None:
    """Check that each of the files holds one token."""
    for file in files:
        token_file(file)


def token_file(file: Path) -> None:
    """Check that a file holds one token."""
    try:
        token(_read(file).decode("utf-8-sig").strip())
    except ValueError as problem:
        text = "not UTF-8 text" if isinstance(problem, UnicodeDecodeError) else str(problem)
        raise ValueError(text if str(file) in text else f"{file}: {text}") from None


def secret_file(file: Path) -> None:
    """Check that a file holds some text."""
    try:
        SecretFile(file).read()
    except StackitError as problem:
        raise ValueError(str(problem)) from None


def _read(file: Path, largest: int = watched_file.LARGEST) -> bytes:
    try:
        return watched_file.read(file, largest)
    except (OSError, ValueError) as problem:
        raise ValueError(f"{file} cannot be read: {watched_file.reason(problem)}") from None


def utf8(text: str) -> str:
    """Return text that can be encoded as UTF-8. The environment may hold any bytes."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("not UTF-8 text")
    return text


def token(text: str) -> str:
    """Return one token that a header can carry."""
    if not text:
        raise ValueError("is empty; expected a token")
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError("expected one token of printable ASCII characters, without white space")
    return text


def token_user(text: str) -> None:
    """Check a user name that stands before a colon and a token."""
    if not text or not (text.isascii() and text.isprintable()) or {" ", ":"} & set(text):
        raise ValueError("expected a user name of printable ASCII characters, without white space and colons")


def positive(value: float) -> None:
    """Check that a value is more than 0."""
    if value <= 0:
        raise ValueError("must be more than 0")


def not_negative(value: float) -> None:
    """Check that a value is 0 or more."""
    if value < 0:
        raise ValueError("must not be negative")


def interval(value: float) -> None:
    """Check an interval: 0 for off, or long enough not to be a busy loop."""
    if 0 < value < 0.1:
        raise ValueError("expected 0 (off) or at least 0.1s")


def at_least_one(value: int) -> None:
    """Check that a number is 1 or more."""
    if value < 1:
        raise ValueError("must be at least 1")


def log_level(setting: str | Mapping[str, str]) -> None:
    """Check a level, or a table of levels by logger."""
    for name, level in ({"": setting} if isinstance(setting, str) else setting).items():
        if level not in LOG_LEVELS:
            of_logger = f"{name[:80]}: " if name else ""
            raise ValueError(f"{of_logger}expected one of {', '.join(LOG_LEVELS)}, not {level[:40]!r}")


def hosts(names: Sequence[str]) -> None:
    """Check names of hosts, as a Host header has them."""
    for number, name in enumerate(names, 1):
        if not _HOST_NAME.fullmatch(name):
            raise ValueError(
                f"item {number}: expected a host name such as stackit.example.org, without scheme, port or path"
            )


def origins(names: Sequence[str]) -> None:
    """Check origins, each as a browser sends it: in lower case, without a default port, with nothing behind it."""
    for number, name in enumerate(names, 1):
        match = _ORIGIN.fullmatch(name)
        port = "" if match is None else match["port"] or ""
        default = {"http": "80", "https": "443"}.get("" if match is None else match["scheme"])
        if match is None or name != name.lower() or port.startswith("0") or port == default or int(port or 0) > 65535:
            raise ValueError(
                f"item {number}: expected an origin as a browser sends it, such as 'https://app.example.org': "
                "no '*', path, capital letter or default port"
            )


def base_url(text: str) -> None:
    """Check the URL of a site of this stackit, as others see it: with nothing behind its path."""
    match = _BASE_URL.fullmatch(text)
    if match is None or (match["port"] and not 1 <= int(match["port"]) <= 65535):
        raise ValueError("expected https://HOST, or http://HOST, without user name, query and fragment")
    if re.search("/webhooks/[^/]+/?$", text):
        raise ValueError("is the address of a webhook; leave out the path at which stackit has it")


def prefixes(paths: Sequence[str]) -> tuple[str, ...]:
    """Return the API prefixes, without a slash at the end."""
    if not paths:
        raise ValueError("expected at least one prefix, such as '/api'")
    found: list[str] = []
    for number, text in enumerate(paths, 1):
        prefix = text.removesuffix("/")
        if not text.startswith("/") or not _SEGMENTS.fullmatch(prefix) or {".", ".."} & set(prefix.split("/")):
            raise ValueError(
                f"item {number}: expected a path such as '/api/v1': a slash first, then letters, digits and . _ ~ -"
            )
        if prefix in found:
            raise ValueError(f"item {number}: the same prefix as item {found.index(prefix) + 1}")
        found.append(prefix)
    return tuple(found)
