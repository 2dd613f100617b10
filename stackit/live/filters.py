"""The filter of a stream: repositories and names of occurrences."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from stackit.api.events import Repo
from stackit.api.occurrences import Occurrence

_MOST = 50
"""Repositories, or names, of one filter."""
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,80}", re.ASCII)


class Filter(msgspec.Struct, frozen=True):
    """``repos`` are the keys of repositories, ``names`` the names of occurrences. None lets all of them pass.

    ``hidden`` are names that never pass.
    """

    repos: frozenset[str] | None = None
    names: frozenset[str] | None = None
    hidden: frozenset[str] = frozenset()

    def passes(self, occurrence: Occurrence) -> bool:
        """Return whether an occurrence is wanted. One that is about no repository passes no filter by repository."""
        if occurrence.name in self.hidden or (self.names is not None and occurrence.name not in self.names):
            return False
        return self.repos is None or (occurrence.repo is not None and occurrence.repo.key in self.repos)


def parse_filter(query: Mapping[str, str], hidden: frozenset[str] = frozenset()) -> Filter:
    """Return the filter of a query: ``repo`` and ``name``, each one or several with commas. Raises ValueError."""
    return Filter(
        hidden=hidden,
        repos=None if "repo" not in query else frozenset(_repo(each) for each in _split("repo", query["repo"])),
        names=None if "name" not in query else frozenset(_name(each) for each in _split("name", query["name"])),
    )


def _split(key: str, text: str) -> list[str]:
    found = text.split(",")
    if len(found) > _MOST:
        raise ValueError(f"{key}: expected at most {_MOST}")
    return found


def _repo(text: str) -> str:
    try:
        return Repo.parse(text).key
    except ValueError as problem:
        raise ValueError(f"repo: {problem}") from None


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("name: expected names of occurrences, such as accepted,handled")
    return text
