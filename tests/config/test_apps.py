"""The Apps of a configuration: what a table becomes, who gets its tokens, and the one line for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from stackit.api.errors import ConfigError
from stackit.config.access import RepoTable
from stackit.config.apps import AppConfig, web_url
from stackit.config.load import load
from stackit.config.mistakes import Mistakes
from stackit.config.model import Config, secret_files
from stackit.github import GitHub


def _pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


@pytest.fixture(scope="module")
def pem() -> bytes:
    return _pem(rsa.generate_private_key(65537, 2048))


@pytest.fixture
def directory(tmp_path: Path, pem: bytes) -> Path:
    (tmp_path / "app.pem").write_bytes(pem)
    (tmp_path / "secret").write_text("hush-hush-hush")
    (tmp_path / "token").write_text("a-token-of-a-person")
    return tmp_path


APP = '[[apps]]\nname = "main"\napp_id = 7\nprivate_key_file = "app.pem"\n'
ENTERPRISE = APP + 'api_url = "https://ghe.example.org/api/v3/"\n'


def read(directory: Path, text: str, **environ: str) -> Config:
    (directory / "twistd.conf").write_text(text)
    return load({}, environ, cwd=directory)


def problem(directory: Path, text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as raised:
        read(directory, text, **environ)
    return str(raised.value)


def test_a_table_makes_an_app(directory: Path) -> None:
    config = read(directory, APP + 'secret_files = ["secret"]\n')
    key, secret = directory / "app.pem", directory / "secret"
    assert config.apps == (AppConfig(name="main", issuer="7", private_key_file=key, secret_files=(secret,)),)
    assert {key, secret} <= set(secret_files(config))


def test_the_environment_makes_an_app_called_github(directory: Path) -> None:
    variables = {"STACKIT_GITHUB_APP_ID": "Iv23liAbCd", "STACKIT_GITHUB_APP_PRIVATE_KEY_FILE": "app.pem"}
    app = AppConfig(name="github", issuer="Iv23liAbCd", private_key_file=directory / "app.pem")
    assert read(directory, "", **variables).apps == (app,)
    assert read(directory, APP, **variables).apps[1:] == (app,)
    assert "rename" in problem(directory, APP.replace("main", "GitHub"), **variables)
    for variable, other in (tuple(variables), tuple(reversed(variables))):
        assert problem(directory, "", **{variable: variables[variable]}).startswith(f"{other}: is not set")


@pytest.mark.parametrize(
    ("api", "web"),
    [
        ("https://api.github.com", "https://github.com"),
        ("https://ghe.example.org/api/v3", "https://ghe.example.org"),
        ("https://ghe.example.org:8443/api/v3", "https://ghe.example.org:8443"),
        ("https://api.octo.ghe.com", "https://octo.ghe.com"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
    ],
)
def test_where_git_fetches_follows_from_where_the_api_is(api: str, web: str) -> None:
    assert web_url(api) == web


def test_a_repository_gets_the_app_of_its_own_table_or_of_its_owner(directory: Path) -> None:
    repos = (
        '[[repos]]\nname = "octo/widget"\napp = "Main"\n[[repos]]\nname = "acme/tool"\n[[repos]]\nname = "acme/own"\n'
    )
    config = read(directory, f'{ENTERPRISE}{repos}token_file = "token"\n[[owners]]\nname = "acme"\napp = "main"\n')
    assert [(str(each.repo), each.app, each.url) for each in config.repos] == [
        ("octo/widget", "main", "https://ghe.example.org/octo/widget.git"),
        ("acme/tool", "main", "https://ghe.example.org/acme/tool.git"),
        ("acme/own", None, "https://github.com/acme/own.git"),
    ]
    assert [each.token_file for each in config.repos] == [None, None, directory / "token"]


def test_a_token_of_an_app_never_goes_to_another_host(directory: Path) -> None:
    elsewhere = '[[repos]]\nname = "octo/widget"\nurl = "https://git.example.org/octo/widget.git"\n'
    assert "below https://github.com only" in problem(directory, f'{APP}{elsewhere}app = "main"\n')
    config = read(directory, f'{APP}{elsewhere}[[owners]]\nname = "octo"\napp = "main"\n')
    assert config.repos[0].app is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (APP + 'client_id = "Iv23liAbCd"\n', "apps[1]: has both app_id and client_id; expected one of them"),
        (APP.replace("app_id = 7\n", ""), "apps[1]: has neither an app_id nor a client_id"),
        (APP.replace("app_id = 7", 'client_id = "7"'), "apps[1].client_id: expected a client id"),
        (APP.replace("app_id = 7", "app_id = 0"), "apps[1].app_id: must be at least 1"),
        (APP.replace("main", "two words"), "apps[1].name: expected a short name"),
        (APP + APP.replace("main", "MAIN"), "apps[2].name: MAIN is there twice"),
        (APP.replace('private_key_file = "app.pem"\n', ""), "apps[1].private_key_file: missing"),
        (APP.replace("app.pem", "none.pem"), "none.pem cannot be read: No such file or directory"),
        (APP.replace("app.pem", "token"), "token holds no private key in PEM, or a broken one"),
        (APP.replace("app.pem", "curve.pem"), "curve.pem holds a key of another kind"),
        (APP + 'api_url = "http://ghe.example.org/api/v3"\n', "tokens would travel unencrypted"),
        (APP + 'api_url = "https://github.com"\n', "the API of github.com is at https://api.github.com"),
        (APP + 'api_url = "ghe.example.org"\n', "expected https://api.github.com"),
        (APP + 'token_per = "owner"\n', "apps[1].token_per: expected one of 'installation', 'repository'"),
        (APP + '[[repos]]\nname = "octo/widget"\napp = "other"\n', "no [[apps]] is called 'other' (there are: main)"),
        ('[[owners]]\nname = "octo"\napp = "main"\n', "owners[1].app: no [[apps]] is called 'main' (there are: none)"),
        (APP + '[[owners]]\nname = "octo"\napp = "main"\ntoken_file = "token"\n', "has a token_file, too"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(text: str, said: str, directory: Path) -> None:
    (directory / "curve.pem").write_bytes(_pem(ec.generate_private_key(ec.SECP256R1())))
    line = problem(directory, text)
    assert said in line
    assert line.isprintable()


def test_a_check_collects_the_mistakes_of_all_tables(directory: Path) -> None:
    (directory / "twistd.conf").write_text(
        APP.replace("app.pem", "none.pem") + APP.replace("main", "b") + 'client_id = "Iv23liAbCd"\n'
    )
    mistakes = Mistakes(collect=True)
    load({}, {}, cwd=directory, mistakes=mistakes)
    assert [str(each).partition("twistd.conf: ")[2][:24] for each in mistakes.found] == [
        "apps[1].private_key_file",
        "apps[2]: has both app_id",
    ]


@pytest.mark.parametrize(
    "broken", ["private_key_file = 7\n", 'private_key_file = "none.pem"\n', "private_key = 7\n", ""]
)
def test_who_names_an_app_with_a_mistake_is_told_of_that_alone(broken: str, directory: Path) -> None:
    own = '[[apps]]\nname = "main"\napp_id = 7\n' + broken
    others = '[[discover]]\napp = "main"\n[[owners]]\nname = "octo"\napp = "main"\n'
    (directory / "twistd.conf").write_text(own + others)
    mistakes = Mistakes(collect=True)
    load({}, {}, cwd=directory, mistakes=mistakes)
    assert mistakes.found
    assert [str(each) for each in mistakes.found if "apps[1]" not in str(each)] == []


# -- repositories that are not in the file ------------------------------------------------------------


def test_a_token_of_an_app_never_goes_in_clear(directory: Path) -> None:
    given = read(directory, APP).access
    assert given.app("main", "https://github.com/octo/widget.git") is not None
    assert given.app("main", "https://github.com:443/octo/widget.git") is not None
    assert given.app("main", "http://github.com:443/octo/widget.git") is None


def test_who_adds_a_repository_cannot_have_its_owners_token_sent_to_another_host(directory: Path) -> None:
    owners = (
        '[[owners]]\nname = "octo"\ntoken_file = "token"\n[[hosts]]\nname = "tools.example.org"\ntoken_file = "token"\n'
    )
    own = '[[repos]]\nname = "Octo/server"\nurl = "https://git.example.org/octo/server.git"\n'
    other = '[[repos]]\nname = "acme/server"\nurl = "https://evil.example.org/acme/server.git"\n'
    given = read(directory, own + other + owners).access
    for url, has_token in (
        (None, True),
        ("https://github.com/octo/widget.git", True),
        ("https://GitHub.com:443/octo/widget.git", True),
        ("https://git.example.org/octo/widget.git", True),  # the file has the token go there already
        ("https://tools.example.org/octo/widget.git", True),  # that is the token of the host
        ("https://git.example.org:8443/octo/widget.git", False),
        ("https://evil.example.org/octo/widget.git", False),
        ("https://github.com.example.org/octo/widget.git", False),
        ("http://evil.example.org/octo/widget.git", False),
        ("http://127.0.0.1:8000/octo/widget.git", False),
    ):
        table = RepoTable(name="octo/widget", url=url)
        assert (given.repo(table, GitHub(), "it").token_file is not None) is has_token, url
