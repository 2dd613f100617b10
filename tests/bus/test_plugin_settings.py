"""Settings of a plugin that name files: paths, and secrets in files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stackit import SecretFile, StackitError
from stackit.api.errors import ConfigError
from stackit.bus.plugin_settings import decode_settings


class Notes:
    class Settings(msgspec.Struct, frozen=True, kw_only=True):
        path: Path = Path("notes.txt")
        others: tuple[Path, ...] = ()
        maybe: Path | None = None
        token_file: SecretFile | None = None


class OfDataclass:
    @dataclass
    class Settings:
        path: Path = Path("notes.txt")


def decode(target: object, directory: Path, **table: Any) -> Any:
    return decode_settings("conf: plugins.notes", target, table, directory=directory, on_secret=lambda _: None)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("a.txt", "{}/a.txt"), ("sub/../a.txt", "{}/a.txt"), ("/srv/a.txt", "/srv/a.txt"), (".", "{}")],
)
@pytest.mark.parametrize("target", [Notes, OfDataclass])
def test_a_path_starts_at_the_directory_of_the_configuration(
    tmp_path: Path, target: object, given: str, expected: str
) -> None:
    assert decode(target, tmp_path, path=given).path == Path(expected.format(tmp_path))


@pytest.mark.parametrize("target", [Notes, OfDataclass])
def test_so_does_a_default(tmp_path: Path, target: object) -> None:
    assert decode(target, tmp_path).path == tmp_path / "notes.txt"


def test_so_do_paths_in_lists_and_paths_that_may_be_missing(tmp_path: Path) -> None:
    found = decode(Notes, tmp_path, others=["a", "/b"], maybe="c")
    assert (found.others, found.maybe) == ((tmp_path / "a", Path("/b")), tmp_path / "c")
    assert decode(Notes, tmp_path).maybe is None


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("path", 5, "expected a path"),
        ("path", " ", "expected a path"),
        ("path", "a\0b", "expected a path"),
        ("path", "~/notes", "~ has no meaning here; write the whole path"),
        ("token_file", ["a"], "expected a path"),
    ],
)
def test_a_value_that_is_no_path_is_named_with_its_key(tmp_path: Path, key: str, value: object, reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"^conf: plugins.notes.{key}: {reason}"):
        decode(Notes, tmp_path, **{key: value})


def test_a_secret_is_read_when_it_is_used_and_again_when_it_changed(tmp_path: Path) -> None:
    found = decode(Notes, tmp_path, token_file="token").token_file
    with pytest.raises(StackitError, match=rf"secret file {tmp_path}/token cannot be read: No such file"):
        found.read()
    (tmp_path / "token").write_text("first\n")
    assert found.read() == "first"
    (tmp_path / "new").write_text("\ufeffsecond")
    (tmp_path / "new").rename(tmp_path / "token")
    assert found.read() == "second"
    (tmp_path / "token").write_text(" \n")
    with pytest.raises(StackitError, match="is empty"):
        found.read()


def test_a_pipe_in_the_place_of_a_secret_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "token")
    with pytest.raises(StackitError, match="it is not a regular file"):
        SecretFile(tmp_path / "token").read()


def test_a_secret_shows_in_no_repr(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hush-hush")
    found = decode(Notes, tmp_path, token_file="token")
    found.token_file.read()
    assert "hush" not in f"{found!r} {found.token_file}"


def test_the_file_of_each_secret_is_told_and_may_be_refused(tmp_path: Path) -> None:
    told: list[Path] = []
    table = {"token_file": "token"}
    decode_settings("plugins.notes", Notes, table, directory=tmp_path, on_secret=told.append)
    assert told == [tmp_path / "token"]

    def refuse(_: Path) -> None:
        raise ValueError("it is empty")

    with pytest.raises(ConfigError, match=r"^plugins.notes.token_file: it is empty"):
        decode_settings("plugins.notes", Notes, table, directory=tmp_path, on_secret=refuse)
