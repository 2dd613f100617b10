"""The id of the repository that a mirror is of, as the mirror itself remembers it."""

from __future__ import annotations

import os
from pathlib import Path

FILE = "stackit-repository"


def read_identity(mirror: Path) -> str | None:
    """Return the identity (``github:1296269``) of a mirror; None where it has none, or is not there."""
    try:
        return (mirror / FILE).read_text("utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def write_identity(mirror: Path, identity: str) -> None:
    """Have a mirror remember an identity. Raises OSError."""
    new = mirror / f"{FILE}.new"
    new.write_text(f"{identity}\n", "utf-8")
    os.replace(new, mirror / FILE)  # noqa: PTH105 - in one step
