"""Values of settings in messages: short, in one line, and never a secret."""

from __future__ import annotations

import re
from pathlib import Path

from stackit.text.redaction import redacted
from stackit.text.units import Duration

_LONGEST = 80
# A key has a value that may be a secret, or may hold one, also where it should be something else, if one of these is
# in its name, or one of the shorter ones is a word of it or ends it: ``clientsecret``, ``api_key``, ``baseurl``.
_SECRET = (
    "authorization",
    "conninfo",
    "cookie",
    "credential",
    "passphrase",
    "passw",
    "postgres",
    "private",
    "pwd",
    "secret",
    "signature",
    "token",
    "webhook",
)
_SECRET_ENDS = ("auth", "dsn", "key", "keys", "uri", "url", "urls")
_SECRET_WORDS = {*_SECRET_ENDS, "pin", "postgres"}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_ITEM = re.compile(r"\bitem (\d+)\b")


def told(key: str, value: object, problem: str = "") -> str:
    """Return `` (it is 'xml')``, for the end of a message about the value of a setting.

    ``key`` is the name of the setting. Returns "" where a key of that name may hold a secret. Of a list, the item that
    ``problem`` speaks of is shown.
    """
    if _may_be_secret(key):
        return ""
    item = _ITEM.search(problem)
    if item is not None and isinstance(value, list | tuple) and 0 < int(item[1]) <= len(value):
        value = value[int(item[1]) - 1]
    return f" (it is {_shown(value)})"


def _may_be_secret(key: str) -> bool:
    lower = key.lower()
    words = {word.lower() for word in _WORD.findall(key)}
    return bool(words & _SECRET_WORDS) or lower.endswith(_SECRET_ENDS) or any(part in lower for part in _SECRET)


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
