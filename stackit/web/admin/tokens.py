"""The bearer tokens of the admin side that are valid now, from the environment and from watched files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from twisted.logger import Logger

from stackit.config import checks
from stackit.secrets.watched_file import WatchedFile

API_TOKEN = "STACKIT_API_TOKEN"  # noqa: S105 - the name of the variable
_log = Logger(namespace="stackit")


class Tokens:
    """Return the valid tokens when called.

    A file is read again when it changes, so that a token can be replaced without a restart. An emptied file revokes its
    token. While a file is missing or unreadable, its last token stays valid, since a replacement in two steps looks the
    same. The log says once that a file cannot be read, and each time that one was read again.
    """

    def __init__(self, fixed: Iterable[str], files: Sequence[Path]) -> None:
        self._fixed = tuple(fixed)
        self._files = [_TokenFile(path) for path in files]

    def __call__(self) -> tuple[str, ...]:
        read = (file.token() for file in self._files)
        return (*self._fixed, *(token for token in read if token))

    def label(self, token: str) -> str:
        """Return the name of a valid token for people: that of its file, or of the variable that holds it."""
        return next((file.path.name for file in self._files if file.token() == token), API_TOKEN)


class _TokenFile:
    """A file with one token, which is read again when it changes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._token = ""
        self._was_read = False
        self._file = WatchedFile(path, self._take, self._complain)
        self._file.look()

    def token(self) -> str:
        """Return the token that is valid now, "" for none."""
        self._file.look()
        return self._token

    def _take(self, content: bytes) -> None:
        text = content.decode("utf-8-sig").strip()
        try:
            self._token = checks.token(text) if text else ""
        except ValueError:
            raise ValueError("it does not hold one token") from None
        if self._was_read:
            outcome = "its token is valid from now on" if text else "it is empty, so its token is revoked"
            _log.info("admin token file {path} was read again: {outcome}", path=self.path, outcome=outcome)
        self._was_read = True

    def _complain(self, reason: str) -> None:
        _log.error("admin token file {path}: {reason}; the token it had stays valid", path=self.path, reason=reason)
