"""A secret in a file: a type of a plugin's settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stackit.api.errors import StackitError
from stackit.secrets import watched_file


class SecretFile:
    """A file with one secret, such as a token, that may be replaced while stackit runs.

    As the type of a setting it takes a path, which starts at the directory of the configuration file. stackit looks at
    the start whether the file can be read, and keeps its secret out of its log, receipts and answers. The secret
    itself is in no attribute and in no repr.
    """

    __slots__ = ("_on_read", "path")

    def __init__(self, path: Path, on_read: Callable[[], object] = lambda: None) -> None:
        """``on_read`` is called whenever the secret was read, before anybody has it: it may be a new one."""
        self.path = path
        self._on_read = on_read

    def read(self) -> str:
        """Return the secret as the file has it now, without white space around it.

        Raises StackitError where the file cannot be read, is larger than 64 KiB, is not UTF-8, or has nothing in it.
        """
        try:
            secret = watched_file.read(self.path).decode("utf-8-sig").strip()
        except (OSError, ValueError) as problem:
            raise StackitError(f"secret file {self.path} cannot be read: {watched_file.reason(problem)}") from None
        if not secret:
            raise StackitError(f"secret file {self.path} is empty")
        self._on_read()
        return secret

    def __repr__(self) -> str:
        return f"SecretFile({str(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretFile) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)
