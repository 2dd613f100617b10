"""What git is told of how to reach a remote: files for TLS, ssh's command, and a token on no command line.

All of it is in the environment of the one git that it is for, but for secrets: those are in a file in memory, which
only that git and its children have open, as descriptor 3.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from stackit import ManagedRepo

# Reads from the file in memory: the token is on no command line, in no environment and on no disk. git asks the same
# helper to store and to erase, which it ignores.
_CREDENTIAL_HELPER = '!f() { test "$1" = get && cat </dev/fd/3; }; f'


def variables(managed: ManagedRepo, home: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Variables of git for this remote. ``home`` is an empty directory, ``environ`` this process's environment."""
    chosen = {"GIT_SSH_COMMAND": _ssh(managed)}
    # OpenSSL reads these two, and so does this process. git is told in its own words: that of Debian reads neither.
    authorities = managed.ca_file or environ.get("SSL_CERT_FILE")
    folder = None if managed.ca_file else environ.get("SSL_CERT_DIR")
    if authorities:
        chosen["GIT_SSL_CAINFO"] = str(authorities)
    if authorities or folder:
        # Some builds of git would trust those of the machine beside the ones in the file.
        chosen["GIT_SSL_CAPATH"] = folder or str(home)
    if managed.client_cert is not None:
        chosen["GIT_SSL_CERT"] = str(managed.client_cert)
        chosen["GIT_SSL_KEY"] = str(managed.client_key or managed.client_cert)
    return chosen


def token_settings(managed: ManagedRepo, token: str | None) -> tuple[tuple[str, ...], bytes | None]:
    """Settings (``key=value``) with which git sends the token, and what is in the file in memory that they name."""
    host = web_host(managed.url)
    if token is None or host is None:
        return (), None
    if managed.token_scheme == "bearer":  # noqa: S105 - no secret
        header = f'[http "{_quoted(host)}"]\n\textraHeader = "Authorization: Bearer {_quoted(token)}"\n'
        return ("include.path=/dev/fd/3",), header.encode()
    answer = f"username={managed.token_user}\npassword={token}\n"
    return (f"credential.{host}.helper={_CREDENTIAL_HELPER}",), answer.encode()


def web_host(url: str) -> str | None:
    """``scheme://host:port`` of a URL to which git can send credentials, else None."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        return None
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _ssh(managed: ManagedRepo) -> str:
    """The command for git's shell; it asks nobody anything."""
    command = ["ssh", "-o", "BatchMode=yes"]
    if managed.ssh_key_file is not None:
        # No other key, be it of an agent's: servers hang up after a few that they do not know.
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
