"""Validate the names of refs, by the rules of ``git check-ref-format``."""

from __future__ import annotations

import re

_LONGEST = 1024

# A control character, a space, or one of the characters and pairs with a meaning in revisions and refspecs;
# a part that is empty, or begins with a dot; a dot at the end; a part that ends as the file of a lock does.
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|/(?:[/.]|\Z)|\.\Z|\.lock(?:/|\Z)")


def is_ref(name: str) -> bool:
    """Return whether ``name`` is a valid full ref (``refs/heads/main``) of at most 1024 characters."""
    return name.startswith("refs/") and len(name) <= _LONGEST and not _FORBIDDEN.search(name)
