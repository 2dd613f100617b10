"""What a right value looks like: each check returns it, or raises ValueError saying what would be right.

The text of an error never repeats a value that could hold a secret: no URL, no content of
a file.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor

from stackit.api.events import Repo
from stackit.secrets import watched_file

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])"
_HOST_AND_PORT = re.compile(rf"(?P<host>{_HOST})(?::(?P<port>\d{{1,5}}))?", re.ASCII)
_HOST_NAME = re.compile(_HOST, re.ASCII)
_URL = re.compile(
    rf"(?P<scheme>https?|ssh)://(?:(?P<user>[^/?#]*)@)?(?P<host>{_HOST})(?::(?P<port>\d{{1,5}}))?(?P<path>/[^?#\\\s]+)"
)
_SSH_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)
_SEGMENTS = re.compile(r"(?:/[A-Za-z0-9._~-]+)*", re.ASCII)
_NOT_IN_REFS = re.compile(r"[\x00-\x20\x7f~^:?\[\\]|\.\.|@\{|//")


class Listening(msgspec.Struct, frozen=True):
    """Where an endpoint listens, as far as its description tells.

    ``local`` means that nothing but this machine can reach it.
    """

    local: bool
    host: str | None = None
    port: int | None = None

    def overlaps(self, other: Listening) -> bool:
        """Whether both cannot be listened on at once."""
        wild = {"", "0.0.0.0", "::"}  # noqa: S104 - compared with, not listened on
        hosts = {self.host or "", other.host or ""}
        return bool(self.port) and self.port == other.port and (len(hosts) == 1 or bool(hosts & wild))


def endpoint(description: str) -> Listening:
    """Where a Twisted endpoint string listens."""
    expected = "expected a Twisted endpoint such as tcp:8080:interface=127.0.0.1"
    reactor = MemoryReactor()
    try:
        server: Any = serverFromString(reactor, description)
    except Exception as problem:  # noqa: BLE001 - the parsers are plugins of Twisted, and raise what they like
        raise ValueError(f"{expected}: {problem}") from None
    kind = description.partition(":")[0].lower()
    if kind == "unix":
        return Listening(local=True)
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
    return Listening(local=_is_loopback(host), host=host, port=port)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    if not _is_address(host):
        return host.lower() == "localhost"
    address = ipaddress.ip_address(host)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def path(text: Any, base: Path) -> Path:
    """An absolute path; a relative one starts at ``base``."""
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise ValueError("expected a path")
    if text.startswith("~"):
        raise ValueError("~ has no meaning here; write the whole path")
    return Path(os.path.normpath(base / text))


def readable_files(files: Sequence[Path]) -> None:
    """Regular files that this process may read."""
    for file in files:
        _read(file)


def token_files(files: Sequence[Path]) -> None:
    """Files that each hold one token."""
    for file in files:
        try:
            token(_read(file).decode("utf-8-sig").strip())
        except ValueError as problem:
            text = "not UTF-8 text" if isinstance(problem, UnicodeDecodeError) else str(problem)
            raise ValueError(text if str(file) in text else f"{file}: {text}") from None


def _read(file: Path) -> bytes:
    try:
        return watched_file.read(file)
    except (OSError, ValueError) as problem:
        raise ValueError(f"{file} cannot be read: {watched_file.reason(problem)}") from None


def utf8(text: str) -> str:
    """Text that has a UTF-8 form: the environment may hold any bytes."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("not UTF-8 text")
    return text


def token(text: str) -> str:
    """One token, as a header can carry it."""
    if not text:
        raise ValueError("is empty; expected a token")
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError("expected one token of printable ASCII characters, without white space")
    return text


def token_user(text: str) -> None:
    """A user name, as it stands before a colon and a token."""
    if not text or not (text.isascii() and text.isprintable()) or {" ", ":"} & set(text):
        raise ValueError("expected a user name of printable ASCII characters, without white space and colons")


def positive(value: float) -> None:
    """More than nothing."""
    if value <= 0:
        raise ValueError("must be more than 0")


def not_negative(value: float) -> None:
    """Nothing, or more."""
    if value < 0:
        raise ValueError("must not be negative")


def interval(value: float) -> None:
    """A period that is no busy loop, or 0 for off."""
    if 0 < value < 0.1:
        raise ValueError("expected 0 (off) or at least 0.1s")


def at_least_one(value: int) -> None:
    """A whole number that lets something happen."""
    if value < 1:
        raise ValueError("must be at least 1")


def hosts(names: Sequence[str]) -> None:
    """Names as a Host header has them."""
    for number, name in enumerate(names, 1):
        if not _HOST_NAME.fullmatch(name):
            raise ValueError(
                f"item {number}: expected a host name such as stackit.example.org, without scheme, port or path"
            )


