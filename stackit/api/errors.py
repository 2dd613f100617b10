"""The errors that stackit raises, each one clear line for a person, and exceptions of foreign code as text."""

from __future__ import annotations

from collections.abc import Callable

from stackit.text.redaction import redacted


class StackitError(Exception):
    """An error that a user can mend; the text names the cause and the way out."""


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
    """Raised by a handler where another attempt cannot help: the event becomes a dead letter."""


_name = type.__dict__["__name__"].__get__
"""The name of a class. A metaclass cannot change it, or raise."""


def describe(fault: BaseException | None, redact: Callable[[str], str] = redacted) -> str:
    """Return the type and the message of an exception as one line of at most 500 characters, without credentials.

    Never raises, whatever the class of the exception does.
    """
    try:
        message = redact(" ".join(str(fault).split()))  # before the cut, which could leave half a credential
    except BaseException as second:  # noqa: BLE001 - foreign code: a class may raise while it makes the text
        message = f"no text can be had of it ({_name(type(second))})"
    line = f"{_name(type(fault))}: {message}" if message else str(_name(type(fault)))
    # The journal takes text that can be encoded as UTF-8, which half a surrogate pair cannot.
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
