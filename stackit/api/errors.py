"""The errors that stackit raises on purpose: each becomes one clear line for a person."""

from __future__ import annotations

from collections.abc import Callable

from stackit.text.redaction import redacted


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


_name = type.__dict__["__name__"].__get__
"""The name of a class, whatever its metaclass says."""


def describe(fault: BaseException | None, redact: Callable[[str], str] = redacted) -> str:
    """An exception as one bounded line, without credentials: its type and its message. Never raises."""
    try:
        message = redact(" ".join(str(fault).split()))  # before it is cut: half of one may be no sign of one any more
    except BaseException as second:  # noqa: BLE001 - foreign code: the text of an exception is what its class makes of it
        message = f"no text can be had of it ({_name(type(second))})"
    line = f"{_name(type(fault))}: {message}" if message else str(_name(type(fault)))
    # It goes into the journal, which takes what has a form in UTF-8: half a surrogate pair has none.
    return line[:500].encode("utf-8", "backslashreplace").decode()[:500]


def describe_with_place(fault: BaseException | None) -> str:
    """Return ``describe(fault)`` with the file and line that raised it, where they are known. Never raises."""
    return f"{describe(fault)}{_place(fault)}"


def _place(fault: BaseException | None) -> str:
    try:
        trace = fault.__traceback__ if fault is not None else None
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        return f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})" if trace is not None else ""
    except BaseException:  # noqa: BLE001 - foreign code: its class may hide the traceback behind a property
        return ""
