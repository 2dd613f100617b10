"""Notices of what an action did, each shown once on the page that follows."""

from __future__ import annotations

import secrets
from typing import Literal

import msgspec

_MOST = 500
_LONGEST = 500

Tone = Literal["good", "bad"]


class Notice(msgspec.Struct, frozen=True):
    """One line for the person who did something."""

    text: str
    tone: Tone = "good"


class Notices:
    """Keeps notices in memory until they are shown, under names that cannot be guessed. The oldest has to go."""

    def __init__(self) -> None:
        self._kept: dict[str, Notice] = {}

    def keep(self, notice: Notice) -> str:
        """Return the name under which the notice is kept."""
        name = secrets.token_urlsafe(16)
        if len(notice.text) > _LONGEST:  # it may repeat what a form sent
            notice = Notice(f"{notice.text[:_LONGEST]}…", notice.tone)
        self._kept[name] = notice
        while len(self._kept) > _MOST:
            del self._kept[next(iter(self._kept))]
        return name

    def take(self, name: str) -> Notice | None:
        """Return a notice for the one time that it is shown."""
        return self._kept.pop(name, None)
