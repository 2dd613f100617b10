"""Answers that GitHub need not send again: those of one token, for the hour that it lives."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import msgspec

from stackit.github.api.answer import HttpAnswer

LIFETIME = 3600.0
"""Seconds for which an answer is kept: an ETag is of use for the token that got it, which lives for an hour."""
LARGEST = 128 * 2**10
"""Bytes of an answer that is kept."""
MOST = 4 * 2**20
"""Bytes of all of them."""


class _Kept(msgspec.Struct, frozen=True):
    answer: HttpAnswer
    at: float


class ETags:
    """Answers with an ETag, each by the value of ``Authorization`` and the URL of its request."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        """``seconds`` is the reactor's clock."""
        self._seconds = seconds
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._size = 0

    def get(self, authorization: str, url: str) -> HttpAnswer | None:
        """Return the answer that is kept for a request; None where there is none."""
        kept = self._kept.get((authorization, url))
        return kept.answer if kept is not None and self._seconds() - kept.at < LIFETIME else None

    def put(self, authorization: str, url: str, answer: HttpAnswer) -> None:
        """Keep an answer, if it has an ETag and is not large."""
        self._drop((authorization, url))
        if "etag" not in answer.headers or len(answer.body) > LARGEST:
            return
        self._kept[authorization, url] = _Kept(answer, self._seconds())
        self._size += len(answer.body)
        while self._kept:
            oldest, kept = next(iter(self._kept.items()))
            if self._size <= MOST and self._seconds() - kept.at < LIFETIME:
                return
            self._drop(oldest)

    def _drop(self, key: tuple[str, str]) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._size -= len(kept.answer.body)
