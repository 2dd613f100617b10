"""The first lines of the log: what starts, and what is left out."""

from __future__ import annotations

from twisted.logger import Logger

from stackit.api.errors import PluginError
from stackit.api.occurrences import Occurrence
from stackit.api.tracebacks import traceback_of
from stackit.api.version import VERSION
from stackit.bus.bus import Bus
from stackit.config.model import Config
from stackit.secrets.redactor import Redact
from stackit.text.logfmt import KeyValues

_log = Logger(namespace="stackit")


def introduce(config: Config, bus: Bus) -> None:
    """Log what starts here, and with what."""
    said = KeyValues.of(
        "stackit starts",
        {
            "version": VERSION,
            "configuration": str(config.source) if config.source else "none",
            "state_dir": str(config.state_dir),
            "repositories": len(config.repos),
            "plugins": bus.plugins(),
        },
    )
    _log.info("{line}", line=said.text(), summary=said.summary, fields=said)
    if config.fleet.is_configured and "ratelimit" in bus.plugins():
        _log.info("the rate limit counts what this node refuses: an address may be refused so often by each node")


def left_out(problem: PluginError, redact: Redact) -> Occurrence:
    """Return the notice of an installed plugin that does not work, with the traceback for its author."""
    fault = problem.__cause__
    traceback = None if fault is None else traceback_of(fault, redact)
    return Occurrence(name="notice", reason=f"{problem}; it is left out", traceback=traceback)
