"""The command line and the environment that every git gets, whatever the machine's configuration."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from stackit.plugins.mirror.git.access import web_host

# A network may need these. Any other variable of a person's shell could decide which repository is fetched, and how.
_INHERITED = (
    "PATH",
    "https_proxy",
    "HTTPS_PROXY",
    "http_proxy",
    "no_proxy",
    "NO_PROXY",
)

_SETTINGS = (
    "core.hooksPath=/dev/null",
    "gc.auto=0",  # never beside a fetch: it may delete objects that the fetch relies on
    "maintenance.auto=false",
    "protocol.version=2",
    "http.followRedirects=false",  # a redirect is news about the repository, and credentials do not travel along
    "credential.helper=",  # forgets every helper named so far
)


def command(*arguments: str | bytes, settings: Sequence[str] = ()) -> list[str | bytes]:
    """Return a command of git that has only our settings (``key=value``), ``settings`` among them."""
    return ["git", *as_options(*_SETTINGS, *settings), *arguments]


def command_in(directory: Path, arguments: Sequence[str | bytes]) -> list[str | bytes]:
    """Return a command of git for the repository at ``directory``."""
    # Without --git-dir git would look for a repository in the parents of a broken one.
    return command(b"--git-dir=" + os.fsencode(directory), *arguments)


def as_options(*settings: str) -> list[str]:
    """Return settings (``key=value``) as options of git's command line."""
    return [part for setting in settings for part in ("-c", setting)]


def environment(home: Path, url: str | None) -> dict[str, str]:
    """Return the environment of a git that talks to ``url`` (None: to no remote), without the remote's own variables.

    ``home`` is an empty directory.
    """
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    # Only the trace shows the headers of an answer, such as Retry-After. git leaves credentials out of it.
    trace = {"GIT_TRACE_CURL": "1", "GIT_TRACE_CURL_NO_DATA": "1"} if url is not None and web_host(url) else {}
    return (
        inherited
        | trace
        | {
            "HOME": str(home),
            "LC_ALL": "C",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_NO_REPLACE_OBJECTS": "1",  # a remote's refs/replace/ must not change what objects mean here
            "GIT_ALLOW_PROTOCOL": url_scheme(url) if url is not None else "",
        }
    )


def url_scheme(url: str) -> str:
    """Return git's name of the protocol of a URL, ``ssh`` for ``host:path``, ``file`` for a path."""
    scheme, separator, _ = url.partition("://")
    if separator:
        return scheme
    # "host:path" is ssh, unless a slash before the colon makes it a path.
    return "ssh" if ":" in url.partition("/")[0] else "file"
