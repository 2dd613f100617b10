"""From entry points and configuration to registered plugins, and what is said of those that cannot be."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from plugin_maker import push
from twisted.internet.defer import Deferred

from stackit import StackitError
from stackit.bus.bus import Bus
from stackit.bus.loader import GROUP, load_plugins

SOURCE = Path("/etc/stackit.toml")

TEN_LINES = """
from stackit import on
seen = []
@on("push")
async def deploy(push):
    seen.append(push.delivery)
"""
WITH_SETTINGS = """
from __future__ import annotations
from typing import Annotated
import msgspec
from stackit import Duration, on
class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    most: int = 1
class Settings(msgspec.Struct, rename="kebab"):
    channel: str
    wait: Duration = Duration(5)
    how_many: int = 1
    inner: Inner = Inner()
    names: dict[str, list[int]] = {}
    per: Annotated[int, msgspec.Meta(ge=1)] = 1
    api_key: str = ""
    def __post_init__(self):
        if self.per == 11:
            raise ValueError("per: must be odd, since it is not even")
class Notes:
    Settings = Settings
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        if settings.per == 13:
            raise ValueError("per: brings bad luck")
    @on("push")
    def write(self, push): ...
"""
WITH_DATACLASS = """
from __future__ import annotations
from dataclasses import dataclass
from stackit import on
class Notes:
    @dataclass
    class Settings:
        channel: str = "general"
    def __init__(self, settings): self.settings = settings
    @on("push")
    def write(self, push): ...
"""
WITHOUT_SETTINGS = """
from stackit import on
class Notes:
    @on("push")
    def write(self, push): ...
