"""The bearer tokens of the admin side, as the environment and files have them now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from twisted.logger import Logger

from stackit import config_checks as checks

_log = Logger(namespace="stackit")

Version = tuple[int, int, int]
"""What changes when a file does: inode, size, time of modification."""


class Tokens:
    """Called, gives the tokens that are valid now.

    A file is read again when it changes, so that a token can be replaced without a restart.
    An emptied file revokes its token. One that is gone or cannot be read keeps the token it
    had, and the log says so once: a replacement in two steps must lock nobody out.
    """

    def __init__(self, fixed: Iterable[str], files: Sequence[Path]) -> None:
        self._fixed = tuple(fixed)
        self._files = [_TokenFile(path) for path in files]

    def __call__(self) -> tuple[str, ...]:
        read = (file.token() for file in self._files)
        return (*self._fixed, *(token for token in read if token))


class _TokenFile:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._version: Version | None = None
        self._token = ""
        self._complained = False

    def token(self) -> str:
        try:
            status = self._path.stat()
            version = (status.st_ino, status.st_size, status.st_mtime_ns)
            if version != self._version:
                text = self._path.read_text("utf-8").strip()
                self._token = checks.token(text) if text else ""
                self._version = version
            self._complained = False
        except (OSError, ValueError) as problem:
            if not self._complained:
                reason = getattr(problem, "strerror", None) or "does not hold one token"
                _log.error(
                    "admin token file {path}: {reason}; the token it had stays valid", path=self._path, reason=reason
                )
            self._complained = True
        return self._token
