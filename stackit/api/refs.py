"""Names of refs: git keeps bytes, plugins see ``str``, and some names are not valid."""

from __future__ import annotations

import re

_LONGEST = 1024

# A control character, a space, or one of the characters and pairs with a meaning in revisions and refspecs;
# a part that is empty, or begins with a dot; a dot at the end; a part that ends as the file of a lock does.
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|/(?:[/.]|\Z)|\.\Z|\.lock(?:/|\Z)")


def ref_text(ref: bytes) -> str:
    """Return a ref's name as plugins see it: decoded from UTF-8, other bytes by ``surrogateescape``."""
    return ref.decode("utf-8", "surrogateescape")


def ref_bytes(ref: str) -> bytes:
    """Return a ref's name as git has it, the inverse of ``ref_text``."""
    return ref.encode("utf-8", "surrogateescape")


def is_ref(name: str) -> bool:
    """Return True for a valid full ref (``refs/heads/main``) of at most 1024 characters.

    The rules are those of ``git check-ref-format``.
    """
    return name.startswith("refs/") and len(name) <= _LONGEST and not _FORBIDDEN.search(name)


def is_ref_pattern(name: str) -> bool:
    """Return True for a full ref in which one ``*`` may stand for a part of a name, as on a side of a refspec."""
    return is_ref(name.replace("*", "x", 1)) and (name.count("/") > 1 or name == "refs/*")
