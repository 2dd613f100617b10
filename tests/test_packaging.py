"""What setup.py says of the code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def compiled() -> dict[str, str]:
    """``COMPILED`` of setup.py, which cannot be imported: it would begin to set up."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMPILED":
            found: dict[str, str] = ast.literal_eval(node.value)
            return found
    raise AssertionError("setup.py has no COMPILED")


MODULES = [f"{package.replace('.', '/')}/{name}.py" for package, names in compiled().items() for name in names.split()]


@pytest.mark.parametrize("module", MODULES)
def test_what_is_compiled_is_there_and_has_no_hook(module: str) -> None:
    text = (ROOT / module).read_text()
    assert "@hookimpl" not in text
    assert "@on(" not in text
