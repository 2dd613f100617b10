"""The slot of one repository, and its end at a stop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.internet.defer import CancelledError, Deferred

from stackit.plugins.mirror.sync.fetch_slots import FetchSlots, Kind
from stackit.plugins.mirror.sync.slot_holder import SlotHolder


def holder(slots: FetchSlots, end: Callable[[], None] = lambda: None) -> SlotHolder:
    return SlotHolder(slots, "https://host.example/octo/widget.git", end=end, suspect=lambda: False)


def enter(holder: SlotHolder, kind: Kind) -> list[object]:
    """Enter: the list receives None, or the type of the failure."""
    outcome: list[object] = []
    entering = Deferred.fromCoroutine(holder.enter(kind))
    entering.addCallbacks(outcome.append, lambda failure: outcome.append(failure.type))
    return outcome


def test_a_stop_ends_the_waiting_for_a_slot_and_leaves_who_has_one() -> None:
    slots = FetchSlots(1)
    first, second = holder(slots), holder(slots)
    assert enter(first, "background") == [None]
    waiting = enter(second, "background")
    assert waiting == []
    second.prioritise()
    assert waiting == [None], "for pushes there are others"
    third = holder(slots)
    waiting = enter(third, "push")
    assert waiting == []
    for each in (first, second, third):
        each.stop()
    assert waiting == [CancelledError]
    first.leave()
    second.leave()
    assert enter(third, "push") == [None], "nothing is to be waited for"
    assert enter(first, "push") == [CancelledError]
    third.leave()
    assert enter(first, "push") == [None]


def test_a_stop_ends_work_that_hangs_at_once_or_as_soon_as_it_does() -> None:
    slots = FetchSlots(3)
    ended: list[str] = []
    hangs, works, will_hang = (holder(slots, partial(ended.append, name)) for name in ("h", "w", "l"))
    for each in (hangs, works, will_hang):
        assert enter(each, "background") == [None]
    hangs.release_early()
    for each in (hangs, works, will_hang):
        each.stop()
    assert ended == ["h"]
    will_hang.release_early()
    assert ended == ["h", "l"]
