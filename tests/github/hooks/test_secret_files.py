"""The webhook secrets that stackit makes itself."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from stackit.api.errors import StackitError
from stackit.config.scopes import ScopedSecret
from stackit.github.hooks.secret_files import SecretFiles
from stackit.github.hooks.target import HookTarget

REPO, OWNER, APP = HookTarget("repo", "Octo/my.Widget"), HookTarget("owner", "octo"), HookTarget("app", "main")


def test_a_secret_is_made_once_in_a_file_that_nobody_else_may_read(tmp_path: Path) -> None:
    files = SecretFiles(tmp_path)
    path = files.current(REPO)
    umask = os.umask(0)
    try:
        secret = files.make(path)
    finally:
        os.umask(umask)
    assert len(secret) == 64
    assert files.make(path) == secret == files.read(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert files.make(files.current(OWNER)) != secret


def test_the_name_of_a_file_tells_the_scope_of_its_secret(tmp_path: Path) -> None:
    files = SecretFiles(tmp_path)
    assert files.scoped() == ()
    for target in (REPO, OWNER, APP):
        files.make(files.current(target))
    files.make(files.next(APP))
    files.make(files.next(REPO))
    (files.directory / "README").write_text("not a secret")
    (files.directory / "team+octo").write_text("not a secret")
    assert set(files.scoped()) == {
        ScopedSecret("app:main", files.current(APP)),
        ScopedSecret("app:main", files.next(APP)),
        ScopedSecret("owner:octo", files.current(OWNER)),
        ScopedSecret("repo:octo/my.widget", files.current(REPO)),
        ScopedSecret("repo:octo/my.widget", files.next(REPO)),
    }
    assert [each.key for each in files.changing()] == ["app:main", "repo:octo/my.widget"]


def test_the_next_secret_takes_the_place_of_the_current_one(tmp_path: Path) -> None:
    files = SecretFiles(tmp_path)
    old, new = files.make(files.current(OWNER)), files.make(files.next(OWNER))
    files.replace(OWNER, files.home(OWNER, ()))
    assert files.read(files.current(OWNER)) == new != old
    assert files.read(files.next(OWNER)) == ""
    assert files.changing() == []
    files.remove(OWNER)
    assert files.scoped() == ()
    files.remove(OWNER)


def test_a_secret_stays_in_the_file_that_the_configuration_names_in_the_state_directory(tmp_path: Path) -> None:
    files = SecretFiles(tmp_path / "state")
    inside, outside = tmp_path / "state" / "apps" / "main" / "webhook-secret", tmp_path / "elsewhere"
    inside.parent.mkdir(parents=True)
    for path in (inside, outside):
        path.write_text("the old one")
    assert files.home(APP, [ScopedSecret("app:main", outside)]) == files.current(APP)
    configured = [
        ScopedSecret("app:Main", inside),
        ScopedSecret("app:main", outside),
        ScopedSecret("app:other", outside),
    ]
    assert files.home(APP, configured) == inside
    new = files.make(files.next(APP))
    files.replace(APP, inside)
    assert files.read(inside) == new
    assert files.scoped() == ()
    assert outside.read_text() == "the old one"


def test_a_repository_called_next_is_no_next_secret(tmp_path: Path) -> None:
    files = SecretFiles(tmp_path)
    target = HookTarget("repo", "octo/next")
    files.make(files.current(target))
    assert files.changing() == []
    assert files.scoped() == (ScopedSecret("repo:octo/next", files.current(target)),)


def test_a_disk_that_does_not_do_as_it_should_is_named(tmp_path: Path) -> None:
    files = SecretFiles(tmp_path)
    files.directory.write_text("a file in its place")
    with pytest.raises(StackitError, match="webhook-secrets"):
        files.scoped()
    with pytest.raises(StackitError, match=r"webhook-secrets/owner\+octo: Not a directory"):
        files.make(files.current(OWNER))
