"""The receiver that a delivery is sent to: the address of its webhook, and a secret of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stackit.api.errors import ConfigError, StackitError
from stackit.api.secret_file import SecretFile
from stackit.config import checks
from stackit.config.load import default_file
from stackit.config.model import FILE_NAME, FileTable
from stackit.config.toml import read_toml

_VARIABLE = "STACKIT_GITHUB_WEBHOOK_SECRET"


class Receiver:
    """The receiver that the configuration describes.

    Only the settings that are asked for are looked at: a person who sends a delivery need not be able to read the rest.
    """

    def __init__(self, config: str | None, environ: Mapping[str, str], cwd: Path) -> None:
        """``config`` is the option ``--config``. Raises ConfigError for a file that cannot be read."""
        self._environ = environ
        self._cwd = cwd
        named = config or environ.get("STACKIT_CONFIG")
        found = cwd / named if named else default_file(cwd)
        self._file = found or cwd / FILE_NAME
        self._tables: Mapping[str, Any] = read_toml(found) if found is not None else {}

    def webhook_url(self) -> str:
        """Return the address of the webhook for GitHub. Raises ConfigError where the settings do not tell it."""
        listen = self._environ.get("STACKIT_LISTEN") or self._tables.get("listen", FileTable().listen)
        prefixes = self._tables.get("api_prefixes", FileTable().api_prefixes)
        try:
            listening = checks.endpoint(listen)
            prefix = checks.prefixes(prefixes)[0]
        except (TypeError, ValueError) as problem:
            raise ConfigError(f"{self._file}: listen or api_prefixes: {problem}; or give --url") from None
        if not listen.startswith("tcp") or not listening.port:
            raise ConfigError(f"listen is {listen}, which tells no address to send to: give --url")
        host = str(listening.host or "127.0.0.1")
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - listening everywhere includes loopback
        return f"http://{f'[{host}]' if ':' in host else host}:{listening.port}{prefix}/webhooks/github"

    def secret(self, file: str | None) -> str:
        """Return the secret in ``file``, else of the environment, else in the first file of the configuration.

        Raises StackitError where there is none.
        """
        if file is not None:
            return SecretFile(self._cwd / file).read()
        if text := self._environ.get(_VARIABLE, "").strip():
            return text
        webhook = self._tables.get("webhook")
        files = webhook.get("secret_files", ()) if isinstance(webhook, dict) else ()
        for each in files if isinstance(files, list) else ():
            path = checks.path(each, self._file.parent)
            if path.exists() and path.stat().st_size == 0:
                continue  # it waits for the next secret
            return SecretFile(path).read()
        raise StackitError(f"no secret to sign with: give --secret-file, or set {_VARIABLE}")