"""


def write(plugin_folder: Path, module: str, text: str) -> Path:
    file = plugin_folder / f"{module}.py"
    file.write_text(text)
    return file


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name=name, value=value, group=GROUP)


def load(
    plugin_folder: Path, tables: Mapping[str, Mapping[str, Any]] | None = None, *installed: EntryPoint
) -> tuple[Bus, list[str]]:
    bus = Bus()
    problems = load_plugins(bus, tables or {}, directory=plugin_folder, source=SOURCE, installed=installed)
    return bus, [str(problem) for problem in problems]


def stopped(plugin_folder: Path, tables: Mapping[str, Mapping[str, Any]], *installed: EntryPoint) -> str:
    """Why a configured plugin keeps stackit from starting: one line."""
    with pytest.raises(StackitError) as problem:
        load(plugin_folder, tables, *installed)
    text = str(problem.value)
    assert "\n" not in text
    return text


def settings(bus: Bus) -> Any:
    (subscriber,) = bus.subscribers()
    method: Any = subscriber.implementation.function
    return method.__self__.settings


# -- installed --------------------------------------------------------------------


def test_installing_a_package_is_all_it_takes(plugin_folder: Path) -> None:
    write(plugin_folder, "ten_lines", TEN_LINES)
    bus, problems = load(plugin_folder, None, point("deployer", "ten_lines"))
    assert (bus.plugins(), problems) == (["deployer"], [])
    assert bus.wanted_by(push()) == ("deployer:deploy",)
    (subscriber,) = bus.subscribers()
    handled = subscriber.call(push(delivery="one"))
    assert isinstance(handled, Deferred)
    handled.addErrback(lambda failure: pytest.fail(str(failure)))
    assert sys.modules["ten_lines"].seen == ["one"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "import nothing_of_this_name",
            "cannot be imported: ModuleNotFoundError: No module named 'nothing_of_this_name'",
        ),
        ("def (", "cannot be imported: SyntaxError"),
        ("raise SystemExit(1)", "cannot be imported: SystemExit: 1"),
        ("raise ValueError('one\\ntwo')", "cannot be imported: ValueError: one two"),
        ("x = 1", "has no hook"),
        ("from stackit import on\n@on('Push')\ndef f(e): ...", "not an event pattern: 'Push'"),
        ("from stackit import hookimpl\n@hookimpl\ndef stackit_evnt(event): ...", "unknown hook 'stackit_evnt'"),
    ],
)
def test_a_broken_plugin_that_is_merely_installed_is_named_and_the_others_go_on(
    plugin_folder: Path, text: str, reason: str
) -> None:
    write(plugin_folder, "broken", text)
    write(plugin_folder, "ten_lines", TEN_LINES)
    bus, (problem,) = load(plugin_folder, None, point("a_broken", "broken"), point("deployer", "ten_lines"))
    assert bus.plugins() == ["deployer"]
    assert problem.startswith("plugin a_broken: ")
    assert reason in problem
    assert "\n" not in problem


def test_a_broken_plugin_that_the_configuration_names_stops_the_start(plugin_folder: Path) -> None:
    write(plugin_folder, "broken", "import nothing_of_this_name")
    assert stopped(plugin_folder, {"mine": {}}, point("mine", "broken")).startswith(
        "plugin mine: broken cannot be imported"
    )


def test_a_disabled_plugin_is_not_even_imported(plugin_folder: Path) -> None:
    write(plugin_folder, "broken", "raise ValueError")
    bus, problems = load(plugin_folder, {"mine": {"enabled": False}}, point("mine", "broken"))
    assert (bus.plugins(), problems) == ([], [])
    assert "broken" not in sys.modules


def test_a_package_that_takes_a_bundled_name_loses_it(plugin_folder: Path) -> None:
    write(plugin_folder, "impostor", TEN_LINES)
    bundled = point("logger", "stackit.plugins.logger:Logger")
    for installed in ([bundled, point("logger", "impostor")], [point("logger", "impostor"), bundled]):
        bus, (problem,) = load(plugin_folder, None, *installed)
        assert bus.plugins() == ["logger"]
        assert problem == "plugin logger: impostor has the name of stackit.plugins.logger:Logger, and is left out"
    assert "impostor" not in sys.modules


def test_one_plugin_that_is_found_twice_is_one(plugin_folder: Path) -> None:
    write(plugin_folder, "ten_lines", TEN_LINES)
    bus, problems = load(plugin_folder, None, point("deployer", "ten_lines"), point("deployer", "ten_lines"))
    assert (bus.plugins(), problems) == (["deployer"], [])


def test_every_bundled_plugin_that_is_installed_loads(plugin_folder: Path) -> None:
    bus = Bus()
    problems = load_plugins(bus, {}, directory=plugin_folder)
    assert {"mirror", "logger", "ratelimit", "metrics"} <= set(bus.plugins())
    assert [str(problem) for problem in problems if problem.plugin in bus.plugins()] == []


# -- configured -------------------------------------------------------------------


def test_a_plugin_is_loaded_from_a_module(plugin_folder: Path) -> None:
    write(plugin_folder, "ten_lines", TEN_LINES)
    bus, _ = load(plugin_folder, {"mine": {"module": "ten_lines"}})
    assert bus.plugins() == ["mine"]


def test_a_plugin_is_loaded_from_an_object_in_a_module(plugin_folder: Path) -> None:
    write(plugin_folder, "notes", WITHOUT_SETTINGS)
    bus, _ = load(plugin_folder, {"mine": {"module": "notes:Notes"}})
    assert [each.key for each in bus.subscribers()] == ["mine:write"]


def test_a_plugin_is_loaded_from_a_file_beside_the_configuration(plugin_folder: Path) -> None:
    write(plugin_folder, "ten_lines", TEN_LINES)
    bus, _ = load(
        plugin_folder, {"here": {"file": "ten_lines.py"}, "there": {"file": str(plugin_folder / "ten_lines.py")}}
    )
    assert bus.plugins() == ["here", "there"]


def test_a_file_may_use_what_needs_its_module_by_name(plugin_folder: Path) -> None:
    text = WITH_DATACLASS + "\n@dataclass\nclass Point:\n    x: int\n"
    write(plugin_folder, "notes", text)
    bus, _ = load(plugin_folder, {"mine": {"file": "notes.py:Notes"}})
    assert bus.plugins() == ["mine"]
    assert sys.modules["stackit_plugin_mine.notes"].Point(1).x == 1


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({}, "no installed package has a plugin of that name (there are: other)"),
        ({"file": "gone.py"}, "gone.py (it is 'gone.py')"),
        ({"file": "ten_lines.py:Gone"}, "ten_lines.py:Gone cannot be imported: AttributeError"),
        ({"file": "notes.txt"}, "notes.txt is not a Python file"),
        ({"module": "not_there"}, "not_there cannot be imported: ModuleNotFoundError: No module named 'not_there'"),
        ({"module": "os:nothing"}, "os:nothing cannot be imported: AttributeError"),
        ({"module": "os"}, "has no hook"),
        ({"module": ""}, ".module: expected 'package.module' or 'package.module:Object'"),
        ({"module": "my-plugin"}, "'package.module:Object' (it is 'my-plugin')"),
        ({"module": 5}, ".module: expected text in quotes, got a whole number"),
        ({"enabled": "no"}, ".enabled: expected true or false, got text in quotes"),
        ({"module": "os", "file": "x.py"}, "has both module and file"),
        ({"module": "os", "colour": "red"}, "has colour, but the plugin takes no settings"),
    ],
)
def test_a_configured_plugin_that_cannot_be_found_stops_the_start(
    plugin_folder: Path, table: dict[str, Any], reason: str
) -> None:
    write(plugin_folder, "ten_lines", TEN_LINES)
    (plugin_folder / "notes.txt").write_text(TEN_LINES)
    text = stopped(plugin_folder, {"mine": table}, point("other", "ten_lines"))
    assert text.startswith(("plugin mine: ", f"{SOURCE}: plugins.mine"))
    assert reason in text


@pytest.mark.parametrize("fault", ["asyncio.CancelledError", "GeneratorExit", "BaseException", "Sad"])
@pytest.mark.parametrize("place", ["", "class Notes:\n    def __init__(self): ", "def __getattr__(name): "])
def test_whatever_a_plugin_raises_while_it_is_made_it_is_named_and_the_others_go_on(
    plugin_folder: Path, fault: str, place: str
) -> None:
    sad = "class Sad(Exception):\n    def __str__(self): raise KeyboardInterrupt\n"
    write(plugin_folder, "broken", f"import asyncio\n{sad}{place}raise {fault}\n")
    write(plugin_folder, "ten_lines", TEN_LINES)
    bus, (problem,) = load(plugin_folder, None, point("a_broken", "broken:Notes"), point("deployer", "ten_lines"))
    assert str(problem).startswith("plugin a_broken: ")
    assert fault.rpartition(".")[2] in str(problem)
    assert bus.plugins() == ["deployer"]


def test_an_interrupt_while_a_plugin_is_loaded_stops_the_start_since_a_person_may_have_meant_it(
    plugin_folder: Path,
) -> None:
    write(plugin_folder, "broken", "raise KeyboardInterrupt")
    with pytest.raises(StackitError, match="plugin a_broken: broken cannot be imported: KeyboardInterrupt"):
        load(plugin_folder, None, point("a_broken", "broken"))


def test_a_file_that_will_not_import_leaves_nothing_behind(plugin_folder: Path) -> None:
    write(plugin_folder, "broken", "raise SystemExit")
    assert "broken.py cannot be imported: SystemExit" in stopped(plugin_folder, {"mine": {"file": "broken.py"}})
    assert [each for each in sys.modules if each.startswith("stackit_plugin_mine")] == []


def test_a_module_whose_class_is_the_plugin_is_told_how_to_name_it(plugin_folder: Path) -> None:
    write(plugin_folder, "notes", WITHOUT_SETTINGS)
    text = stopped(plugin_folder, {"mine": {"file": "notes.py"}})
    assert text == (
        "plugin mine: has no hook, but its class Notes has: write :Notes after the name of the file or module"
    )


def test_one_module_under_two_names_stops_the_start(plugin_folder: Path) -> None:
    write(plugin_folder, "ten_lines", TEN_LINES)
    tables = {"one": {"module": "ten_lines"}, "two": {"module": "ten_lines"}}
    assert stopped(plugin_folder, tables) == "plugin two: is there already, as one"


# -- settings ---------------------------------------------------------------------


def test_settings_are_decoded_into_the_plugins_own_struct(plugin_folder: Path) -> None:
    write(plugin_folder, "notes", WITH_SETTINGS)
    table = {"file": "notes.py:Notes", "channel": "general", "wait": "2m", "how-many": 3, "inner": {"most": 2}}
    bus, _ = load(plugin_folder, {"mine": table})
    found = settings(bus)
    assert (found.channel, found.wait, found.how_many, found.inner.most) == ("general", 120, 3, 2)


def test_settings_may_be_a_dataclass(plugin_folder: Path) -> None:
    write(plugin_folder, "notes", WITH_DATACLASS)
    assert settings(load(plugin_folder, {"mine": {"module": "notes:Notes"}})[0]).channel == "general"
    del sys.modules["notes"]
    assert settings(load(plugin_folder, {"mine": {"module": "notes:Notes", "channel": "x"}})[0]).channel == "x"
    assert "plugins.mine.chanel: unknown key" in stopped(
        plugin_folder, {"mine": {"module": "notes:Notes", "chanel": "x"}}
    )


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({}, ".channel: missing"),
        ({"channel": 5}, ".channel: expected text in quotes, got a whole number (it is 5)"),
        ({"channel": "x", "wait": "soon"}, ".wait: expected a duration such as 0, '90s', '5m' or '1h' (it is 'soon')"),
        ({"channel": "x", "how-many": "3"}, ".how-many: expected a whole number, got text in quotes (it is '3')"),
        (
            {"channel": "x", "colour": "red"},
            ".colour: unknown key (there are: api-key, channel, how-many, inner, names, per, wait)",
        ),
        (
            {"channel": "x", "how_many": 3},
            ".how_many: unknown key (there are: api-key, channel, how-many, inner, names, per, wait)",
        ),
        ({"channel": "x", "inner": {"least": 3}}, ".inner.least: unknown key"),
        (
            {"channel": "x", "inner": {"most": "3"}},
            ".inner.most: expected a whole number, got text in quotes (it is '3')",
        ),
        ({"channel": "x", "inner": 3}, ".inner: expected a table, got a whole number (it is 3)"),
        ({"channel": "x", "names": {"a": [1, "b"]}}, ".names[...][1]: expected a whole number, got text in quotes"),
        ({"channel": "x", "per": 0}, ".per: expected a whole number >= 1 (it is 0)"),
        ({"channel": "x", "per": 11}, ".per: must be odd, since it is not even (it is 11)"),
        ({"channel": "x", "per": 13}, ".per: brings bad luck (it is 13)"),
        ({"channel": "x", "api-key": 13}, ".api-key: expected text in quotes, got a whole number"),
    ],
)
def test_a_setting_that_is_wrong_is_named(plugin_folder: Path, table: dict[str, Any], reason: str) -> None:
    write(plugin_folder, "notes", WITH_SETTINGS)
    text = stopped(plugin_folder, {"mine": {"file": "notes.py:Notes", **table}})
    assert text == f"{SOURCE}: plugins.mine{reason}"


def test_an_installed_plugin_whose_settings_are_missing_is_left_out_with_the_reason(plugin_folder: Path) -> None:
    write(plugin_folder, "notes", WITH_SETTINGS)
    bus, problems = load(plugin_folder, None, point("notes", "notes:Notes"))
    assert bus.plugins() == []
    assert problems == [f"plugin notes: {SOURCE}: plugins.notes.channel: missing"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("class Notes:\n    def __init__(self, a): ...", "cannot be set up: TypeError: Notes.__init__() missing"),
        ("class Notes:\n    def __init__(self): raise OSError('no')", "cannot be set up: OSError: no"),
        ("class Notes:\n    def __init__(self): raise SystemExit", "cannot be set up: SystemExit"),
        (
            "class Notes:\n    Settings = int",
            "cannot be set up: TypeError: Settings must be a msgspec.Struct or a dataclass",
        ),
    ],
)
def test_a_class_that_cannot_be_made_is_named_with_the_reason(plugin_folder: Path, text: str, reason: str) -> None:
    write(plugin_folder, "notes", text)
    assert reason in stopped(plugin_folder, {"mine": {"module": "notes:Notes"}})
