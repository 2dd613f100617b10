"""The alerts of contrib/prometheus: their rules, and the series that rules and their tests name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

DIRECTORY = Path(__file__).parents[2] / "contrib" / "prometheus"

_SELECTOR = re.compile(r"\b((?:stackit|process)_\w+|up)\b(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)="([^"]*)"')

Selector = tuple[str, Mapping[str, str]]
"""The name of a metric, and labels that it has to have."""


def rules() -> list[dict[str, Any]]:
    """Return every rule of the file."""
    groups = yaml.safe_load((DIRECTORY / "rules.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def cases() -> list[dict[str, Any]]:
    """Return every case of ``rules_test.yml``."""
    found: list[dict[str, Any]] = yaml.safe_load((DIRECTORY / "rules_test.yml").read_text("utf-8"))["tests"]
    return found


def selectors(expression: str) -> Iterator[Selector]:
    """Yield each selector of an expression, or of a series, but for the labels that Prometheus adds."""
    for name, matchers in _SELECTOR.findall(expression):
        yield name, {label: value for label, value in _MATCHER.findall(matchers) if label not in ("job", "instance")}


def counted(expression: str) -> Iterator[Selector]:
    """Yield the selectors whose increase an expression asks for."""
    for inside in re.findall(r"\b(?:increase|rate)\(([^()]*)\[\w+\]\)", expression):
        yield from selectors(inside)
