"""A file with one token, which is replaced while stackit runs."""

from __future__ import annotations

from pathlib import Path

from stackit.api.errors import StackitError
from stackit.secrets import watched_file


def read_token(file: Path) -> str:
    """Return the token that a file holds now.

    Raises StackitError where the file cannot be read, or does not hold one token.
    """
    try:
        token = watched_file.read(file).decode("utf-8-sig").strip()
    except (OSError, ValueError) as problem:
        raise StackitError(f"token file {file} cannot be read: {watched_file.reason(problem)}") from None
    # It is sent in a header: nothing in it may end the line.
    if not token or not (token.isascii() and token.isprintable()) or " " in token:
        raise StackitError(f"token file {file} does not hold one token")
    return token
