"""What plugins use of the reactor."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from stackit import sleep


@pytest.mark.parametrize("given", [90, 90.0, "90s", "1.5m"])
def test_a_sleep_is_a_number_of_seconds_or_a_text_with_a_unit(given: float | str) -> None:
    clock = Clock()
    slept = sleep(clock, given)
    clock.advance(89)
    assert not slept.called
    clock.advance(1)
    assert slept.called


def test_a_sleep_of_no_known_time_says_what_would_be() -> None:
    with pytest.raises(ValueError, match="expected a duration such as"):
        sleep(Clock(), "soon")
