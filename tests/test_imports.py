"""The arrows between the rooms: who may import whom. docs/architecture.md shows the rooms."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import pytest

import stackit

ROOT = Path(__file__).parent.parent
PUBLIC = "the public names"
"""``stackit/__init__.py``, where plugins import from."""

REACTOR = "stackit.api.reactor"
"""The type of the reactor: it knows little of stackit, so that everything may know it, HTTP too."""

GROUND = {"api", "api.reactor", "text", "secrets", "html"}
CORE = {
    *GROUND,
    PUBLIC,
    "names",
    "runtime",
    "config",
    "github",
    "bus",
    "journal",
    "registry",
    "dispatch",
    "http",
    "http.server",
    "web",
}

AT_GITHUB = {"github.api", "github.apps", "github.discovery", "github.hooks", "github.login", "github.recovery"}
AT_GITHUB |= {"github.console", "github.setup"}
"""Rooms that the service puts together."""

# A room, and the rooms that it may import besides itself.
ALLOWED: Mapping[str, set[str]] = {
    "text": set(),
    "secrets": {"text"},
    "html": {"text"},
    "api.reactor": {"text"},
    "api": {"api.reactor", "text", "secrets", "http", "html"},
    PUBLIC: {"names"},
    "names": {"api", "api.reactor", "secrets", "text", "html"},
    "http": {"api.reactor", "text"},
    "http.server": {"http", "api.reactor", "text"},
    "http.client": {"http", "api.reactor", "text"},
    "subprocesses": GROUND,
    "runtime": GROUND,
    "config": GROUND,
    "github": GROUND,
    "github.api": {*GROUND, "http.client"},
    "github.apps": {*GROUND, "config", "github.api"},
    "github.discovery": {*GROUND, "config", "github.api", "github.apps", "registry"},
    "github.recovery": {*GROUND, "config", "github", "github.api", "github.apps"},
    "github.hooks": {*GROUND, "config", "github", "github.api", "github.apps"},
    "github.login": {*GROUND, "config", "github", "github.api", "github.apps", "journal"},
    "github.console": GROUND,
    "github.setup": {*GROUND, "config", "github", "github.api"},
    "journal": GROUND,
    "registry": {*GROUND, "config", "journal"},
    "fleet": {*GROUND, "journal"},
    "live": {*GROUND, "runtime"},
    "history": {*GROUND, "journal"},
    "bus": {*GROUND, "config"},
    "dispatch": {*GROUND, "bus", "journal"},
    "web": {*GROUND, "config", "bus", "journal", "http", "http.server"},
    # A backup is made with or without a running stackit, so its command reads the journal itself; ``send`` and ``dev``
    # sign deliveries of their own, by the test kit; a check of the configuration makes what a start would make of it.
    "cli": {*GROUND, "config", "bus", "journal", "http.client", "testing", "dev", "forges"},
    "dev": {*GROUND, "config", "http.client", "testing"},
    "peers": {*GROUND, "config", "http", "http.client", "http.server", "subprocesses", "web"},
    # The composition root, and the programs above it: they know every room but the plugins.
    "forges": {*GROUND, "config", "github", "github.hooks", "journal", "web"},
    "reload": {*CORE, "forges"},
    "service": {*CORE, "cli", "fleet", "forges", "history", "live", "peers", "reload", *AT_GITHUB, "http.client"},
    "tap": {*CORE, "service", "demo"},
    "demo": {*CORE, "service", "testing"},
    "dev_service": {*GROUND, "config", "dev", "tap"},
    "__main__": {*GROUND, "cli"},
    # The test kit starts a real stackit, as a process.
    "testing": {*GROUND, "github", "subprocesses", "http.client", "fleet"},
    "plugins": set(),
}
PLUGINS = {PUBLIC, "http.client", "subprocesses"}
"""What the bundled plugins may import besides their own files: what any plugin may."""

# Arrows that are still wrong. This list only ever shrinks: an entry that is mended has to go.
STILL_WRONG: set[tuple[str, str]] = set()


def modules() -> dict[str, Path]:
    """The modules of stackit, by dotted name."""
    found = {}
    for file in sorted((ROOT / "stackit").rglob("*.py")):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = file
    return found


MODULES = modules()


def imported(name: str, file: Path) -> Iterator[str]:
    """The modules of stackit that a module imports, at its top, inside functions, or for types only."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "stackit")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: write the import in full"
            origin = str(node.module)
            if origin.partition(".")[0] == "stackit":
                for alias in node.names:
                    yield f"{origin}.{alias.name}" if f"{origin}.{alias.name}" in MODULES else origin


