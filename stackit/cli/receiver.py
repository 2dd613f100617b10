"""The receiver that a delivery is sent to: the address of its webhook, and a secret of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from stackit.api.errors import ConfigError, StackitError
from stackit.api.secret_file import SecretFile
from stackit.config import checks
from stackit.config.load import default_file
from stackit.config.model import FILE_NAME, FileTable
from stackit.config.setting import checked
from stackit.config.toml import in_words, read_toml

_VARIABLE = "STACKIT_GITHUB_WEBHOOK_SECRET"


class _WebhookTable(msgspec.Struct):
    """The part of ``[webhook]`` that is needed here."""

    secret_files: tuple[str, ...] = ()


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
        default, variable = FileTable(), self._environ.get("STACKIT_LISTEN")
        listen: str = variable or self._value("listen", str, default.listen)
        origin = "STACKIT_LISTEN" if variable else f"{self._file}: listen"
        listening: checks.Listening = checked(origin, checks.endpoint, listen)
        prefixes = self._value("api_prefixes", tuple[str, ...], default.api_prefixes)
        prefix = checked(f"{self._file}: api_prefixes", checks.prefixes, prefixes)[0]
        if not listen.startswith("tcp") or listening.url is None:
            raise ConfigError(f"listen is {listen}, which tells no address to send to: give --url")
        return f"{listening.url}{prefix}/webhooks/github"

    def secret(self, file: str | None) -> str:
        """Return the secret in ``file``, else of the environment, else in the first file of the configuration.

        Raises StackitError where there is none, ConfigError for settings that cannot be right.
        """
        if file is not None:
            return SecretFile(self._cwd / file).read()
        if text := self._environ.get(_VARIABLE, "").strip():
            return text
        where = f"{self._file}: webhook.secret_files"
        waiting: list[str] = []
        for each in self._value("webhook", _WebhookTable, _WebhookTable()).secret_files:
            path = checked(where, checks.path, each, self._file.parent)
            if path.exists() and path.stat().st_size == 0:
                waiting.append(str(path))  # for the next secret
                continue
            return SecretFile(path).read()
        empty = f" ({', '.join(waiting)}: empty)" if waiting else ""
        raise StackitError(f"no secret to sign with{empty}: give --secret-file, or set {_VARIABLE}")

    def _value(self, key: str, kind: Any, default: Any) -> Any:
        """Return the value of a setting of the file. Raises ConfigError for one of another type."""
        try:
            return msgspec.convert(self._tables[key], kind) if key in self._tables else default
        except msgspec.ValidationError as problem:
            raise ConfigError(f"{self._file}: {key}: {in_words(str(problem))}") from None
