"""The values of recovery: entries of GitHub's list, the mark of a hook, and windows of time that are lost."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from stackit.api.schema import Timestamp
from stackit.text.times import rfc3339


class Listed(msgspec.Struct, frozen=True):
    """An entry of GitHub's list of deliveries: one attempt to deliver one event.

    ``id`` is that of the attempt. ``guid`` is that of the event: attempts at the same event have the same. ``at`` is
    when it was made, in seconds since the epoch by GitHub's clock.
    """

    id: int
    guid: str
    at: float
    event: str
    action: str | None = None
    status_code: int = 0

    @property
    def succeeded(self) -> bool:
        """Return whether GitHub had an answer that it counts as success: 2xx or 3xx."""
        return 200 <= self.status_code < 400


class Detail(msgspec.Struct, frozen=True):
    """What GitHub sent in one delivery: its headers, with names in lower case, and its payload as compact JSON."""

    headers: Mapping[bytes, tuple[bytes, ...]]
    payload: bytes


class Mark(msgspec.Struct, frozen=True):
    """How far the deliveries of a hook are accounted for. Times are GitHub's.

    ``at`` and ``id`` are those of the newest entry that is: a walk goes back to it. The list was complete up to
    ``seen_at`` when it was last read to its end. ``first_at`` and ``first_id`` are those of the newest entry when the
    list was read for the first time: it and what is older came before this stackit. ``hook`` is the id of the hook,
    None while it is not known. ``settled`` are events that were judged and are not in the journal, by their guid, each
    with the time of its entry; ``postponed`` are entries whose payload could not be had yet.
    """

    at: float
    id: int
    seen_at: float
    first_at: float = 0.0
    first_id: int = 0
    hook: str | None = None
    settled: dict[str, float] = {}
    postponed: tuple[Listed, ...] = ()


class Window(msgspec.Struct, frozen=True, omit_defaults=True):
    """A time whose deliveries may be lost: GitHub's list did not reach back to it any more. Times are GitHub's.

    ``reconciled_at`` is when everything had been compared with GitHub since, ``acknowledged_at`` when a person said
    that they know; by the clock of this machine.
    """

    begin: float
    end: float
    reconciled_at: float | None = None
    acknowledged_at: float | None = None

    @property
    def seconds(self) -> float:
        """Return the length of the window."""
        return self.end - self.begin


class HookState(msgspec.Struct, frozen=True):
    """What the journal keeps of a hook: its mark, the last windows that were lost, and all their seconds ever."""

    mark: Mark | None = None
    lost: tuple[Window, ...] = ()
    lost_seconds: float = 0.0


_MOST_WINDOWS = 20
_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(HookState)


def encode_state(state: HookState) -> bytes:
    """Return the state as the journal keeps it."""
    return _ENCODER.encode(state)


def decode_state(document: bytes) -> HookState:
    """Return the state of a document. Raises msgspec.DecodeError for one that ``encode_state`` did not make."""
    return _DECODER.decode(document)


def with_loss(state: HookState, window: Window) -> HookState:
    """Return the state with a window more; one that continues the last one extends it, and is unseen again."""
    last = state.lost[-1] if state.lost else None
    if last is None or window.begin > last.end or window.end < last.begin:
        windows = (*state.lost, window)[-_MOST_WINDOWS:]
        return HookState(state.mark, windows, state.lost_seconds + window.seconds)
    whole = Window(min(last.begin, window.begin), max(last.end, window.end))
    if (whole.begin, whole.end) == (last.begin, last.end):
        return state
    return HookState(state.mark, (*state.lost[:-1], whole), state.lost_seconds + whole.seconds - last.seconds)


class ShownWindow(msgspec.Struct, frozen=True, kw_only=True, rename={"begin": "from", "end": "to"}):
    """A ``Window`` as the admin side shows it."""

    begin: Timestamp
    end: Timestamp
    reconciled_at: Timestamp | None
    acknowledged_at: Timestamp | None


def shown_window(window: Window) -> ShownWindow:
    """Return a window as the admin side shows it."""
    return ShownWindow(
        begin=rfc3339(window.begin),
        end=rfc3339(window.end),
        reconciled_at=None if window.reconciled_at is None else rfc3339(window.reconciled_at),
        acknowledged_at=None if window.acknowledged_at is None else rfc3339(window.acknowledged_at),
    )
