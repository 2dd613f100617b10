"""Reports of a reload: to the observers, and to systemd."""

from __future__ import annotations

from collections.abc import Callable

from stackit.api.errors import StackitError
from stackit.api.occurrences import Occurrence
from stackit.config.model import Config
from stackit.reload.reloader import Reloader
from stackit.runtime.watchdog import Watchdog
from stackit.secrets.redactor import Redact


class ReportedReloads:
    """Reloads, each with a report of how it ended."""

    def __init__(
        self, reloader: Reloader, *, watchdog: Watchdog, observe: Callable[[Occurrence], None], redact: Redact
    ) -> None:
        self._reloader = reloader
        self._watchdog = watchdog
        self._observe = observe
        self._redact = redact

    def reload(self, load: Callable[[], Config]) -> None:
        """Take the configuration that ``load`` returns, all of it or nothing."""
        self._watchdog.reloading()
        status = "the last reload failed: see the log"
        try:
            status = self._reload(load)
        finally:
            self._watchdog.reloaded(status)  # or systemd would take it for reloading for ever

    def _reload(self, load: Callable[[], Config]) -> str:
        """Do a reload, and return in words how it ended."""
        try:
            outcome = self._reloader.reload(load())
        except StackitError as problem:
            error = self._redact(str(problem))
            self._observe(Occurrence(name="reload", outcome="refused", error=error))
            return f"the last reload was refused, and nothing changed: {error}"
        reason = f"changed: {', '.join(outcome.changes)}" if outcome.changes else "nothing changed"
        self._observe(Occurrence(name="reload", outcome="done", reason=reason))
        if outcome.restart:
            waiting = f"a restart is needed for what the configuration says now of: {', '.join(outcome.restart)}"
            self._observe(Occurrence(name="notice", reason=waiting))
        return "reloaded" + (", and a restart is needed for a part of it" if outcome.restart else "")
