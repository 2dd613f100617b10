"""The parameter ``limit`` of the lists on the admin side."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"[0-9]{1,3}", re.ASCII)


def page_limit(text: str | None, default: int, most: int) -> int:
    """Return how many entries a query asks for. Raises ValueError, with a reason for people."""
    if text is None:
        return default
    if not (_NUMBER.fullmatch(text) and 1 <= int(text) <= most):
        raise ValueError(f"limit: expected a whole number from 1 to {most}")
    return int(text)