def room(module: str) -> str:
    """The room of a module: ``stackit.http.client.pool`` is in ``http.client``."""
    parts = module.split(".")[1:]
    if not parts:
        return PUBLIC
    if module == REACTOR:
        return "api.reactor"
    has_rooms = parts[0] in ("github", "http", "plugins") and len(parts) > 1
    return ".".join(parts[:2]) if has_rooms and (ROOT / "stackit" / parts[0] / parts[1]).is_dir() else parts[0]


def inner_room(module: str) -> str:
    """The folder of a plugin's module, as ``mirror.sync``; of any other module its room."""
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    return package.removeprefix("stackit.plugins.") if package.startswith("stackit.plugins.") else room(module)


def arrows(room_of: Mapping[str, str]) -> dict[tuple[str, str], list[str]]:
    """The imports between different rooms, each as ``importer imports imported``."""
    found = defaultdict(list)
    for name, file in MODULES.items():
        for target in imported(name, file):
            if room_of[name] != room_of[target]:
                found[room_of[name], room_of[target]].append(f"{name} imports {target}")
    return dict(found)


ARROWS = arrows({name: room(name) for name in MODULES})
INNER_ARROWS = arrows({name: inner_room(name) for name in MODULES})


def allowed(room: str) -> set[str]:
    return PLUGINS if room.startswith("plugins.") else ALLOWED[room]


def wrong() -> dict[tuple[str, str], list[str]]:
    return {arrow: imports for arrow, imports in ARROWS.items() if arrow[1] not in allowed(arrow[0])}


def test_every_room_has_its_arrows() -> None:
    rooms = {room(name) for name in MODULES}
    assert {each for each in rooms if not each.startswith("plugins.")} - set(ALLOWED) == set()


def test_rooms_import_only_what_they_may() -> None:
    said = [
        f"{each} ({source} may not import {target})"
        for (source, target), imports in sorted(wrong().items())
        if (source, target) not in STILL_WRONG
        for each in imports
    ]
    assert said == []


def test_the_list_of_wrong_arrows_holds_none_that_is_mended() -> None:
    assert STILL_WRONG - {*wrong(), *INNER_ARROWS} == set()


@pytest.mark.parametrize("room", ["web", "dispatch", "bus", "journal", "http", "http.server", "http.client"])
def test_the_core_knows_no_plugin_and_no_forge(room: Any) -> None:
    reached = reachable(room, ALLOWED)
    assert {each for each in reached if each.startswith(("plugins", "github"))} == set()


