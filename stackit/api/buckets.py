"""Token buckets: what an address, or anybody, may still do in a while."""

from __future__ import annotations

from collections import OrderedDict


class Buckets:
    """Token buckets in bounded memory. Of each only the time at which it is full again is kept.

    A bucket of ``burst`` tokens lacks one token for every ``seconds_per_token`` until that time. The order is that of
    the last spending: full buckets, which need not be kept, are at the front. A bucket that is not full is never
    dropped, or a client with many addresses could push the others' buckets out.
    """

    __slots__ = (
        "_full_at",
        "_most",
        "_others_full_at",
        "_seconds_per_token",
        "_seconds_to_fill",
    )

    def __init__(self, *, burst: int, seconds_per_token: float, most: int) -> None:
        self._full_at: OrderedDict[str, float] = OrderedDict()
        self._others_full_at = 0.0
        self.change(burst=burst, seconds_per_token=seconds_per_token, most=most)

    def change(self, *, burst: int, seconds_per_token: float, most: int) -> None:
        """Take other limits. A bucket keeps the time at which it is full again."""
        self._seconds_per_token = seconds_per_token
        self._seconds_to_fill = burst * seconds_per_token
        self._most = most

    def __len__(self) -> int:
        return len(self._full_at)

    def wait(self, key: str, now: float) -> float:
        """Return the seconds until the bucket has a token; 0 or less if it has one now."""
        full_at = self._full_at.get(key, self._others_full_at if self._crowded(now) else now)
        return full_at - now - self._seconds_to_fill + self._seconds_per_token

    def spend(self, key: str, now: float) -> None:
        """Take a token, if there is one."""
        if key not in self._full_at and self._crowded(now):
            self._others_full_at = self._after(self._others_full_at, now)
            return
        self._full_at[key] = self._after(self._full_at.get(key, now), now)
        self._full_at.move_to_end(key)

    def _after(self, full_at: float, now: float) -> float:
        return min(max(full_at, now) + self._seconds_per_token, now + self._seconds_to_fill)

    def _crowded(self, now: float) -> bool:
        while self._full_at:
            key, full_at = next(iter(self._full_at.items()))
            if full_at > now:
                break
            del self._full_at[key]
        return len(self._full_at) >= self._most
