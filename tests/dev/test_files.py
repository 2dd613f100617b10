"""The files of a plugin that is being written: which changes are noticed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from stackit.dev.files import WatchedFiles


def write(path: Path, text: str = "x = 1\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A plugin with a module, a package and a configuration, in a directory that holds much else."""
    for name in ("plugin.py", "helper.py", "tools/__init__.py", "tools/deep/__init__.py", "tools/deep/text.py"):
        write(tmp_path / name)
    for name in ("twistd.conf", "notes.txt", ".venv/lib/module.py", "data/module.py"):
        write(tmp_path / name)
    for each in tmp_path.rglob("*.*"):
        os.utime(each, (1.0, 1.0))  # or the change might come in the same tick of the clock of the files
    return tmp_path


def same_size_and_time(path: Path) -> None:
    """Replace a file as some editors do, so that only its inode tells."""
    before = path.stat()
    new = write(path.with_suffix(".new"), path.read_text()[::-1])
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.rename(path)


CHANGES: list[tuple[str, Callable[[Path], object]]] = [
    ("plugin.py", lambda path: path.write_text("x = 22\n")),
    ("plugin.py", lambda path: path.write_text("x = 2\n")),
    ("plugin.py", same_size_and_time),
    ("plugin.py", lambda path: path.unlink()),
    ("helper.py", lambda path: path.touch()),
    ("helper.py", lambda path: path.unlink()),
    ("new.py", write),
    ("tools/deep/text.py", lambda path: path.write_text("")),
    ("tools/new.py", write),
    ("other/__init__.py", write),
    ("twistd.conf", lambda path: path.write_text("[plugins.mine]\n")),
]


@pytest.mark.parametrize(("name", "change"), CHANGES, ids=[name for name, _ in CHANGES])
def test_a_change_of_what_the_plugin_is_made_of_is_noticed_once(
    home: Path, name: str, change: Callable[[Path], object]
) -> None:
    watched = WatchedFiles(home / "plugin.py", home / "twistd.conf")
    assert watched.changed() is None
    change(home / name)
    assert watched.changed() == home / name
    watched.note()
    assert watched.changed() is None


@pytest.mark.parametrize("name", ["notes.txt", ".venv/lib/module.py", "data/module.py", "__pycache__/plugin.pyc"])
def test_a_change_of_anything_else_is_not(home: Path, name: str) -> None:
    watched = WatchedFiles(home / "plugin.py", home / "twistd.conf")
    write(home / name, "changed")
    assert watched.changed() is None


def test_a_file_that_is_away_for_a_moment_is_missed_by_nobody(home: Path) -> None:
    watched = WatchedFiles(home / "plugin.py")
    (home / "plugin.py").rename(home / "plugin.py~")
    assert watched.changed() == home / "plugin.py"
    (home / "plugin.py~").rename(home / "plugin.py")
    assert watched.changed() is None
