"""The public names of stackit, which are imported when the first of them is asked for."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import stackit
from stackit import names


def test_every_public_name_is_one_of_stackit() -> None:
    assert stackit.__all__ == names.__all__
    for name in names.__all__:
        assert getattr(stackit, name) is getattr(names, name)
    assert set(names.__all__) <= set(dir(stackit))
    assert stackit.__version__ == names.__version__ == version("stackit")


@pytest.mark.parametrize("name", ["nothing", "Path", "annotations", "VERSION"])
def test_no_other_name_is(name: str) -> None:
    assert not hasattr(stackit, name)
    with pytest.raises(ImportError, match=name):
        exec(f"from stackit import {name}", {})  # noqa: S102 - the statement that a plugin would have


def test_importing_stackit_imports_nothing_and_a_name_all_that_it_needs() -> None:
    program = (
        "import sys; before = set(sys.modules); import stackit; print(set(sys.modules) - before)\n"
        "from stackit import *; print(on, StackitError)\n"
        "from stackit import api; print(api.__name__)\n"
        "import stackit.names; print(stackit.names.__name__)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    first, second, third, fourth = ran.stdout.splitlines()
    assert first == "{'stackit'}"
    assert second.endswith("<class 'stackit.api.errors.StackitError'>")
    assert (third, fourth) == ("stackit.api", "stackit.names")
