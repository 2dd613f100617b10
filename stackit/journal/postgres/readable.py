"""A wait of a thread for its connection and for whoever wakes it up."""

from __future__ import annotations

import math
import select
from collections.abc import Iterable


def readable(files: Iterable[int], seconds: float) -> set[int]:
    """Return those of the open files that can be read, as soon as there are some, or none after so many seconds.

    They may have any number: ``select`` knows the first 1024 alone, and a busy process has more connections.
    """
    poll = select.poll()
    for each in files:
        poll.register(each, select.POLLIN)
    return {number for number, _ in poll.poll(math.ceil(seconds * 1000))}
