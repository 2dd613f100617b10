"""The answer to one request, and the error where none came."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec


class HttpAnswer(msgspec.Struct, frozen=True):
    """A whole answer. ``headers`` have lower-case names; ``seconds`` is how long the exchange took."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float = 0.0


class NoAnswer(Exception):
    """No whole answer came; ``reason`` says which kind of fault it was, the text what happened."""

    def __init__(self, reason: Literal["network", "too_large"], text: str) -> None:
        super().__init__(text)
        self.reason: Literal["network", "too_large"] = reason
