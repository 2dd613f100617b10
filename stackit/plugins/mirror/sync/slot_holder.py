"""The fetch slot of one repository, changed for one of another kind when its work changes."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from twisted.internet.defer import CancelledError

from stackit.plugins.mirror.sync.fetch_slots import FetchSlots, Kind, Slot, Waiter


class SlotHolder:
    """Holds at most one slot.

    ``end`` ends work that hangs when others need its slot. ``suspect`` tells if the last attempt hung.
    """

    def __init__(self, slots: FetchSlots, url: str, *, end: Callable[[], None], suspect: Callable[[], bool]) -> None:
        self._slots = slots
        self._host = host_of(url)
        self._end = end
        self._doubtful = suspect
        self._kind: Kind | None = None
        self._waiter: Waiter | None = None
        self._slot: Slot | None = None
        self._promoted = False
        self._stopped = False

    def change_url(self, url: str) -> None:
        """Take the next slot among those of another host."""
        self._host = host_of(url)

    async def enter(self, kind: Kind) -> None:
        """Wait for a slot of this kind; a slot of another kind is given back first.

        Cancelling ends the waiting. Once stopped, raises CancelledError where there is something to wait for.
        """
        if self._slot is not None and self._kind == kind:
            return
        self.leave()
        while True:
            urgent = kind in ("quick", "push")
            waiter = self._slots.of(kind).acquire(self._host, urgent=urgent, suspect=self._doubtful(), end=self._end)
            self._kind, self._waiter = kind, waiter
            if self._stopped:
                self.stop()
            try:
                self._slot = await waiter.turn
            except CancelledError:
                if not self._promoted:
                    raise
                kind, self._promoted = "push", False
            else:
                return
            finally:
                self._waiter = None

    def stop(self) -> None:
        """Wait for no slot any more, and end work that hangs. Other work keeps its slot."""
        self._stopped = True
        if self._waiter is not None:
            self._waiter.turn.cancel()
        elif self._slot is not None and self._slot.hangs:
            self._end()

    def prioritise(self) -> None:
        """Make the request that waits urgent: a push or a person needs it."""
        if self._waiter is None or self._kind is None:
            return
        if self._kind == "background":
            self._promoted = True
            self._waiter.turn.cancel()
        else:
            self._slots.of(self._kind).prioritise(self._waiter)

    def release_early(self) -> None:
        """Free the slot while the work hangs; once stopped, end that work."""
        if self._slot is not None:
            self._slot.release_early()
            if self._stopped:
                self._end()

    def release_long_running(self) -> None:
        """Free the slot of work that takes long."""
        if self._slot is not None:
            self._slot.release_long_running()

    def resume(self) -> None:
        """Note that the work makes progress again."""
        if self._slot is not None:
            self._slot.resume()

    @property
    def made_way(self) -> bool:
        """True once the work was ended because it hung and others waited."""
        return self._slot is not None and self._slot.ended

    def leave(self) -> None:
        """Give the slot back, if it holds one."""
        if self._slot is not None:
            self._slot.release()
            self._slot = None


def host_of(url: str) -> str:
    """Return the host of a URL, with its port; "" for a local path."""
    if "://" in url:
        return urlsplit(url).netloc.rpartition("@")[2].lower()
    before, colon, _ = url.partition(":")
    # "host:path" is ssh, unless a slash before the colon makes it a path.
    return before.rpartition("@")[2].lower() if colon and "/" not in before else ""
