"""A plugin from a file, and the modules beside it: they are found, and by nobody else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from stackit.bus.plugin_files import PREFIX, import_file


@pytest.fixture(autouse=True)
def _forget_modules() -> Iterator[None]:
    finders = list(sys.meta_path)
    yield
    for name in [each for each in sys.modules if each.startswith(PREFIX)]:
        del sys.modules[name]
    sys.meta_path[:] = finders


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def imported(path: Path, text: str, plugin: str = "mine") -> Any:
    return import_file(plugin, write(path, text))


STATEMENTS = [
    "import helper\nfound = helper.NAME",
    "import helper as h\nfound = h.NAME",
    "from helper import NAME as found",
    "from helper import *\nfound = NAME",
    "from . import helper\nfound = helper.NAME",
    "from .helper import NAME as found",
    "import tools.deep\nfound = tools.deep.NAME",
    "import tools.deep as t\nfound = t.NAME",
    "from tools import deep\nfound = deep.NAME",
    "from tools.deep import NAME as found",
    "import between\nfound = between.NAME",
    "def late():\n    import helper\n    return helper.NAME\nfound = late()",
    "import threading\nout = []\ndef late():\n    import helper\n    out.append(helper.NAME)\n"
    "thread = threading.Thread(target=late)\nthread.start()\nthread.join()\nfound = out[0]",
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_every_statement_of_import_finds_what_is_beside_the_file(tmp_path: Path, statement: str) -> None:
    write(tmp_path / "helper.py", "NAME = 'beside'")
    write(tmp_path / "between.py", "from helper import NAME")
    write(tmp_path / "tools" / "__init__.py", "")
    write(tmp_path / "tools" / "deep.py", "from .deeper import NAME")
    write(tmp_path / "tools" / "deeper.py", "import helper\nNAME = helper.NAME")
    assert imported(tmp_path / "plugin.py", statement).found == "beside"


def test_two_plugins_have_helpers_of_the_same_name_each_its_own(tmp_path: Path) -> None:
    for each in ("one", "two"):
        write(tmp_path / each / "helper.py", f"NAME = {each!r}")
    code = "import helper\ndef late():\n    import helper\n    return helper.NAME"
    one, two = (imported(tmp_path / each / "plugin.py", code, each) for each in ("one", "two"))
    assert (one.helper.NAME, two.helper.NAME) == ("one", "two")
    assert (one.late(), two.late()) == ("one", "two")


def test_plugins_in_one_directory_share_no_state(tmp_path: Path) -> None:
    write(tmp_path / "helper.py", "seen = []")
    code = "import helper"
    one, two = (imported(tmp_path / f"{each}.py", code, each) for each in ("one", "two"))
    one.helper.seen.append(1)
    assert two.helper.seen == []


def test_nothing_outside_the_plugin_finds_its_modules(tmp_path: Path) -> None:
    write(tmp_path / "helper.py", "NAME = 'beside'")
    path = list(sys.path)
    imported(tmp_path / "plugin.py", "import helper")
    assert "helper" not in sys.modules
    assert sys.path == path
    with pytest.raises(ModuleNotFoundError, match="No module named 'helper'"):
        __import__("helper")


@pytest.mark.parametrize("name", ["json", "secrets", "queue", "stackit", "os"])
def test_a_file_with_the_name_of_a_module_of_python_or_stackit_hides_it_from_nobody(tmp_path: Path, name: str) -> None:
    write(tmp_path / f"{name}.py", "raise RuntimeError('the wrong one')")
    write(tmp_path / "helper.py", f"import {name} as found")
    plugin = imported(tmp_path / "plugin.py", f"import {name} as found\nimport helper\nthere = helper.found")
    assert plugin.found is plugin.there is sys.modules[name]


@pytest.mark.parametrize("name", ["json", "stackit"])
def test_also_the_file_of_the_plugin_may_have_the_name_of_one(tmp_path: Path, name: str) -> None:
    write(tmp_path / "helper.py", f"import {name} as found")
    plugin = imported(tmp_path / f"{name}.py", f"import {name} as found\nimport helper\nthere = helper.found")
    assert plugin.found is plugin.there is sys.modules[name]


def test_a_plugin_named_for_the_package_that_it_uses_imports_the_package(tmp_path: Path) -> None:
    assert imported(tmp_path / "treq.py", "import treq as found").found is sys.modules["treq"]


def test_a_directory_that_is_no_package_hides_no_package(tmp_path: Path) -> None:
    (tmp_path / "treq").mkdir()
    assert imported(tmp_path / "plugin.py", "import treq as found").found is sys.modules["treq"]


def test_a_helper_that_imports_the_plugin_gets_the_plugin_and_no_second_one(tmp_path: Path) -> None:
    write(tmp_path / "helper.py", "def plugin():\n    import plugin\n    return plugin")
    plugin = imported(tmp_path / "plugin.py", "import helper")
    assert plugin.helper.plugin() is plugin


def test_an_import_replaces_no_name_of_the_plugin(tmp_path: Path) -> None:
    write(tmp_path / "notify.py", "def send(): return 'sent'")
    code = "def notify():\n    from notify import send\n    return send()"
    plugin = imported(tmp_path / "plugin.py", code)
    assert plugin.notify() == "sent"
    assert plugin.notify() == "sent"
    assert not isinstance(plugin.notify, ModuleType)


def test_dataclasses_and_annotations_of_a_helper_are_resolved(tmp_path: Path) -> None:
    code = "from __future__ import annotations\nimport msgspec\nclass Inner(msgspec.Struct):\n    x: int = 1\n"
    write(tmp_path / "shapes.py", code + "class Outer(msgspec.Struct):\n    inner: Inner\n")
    found = imported(
        tmp_path / "plugin.py",
        "import msgspec\nfrom shapes import Outer\nmade = msgspec.convert({'inner': {'x': 3}}, Outer)",
    )
    assert found.made.inner.x == 3


@pytest.mark.parametrize("beside", ["raise SystemExit", "def (", "import nothing_of_this_name"])
def test_a_helper_that_fails_fails_the_plugin_and_leaves_nothing_behind(tmp_path: Path, beside: str) -> None:
    write(tmp_path / "helper.py", beside)
    with pytest.raises((SystemExit, SyntaxError, ImportError)):
        imported(tmp_path / "plugin.py", "import helper")
    assert [each for each in sys.modules if each.startswith(PREFIX)] == []


def test_a_plugin_that_is_imported_again_is_read_again_with_its_helpers(tmp_path: Path) -> None:
    write(tmp_path / "helper.py", "NAME = 1")
    first = imported(tmp_path / "plugin.py", "import helper")
    write(tmp_path / "helper.py", "NAME = 'longer'")
    second = imported(tmp_path / "plugin.py", "import helper")
    assert (first.helper.NAME, second.helper.NAME) == (1, "longer")


@pytest.mark.parametrize("plugin", ["a.b", "with-hyphen", "mit Umlaut ä"])
@pytest.mark.parametrize("stem", ["plugin", "my-plugin", "v1.2"])
def test_names_may_be_of_any_kind(tmp_path: Path, plugin: str, stem: str) -> None:
    write(tmp_path / "helper.py", "NAME = 'beside'")
    assert imported(tmp_path / f"{stem}.py", "import helper\nfrom . import helper as h", plugin).h.NAME == "beside"
