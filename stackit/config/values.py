"""Values of settings in messages: short, in one line, and never a secret."""

from __future__ import annotations

import re
from pathlib import Path

from stackit.text.redaction import redacted
from stackit.text.units import Duration

_LONGEST = 80
# The words of a key whose value may be a secret, or may hold one, also where it should be something else.
_SECRET = {
    "auth",
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "dsn",
    "key",
    "keys",
    "passphrase",
    "passwd",
    "password",
    "passwords",
    "pin",
    "private",
    "pwd",
    "secret",
    "secrets",
    "signature",
    "token",
    "tokens",
    "uri",
    "url",
    "urls",
    "webhook",
    "webhooks",
}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_ITEM = re.compile(r"\bitem (\d+)\b")


def told(key: str, value: object, problem: str = "") -> str:
    """Return `` (it is 'xml')``, for the end of a message about the value of a setting.

    ``key`` is the name of the setting. Returns "" where a key of that name may hold a secret. Of a list, the item that
    ``problem`` speaks of is shown.
    """
    if {word.lower() for word in _WORD.findall(key)} & _SECRET:
        return ""
    item = _ITEM.search(problem)
    if item is not None and isinstance(value, list | tuple) and 0 < int(item[1]) <= len(value):
        value = value[int(item[1]) - 1]
    return f" (it is {_shown(value)})"


def _shown(value: object) -> str:
    """Return a value about as TOML has it."""
    if isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, Duration):
        text = f"{value:g}s"
    elif isinstance(value, dict):
        text = "a table"
    elif isinstance(value, list | tuple):
        text = f"[{', '.join(map(_shown, value))}]"
    elif isinstance(value, str):
        text = repr(redacted(value))
    else:
        text = redacted(str(value)) if isinstance(value, Path | int | float) else type(value).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
