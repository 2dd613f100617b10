"""One run of ``stackit dev``: what the process is told by the one that starts it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from stackit.api.errors import ConfigError
from stackit.config.load import default_file
from stackit.config.model import FILE_NAME
from stackit.config.toml import read_toml


class PluginFile(msgspec.Struct, frozen=True, kw_only=True):
    """The plugin in hand: its file, and the object in it ("" for the module itself).

    ``config`` is the configuration file that a person names, None for that of the current directory, ``cwd``, if it is
    there: it may come while the plugin is written.
    """

    path: Path
    attribute: str
    config: Path | None
    cwd: Path

    @classmethod
    def of(cls, text: str, config: str | None, environ: Mapping[str, str], cwd: Path) -> PluginFile:
        """Return the plugin that a person names, as ``diary.py`` or ``diary.py:Diary``. Raises ConfigError."""
        file, _, attribute = text.partition(":")
        path = Path(os.path.normpath(cwd / file))
        if not path.is_file():
            raise ConfigError(f"{file}: there is no such file")
        named = config or environ.get("STACKIT_CONFIG")
        return cls(path=path, attribute=attribute, config=cwd / named if named else None, cwd=cwd)

    @property
    def config_to_watch(self) -> Path:
        """The configuration file, whether it is there or not."""
        return self.config or self.cwd / FILE_NAME

    def config_in_use(self) -> Path | None:
        """Return the configuration file; None where there is none now."""
        return self.config or default_file(self.cwd)

    def table(self) -> tuple[str, dict[str, Any]]:
        """Return the name of the plugin and its table.

        Both are those of the configuration that names the file, if one does. Else the name is that of the file, and a
        table of that name has the settings, if it is of an installed plugin: the package that the file is to become.
        Raises ConfigError.
        """
        config = self.config_in_use()
        found = {} if config is None else read_toml(config).get("plugins", {})
        tables = found if isinstance(found, dict) else {}
        for name, table in tables.items():
            file, _, attribute = str(table.get("file", "")).partition(":") if isinstance(table, dict) else ("", "", "")
            if config is not None and file and self.path == Path(os.path.normpath(config.parent / file)):
                return name, {**table, "file": self._target(self.attribute or attribute)}
        own = tables.get(self.path.stem)
        settings = own if isinstance(own, dict) and not {"file", "module"} & own.keys() else {}
        return self.path.stem, {**settings, "file": self._target(self.attribute)}

    def _target(self, attribute: str) -> str:
        return f"{self.path}:{attribute}" if attribute else str(self.path)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of a run. ``secret_file`` has the secret of the webhook, ``url`` is the remote of ``repo``."""

    plugin: str
    table: dict[str, Any]
    config: str | None
    state_dir: str
    listen: str
    admin_listen: str
    secret_file: str
    repo: str
    url: str
