"""The rules of ``[[discover]]``: what is mirrored, and which rule says so."""

from __future__ import annotations

import string
from fnmatch import fnmatchcase
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackit.config.discover import DiscoverTable, globs
from stackit.github.discovery.listed import ListedOwner, ListedRepo
from stackit.github.discovery.rules import decide, named
from stackit.text.units import Size


def listed(name: str = "octo/widget", **changes: Any) -> ListedRepo:
    owner = ListedOwner(1, name.partition("/")[0])
    repo = ListedRepo(id=7, full_name=name, owner=owner, private=False, fork=False, archived=False)
    return msgspec.structs.replace(repo, **changes)


def said(repo: ListedRepo, *tables: DiscoverTable) -> tuple[bool, str]:
    decision = decide(repo, named(tables))
    return decision.mirrored, decision.reason


def by(**settings: Any) -> DiscoverTable:
    return DiscoverTable(app="main", **settings)


@pytest.mark.parametrize(
    ("repo", "table", "mirrored", "reason"),
    [
        (listed(), by(), True, "include '*'"),
        (listed(), by(include=("octo/*",)), True, "include 'octo/*'"),
        (listed(), by(include=("acme/*",)), False, "matches no include"),
        (listed(), by(include=("OCTO/Wid*",)), True, "include 'OCTO/Wid*'"),
        (listed("Octo/WIDGET"), by(include=("octo/widget",)), True, "include 'octo/widget'"),
        (listed(), by(include=("acme/*", "wid*")), True, "include 'wid*'"),
        (listed("octo/tmp-1"), by(exclude=("tmp-?",)), False, "exclude 'tmp-?'"),
        (listed("octo/tmp-12"), by(exclude=("tmp-?",)), True, "include '*'"),
        (listed(), by(include=("octo/widget",), exclude=("octo/*",)), False, "exclude 'octo/*'"),
        (listed(fork=True), by(), True, "include '*'"),
        (listed(fork=True), by(forks=False), False, "forks = false"),
        (listed(archived=True), by(archived=False), False, "archived = false"),
        (listed(archived=True), by(), True, "include '*'"),
        (listed(disabled=True), by(), False, "disabled by GitHub"),
        (listed(private=True), by(visibility=("public",)), False, "visibility (it is private)"),
        (listed(visibility="internal"), by(visibility=("internal",)), True, "include '*'"),
        (
            listed(visibility="internal"),
            by(visibility=("private",)),
            False,
            "visibility (it is internal)",
        ),
        (listed(), by(topics=("mirror",)), False, "topics (it has none of them)"),
        (listed(topics=("a", "mirror")), by(topics=("b", "mirror")), True, "include '*'"),
        (listed(size=1024), by(max_size=Size(2**20)), True, "include '*'"),
        (listed(size=1025), by(max_size=Size(2**20)), False, "max_size (it has 1025 KiB)"),
    ],
)
def test_the_rule_that_decides_is_named(repo: ListedRepo, table: DiscoverTable, mirrored: bool, reason: str) -> None:
    assert said(repo, table) == (mirrored, f"discover[1]: {reason}")


def test_the_first_table_that_takes_a_repository_has_it_and_else_the_first_that_leaves_it_out_is_named() -> None:
    first, second = by(include=("acme/*",)), by(forks=False)
    assert said(listed(), first, second) == (True, "discover[2]: include '*'")
    assert said(listed(fork=True), first, second) == (False, "discover[1]: matches no include")
    assert said(listed(), second, first) == (True, "discover[1]: include '*'")


@pytest.mark.parametrize("pattern", ["", "a/b/c", "a b", "[ab]*", "octo/", "/widget", "octo/wid{1}", "*/" + "x" * 101])
def test_a_pattern_that_could_match_nothing_or_means_something_else_elsewhere_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"item 2: expected a pattern such as"):
        globs(["octo/*", pattern])


PARTS = st.text(string.ascii_letters + string.digits + "-*?", min_size=1, max_size=6)
WORDS = st.text("ab-A1", min_size=1, max_size=6)


@given(PARTS, PARTS, WORDS, WORDS)
def test_a_pattern_matches_both_parts_as_a_shell_would(owners: str, names: str, owner: str, name: str) -> None:
    both = fnmatchcase(owner.lower(), owners.lower()) and fnmatchcase(name.lower(), names.lower())
    repo = listed(f"{owner}/{name}")
    assert said(repo, by(include=(f"{owners}/{names}",)))[0] is both
    assert said(repo, by(exclude=(f"{owners}/{names}",)))[0] is not both
    assert said(repo, by(include=(names,)))[0] is fnmatchcase(name.lower(), names.lower())
