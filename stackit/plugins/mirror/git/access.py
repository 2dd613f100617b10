"""Give git access to a remote: files for TLS, the command of ssh, and a token on no command line.

All of it is in the environment of the one git that it is for, except secrets: those are in a file in memory, which
only that git and its children have open, as descriptor 3.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from stackit import ManagedRepo

# Reads from the file in memory: the token is on no command line, in no environment and on no disk. git asks the same
# helper to store and to erase, which it ignores.
_CREDENTIAL_HELPER = '!f() { test "$1" = get && cat </dev/fd/3; }; f'


_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")


def remote_environment(managed: ManagedRepo, home: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return git's variables for a remote. ``home`` is an empty directory, ``environ`` the process's environment."""
    chosen = {"GIT_SSH_COMMAND": _ssh(managed)}
    # OpenSSL, and so this process, reads these two. git gets its own variables: Debian's is built with GnuTLS.
    authorities = managed.ca_file or environ.get("SSL_CERT_FILE")
    folder = None if managed.ca_file else environ.get("SSL_CERT_DIR")
    if authorities:
        chosen["GIT_SSL_CAINFO"] = str(authorities)
    if authorities or folder:
        # Some builds of git would trust the machine's authorities besides those in the file.
        chosen["GIT_SSL_CAPATH"] = folder or str(home)
    if managed.client_cert is not None:
        chosen["GIT_SSL_CERT"] = str(managed.client_cert)
        chosen["GIT_SSL_KEY"] = str(managed.client_key or managed.client_cert)
    return chosen


def token_settings(managed: ManagedRepo, token: str | None) -> tuple[tuple[str, ...], bytes | None]:
    """Return settings (``key=value``) by which git sends the token, and the content of the file that they name."""
    host = web_host(managed.url)
    if token is None or host is None:
        return (), None
    if managed.token_scheme == "bearer":  # noqa: S105 - no secret
        header = f'[http "{_quoted(host)}"]\n\textraHeader = "Authorization: Bearer {_quoted(token)}"\n'
        return ("include.path=/dev/fd/3",), header.encode()
    answer = f"username={managed.token_user}\npassword={token}\n"
    return (f"credential.{host}.helper={_CREDENTIAL_HELPER}",), answer.encode()


def web_host(url: str) -> str | None:
    """Return ``scheme://host:port`` of an HTTP URL, to which git can send credentials, else None."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        return None
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def without_userinfo(text: str) -> str:
    """Return the text without the user and password of each URL in it."""
    return _USERINFO.sub("", text)


def _ssh(managed: ManagedRepo) -> str:
    """Return the command of ssh for git's shell; it never prompts."""
    command = ["ssh", "-o", "BatchMode=yes"]
    if managed.ssh_key_file is not None:
        # Offer no other key, not even an agent's: servers hang up after a few that they do not know.
        command += ["-o", "IdentitiesOnly=yes", "-i", str(managed.ssh_key_file)]
    if managed.known_hosts_file is not None:
        command += [
            *("-o", "StrictHostKeyChecking=yes"),
            *("-o", "GlobalKnownHostsFile=/dev/null"),
            *("-o", f'UserKnownHostsFile="{managed.known_hosts_file}"'),
        ]
    return shlex.join(command)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
