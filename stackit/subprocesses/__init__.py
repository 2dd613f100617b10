"""Child processes in sessions of their own, bounded in time, output and memory, that leave nothing behind.

A plugin may import the names of this module. ``run`` starts a program and waits for its end; ``Child`` is a program
that is started before there is anything for it to read.
"""

from stackit.subprocesses.child import COLLECTED, STDERR_LIMIT, Child, Finished, ProcessLimits, run
from stackit.subprocesses.spawn import NotStarted

__all__ = ["COLLECTED", "STDERR_LIMIT", "Child", "Finished", "NotStarted", "ProcessLimits", "run"]
