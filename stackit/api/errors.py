"""The errors that stackit raises, each one clear line for a person, and exceptions of foreign code as text."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from twisted.python.failure import Failure

from stackit.text.redaction import redacted


class StackitError(Exception):
    """An error that a user can mend; the text names the cause and the way out."""


class ConfigError(StackitError):
    """The configuration cannot be used; the text names file, key and what would be right."""


class ConfigErrors(ConfigError):
    """All mistakes of a configuration, each a line of its own: ``lines``."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = tuple(lines)


class PluginError(StackitError):
    """A plugin cannot be used; ``plugin`` is its name."""

    def __init__(self, plugin: str, reason: str) -> None:
        super().__init__(f"plugin {plugin}: {reason}")
        self.plugin = plugin
        self.reason = reason


class NotFoundError(StackitError):
    """The running stackit has no such path, delivery or repository."""


class NotServedError(NotFoundError):
    """The running stackit does not serve such a path at all: no part or plugin of it that is there does."""


class JournalError(StackitError):
    """The journal cannot be opened, or cannot make something durable now."""


class Permanent(Exception):
    """Raised by a handler where another attempt cannot help: the event becomes a dead letter."""


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_full_disk(problem: OSError) -> bool:
    """Return True where there is no room left: on the disk, in the user's quota, or for a file as large as that."""
    return problem.errno in _FULL


_name = type.__dict__["__name__"].__get__
"""The name of a class. A metaclass cannot change it, or raise."""
_MOST_WRAPPED = 3


def describe(fault: BaseException | None, redact: Callable[[str], str] = redacted) -> str:
    """Return the type and the message of an exception as one line of at most 500 characters, without credentials.

    An exception that only wraps others, as Twisted's ResponseFailed does, has their descriptions for its message.
    Never raises, whatever the class of the exception does.
    """
    line = "; ".join(_described(each, redact) for each in _innermost(fault))
    line = f"{class_name(fault)}: {line}" if line else _described(fault, redact)
    # The journal takes text that can be encoded as UTF-8, which half a surrogate pair cannot.
    return line[:500].encode("utf-8", "backslashreplace").decode()[:500]


def class_name(fault: BaseException | None) -> str:
    """Return the name of the class of an exception. Never raises."""
    return str(_name(type(fault)))


def _described(fault: BaseException | None, redact: Callable[[str], str]) -> str:
    try:
        message = redact(" ".join(str(fault).split()))  # before the cut, which could leave half a credential
    except BaseException as second:  # noqa: BLE001 - foreign code: a class may raise while it makes the text
        message = f"no text can be had of it ({class_name(second)})"
    return f"{class_name(fault)}: {message}" if message else class_name(fault)


def wrapped(fault: BaseException | None) -> list[BaseException]:
    """Return the exceptions that one of Twisted's stands for: a failed request of treq, the first of several Deferreds.

    Empty for any other. The text of such an exception would be that of Failures, or whole tracebacks.
    """
    try:
        held = vars(fault)
        reasons, first = held.get("reasons"), held.get("subFailure")
        failures = reasons if isinstance(reasons, list) else [first]
        return [each.value for each in failures[:_MOST_WRAPPED] if isinstance(each, Failure) and each.value is not None]
    except BaseException:  # noqa: BLE001 - foreign code: its class may hide what it holds
        return []


def _innermost(fault: BaseException | None) -> list[BaseException]:
    """Return the exceptions at the bottom of what an exception wraps; none for one that wraps nothing."""
    found, ahead, looks = [], wrapped(fault), 0
    while ahead and looks < 2 * _MOST_WRAPPED:
        looks += 1
        each = ahead.pop(0)
        inner = wrapped(each)
        ahead += inner
        if not inner:
            found.append(each)
    return found
