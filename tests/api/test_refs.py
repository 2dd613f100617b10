"""Names of refs: as bytes and as text, valid and not."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackit import ref_bytes, ref_text
from stackit.api.refs import is_ref, is_ref_pattern

NAMES = st.text("ab/.@{~*lock-\x7f\u00e9", max_size=12).map(lambda end: f"refs/{end}")


@given(st.binary())
def test_any_bytes_come_back_from_text(ref: bytes) -> None:
    assert ref_bytes(ref_text(ref)) == ref


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_from_bytes(ref: str) -> None:
    assert ref_text(ref_bytes(ref)) == ref


@given(NAMES)
def test_a_pattern_without_a_star_is_a_ref(name: str) -> None:
    if "*" not in name and is_ref_pattern(name):
        assert is_ref(name)


@given(NAMES, st.integers(0, 17))
def test_a_star_may_stand_wherever_a_letter_may(name: str, at: int) -> None:
    letter, star = (f"{name[:at]}{middle}{name[at:]}" for middle in "x*")
    if "*" not in name and letter.count("/") > 1 and at > len("refs/"):
        assert is_ref_pattern(star) == is_ref(letter)


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("refs/*", True),
        ("refs/heads/*", True),
        ("refs/heads/a*b", True),
        ("refs/heads/main", True),
        ("refs/heads", False),
        ("refs/heads/**", False),
        ("refs/heads/*.lock", False),
        ("refs/heads/.*", False),
        ("heads/*", False),
        ("*", False),
        ("refs/heads/*/", False),
    ],
)
def test_a_side_of_a_refspec_is_a_full_ref_with_one_star_or_none(name: str, valid: bool) -> None:
    assert is_ref_pattern(name) is valid


REFS = [
    "refs/heads/main",
    "refs/heads/a/b.c",
    "refs/tags/v1@2",
    "refs/heads/@",
    "refs/heads/naïve",
    "refs/heads/a.lockx",
    "refs/heads/.a",
    "refs/heads/a.",
    "refs/heads/a/",
    "refs/heads/a..b",
    "refs/heads/a.lock",
    "refs/heads/a.lock/b",
    "refs/heads/.lock",
    "refs/heads/a.lock.b/c",
    "refs/heads/a~1",
    "refs/heads/a^",
    "refs/heads/a:b",
    "refs/heads/a?",
    "refs/heads/a*",
    "refs/heads/[a",
    "refs/heads/a\\b",
    "refs/heads/a\x7f",
    "refs/heads/a@{b",
    "refs/heads/{a}",
    "refs//heads",
    "refs/x",
]


@pytest.mark.parametrize("ref", REFS)
def test_refs_are_judged_as_git_judges_them(ref: str) -> None:
    git = subprocess.run(["git", "check-ref-format", ref], check=False)  # noqa: S607 - git is on the PATH
    assert is_ref(ref) == (git.returncode == 0)
