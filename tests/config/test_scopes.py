"""Webhook secrets of owners and repositories in the configuration, with what each speaks for."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

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


def test_the_secret_of_an_app_speaks_for_that_app(tmp_path: Path, files: list[Path]) -> None:
    key = generate_private_key(public_exponent=65537, key_size=2048)
    (tmp_path / "key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    table = '[[apps]]\nname = "main"\napp_id = 7\nprivate_key_file = "key"\nsecret_files = ["one"]\n'
    config = configured(tmp_path, table)
    assert config.scoped_secrets == (ScopedSecret("app:main", files[0]),)
    assert {files[0], tmp_path / "key"} <= set(secret_files(config))


@pytest.mark.parametrize("url", ["https://stackit.example.org", "http://127.0.0.1:8080", "https://[::1]/below/"])
def test_the_url_of_the_public_side_is_a_base(tmp_path: Path, url: str) -> None:
    assert configured(tmp_path, f'public_url = "{url}"').public_url == url


@pytest.mark.parametrize(
    "url",
    ["stackit.example.org", "ftp://x.example.org", "https://u:p@x.org", "https://x.org/?a", "https://x.org:99999", ""],
)
@pytest.mark.parametrize("setting", ["public_url", "admin.url"])
def test_what_is_no_base_is_refused(tmp_path: Path, url: str, setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"{setting}: expected https://HOST"):
        configured(tmp_path, f'{setting} = "{url}"')


def test_the_url_of_the_webhook_is_not_that_of_the_public_side(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="public_url: is the address of a webhook; leave out the path"):
        configured(tmp_path, 'public_url = "https://stackit.example.org/api/v1/webhooks/github"')
