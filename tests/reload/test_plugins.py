"""The plugins' part of a reload: who takes a new table, who needs a restart, and what a table is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from stackit import hookimpl, on
from stackit.api.errors import ConfigError
from stackit.bus.bus import Bus
from stackit.config.model import Config
from stackit.reload.plugins import prepare_plugins
from stackit.reload.reloader import Outcome, Reloader


class Settings(msgspec.Struct, frozen=True):
    pause: int = 1
    place: Path = Path("here")

    def __post_init__(self) -> None:
        if self.pause == 13:
            raise KeyError(self.pause)
        if self.pause == 14:
            raise SystemExit(self.pause)


class Fixed:
    Settings = Settings

    @on("push")
    def see(self, event: Any) -> None:
        pass


class Changing(Fixed):
    def __init__(self) -> None:
        self.taken: list[Settings] = []

    @hookimpl
    def stackit_reload(self, settings: Settings) -> None:
        if settings.pause < 0:
            raise SystemExit("no time runs backwards")
        self.taken.append(settings)


class Running:
    """Three plugins, and a reload of their tables alone."""

    def __init__(self, **tables: dict[str, Any]) -> None:
        self.plugins = {"a": Changing(), "b": Changing(), "fixed": Fixed()}
        bus = Bus()
        for name, each in self.plugins.items():
            bus.register(name, each)
        self.reloader = Reloader(self._config(tables))
        self.reloader.takes(prepare_plugins(bus, lambda _: None), "plugins")

    def _config(self, tables: dict[str, dict[str, Any]]) -> Config:
        return Config(state_dir=Path("/nowhere"), source=Path("/etc/x.conf"), plugins=tables)

    def reload(self, **tables: dict[str, Any]) -> Outcome:
        return self.reloader.reload(self._config(tables))

    def taken(self, name: str) -> list[int]:
        plugin: Any = self.plugins[name]
        return [each.pause for each in plugin.taken]


def test_a_plugin_gets_its_new_settings_decoded_with_paths_from_the_directory_of_the_file() -> None:
    running = Running()
    outcome = running.reload(a={"pause": 2})
    assert (list(outcome.changes), list(outcome.restart)) == (["plugins.a"], [])
    plugin: Any = running.plugins["a"]
    assert plugin.taken == [Settings(2, Path("/etc/here"))]
    assert running.taken("b") == []


def test_a_table_that_goes_gives_the_defaults_back() -> None:
    running = Running(a={"pause": 2})
    running.reload()
    assert running.taken("a") == [1]
    assert running.reload().changes == []


def test_a_plugin_without_the_hook_and_one_that_comes_or_goes_need_a_restart_each_time_it_is_asked() -> None:
    running = Running(b={"pause": 5})
    for _ in range(2):
        outcome = running.reload(fixed={"pause": 2}, b={"pause": 5, "enabled": False}, new={"file": "new.py"})
        assert list(outcome.restart) == ["plugins.b", "plugins.fixed", "plugins.new"]
        assert running.reloader.config.plugins == {"b": {"pause": 5}}
    assert running.taken("b") == []


def test_a_plugin_that_is_left_out_may_have_any_settings() -> None:
    running = Running(away={"enabled": False, "x": 1})
    assert running.reload(away={"enabled": False, "x": 2}) == Outcome(changes=[], restart=[])


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"pause": "long"}, r"/etc/x\.conf: plugins\.b\.pause: expected a whole number"),
        ({"paus": 1}, r"/etc/x\.conf: plugins\.b\.paus: unknown key"),
        ({"enabled": "yes"}, r"/etc/x\.conf: plugins\.b\.enabled: expected true or false"),
        ({"pause": 13}, r"/etc/x\.conf: plugins\.b: KeyError: 13"),
        ({"pause": 14}, r"/etc/x\.conf: plugins\.b: SystemExit: 14"),
        ({"pause": -1}, r"/etc/x\.conf: plugins\.b: the plugin refuses it: RuntimeError: SystemExit: no time"),
    ],
)
def test_a_table_that_cannot_be_taken_leaves_everything_as_it_was(table: dict[str, Any], said: str) -> None:
    running = Running()
    with pytest.raises(ConfigError, match=said):
        running.reload(a={"pause": 2}, b=table)
    assert running.taken("a") in ([], [2, 1])  # where it had it already, the old settings came again
    assert running.taken("b") == []
    assert running.reloader.config.plugins == {}


def test_a_mistake_in_the_settings_of_a_plugin_that_needs_a_restart_is_found_now() -> None:
    running = Running()
    with pytest.raises(ConfigError, match=r"plugins\.fixed\.pause"):
        running.reload(fixed={"pause": "long"})
