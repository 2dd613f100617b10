"""Lines of key=value: what is plain stays as it is, what is not is quoted, and the two are told apart."""

from __future__ import annotations

from typing import Any

import pytest

from stackit import Repo
from stackit.text.logfmt import KeyValues


def test_a_plain_line_says_summary_names_and_values() -> None:
    fields = {"event": "push", "repo": Repo("octo", "widget"), "attempts": 1, "seconds": 0.25}
    assert KeyValues.of("event handled", fields).line() == (
        "event handled event=push repo=octo/widget attempts=1 seconds=0.25",
        True,
    )


def test_a_summary_may_be_all_there_is() -> None:
    assert KeyValues.of("notice", {}).line() == ("notice", True)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("", '""'),
        ("two words", '"two words"'),
        ("here repo=octo/forged", '"here repo=octo/forged"'),
        ("a=b", '"a=b"'),
        ('a"b', r'"a\"b"'),
        ("line\nfeed", r'"line\nfeed"'),
        ("plain\n", r'"plain\n"'),
        ("caf\u00e9", r'"caf\u00e9"'),
        ("100%s", '"100%s"'),
        ("x" * 501, '"' + "x" * 500 + r'\u2026"'),
        (["created:refs/heads/a", "created:refs/heads/b"], "created:refs/heads/a,created:refs/heads/b"),
    ],
)
def test_a_value_that_is_more_than_a_plain_word_is_quoted_and_those_beside_it_are_not(value: Any, shown: Any) -> None:
    line, is_plain = KeyValues.of("notice", {"reason": value, "id": "7"}).line()
    assert line == f"notice reason={shown} id=7"
    assert not is_plain


def test_a_value_as_long_as_one_may_be_is_whole() -> None:
    assert KeyValues.of("notice", {"reason": "x" * 500}).line() == ("notice reason=" + "x" * 500, True)


@pytest.mark.parametrize(
    ("summary", "name"),
    [("two\nlines", "id"), ("notice", "two\nlines"), ("notice", "a b"), ("notice", 5)],
)
def test_a_line_whose_summary_or_names_are_not_plain_is_not(summary: Any, name: Any) -> None:
    assert KeyValues.of(summary, {name: "7"}).line() == (f"{summary} {name}=7", False)


def test_a_percent_sign_is_just_that() -> None:
    line, _ = KeyValues.of("100%s", {"of%d": "7"}).line()
    assert line == "100%s of%d=7"
