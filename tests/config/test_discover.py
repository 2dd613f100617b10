"""The tables ``[[discover]]``: whose repositories are found, and the one line for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from stackit.api.errors import ConfigError
from stackit.config.discover import DiscoverTable
from stackit.config.load import load
from stackit.config.mistakes import Mistakes
from stackit.config.model import Config, secret_files

APP = "[[apps]]\nname = 'Main'\napp_id = 7\nprivate_key_file = 'app.pem'\n"
BY_TOKEN = "[[discover]]\norganization = 'octo'\ntoken_file = 'token'\n"


@pytest.fixture(scope="module")
def pem() -> bytes:
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


@pytest.fixture
def directory(tmp_path: Path, pem: bytes) -> Path:
    (tmp_path / "app.pem").write_bytes(pem)
    (tmp_path / "token").write_text("a-token-of-a-person")
    return tmp_path


def read(directory: Path, text: str) -> Config:
    (directory / "twistd.conf").write_text(text)
    return load({}, {}, cwd=directory)


def test_a_table_has_an_app_by_any_spelling_of_its_name(directory: Path) -> None:
    config = read(directory, f"{APP}[[discover]]\napp = 'MAIN'\ninstallation = 'octo'\nexclude = ['octo/tmp-*']\n")
    assert config.discover == (DiscoverTable(app="Main", installation="octo", exclude=("octo/tmp-*",)),)


def test_a_table_has_an_owner_and_a_token_that_is_kept_secret(directory: Path) -> None:
    config = read(directory, f"{BY_TOKEN}api_url = 'https://ghe.example.org/api/v3/'\nmax_size = '1 GiB'\n")
    (table,) = config.discover
    assert (table.organization, table.api_url, table.max_size) == ("octo", "https://ghe.example.org/api/v3", 2**30)
    assert secret_files(config) == (directory / "token",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("app = 'other'", "discover[1].app: no [[apps]] is called 'other' (there are: Main)"),
        ("app = 'main'\nuser = 'hubot'", "discover[1].user: the table has an app, too; leave one of them out"),
        ("app = 'main'\ntoken_file = 'token'", "discover[1].token_file: an App brings its own; leave it out"),
        ("app = 'main'\napi_url = 'https://x.example.org'", "discover[1].api_url: an App brings its own; leave it out"),
        ("forks = false", "discover[1]: says nobody whose repositories to find; expected one of app, organization and"),
        ("organization = 'octo'\nuser = 'hubot'", "discover[1]: has both organization and user; expected one of app,"),
        ("user = 'hubot'", "discover[1].token_file: missing; a listing needs a token"),
        ("user = 'hubot'\ninstallation = 'octo'", "discover[1].installation: of use beside an app only; leave it out"),
        ("user = 'hu bot'\ntoken_file = 'token'", "discover[1].user: expected the name of an owner on GitHub"),
        ("app = 'main'\ninclude = ['octo/[a]*']", "discover[1].include: item 1: expected a pattern such as 'octo/*'"),
        ("app = 'main'\ntopics = ['Go']", "discover[1].topics: item 1: expected a topic such as 'mirror-me'"),
        ("app = 'main'\nvisibility = ['secret']", "discover[1].visibility: expected one of"),
        ("app = 'main'\non_removed = 'erase'", "discover[1].on_removed: expected one of 'keep', 'delete'"),
        ("app = 'main'\ngrace = 0", "discover[1].grace: must be more than 0"),
        ("app = 'main'\ninterval = '0.5s'", "discover[1].interval: expected 0 (off) or at least 1s"),
        ("app = 'main'\n[discovery]\nmax_removals = 1.5", "discovery.max_removals: expected a share from 0 to 1"),
        ("app = 'main'\n[discovery]\nmin_repos = 0", "discovery.min_repos: must be at least 1"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(directory: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(directory, f"{APP}[[discover]]\n{text}\n")
    assert str(raised.value).startswith(f"{directory}/twistd.conf: {said}")
    assert str(raised.value).isprintable()


def test_all_mistakes_are_found_at_once(directory: Path) -> None:
    mistakes = Mistakes(collect=True)
    (directory / "twistd.conf").write_text(f"{APP}[[discover]]\napp = 'x'\n[[discover]]\n[[discover]]\nforks = 1\n")
    load({}, {}, cwd=directory, mistakes=mistakes)
    assert [str(each).partition("discover")[2][:6] for each in mistakes.found] == [
        "[3].fo",
        "[1].ap",
        "[2]: s",
        "[3]: s",
    ]
