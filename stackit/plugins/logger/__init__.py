"""A log line for each occurrence."""

from __future__ import annotations

import time
from collections.abc import Callable

from stackit import Occurrence, hookimpl
from stackit.plugins.logger.lines import Lines


class Logger:
    """Never logs a payload, a header or a request: an occurrence's own fields are all it shows.

    ``clock`` returns seconds that never run backwards.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._lines = Lines(clock)

    @hookimpl
    def stackit_observe(self, occurrence: Occurrence) -> None:
        self._lines.tell(occurrence)
