"""The slot of one repository: of the kind that what it does needs, and of another one when that changes."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from twisted.internet.defer import CancelledError

from stackit.plugins.mirror.sync.fetch_slots import Kind, Place, Places, Slot


class Holding:
    """``end`` is called to end what hangs, where others need its slot; ``doubtful`` tells whether it hung last time."""

    def __init__(self, places: Places, url: str, *, end: Callable[[], None], doubtful: Callable[[], bool]) -> None:
        self._places = places
        self._host = host_of(url)
        self._end = end
        self._doubtful = doubtful
        self._kind: Kind | None = None
        self._place: Place | None = None
        self._slot: Slot | None = None
        self._promoted = False

    async def enter(self, kind: Kind) -> None:
        """Have a slot of this kind, and give back the one of another. Cancelling ends the waiting."""
        if self._slot is not None and self._kind == kind:
            return
        self.leave()
        while True:
            hurried = kind in ("quick", "push")
            place = self._places.of(kind).acquire(self._host, hurried=hurried, doubtful=self._doubtful(), end=self._end)
            self._kind, self._place = kind, place
            try:
                self._slot = await place.turn
            except CancelledError:
                if not self._promoted:
                    raise
                kind, self._promoted = "push", False
            else:
                return
            finally:
                self._place = None

    def hurry(self) -> None:
        """Somebody waits for this repository now."""
        if self._place is None or self._kind is None:
            return
        if self._kind == "look":
            self._promoted = True
            self._place.turn.cancel()
        else:
            self._places.of(self._kind).hurry(self._place)

    def lend(self) -> None:
        """It hangs: let another work meanwhile."""
        if self._slot is not None:
            self._slot.lend()

    def lend_long(self) -> None:
        """It takes long: let another work meanwhile."""
        if self._slot is not None:
            self._slot.lend_long()

    def alive(self) -> None:
        """It does not hang any more."""
        if self._slot is not None:
            self._slot.alive()

    @property
    def made_way(self) -> bool:
        """Whether what hung was ended for others."""
        return self._slot is not None and self._slot.ended

    def leave(self) -> None:
        """Give the slot back, where there is one."""
        if self._slot is not None:
            self._slot.release()
            self._slot = None


def host_of(url: str) -> str:
    """The host that a URL leads to, with its port; "" for this machine's own disk."""
    if "://" in url:
        return urlsplit(url).netloc.rpartition("@")[2].lower()
    before, colon, _ = url.partition(":")
    # "host:path" is ssh, unless a slash before the colon makes it a path.
    return before.rpartition("@")[2].lower() if colon and "/" not in before else ""
