"""The paths of a route: one below each API prefix, or its own."""

from __future__ import annotations

from collections.abc import Sequence

_PREFIX = "{prefix}"


def expand(path: str, prefixes: Sequence[str]) -> list[str]:
    """Return a path that begins with ``{prefix}`` below each of the prefixes, each once; any other path as it is."""
    if not path.startswith(_PREFIX):
        return [path]
    return list(dict.fromkeys(prefix + path.removeprefix(_PREFIX) for prefix in prefixes))
