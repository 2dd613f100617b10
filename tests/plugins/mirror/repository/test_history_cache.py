"""The histories that bursts of pushes share."""

from __future__ import annotations

from stackit.plugins.mirror.repository.history_cache import HistoryCache


def test_a_history_is_that_of_the_newest_tip_that_was_asked_for() -> None:
    histories = HistoryCache()
    histories.put("octo/widget", "a", b"a\n")
    histories.put("octo/widget", "b", b"b\na\n")
    assert histories.get("octo/widget", "a") is None
    assert histories.get("octo/widget", "b") == b"b\na\n"
    assert histories.get("octo/gadget", "b") is None
    assert len(histories) == 1


def test_all_of_them_together_have_a_bound_and_the_least_asked_for_goes() -> None:
    histories = HistoryCache(most=100)
    histories.put("octo/one", "a", b"x" * 40)
    histories.put("octo/two", "b", b"x" * 40)
    assert histories.get("octo/one", "a") is not None
    histories.put("octo/three", "c", b"x" * 40)
    assert histories.get("octo/two", "b") is None
    assert histories.get("octo/one", "a") is not None
    for _ in range(10):
        histories.put("octo/three", "d", b"x" * 50)
    assert len(histories) == 2