def prefixes(paths: Sequence[str]) -> tuple[str, ...]:
    """API prefixes, without a slash at the end."""
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


class Location(msgspec.Struct, frozen=True):
    """Where a URL leads: the host's name in small letters, without brackets, and the port."""

    host: str
    port: int


_PORTS = {"https": 443, "http": 80, "ssh": 22}


def location(text: str) -> Location | None:
    """Where a URL leads; None where that is this machine's disk."""
    parts = urlsplit(text)
    if parts.hostname is None or parts.scheme not in _PORTS:
        return None
    return Location(parts.hostname, parts.port or _PORTS[parts.scheme])


def host(name: str) -> str:
    """A host, or a host and a port, as ``Location`` has them."""
    match = _HOST_AND_PORT.fullmatch(name)
    if match is None or not (match["port"] is None or 1 <= int(match["port"]) <= 65535):
        raise ValueError("expected a host such as git.example.org, or git.example.org:8443, without scheme or path")
    bare = match["host"].strip("[]").lower()
    return bare if match["port"] is None else f"{bare}:{int(match['port'])}"


def repository(name: str) -> Repo:
    """``owner/name`` as GitHub allows it."""
    repo = Repo.parse(name)
    if repo.name.lower().endswith(".git"):
        raise ValueError("a repository's name has no .git at its end")
    return repo


def owner(name: str) -> str:
    """The owner's part of a repository's name."""
    try:
        return Repo.parse(f"{name}/x").owner
    except ValueError:
        raise ValueError("expected the name of an owner on GitHub, such as octo") from None


def url(text: str) -> None:
    """A URL that git may fetch from, without a secret in it."""
    if not text.isprintable():
        raise ValueError("holds a control character")
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in ("https", "http", "ssh", "file"):
        raise ValueError("expected https://host/path, http://…, ssh://git@host/path or file:///path")
    if scheme == "file":
        if not rest.startswith("/"):
            raise ValueError("expected file:///path, with the path from the root on")
        return
    if "@" in rest.partition("/")[0] and scheme != "ssh":
        raise ValueError("must not hold a user name, password or token; put the token in a file, with token_file")
    match = _URL.fullmatch(text)
    if match is None:
        raise ValueError(f"expected {scheme}://host/path, without white space, query or fragment")
    user = match["user"]
    if user is not None and ":" in user:
        raise ValueError("must not hold a password; use a key of the user that runs stackit")
    if user is not None and not _SSH_USER.fullmatch(user):
        raise ValueError("not a user name that ssh takes")
    if match["port"] is not None and not 1 <= int(match["port"]) <= 65535:
        raise ValueError("a port is a number from 1 to 65535")


def may_carry_token(text: str) -> None:
    """A URL over which a token can travel without being seen."""
    match = _URL.fullmatch(text)
    if match is None or match["scheme"] == "ssh":
        raise ValueError("a token is of use for https:// only; leave token_file out")
    if match["scheme"] == "http" and not _is_loopback(match["host"].strip("[]")):
        raise ValueError("a token would travel unencrypted over http://; use https://")


def refspecs(texts: Sequence[str]) -> None:
    """Refspecs of a mirror: ``+refs/…:refs/…``, and ``^refs/…`` for what they leave out."""
    targets: set[str] = set()
    for number, text in enumerate(texts, 1):
        if text.startswith("^"):
            if text.count("*") > 1 or not _is_ref(text[1:]):
                raise ValueError(f"item {number}: expected '^refs/pull/*': a caret, and a full ref with one * or none")
            continue
        source, colon, target = text.removeprefix("+").partition(":")
        stars = {source.count("*"), target.count("*")}
        right = colon and text.startswith("+") and len(stars) == 1 and stars <= {0, 1}
        if not right or not _is_ref(source) or not _is_ref(target):
            raise ValueError(
                f"item {number}: expected '+refs/heads/*:refs/heads/*': a plus, two full refs, one * in both or none; "
                "or '^refs/heads/tmp/*' for what is left out"
            )
        if target.startswith("refs/stackit-kept/"):
            raise ValueError(
                f"item {number}: refs/stackit-kept/ is where the mirror keeps old tips; take another target"
            )
        if target in targets:
            raise ValueError(f"item {number}: the same target as an earlier refspec")
        targets.add(target)
    if not targets:
        raise ValueError("expected at least one refspec that takes refs, such as '+refs/heads/*:refs/heads/*'")


def _is_ref(name: str) -> bool:
    """The rules of git check-ref-format, for a full ref that may hold a star."""
    parts = name.split("/")
    return (
        parts[0] == "refs"
        and (len(parts) > 2 or name == "refs/*")
        and not _NOT_IN_REFS.search(name)
        and not name.endswith(".")
        and not any(part == "" or part.startswith(".") or part.endswith(".lock") for part in parts)
    )
