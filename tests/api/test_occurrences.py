"""The table of occurrences, against the places that observe them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import stackit
from stackit import OCCURRENCES, Occurrence

PACKAGE = Path(stackit.__file__).parent


def observed() -> Iterator[tuple[str, set[str], str]]:
    """Every Occurrence that stackit makes: a name that it may have, the fields that are given, and the place."""
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Occurrence":
                given = {str(each.arg): each.value for each in node.keywords}
                names = [str(each.value) for each in ast.walk(given.pop("name")) if isinstance(each, ast.Constant)]
                for name in names:
                    yield name, set(given), f"{file.relative_to(PACKAGE)}:{node.lineno}"


def test_stackit_observes_what_is_in_the_table_with_the_fields_of_its_row() -> None:
    said = list(observed())
    assert len(said) > 10
    wrong = [
        f"{place}: {name} with {sorted(fields)}"
        for name, fields, place in said
        if name not in OCCURRENCES or not fields <= set(OCCURRENCES[name].fields)
    ]
    assert wrong == []


@pytest.mark.parametrize("name", OCCURRENCES)
def test_a_row_names_fields_that_an_occurrence_has(name: Any) -> None:
    row = OCCURRENCES[name]
    assert set(row.fields) <= set(Occurrence.__struct_fields__) - {"name"}
    assert row.summary.isprintable()
    assert row.level in ("info", "warn", "error")
