"""The end of a start that fails: one line for the person who started stackit."""

from __future__ import annotations

from stackit.api.errors import PluginError, StackitError
from stackit.api.tracebacks import traceback_of
from stackit.secrets.redactor import Redact
from stackit.text.escape import escape


class CannotStart(SystemExit, Exception):
    """One line for the person who started stackit.

    As a SystemExit it is printed without a traceback and makes the exit status 1; as an
    Exception it lets twistd remove its PID file on the way out.
    """


def cannot_start(problem: StackitError, redact: Redact) -> CannotStart:
    """Return the error for the person who started stackit.

    It is one line, and below it the traceback of what a plugin raised, for its author.
    """
    lines = [redact(f"stackit: {problem}")]
    fault = problem.__cause__
    if isinstance(problem, PluginError) and fault is not None and not isinstance(fault, StackitError):
        lines += [escape(f"  {line}") for line in traceback_of(fault, redact).split("\n")]
    return CannotStart("\n".join(lines))
