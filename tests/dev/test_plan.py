"""The plugin that ``stackit dev`` is to run, and its table of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from stackit.api.errors import ConfigError
from stackit.dev.plan import PluginFile

CONF = """
[plugins.notes]
file = "sub/diary.py:Diary"
path = "notes.txt"
[plugins.logger]
enabled = true
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "diary.py").write_text("")
    return tmp_path


def test_without_a_configuration_the_file_is_all(home: Path) -> None:
    path = home / "sub" / "diary.py"
    assert PluginFile.of("sub/diary.py", None, {}, home).table() == ("diary", {"file": str(path)})
    assert PluginFile.of(f"{path}:Diary", None, {}, home).table() == ("diary", {"file": f"{path}:Diary"})


@pytest.mark.parametrize("given", ["sub/diary.py", "sub/diary.py:Diary", "./sub/../sub/diary.py"])
def test_the_table_that_names_the_file_gives_name_object_and_settings(home: Path, given: str) -> None:
    (home / "twistd.conf").write_text(CONF)
    found = PluginFile.of(given, None, {}, home)
    assert found.table() == ("notes", {"file": f"{home}/sub/diary.py:Diary", "path": "notes.txt"})
    assert found.config_in_use() == home / "twistd.conf"
    other = PluginFile.of("sub/diary.py:Other", None, {}, home)
    assert other.table()[1]["file"] == f"{home}/sub/diary.py:Other"


def test_the_settings_of_a_package_are_those_of_the_file_that_it_is_made_of(home: Path) -> None:
    (home / "twistd.conf").write_text('[plugins.diary]\npath = "notes.txt"\n')
    found = PluginFile.of("sub/diary.py:Diary", None, {}, home)
    assert found.table() == ("diary", {"file": f"{home}/sub/diary.py:Diary", "path": "notes.txt"})
    (home / "twistd.conf").write_text('[plugins.diary]\nmodule = "another"\npath = "notes.txt"\n')
    assert found.table() == ("diary", {"file": f"{home}/sub/diary.py:Diary"})


def test_a_configuration_may_come_and_go_while_the_plugin_is_written(home: Path) -> None:
    found = PluginFile.of("sub/diary.py", None, {}, home)
    assert (found.table()[0], found.config_in_use(), found.config_to_watch) == ("diary", None, home / "twistd.conf")
    (home / "twistd.conf").write_text(CONF)
    assert found.table()[0] == "notes"
    (home / "twistd.conf").unlink()
    assert found.table()[0] == "diary"


def test_the_configuration_may_be_elsewhere(home: Path) -> None:
    (home / "sub" / "my.conf").write_text(CONF.replace("sub/", ""))
    for config, environ in (("sub/my.conf", {}), (None, {"STACKIT_CONFIG": "sub/my.conf"})):
        found = PluginFile.of("sub/diary.py", config, environ, home)
        assert (found.table()[0], found.config_to_watch) == ("notes", home / "sub" / "my.conf")


def test_what_is_not_there_is_named(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"diary.py: there is no such file"):
        PluginFile.of("diary.py", None, {}, home)
    with pytest.raises(ConfigError, match=r"gone.conf: cannot be read"):
        PluginFile.of("sub/diary.py", "gone.conf", {}, home).table()
    (home / "twistd.conf").write_text("plugins = 5\n")
    assert PluginFile.of("sub/diary.py", None, {}, home).table()[0] == "diary"