def reachable(start: str, graph: Mapping[str, Iterable[str]]) -> set[str]:
    found: set[str] = set()
    ahead = [start]
    while ahead:
        for each in graph.get(ahead.pop(), ()):
            if each not in found:
                found.add(each)
                ahead.append(each)
    return found


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """A circle of the graph as a list of rooms; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as problem:
        return list(problem.args[1])
    return []


@pytest.mark.parametrize("found", [ARROWS, INNER_ARROWS], ids=["rooms", "folders of plugins"])
def test_there_is_no_circle(found: Any) -> None:
    graph: dict[str, set[str]] = defaultdict(set)
    for source, target in set(found) - STILL_WRONG:
        graph[source].add(target)
    assert circle(graph) == []


def test_a_circle_would_be_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) != []


def test_no_module_imports_the_reactor_at_its_top() -> None:
    """Importing it installs it. ``stackit.testing`` and the entry points take it inside functions, too."""
    for name, file in MODULES.items():
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module == "twisted.internet":
                assert "reactor" not in [alias.name for alias in node.names], name


def rows_of_rooms() -> list[tuple[str, str]]:
    """Return the rooms of docs/architecture.md, each as its path in ``stackit/`` and its line."""
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    _, top, mirror = re.split(r"^\| in `stackit/.*$", text, maxsplit=2, flags=re.MULTILINE)
    row = re.compile(r"^\| `([a-z_/.]+)` \| (.*) \|$", re.MULTILINE)
    below = [(f"plugins/mirror/{path}", line) for path, line in row.findall(mirror.partition("\n\n")[0])]
    return [*row.findall(top.partition("\n\n")[0]), *below]


def test_the_table_of_rooms_says_of_each_what_its_docstring_says() -> None:
    said = {}
    for path, _ in rows_of_rooms():
        file = ROOT / "stackit" / path
        file = file if file.suffix else file / "__init__.py"
        said[path] = str(ast.get_docstring(ast.parse(file.read_text("utf-8")))).partition("\n")[0].replace("``", "`")
    assert said == dict(rows_of_rooms())


def test_the_table_of_rooms_has_every_room() -> None:
    packages = {
        str(each.parent.relative_to(ROOT / "stackit")) + "/" for each in MODULES.values() if each.name == "__init__.py"
    }
    files = {each.name for each in MODULES.values() if each.parent == ROOT / "stackit"}
    assert {path for path, _ in rows_of_rooms()} == (packages | files) - {"./"}


def tables() -> dict[str, list[str]]:
    """Return the files that docs/architecture.md has in a table of a room, by the path of the room in ``stackit/``."""
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    found = re.findall(r"The\s+files\s+of\s+`([a-z_/]+)/`:\n\n\| file \|.*\n\|---.*\n((?:\|.*\n)+)", text)
    assert len(found) == len(re.findall(r"^\| file \|", text, re.MULTILINE)), "each table is introduced by its room"
    return {
        path: re.findall(r"`(\w+\.py)`", re.sub(r"\|[^|]*\|$", "", rows, flags=re.MULTILINE)) for path, rows in found
    }


@pytest.mark.parametrize(("path", "files"), tables().items())
def test_a_table_of_the_files_of_a_room_has_each_of_them_once(path: str, files: list[str]) -> None:
    there = {file.name for file in (ROOT / "stackit" / path).glob("*.py")} - {"__init__.py"}
    assert sorted(files) == sorted(there)


def test_every_file_that_the_architecture_names_is_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8").partition("## Where it departs")[0]
    there = {
        str(each.relative_to(ROOT)) for top in ("stackit", "tests", "twisted") for each in (ROOT / top).rglob("*.py")
    }
    named = re.findall(r"`([a-z_/0-9]+\.py)`", text)
    assert len(named) > 40
    assert [each for each in named if not any(f"/{path}".endswith(f"/{each}") for path in there)] == []


WITHOUT_A_FLEET = """
import sys
sys.modules["psycopg"] = None  # as if it were not installed
import stackit.cli.commands, stackit.service.service, stackit.tap
import stackit.plugins.logger, stackit.plugins.metrics, stackit.plugins.mirror, stackit.plugins.ratelimit
rooms = ("stackit.journal.postgres", "stackit.journal.transfer", "stackit.fleet.fleet", "stackit.peers")
print([name for name in sys.modules if name.startswith(rooms)])
"""


def test_nothing_of_a_fleet_is_imported_without_one() -> None:
    command = [sys.executable, "-c", WITHOUT_A_FLEET]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"


def test_no_module_holds_state_that_changes() -> None:
    """Constants may be of any kind; a container that starts empty, or a ``global`` statement, is there to change."""
    empty = {
        "[]",
        "{}",
        "set()",
        "dict()",
        "list()",
        "deque()",
        "Counter()",
        "defaultdict(list)",
        "WeakKeyDictionary()",
    }
    found = []
    for name, file in MODULES.items():
        tree = ast.parse(file.read_text("utf-8"))
        found += [f"{name}: global" for node in ast.walk(tree) if isinstance(node, ast.Global)]
        for node in tree.body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value and ast.unparse(node.value) in empty:
                found.append(f"{name}: {ast.unparse(node)}")
    assert found == []


def test_the_bundled_plugins_import_names_that_are_public() -> None:
    public = set(stackit.__all__)
    hidden = [
        f"{name}: {alias.name}"
        for name, file in MODULES.items()
        if name.startswith("stackit.plugins.")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "stackit"
        for alias in node.names
        if alias.name not in public
    ]
    assert hidden == []
