"""The hooks, and the two decorators that implement them."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from stackit import hookimpl, on
from stackit.api import hookspecs
from stackit.api.hookimpl import OPTIONS_ATTRIBUTE, HandlerOptions


def handle(event: object) -> None:
    """A handler."""


def options(*patterns: str) -> HandlerOptions:
    def handler(event: object) -> None:
        """A handler."""

    found: HandlerOptions = getattr(on(*patterns)(handler), OPTIONS_ATTRIBUTE)
    return found


@pytest.mark.parametrize(
    ("pattern", "name", "action", "wanted"),
    [
        ("push", "push", None, True),
        ("push", "pushes", None, False),
        ("issues", "issues", "opened", True),
        ("issues.opened", "issues", "opened", True),
        ("issues.opened", "issues", "closed", False),
        ("issues.opened", "issues", None, False),
        ("issues.*", "issues", "closed", True),
        ("issues.*", "issues", None, True),
        ("issues.*", "issue_comment", "created", False),
        ("*", "anything", "at all", True),
        ("repository_dispatch.Nightly-build", "repository_dispatch", "Nightly-build", True),
        ('repository_dispatch."deploy: prod"', "repository_dispatch", "deploy: prod", True),
        ('repository_dispatch."deploy: prod"', "repository_dispatch", "deploy: test", False),
        ('repository_dispatch."a.b/c é\n"', "repository_dispatch", "a.b/c é\n", True),
        ('repository_dispatch."say "x""', "repository_dispatch", 'say "x"', True),
        ('repository_dispatch."deploy"', "repository_dispatch", "deploy", True),
        ('repository_dispatch."deploy"', "repository_dispatch", '"deploy"', False),
        ('repository_dispatch."*"', "repository_dispatch", "*", True),
        ('repository_dispatch."*"', "repository_dispatch", "deploy", False),
        ("repository_dispatch.deploy", "repository_dispatch", "deploy.prod", False),
    ],
)
def test_a_pattern_lets_through_what_it_says(pattern: str, name: str, action: str | None, wanted: bool) -> None:
    assert options(pattern).wants(name, action) is wanted


def test_any_of_several_patterns_will_do() -> None:
    several = options("issues.opened", "pull_request.*")
    assert several.wants("pull_request", "synchronize")
    assert several.wants("issues", "opened")
    assert not several.wants("issues", "closed")


@pytest.mark.parametrize(
    "pattern",
    [
        *("", " ", ".", "push.", ".opened", "*.opened", "pu*", "issues.open*", "Push", "a b", "a.b.c", 5),
        *('a."', 'a.""', '"a"', 'a."b', 'a.b"', 'a."b" ', f'a."{"x" * 129}"'),
    ],
)
def test_a_pattern_that_can_never_match_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"not an event pattern: {pattern!r} (expected 'push'")):
        on(pattern)


def test_on_without_an_event_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one event"):
        on()


def test_on_without_parentheses_is_refused() -> None:
    with pytest.raises(ValueError, match="not an event pattern"):
        on(handle)  # type: ignore[arg-type]  # wrong on purpose


def test_a_function_that_is_marked_twice_is_refused() -> None:
    once = on("push")(lambda event: None)
    with pytest.raises(ValueError, match="marked twice"):
        on("issues")(once)


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout": -1},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"timeout": "5"},
        {"timeout": "soon"},
        {"timeout": True},
        {"timeout": [5]},
        {"concurrency": 0},
    ],
    ids=str,
)
def test_an_option_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        on("push", **wrong)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        hookimpl(**wrong)


@pytest.mark.parametrize(
    ("given", "seconds"), [("60s", 60), ("1.5m", 90), ("0", 0), (600, 600), (0.5, 0.5), (0, 0), (None, None)]
)
def test_a_timeout_is_seconds_or_a_text_with_a_unit(given: float | str | None, seconds: float | None) -> None:
    for decorate in (on("push", timeout=given), hookimpl(timeout=given)):
        assert getattr(decorate(lambda event: None), OPTIONS_ATTRIBUTE).timeout == seconds


def test_a_marked_function_can_be_called_as_before() -> None:
    def double(event: int) -> int:
        return event * 2

    assert on("push")(double) is double
    assert double(2) == 4


def names() -> list[str]:
    return [name for name in vars(hookspecs) if name.startswith("stackit_")]


def test_every_hook_says_what_it_is_for() -> None:
    for name in names():
        assert inspect.getdoc(getattr(hookspecs, name)), name


def test_every_hook_has_a_test_that_calls_it_through_the_bus() -> None:
    tests = (Path(__file__).parents[1] / "bus" / "test_bus.py").read_text("utf-8")
    assert len(names()) > 10
    for name in names():
        assert f"def {name}(" in tests, f"{name} is not implemented by any plugin in test_bus.py"
