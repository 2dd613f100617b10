"""The errors that stackit raises on purpose: each becomes one clear line for a person."""

from __future__ import annotations

from collections.abc import Callable

from stackit.redaction import redacted


class StackitError(Exception):
    """Something a user can mend; the text names the cause and the way out."""


class ConfigError(StackitError):
    """The configuration cannot be used; the text names file, key and what would be right."""


class PluginError(StackitError):
    """A plugin cannot be used; ``plugin`` is its name."""

    def __init__(self, plugin: str, reason: str) -> None:
        super().__init__(f"plugin {plugin}: {reason}")
        self.plugin = plugin
        self.reason = reason


class JournalError(StackitError):
    """The journal cannot be opened, or cannot make something durable now."""


class Permanent(Exception):
    """Raised by a handler: trying again cannot help, so the event becomes a dead letter."""


def describe(fault: BaseException | None, redact: Callable[[str], str] = redacted) -> str:
    """An exception as one bounded line, without credentials: its type and its message."""
    message = redact(" ".join(str(fault).split()))  # before it is cut: half of one may be no sign of one any more
    return f"{type(fault).__name__}: {message}"[:500] if message else type(fault).__name__
