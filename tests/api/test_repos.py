"""The registry of managed repositories, and their tokens."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from stackit import ManagedRepo, Repo, Repos, ReposChange, StackitError


def managed(name: str = "Octo/Widget", token_file: Path | None = None) -> ManagedRepo:
    return ManagedRepo(repo=Repo.parse(name), url="https://example.com/x.git", token_file=token_file)


def test_a_repository_is_found_in_any_letter_case() -> None:
    widget, other = managed(), managed("octo/other")
    repos = Repos([widget, other])
    assert repos.get(Repo("OCTO", "widget")) is widget
    assert repos.get(Repo("octo", "unknown")) is None
    assert (len(repos), list(repos)) == (2, [widget, other])


def test_one_that_was_made_anew_and_is_removed_is_found_by_its_id_no_more() -> None:
    first = ManagedRepo(repo=Repo.parse("octo/widget"), url="https://example.com/x.git", id=1)
    again = msgspec.structs.replace(first)
    repos = Repos([first])
    repos.replace([again])
    assert repos.by_id(1) is again
    repos.apply(ReposChange(removed=(again,)))
    assert repos.by_id(1) is None


def test_a_token_is_read_anew_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(" first\n")
    repo = managed(token_file=file)
    assert repo.token() == "first"
    file.write_text("second")
    assert repo.token() == "second"
    assert managed().token() is None


def test_the_byte_order_mark_of_an_editor_is_no_part_of_a_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(b"\xef\xbb\xbffirst\r\n")
    assert managed(token_file=file).token() == "first"


@pytest.mark.parametrize("content", [b"", b" \n", b"two tokens", b"two\nlines", b"\xff\xfe"])
def test_a_file_that_holds_no_token_is_named_without_its_content(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(StackitError, match=f"token file {file}") as problem:
        managed(token_file=file).token()
    assert "two" not in str(problem.value)


def test_a_token_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StackitError, match=f"token file {tmp_path}/gone cannot be read: No such file"):
        managed(token_file=tmp_path / "gone").token()


@pytest.mark.parametrize("harm", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_a_token_file_that_is_no_regular_file_is_named_and_never_waited_for(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    harm(tmp_path / "token")
    with pytest.raises(StackitError, match=f"token file {tmp_path}/token cannot be read: it is not a regular file"):
        managed(token_file=tmp_path / "token").token()
