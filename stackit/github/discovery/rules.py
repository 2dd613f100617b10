"""The rules of ``[[discover]]``, as a pure function: from a listed repository to a decision and the rule behind it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache

import msgspec

from stackit.config.discover import DiscoverTable
from stackit.github.discovery.listed import ListedRepo


class Rule(msgspec.Struct, frozen=True):
    """A table ``[[discover]]``, with the name that people know it by: ``discover[1]``."""

    name: str
    table: DiscoverTable


class Decision(msgspec.Struct, frozen=True):
    """Whether a repository is mirrored. ``reason`` is the rule that decided, ``rule`` the table that it stands in."""

    mirrored: bool
    reason: str
    rule: Rule


def named(tables: Iterable[DiscoverTable]) -> tuple[Rule, ...]:
    """Return the rules of a configuration, each with its name."""
    return tuple(Rule(f"discover[{number}]", table) for number, table in enumerate(tables, 1))


def decide(listed: ListedRepo, rules: Sequence[Rule]) -> Decision:
    """Return the decision of the first rule that takes the repository, or else of the first that leaves it out.

    ``rules`` are those that the repository was listed for, in the order of the file: one at least.
    """
    refused: Decision | None = None
    for rule in rules:
        decision = _of_rule(listed, rule)
        if decision.mirrored:
            return decision
        refused = refused or decision
    if refused is None:
        raise ValueError("no rule to decide by")
    return refused


def _of_rule(listed: ListedRepo, rule: Rule) -> Decision:
    table = rule.table
    if (pattern := _match(table.exclude, listed.full_name)) is not None:
        return _decision(rule, f"exclude {pattern!r}", mirrored=False)
    if (pattern := _match(table.include, listed.full_name)) is None:
        return _decision(rule, "matches no include", mirrored=False)
    if (against := _filter(listed, table)) is not None:
        return _decision(rule, against, mirrored=False)
    return _decision(rule, f"include {pattern!r}", mirrored=True)


def _filter(listed: ListedRepo, table: DiscoverTable) -> str | None:
    """Return the filter that leaves a repository out, None if all let it pass."""
    if listed.disabled:
        return "disabled by GitHub"
    if listed.fork and not table.forks:
        return "forks = false"
    if listed.archived and not table.archived:
        return "archived = false"
    if table.visibility and listed.seen_by not in table.visibility:
        return f"visibility (it is {listed.seen_by})"
    if table.topics and not set(table.topics) & {topic.lower() for topic in listed.topics}:
        return "topics (it has none of them)"
    if table.max_size is not None and listed.size * 1024 > table.max_size:
        return f"max_size (it has {listed.size} KiB)"
    return None


def _decision(rule: Rule, what: str, *, mirrored: bool) -> Decision:
    return Decision(mirrored, f"{rule.name}: {what}", rule)


def _match(patterns: Sequence[str], full_name: str) -> str | None:
    """Return the first of the patterns that matches the name, None if none does.

    Letter case does not count, and ``*`` stops at the slash. A pattern without a slash is compared with the name
    behind the owner's.
    """
    name = full_name.rpartition("/")[2]
    return next((each for each in patterns if _compiled(each).fullmatch(full_name if "/" in each else name)), None)


@cache  # a handful of patterns, and each is asked for every repository
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"([*?])", pattern)
    text = "".join({"*": "[^/]*", "?": "[^/]"}.get(each, re.escape(each)) for each in parts)
    return re.compile(text, re.IGNORECASE | re.ASCII)
