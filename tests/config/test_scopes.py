"""Webhook secrets of owners and repositories in the configuration, with what each speaks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from stackit.api.errors import ConfigError
from stackit.config.load import load
from stackit.config.model import Config, secret_files
from stackit.config.scopes import ScopedSecret, by_file
from stackit.forges import notices, with_secrets


def configured(directory: Path, text: str) -> Config:
    (directory / "twistd.conf").write_text(text)
    return load({}, {}, cwd=directory)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    made = [tmp_path / name for name in ("one", "two")]
    for path in made:
        path.write_text(f"the-secret-of-the-file-{path.name}")
    return made


def test_secrets_of_owners_and_repositories_have_their_scopes(tmp_path: Path, files: list[Path]) -> None:
    one, two = files
    config = configured(
        tmp_path,
        """
        [[owners]]
        name = "octo"
        secret_files = ["one", "two"]
        [[repos]]
        name = "Acme/Widget"
        secret_files = ["two"]
        [[repos]]
        name = "acme/other"
        """,
    )
    assert set(config.scoped_secrets) == {
        ScopedSecret("owner:octo", one),
        ScopedSecret("owner:octo", two),
        ScopedSecret("repo:Acme/Widget", two),
    }
    assert dict(by_file(config.scoped_secrets, "github")) == {
        one: ["owner:octo"],
        two: ["owner:octo", "repo:Acme/Widget"],
    }
    assert by_file(config.scoped_secrets, "depot") == {}
    assert {one, two} <= set(secret_files(config)), "they are kept out of all that is said"


def test_with_scoped_secrets_alone_the_endpoint_is_there(tmp_path: Path, files: list[Path]) -> None:
    config = configured(tmp_path, '[[owners]]\nname = "octo"\nsecret_files = ["one"]\n')
    ((_, secrets),) = with_secrets(config, print)
    assert secrets
    assert secrets.known() == {str(files[0]): True}
    assert notices(config, with_secrets(config, print)) == []


@pytest.mark.parametrize("heading", ["owners", "repos"])
def test_a_file_that_cannot_be_read_is_named_with_its_table(tmp_path: Path, heading: str) -> None:
    name = "octo" if heading == "owners" else "octo/widget"
    with pytest.raises(ConfigError, match=rf"{heading}\[1\].*\.secret_files: .*nowhere cannot be read"):
        configured(tmp_path, f'[[{heading}]]\nname = "{name}"\nsecret_files = ["nowhere"]\n')


def test_a_name_that_is_not_allowed_is_told_once(tmp_path: Path, files: list[Path]) -> None:
    with pytest.raises(ConfigError, match=r"repos\[1\]\.name"):
        configured(tmp_path, '[[repos]]\nname = "octo"\nsecret_files = ["one"]\n')
