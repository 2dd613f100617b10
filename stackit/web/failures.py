"""The log line of a request that failed."""

from __future__ import annotations

from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit.api.tracebacks import describe_with_place

_log = Logger(namespace="stackit")


def log_failure(failure: Failure) -> None:
    """Write one line that names the exception that a handler of requests raised, and where."""
    _log.error("a request failed: {problem}", problem=describe_with_place(failure.value))
