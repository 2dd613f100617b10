"""The threads of a journal in a database, as the heartbeat sees them: who waits for the database is not stuck."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stackit.api.threads import MonitoredThread


class DatabaseThread:
    """A thread that counts as moving while the database is away.

    What is wrong then is the database's, and told as such. A restart, for which a thread that does not move is a
    reason, would help nobody: the next process would wait for the same.
    """

    def __init__(self, thread: MonitoredThread, is_away: Callable[[], bool]) -> None:
        self._thread = thread
        self._is_away = is_away
        self._waits = 0

    @property
    def steps(self) -> int:
        """Return another number each time while the database is away, else one that grows with the thread's work."""
        if self._is_away():
            self._waits += 1
        return self._thread.steps + self._waits

    @property
    def lives(self) -> bool:
        """Return False once the thread has ended."""
        return self._thread.lives

    def beat(self, done: Callable[[object], object]) -> None:
        """Call ``done`` behind all that was given to the thread before."""
        self._thread.beat(done)


def database_threads(
    threads: Mapping[str, MonitoredThread], is_away: Callable[[], bool]
) -> Mapping[str, MonitoredThread]:
    """Return the threads, by their names; ``is_away`` tells whether the database does not answer now."""
    return {name: DatabaseThread(thread, is_away) for name, thread in threads.items()}
