"""Checks of remotes: URLs, hosts, names of repositories, refspecs.

Each returns the value or None, or raises ValueError that says what is expected, without repeating a URL.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec

from stackit.api.errors import describe
from stackit.api.events import Repo
from stackit.api.forge import GITHUB, Forge
from stackit.api.refs import is_ref_pattern
from stackit.config.checks import HOST, is_loopback

_HOST_AND_PORT = re.compile(rf"(?P<host>{HOST})(?::(?P<port>\d{{1,5}}))?", re.ASCII)
_URL = re.compile(
    rf"(?P<scheme>https?|ssh)://(?:(?P<user>[^/?#]*)@)?(?P<host>{HOST})(?::(?P<port>\d{{1,5}}))?(?P<path>/[^?#\\\s]+)"
)
_SSH_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)


class Location(msgspec.Struct, frozen=True):
    """The host and the port of a URL; the host is in small letters and without brackets."""

    host: str
    port: int


_PORTS = {"https": 443, "http": 80, "ssh": 22}


def location(text: str) -> Location | None:
    """Return the host and the port of a URL; None for a path on this machine."""
    parts = urlsplit(text)
    if parts.hostname is None or parts.scheme not in _PORTS:
        return None
    return Location(parts.hostname, parts.port or _PORTS[parts.scheme])


Origin = tuple[str, Location | None]
"""The scheme of a URL, and its host and port."""


def origin(text: str) -> Origin:
    """Return the origin of a URL."""
    return text.partition(":")[0], location(text)


def host(name: str) -> str:
    """Return a host, or a host and a port, as ``Location`` has them."""
    match = _HOST_AND_PORT.fullmatch(name)
    if match is None or not (match["port"] is None or 1 <= int(match["port"]) <= 65535):
        raise ValueError("expected a host such as git.example.org, or git.example.org:8443, without scheme or path")
    bare = match["host"].strip("[]").lower()
    return bare if match["port"] is None else f"{bare}:{int(match['port'])}"


def repository(name: str, forge: Forge) -> Repo:
    """Return a repository whose name its forge allows. All but GitHub's have a host."""
    try:
        repo = forge.repo(name)
        readable = Repo.parse(str(repo)) == repo and bool(repo.host) is (forge.name != GITHUB)
    except ValueError:
        raise
    except Exception as fault:
        raise ValueError(f"the forge {forge.name} cannot read this name: {describe(fault)}") from fault
    if not readable:
        raise ValueError(f"the forge {forge.name} makes {str(repo)[:80]!r} of this name, which is no repository of it")
    return repo


def clone_url(repo: Repo, forge: Forge) -> str:
    """Return the URL of a repository that has none in the configuration."""
    try:
        found = str(forge.clone_url(repo))
    except Exception as fault:
        raise ValueError(f"the forge {forge.name} has no URL for {repo}: {describe(fault)}; set url") from fault
    url(found)
    return found


def owner(name: str) -> str:
    """Return the owner's part of a repository's name."""
    try:
        return Repo.parse(f"{name}/x").owner
    except ValueError:
        raise ValueError("expected the name of an owner on GitHub, such as octo") from None


def url(text: str) -> None:
    """Check a URL: git may fetch from it, and it holds no secret."""
    if not text.isprintable():
        raise ValueError("holds a control character")
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in ("https", "http", "ssh", "file"):
        # No example with a user in a URL: the log takes out what stands before an @.
        raise ValueError("expected https://host/path, http://host/path, ssh://host/path or file:///path")
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
    """Check that a token can travel over a URL without being seen."""
    match = _URL.fullmatch(text)
    if match is None or match["scheme"] == "ssh":
        raise ValueError("a token is of use for https:// only; leave token_file out")
    if match["scheme"] == "http" and not is_loopback(match["host"].strip("[]")):
        raise ValueError("a token would travel unencrypted over http://; use https://")


def refspecs(texts: Sequence[str]) -> None:
    """Check the refspecs of a mirror: ``+refs/…:refs/…``, and ``^refs/…`` for refs that are left out."""
    targets: set[str] = set()
    for number, text in enumerate(texts, 1):
        if text.startswith("^"):
            if text.count("*") > 1 or not is_ref_pattern(text[1:]):
                raise ValueError(f"item {number}: expected '^refs/pull/*': a caret, and a full ref with one * or none")
            continue
        source, colon, target = text.removeprefix("+").partition(":")
        stars = {source.count("*"), target.count("*")}
        right = colon and text.startswith("+") and len(stars) == 1 and stars <= {0, 1}
        if not right or not is_ref_pattern(source) or not is_ref_pattern(target):
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
