"""Command line, environment, file and defaults become one Config, or one line that says what is wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from certificates import Authority

from stackit import Redactor
from stackit.api.errors import ConfigError
from stackit.api.events import Repo
from stackit.api.repos import DEFAULT_REFSPECS, ManagedRepo
from stackit.config.access import HostTable, OwnerTable, RepoTable
from stackit.config.apps import AppTable
from stackit.config.discover import DiscoverTable
from stackit.config.load import load
from stackit.config.model import Config, FileTable
from stackit.plugins.mirror import Mirror
from stackit.plugins.ratelimit import RateLimit
from stackit.text.units import decode_unit

SHIPPED = Path(__file__).parents[2] / "twistd.conf"
SECRET = "hush-hush-hush"

Read = Callable[..., Config]
Problem = Callable[..., str]


@pytest.fixture(autouse=True)
def _a_secret_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Loads a configuration: the text of a file, variables, and options."""

    def read(text: str | bytes | None = None, env: dict[str, str] | None = None, **options: str | None) -> Config:
        if text is not None:
            (tmp_path / "twistd.conf").write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(options, env or {}, cwd=tmp_path)

    return read


@pytest.fixture
def problem(read: Read) -> Problem:
    """The one line that a configuration ends with."""

    def problem(text: str | bytes | None = None, env: dict[str, str] | None = None, **options: str | None) -> str:
        with pytest.raises(ConfigError) as raised:
            read(text, env, **options)
        line = str(raised.value)
        assert line.isprintable()
        assert SECRET not in line
        return line

    return problem


# -- what holds ----------------------------------------------------------------------


def test_without_anything_the_defaults_hold(read: Read, tmp_path: Path) -> None:
    assert read() == Config(state_dir=tmp_path / "var")


def test_the_defaults_are_those_of_the_contract(read: Read) -> None:
    config = read()
    assert config.listen == "tcp:8080:interface=127.0.0.1"
    assert config.admin.listen == "tcp:8081:interface=127.0.0.1"
    assert config.api_prefixes == ("/api/v1", "/api")
    assert config.webhook.max_body == 26_214_400
    assert config.webhook.deadline == 30.0
    assert config.sync.interval == 300.0
    assert (config.journal.keep_for, config.journal.keep_bytes) == (604_800.0, 1_073_741_824)
    assert (config.handlers.timeout, config.handlers.retry_for, config.handlers.concurrency) == (60.0, 86_400.0, 16)
    assert (config.grace, config.log_format, config.repos, config.webhook_secret) == (10.0, "text", (), None)


def test_the_command_line_comes_before_the_environment_and_that_before_the_file(read: Read, tmp_path: Path) -> None:
    text = 'listen = "tcp:1"\nstate_dir = "file"\n[admin]\nlisten = "unix:a"\n[sync]\ninterval = "1m"'
    file = read(text)
    assert (file.listen, file.admin.listen, file.sync.interval) == ("tcp:1", "unix:a", 60.0)
    assert file.state_dir == tmp_path / "file"
    env = {
        "STACKIT_LISTEN": "tcp:2",
        "STACKIT_ADMIN_LISTEN": "unix:b",
        "STACKIT_STATE_DIR": "env",
        "STACKIT_SYNC_INTERVAL": "2m",
    }
    environment = read(text, env)
    assert (environment.listen, environment.admin.listen, environment.sync.interval) == ("tcp:2", "unix:b", 120.0)
    assert environment.state_dir == tmp_path / "env"
    line = read(text, env, listen="tcp:3", admin_listen="unix:c", state_dir="line", sync_interval="0")
    assert (line.listen, line.admin.listen, line.sync.interval) == ("tcp:3", "unix:c", 0.0)
    assert line.state_dir == tmp_path / "line"


def test_an_empty_variable_counts_as_unset(read: Read) -> None:
    settings = ("CONFIG", "LISTEN", "ADMIN_LISTEN", "STATE_DIR", "SYNC_INTERVAL", "LOG_FORMAT")
    names = [f"STACKIT_{name}" for name in (*settings, "GITHUB_WEBHOOK_SECRET", "API_TOKEN")]
    assert read(None, dict.fromkeys([*names, "STATE_DIRECTORY"], "")) == read()


def test_the_log_format_comes_from_the_environment_or_the_file(read: Read) -> None:
    assert read(None, {"STACKIT_LOG_FORMAT": "json"}).log_format == "json"
    assert read('log_format = "json"').log_format == "json"
    assert read('log_format = "json"', {"STACKIT_LOG_FORMAT": "text"}).log_format == "text"


def test_secrets_come_from_the_environment_trimmed_and_do_not_show(read: Read) -> None:
    env = {"STACKIT_GITHUB_WEBHOOK_SECRET": f" {SECRET}\n", "STACKIT_API_TOKEN": f"{SECRET}\t"}
    config = read(None, env)
    assert config.webhook_secret == config.api_token == SECRET
    assert SECRET not in repr(config)
    assert SECRET not in f"{config} {config!r}"


@pytest.mark.parametrize("blank", ["", " ", " \t\n"])
def test_a_secret_of_white_space_only_is_none(read: Read, blank: str) -> None:
    config = read(None, {"STACKIT_GITHUB_WEBHOOK_SECRET": blank, "STACKIT_API_TOKEN": blank})
    assert config.webhook_secret is config.api_token is None


def test_the_state_directory_is_systemds_where_there_is_one(read: Read, tmp_path: Path) -> None:
    assert read(None, {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}).state_dir == Path("/var/lib/a")
    assert read(None, {"STATE_DIRECTORY": "relative"}).state_dir == tmp_path / "relative"
    assert read('state_dir = "/x"', {"STATE_DIRECTORY": "/var/lib/a"}).state_dir == Path("/x")


def test_relative_paths_of_a_file_start_at_the_file_and_all_others_where_one_is(tmp_path: Path) -> None:
    directory = tmp_path / "etc"
    directory.mkdir()
    (directory / "secret").write_text("s")
    (directory / "stackit.toml").write_text('state_dir = "../state"\n[webhook]\nsecret_files = ["secret"]')
    config = load({"config": "etc/stackit.toml"}, {}, cwd=tmp_path)
    assert config.source == directory / "stackit.toml"
    assert config.state_dir == tmp_path / "state"
    assert config.webhook.secret_files == (directory / "secret",)
    assert load({"config": "etc/stackit.toml", "state_dir": "x"}, {}, cwd=tmp_path).state_dir == tmp_path / "x"
    assert load({}, {"STACKIT_CONFIG": "etc/stackit.toml"}, cwd=tmp_path) == config


def test_a_file_that_is_named_is_read_instead_of_the_one_that_is_there(read: Read, tmp_path: Path) -> None:
    (tmp_path / "other").write_text('listen = "tcp:2"')
    assert read('listen = "tcp:1"', config="other").listen == "tcp:2"


def test_a_repository_needs_only_its_name(read: Read) -> None:
    (repo,) = read('[[repos]]\nname = "octo/widget"').repos
    assert repo == ManagedRepo(repo=Repo("octo", "widget"), url="https://github.com/octo/widget.git")
    assert repo.refspecs == DEFAULT_REFSPECS


def test_an_owners_token_is_for_all_its_repositories_that_have_none_of_their_own(read: Read, tmp_path: Path) -> None:
    (tmp_path / "own").write_text("t")
    config = read(
        """
        [[owners]]
        name = "Octo"
        token_file = "token"
        [[repos]]
        name = "octo/a"
        [[repos]]
        name = "octo/b"
        token_file = "own"
        [[repos]]
        name = "octo/c"
        url = "ssh://git@example.org/octo/c.git"
        [[repos]]
        name = "other/d"
        """
    )
    assert [repo.token_file for repo in config.repos] == [tmp_path / "token", tmp_path / "own", None, None]


def test_the_tables_of_plugins_are_handed_on_as_they_stand(read: Read) -> None:
    config = read('[plugins.mirror]\nconcurrency = 4\n[plugins."my-plugin"]\nenabled = false')
    assert config.plugins == {"mirror": {"concurrency": 4}, "my-plugin": {"enabled": False}}


def test_a_slash_at_the_end_of_a_prefix_does_not_count(read: Read) -> None:
    assert read('api_prefixes = ["/hooks/", "/"]').api_prefixes == ("/hooks", "")


def test_a_config_cannot_be_changed(read: Read) -> None:
    with pytest.raises(AttributeError):
        setattr(read(), "listen", "tcp:1")  # noqa: B010 - a type checker would not let it through


def test_loading_does_not_install_a_reactor(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from stackit.config.load import load;"
        f"load({{}}, {{}}, cwd=Path({str(tmp_path)!r})); assert 'twisted.internet.reactor' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/octo/widget.git",
        "http://127.0.0.1:8000/octo/widget.git",
        "http://[::1]:8000/octo/widget.git",
        "ssh://git@github.com/octo/widget.git",
        "ssh://git@github.com:22/~octo/widget.git",
        "file:///srv/git/caf%C3%A9 widget.git",
    ],
)
def test_the_urls_that_git_may_fetch_from_are_taken(read: Read, url: str) -> None:
    assert read(f'[[repos]]\nname = "octo/widget"\nurl = "{url}"').repos[0].url == url


@pytest.mark.parametrize(
    "listen",
    [
        "tcp:port=8081:interface=127.0.0.2",
        "tcp6:8081:interface=\\\\:\\\\:1",
        "tcp:8081:interface=localhost",
        "tcp:8081:interface=\\\\:\\\\:ffff\\\\:127.0.0.1",
        "unix:/run/stackit/admin.sock",
        "unix:/run/stackit/admin.sock:mode=600",
        "unix:/run/stackit/admin.sock:0600",
        "unix:/run/stackit/admin.sock:mode=600:backlog=10:lockfile=0",
    ],
)
def test_an_admin_side_that_only_this_machine_reaches_needs_no_token(read: Read, listen: str) -> None:
    read(f'[admin]\nlisten = "{listen}"')


@pytest.mark.parametrize("listen", ["tcp:0", "tcp:9:interface=0.0.0.0", "tcp6:9", "haproxy:tcp:9"])
def test_an_admin_side_that_others_may_reach_needs_a_token(read: Read, problem: Problem, listen: str) -> None:
    for env in ({}, {"STACKIT_API_TOKEN": " "}):
        line = problem(f'[admin]\nlisten = "{listen}"', env)
        assert "twistd.conf: admin.listen: " in line
        assert "STACKIT_API_TOKEN" in line
    assert read(None, {"STACKIT_API_TOKEN": "t"}).admin.listen == listen
    read(f'[admin]\nlisten = "{listen}"\ntoken_files = ["token"]')


@pytest.mark.parametrize("mode", ["mode=660", "mode=606", "mode=666", "0644", "mode=610", "mode=601"])
def test_a_unix_socket_that_others_may_open_needs_a_token(read: Read, problem: Problem, mode: str) -> None:
    listen = f"unix:/run/stackit/admin.sock:{mode}"
    line = problem(f'[admin]\nlisten = "{listen}"')
    assert "twistd.conf: admin.listen: open to others (mode 6" in line
    assert "STACKIT_API_TOKEN" in line
    assert listen in line
    assert read(None, {"STACKIT_API_TOKEN": "t"}).admin.listen == listen


@pytest.mark.parametrize(
    ("listen", "remedy"),
    [
        ("unix:", "expected"),  # Linux would make up a name that everybody may connect to
        ("unix:\\u0000stackit", "expected the path of a unix socket"),
        ("unix:/run/x.sock:mode=999", "expected a Twisted endpoint"),
        ("unix:/run/x.sock:mode=7777", "from 0 to 777"),
        ("unix:/run/x.sock:moed=600", "expected a Twisted endpoint"),
        (f"unix:/{'x' * 107}", "at most 107 bytes"),
    ],
)
def test_a_unix_socket_that_cannot_be_is_refused(problem: Problem, listen: str, remedy: str) -> None:
    for key in ("listen", "admin.listen"):
        line = problem(f'{key} = "{listen}"')
        assert f"twistd.conf: {key}: " in line
        assert remedy in line


def test_both_sides_cannot_have_one_socket(problem: Problem) -> None:
    line = problem('listen = "unix:/run/x.sock:mode=660"\n[admin]\nlisten = "unix:/run/../run/x.sock"')
    assert "admin.listen: the same address as listen; it needs a path of its own" in line


def test_a_token_file_may_have_a_byte_order_mark(read: Read, tmp_path: Path) -> None:
    (tmp_path / "marked").write_bytes(b"\xef\xbb\xbft0ken\r\n")
    read('[admin]\ntoken_files = ["marked"]')


# -- what is wrong -------------------------------------------------------------------

REPO = '[[repos]]\nname = "octo/widget"\n'


@pytest.mark.parametrize(
    ("text", "key", "remedy"),
    [
        ('lisen = "tcp:1"', "lisen", "did you mean listen?"),
        ("[webhook]\nmax_bdy = 1", "webhook.max_bdy", "did you mean max_body?"),
        ("[webhok]\nmax_body = 1", "webhok", "did you mean webhook?"),
        ("zzz = 1", "zzz", "known here: admin,"),
        (f'[webhook]\nsecret = "{SECRET}"', "webhook.secret", "did you mean secret_files?"),
        ('"a\\nb" = 1', r"'a\nb'", "unknown key"),
        (REPO + 'branch = "x"', "repos[1].branch", "unknown key"),
        ("listen = 8080", "listen", "expected text in quotes, got a whole number"),
        ("listen = true", "listen", "expected text in quotes, got true or false"),
        ("webhook = 5", "webhook", "expected a table"),
        ("repos = 5", "repos", "[[repos]]"),
        ('repos = ["octo/widget"]', "repos[1]", "expected a table"),
        ("[repos]\nname = 'a/b'", "repos", "[[repos]]"),
        ("api_prefixes = '/api'", "api_prefixes", "expected a list, got text in quotes"),
        ("api_prefixes = ['/api', 5]", "api_prefixes", "got a whole number (item 2)"),
        ("[handlers]\nconcurrency = '4'", "handlers.concurrency", "expected a whole number"),
        ("[handlers]\nconcurrency = true", "handlers.concurrency", "expected a whole number"),
        ("[handlers]\nconcurrency = 0", "handlers.concurrency", "at least 1"),
        ("[webhook]\nrefuse_replays = 1", "webhook.refuse_replays", "expected true or false"),
        ("log_format = 'xml'", "log_format", "'text', 'json'"),
        ("plugins = 1", "plugins", "expected a table"),
        ("[plugins]\nmirror = 4", "plugins.mirror", "[plugins.NAME]"),
        # durations and sizes
        ("grace = 10", "grace", "'90s'"),
        ("grace = '10 fortnights'", "grace", "'90s'"),
        ("grace = '-1s'", "grace", "'90s'"),
        ("grace = 'inf'", "grace", "'90s'"),
        ("[sync]\ninterval = '5 min'", "sync.interval", "'5m'"),
        ("[sync]\ninterval = '0.001s'", "sync.interval", "0 (off) or at least 0.1s"),
        ("[sync]\ninterval = true", "sync.interval", "'5m'"),
        ("[webhook]\ndeadline = 0", "webhook.deadline", "more than 0"),
        ("[webhook]\nmax_body = 25", "webhook.max_body", "'25 MiB'"),
        ("[webhook]\nmax_body = '25m'", "webhook.max_body", "'25 MiB'"),
        ("[webhook]\nmax_body = 0", "webhook.max_body", "more than 0"),
        ("[journal]\nkeep_for = 0", "journal.keep_for", "more than 0"),
        ("[journal]\nkeep_bytes = '0'", "journal.keep_bytes", "more than 0"),
        ("[handlers]\ntimeout = 0", "handlers.timeout", "more than 0"),
        # endpoints
        ("listen = '8080'", "listen", "expected a Twisted endpoint such as tcp:8080"),
        ("listen = ''", "listen", "expected a Twisted endpoint"),
        ("listen = 'tpc:8080'", "listen", "expected a Twisted endpoint"),
        ("listen = 'tcp:http'", "listen", "expected a Twisted endpoint"),
        ("listen = 'tcp:'", "listen", "expected a Twisted endpoint"),
        ("listen = 'tcp:65536'", "listen", "0 to 65535"),
        ("listen = 'tcp:-1'", "listen", "0 to 65535"),
        ("listen = 'tcp:8080:interfce=127.0.0.1'", "listen", "expected a Twisted endpoint"),
        ("listen = 'tcp:8080:interface=127.0.0.256'", "listen", "not an address"),
        ("listen = 'ssl:8080:privateKey=/nowhere'", "listen", "expected a Twisted endpoint"),
        ("[admin]\nlisten = 'tcp:99999'", "admin.listen", "0 to 65535"),
        ("[admin]\nlisten = 'tcp:8080:interface=127.0.0.1'", "admin.listen", "a port of its own"),
        ("listen = 'tcp:8081'", "admin.listen", "a port of its own"),
        ("[admin]\nhosts = ['https://x.org/']", "admin.hosts", "item 1: expected a host name"),
        ("[admin]\ncors_origins = ['*']", "admin.cors_origins", "item 1: expected an origin"),
        ("[admin]\ncors_origins = ['https://a.example', 'null']", "admin.cors_origins", "item 2: expected an origin"),
        ("[admin]\ncors_origins = ['https://a.example/']", "admin.cors_origins", "expected an origin"),
        ("[admin]\ncors_origins = ['https://*.example']", "admin.cors_origins", "expected an origin"),
        ("[admin]\ncors_origins = ['https://A.example']", "admin.cors_origins", "capital letter"),
        ("[admin]\ncors_origins = ['https://a.example:443']", "admin.cors_origins", "default port"),
        ("[admin]\ncors_origins = ['http://a.example:99999']", "admin.cors_origins", "expected an origin"),
        ("[admin]\nhosts = ['x.org', 'x.org:80']", "admin.hosts", "item 2: expected a host name"),
        # prefixes
        ("api_prefixes = []", "api_prefixes", "at least one"),
        ("api_prefixes = ['api']", "api_prefixes", "a slash first"),
        ("api_prefixes = ['']", "api_prefixes", "a slash first"),
        ("api_prefixes = ['/a b']", "api_prefixes", "a slash first"),
        ("api_prefixes = ['/{x}']", "api_prefixes", "a slash first"),
        ("api_prefixes = ['/a%20']", "api_prefixes", "a slash first"),
        ("api_prefixes = ['/a/../b']", "api_prefixes", "a slash first"),
        ("api_prefixes = ['//a']", "api_prefixes", "a slash first"),
        ("api_prefixes = ['/a//']", "api_prefixes", "a slash first"),
        ("api_prefixes = ['/api', '/api']", "api_prefixes", "item 2: the same prefix as item 1"),
        ("api_prefixes = ['/x', '/api', '/api/']", "api_prefixes", "item 3: the same prefix as item 2"),
        # paths
        ("state_dir = ''", "state_dir", "expected a path"),
        ("state_dir = 5", "state_dir", "expected a path"),
        ("state_dir = '~/var'", "state_dir", "write the whole path"),
        ('state_dir = "a\\u0000b"', "state_dir", "expected a path"),
        ("[webhook]\nsecret_files = ['nowhere']", "webhook.secret_files", "cannot be read: No such file"),
        ("[webhook]\nsecret_files = ['.']", "webhook.secret_files", "is not a regular file"),
        ("[webhook]\nsecret_files = 'token'", "webhook.secret_files", "expected a list"),
        ("[webhook]\nsecret_files = ['token', '']", "webhook.secret_files", "expected a path (item 2)"),
        ("[admin]\ntoken_files = ['nowhere']", "admin.token_files", "cannot be read"),
        ("[admin]\ntoken_files = ['blank']", "admin.token_files", "is empty"),
        ("[admin]\ntoken_files = ['two']", "admin.token_files", "expected one token"),
        ("[admin]\ntoken_files = ['bytes']", "admin.token_files", "not UTF-8"),
        # repositories
        ("[[repos]]\nurl = 'https://x.org/y'", "repos[1].name", "missing"),
        ("[[repos]]\nname = 'widget'", "repos[1].name", "expected owner/name"),
        ("[[repos]]\nname = '../x'", "repos[1].name", "expected owner/name"),
        ("[[repos]]\nname = '.o/x'", "repos[1].name", "expected owner/name"),
        ("[[repos]]\nname = 'octo/..'", "repos[1].name", "expected owner/name"),
        ("[[repos]]\nname = 'octo/widget.git'", "repos[1].name", "no .git"),
        (REPO + "[[repos]]\nname = 'Octo/WIDGET'", "repos[2].name", "is there twice"),
        (REPO + "token_file = 'nowhere'", "repos[1] (octo/widget).token_file", "cannot be read"),
        (REPO + "token_file = 'blank'", "repos[1] (octo/widget).token_file", "is empty"),
        (REPO + "token_file = 'two'", "repos[1] (octo/widget).token_file", "expected one token"),
        ("[[owners]]\nname = 'octo'", "owners[1]", "expected one of token_file,"),
        ("[[owners]]\nname = 'a/b'\ntoken_file = 'token'", "owners[1].name", "an owner on GitHub"),
        ("[[owners]]\nname = 'octo'\ntoken_file = 'blank'", "owners[1].token_file", "is empty"),
        (
            "[[owners]]\nname = 'octo'\ntoken_file = 'token'\n[[owners]]\nname = 'OCTO'\ntoken_file = 'token'",
            "owners[2].name",
            "is there twice",
        ),
    ],
)
def test_a_mistake_in_the_file_is_one_line_with_file_key_and_what_would_be_right(
    problem: Problem, tmp_path: Path, text: str, key: str, remedy: str
) -> None:
    (tmp_path / "blank").write_text(" \n")
    (tmp_path / "two").write_text(f"{SECRET} {SECRET}")
    (tmp_path / "bytes").write_bytes(SECRET.encode() + b"\xff")
    line = problem(text)
    assert line.startswith(f"{tmp_path / 'twistd.conf'}: {key}: ")
    assert remedy in line


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        (f"https://octo:{SECRET}@github.com/o/w.git", "put the token in a file"),
        (f"https://{SECRET}@github.com/o/w.git", "put the token in a file"),
        (f"https://octo:a@{SECRET}@github.com/o/w.git", "put the token in a file"),
        (f"http://github.com\\\\@{SECRET}/", "put the token in a file"),
        (f"ssh://git:{SECRET}@github.com/o/w.git", "must not hold a password"),
        (f"https://github.com/o/w.git?token={SECRET}", "without white space, query or fragment"),
        (f"https://github.com/o/w.git#{SECRET}", "without white space, query or fragment"),
        ("git@github.com:o/w.git", "ssh://host/path"),
        ("git://github.com/o/w.git", "expected https://"),
        ("HTTPS://github.com/o/w.git", "expected https://"),
        ("ext::sh -c true", "expected https://"),
        ("--upload-pack=true", "expected https://"),
        ("/srv/git/w.git", "file:///path"),
        ("", "expected https://"),
        ("https://github.com", "expected https://host/path"),
        ("https:///o/w.git", "expected https://host/path"),
        ("https://git hub.com/o", "expected https://host/path"),
        ("https://github.com/o w", "expected https://host/path"),
        ("https://-x/o/w.git", "expected https://host/path"),
        ("https://x:99999/o/w.git", "1 to 65535"),
        ("ssh://-oProxyCommand=x/w", "expected ssh://host/path"),
        ("ssh://-l@host/w", "not a user name"),
        ("file://host/w.git", "file:///path"),
        ("https://github.com/o\\n/w", "control character"),
        ("file:///w\\u0000x", "control character"),
    ],
)
def test_a_url_that_git_must_not_be_given_is_refused_without_being_shown(
    problem: Problem, url: str, remedy: str
) -> None:
    line = problem(f'{REPO}url = "{url}"')
    assert "repos[1] (octo/widget).url: " in line
    assert remedy in line


@pytest.mark.parametrize("url", ["git@github.com:o/w.git", "/srv/git/w.git", "https://github.com", "ssh://-l@host/w"])
def test_what_is_said_of_a_url_is_left_whole_by_the_log(problem: Problem, url: str) -> None:
    line = problem(f'{REPO}url = "{url}"')
    assert Redactor(())(line) == line
    assert line.isascii()


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("http://git.example.org/o/w.git", "unencrypted"),
        ("ssh://git@example.org/o/w.git", "leave token_file out"),
        ("file:///srv/w.git", "leave token_file out"),
    ],
)
def test_a_token_travels_only_where_nobody_can_read_it(read: Read, problem: Problem, url: str, remedy: str) -> None:
    assert remedy in problem(f'{REPO}url = "{url}"\ntoken_file = "token"')
    read(f'{REPO}url = "http://127.0.0.1:8000/o/w.git"\ntoken_file = "token"')


@pytest.mark.parametrize(
    "refspec",
    [
        "refs/heads/*:refs/heads/*",
        "+refs/heads/*",
        "+refs/heads/*:",
        "+:refs/heads/*",
        "+refs/heads/*:refs/heads/main",
        "+refs/*/*:refs/*/*",
        "+heads/*:refs/heads/*",
        "+refs/heads/*:refs/heads/*:x",
        "+refs:refs",
        "+refs/heads:refs/heads",
        "+refs/heads/a..b:refs/heads/x",
        "+refs/heads/a b:refs/heads/x",
        "+refs/heads/.a:refs/heads/x",
        "+refs/heads/a.lock:refs/heads/x",
        "+refs/heads/a.:refs/heads/x",
        "+refs/heads//a:refs/heads/x",
        "+refs/heads/a/:refs/heads/x",
        "+refs/heads/a@{1}:refs/heads/x",
        "+refs/heads/a~1:refs/heads/x",
        "+refs/heads/a^:refs/heads/x",
        "+refs/heads/[a]:refs/heads/x",
        "+refs/heads/a\\\\b:refs/heads/x",
        "+refs/heads/a\\u0007:refs/heads/x",
        "--all",
        "",
    ],
)
def test_a_refspec_that_is_none_of_a_mirror_is_refused(problem: Problem, refspec: str) -> None:
    line = problem(f'{REPO}refspecs = ["+refs/tags/*:refs/tags/*", "{refspec}"]')
    assert "repos[1] (octo/widget).refspecs: item 2: expected '+refs/heads/*:refs/heads/*'" in line


def test_refspecs_that_are_right_are_taken_and_two_with_one_target_are_not(read: Read, problem: Problem) -> None:
    right = ["+refs/heads/main:refs/heads/main", "+refs/pull/*/head:refs/pull/*/head", "+refs/heads/é@:refs/heads/-x"]
    assert read(f"{REPO}refspecs = {right}").repos[0].refspecs == tuple(right)
    assert "same target" in problem(f"{REPO}refspecs = {[right[0], right[0]]}")
    assert "at least one" in problem(f"{REPO}refspecs = []")
    assert "at least one" in problem(f'{REPO}refspecs = ["^refs/heads/tmp"]')
    assert "keeps old tips" in problem(f'{REPO}refspecs = ["+refs/heads/*:refs/stackit-kept/*"]')


def test_all_refs_may_be_taken_and_some_left_out(read: Read) -> None:
    written = ["+refs/*:refs/*", "^refs/pull/*", "^refs/heads/tmp-*", "^refs/heads/one"]
    assert read(f"{REPO}refspecs = {written}").repos[0].refspecs == tuple(written)


@pytest.mark.parametrize("refspec", ["^", "^pull/*", "^refs/pull/*:refs/pull/*", "^refs/*/*", "^+refs/pull/*", "^refs"])
def test_what_is_left_out_is_a_full_ref(problem: Problem, refspec: str) -> None:
    line = problem(f'{REPO}refspecs = ["+refs/*:refs/*", "{refspec}"]')
    assert "repos[1] (octo/widget).refspecs: item 2: expected '^refs/pull/*'" in line


# -- hosts, and what tables say of credentials ----------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_what_a_repository_does_not_say_its_owner_does_and_else_its_host(
    read: Read, tmp_path: Path, authority: Authority
) -> None:
    authority.issue("client")
    for name in ("own", "of-host", "known"):
        (tmp_path / name).write_text(f"{SECRET}\n")
    (tmp_path / "key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    (tmp_path / "key").chmod(0o600)
    repos = read(
        """
        [[repos]]
        name = "octo/own"
        url = "https://git.example.org/o/w.git"
        token_file = "own"
        token_user = "me"
        [[repos]]
        name = "octo/owners"
        url = "https://GIT.example.org:8443/o/w.git"
        [[repos]]
        name = "other/hosts"
        url = "https://git.example.org:443/o/w.git"
        [[repos]]
        name = "other/ssh"
        url = "ssh://git@git.example.org/o/w.git"
        [[repos]]
        name = "other/local"
        url = "file:///srv/w.git"
        [[repos]]
        name = "other/github"
        [[owners]]
        name = "octo"
        token_file = "token"
        token_scheme = "bearer"
        [[hosts]]
        name = "Git.example.org"
        ca_file = "ca.pem"
        client_cert = "client.crt"
        client_key = "client.key"
        token_file = "of-host"
        ssh_key_file = "key"
        known_hosts_file = "known"
        [[hosts]]
        name = "git.example.org:8443"
        ca_file = "ca.pem"
        """
    ).repos
    own, owners, hosts, ssh, local, github = repos
    tls = (tmp_path / "ca.pem", tmp_path / "client.crt", tmp_path / "client.key")
    assert (own.token_file, own.token_user, own.token_scheme) == (tmp_path / "own", "me", "basic")
    assert (owners.token_file, owners.token_scheme) == (tmp_path / "token", "bearer")
    assert (hosts.token_file, hosts.token_user) == (tmp_path / "of-host", "x-access-token")
    assert [(each.ca_file, each.client_cert, each.client_key) for each in (own, hosts)] == [tls, tls]
    assert (owners.ca_file, owners.client_cert, owners.client_key) == (tls[0], None, None)
    assert (ssh.ssh_key_file, ssh.known_hosts_file) == (tmp_path / "key", tmp_path / "known")
    assert (ssh.token_file, ssh.ca_file) == (None, None)
    for each in (own, owners, hosts):
        assert (each.ssh_key_file, each.known_hosts_file) == (None, None)
    for each in (local, github):
        assert each == ManagedRepo(repo=each.repo, url=each.url)


def test_a_key_may_stand_behind_its_certificate(read: Read, tmp_path: Path, authority: Authority) -> None:
    cert, key = authority.issue("client")
    cert.write_bytes(cert.read_bytes() + key.read_bytes())
    text = f'{REPO}url = "https://h/x"\n[[hosts]]\nname = "h"\nclient_cert = "client.crt"'
    (repo,) = read(text).repos
    assert repo.client_cert == repo.client_key == cert


HOST = '[[hosts]]\nname = "git.example.org"\n'
AT_HTTPS, AT_SSH = f"{REPO}url = 'https://h/x'\n", f"{REPO}url = 'ssh://git@h/x'\n"


@pytest.mark.parametrize(
    ("text", "key", "remedy"),
    [
        (HOST, "hosts[1]", "expected one of token_file"),
        (f"{HOST}ca_file = 'ca.pem'\n{HOST}ca_file = 'ca.pem'", "hosts[2].name", "there twice"),
        ("[[hosts]]\nname = 'https://h'\nca_file = 'ca.pem'", "hosts[1].name", "expected a host such as"),
        ("[[hosts]]\nname = 'h:0'\nca_file = 'ca.pem'", "hosts[1].name", "expected a host such as"),
        (f"{HOST}ca_file = 'nowhere'", "hosts[1].ca_file", "cannot be read"),
        (f"{HOST}ca_file = 'token'", "hosts[1].ca_file", "holds no certificate in PEM"),
        (f"{HOST}ca_file = 'broken'", "hosts[1].ca_file", "or a broken one"),
        (f"{HOST}ca_file = '.'", "hosts[1].ca_file", "not a regular file"),
        (f"{HOST}client_key = 'client.key'", "hosts[1].client_key", "beside a client_cert only"),
        (f"{HOST}client_cert = 'client.crt'", "hosts[1].client_key", "holds no private key"),
        (f"{HOST}client_cert = 'client.crt'\nclient_key = 'ca.pem'", "hosts[1].client_key", "holds no private key"),
        (f"{HOST}client_cert = 'client.crt'\nclient_key = 'locked.key'", "hosts[1].client_key", "is encrypted"),
        (f"{HOST}client_cert = 'client.crt'\nclient_key = 'other.key'", "hosts[1].client_key", "is not the key of"),
        (f"{HOST}token_file = 'nowhere'", "hosts[1].token_file", "cannot be read"),
        (f"{AT_HTTPS}token_user = 'me'", "repos[1] (octo/widget).token_user", "beside a token_file"),
        (f"{AT_HTTPS}token_scheme = 'basic'", "repos[1] (octo/widget).token_scheme", "beside a token_file"),
        (f"{AT_HTTPS}token_file = 'token'\ntoken_user = 'a:b'", "repos[1] (octo/widget).token_user", "and colons"),
        (f"{AT_HTTPS}token_file = 'token'\ntoken_user = 'a b'", "repos[1] (octo/widget).token_user", "printable"),
        (f'{AT_HTTPS}token_file = "token"\ntoken_user = "a\\nb"', "repos[1] (octo/widget).token_user", "printable"),
        (f"{AT_HTTPS}token_file = 'token'\ntoken_scheme = 'digest'", "repos[1].token_scheme", "'basic', 'bearer'"),
        (f"{AT_HTTPS}token_file = 'token'\ntoken_user = 'me'\ntoken_scheme = 'bearer'",
         "repos[1] (octo/widget).token_user", "has no user name"),
        (f"{AT_HTTPS}ssh_key_file = 'id'", "repos[1] (octo/widget).ssh_key_file", "for ssh:// only"),
        (f"{AT_HTTPS}known_hosts_file = 'token'", "repos[1] (octo/widget).known_hosts_file", "for ssh:// only"),
        (f"{AT_SSH}ssh_key_file = 'token'", "repos[1] (octo/widget).ssh_key_file", "holds no private key"),
        (f"{AT_SSH}ssh_key_file = 'open'", "repos[1] (octo/widget).ssh_key_file", "chmod 600"),
        (f"{AT_SSH}ssh_key_file = 'a%dkey'", "repos[1] (octo/widget).ssh_key_file", "which mean more to ssh"),
        (f"{AT_SSH}known_hosts_file = 'blank'", "repos[1] (octo/widget).known_hosts_file", "ssh-keyscan"),
        (f"{AT_SSH}known_hosts_file = 'a\"b'", "repos[1] (octo/widget).known_hosts_file", "which mean more to ssh"),
    ],
)  # fmt: skip
def test_a_host_or_a_credential_that_cannot_be_used_stops_the_start_with_one_line(
    problem: Problem, tmp_path: Path, authority: Authority, text: str, key: str, remedy: str
) -> None:
    for name, passphrase in (("client", None), ("other", None), ("locked", b"hush")):
        authority.issue(name, passphrase)
    (tmp_path / "broken").write_bytes(authority.ca.read_bytes().replace(b"M", b"N"))
    (tmp_path / "blank").write_text("\n")
    for name, mode in (("id", 0o600), ("open", 0o644)):
        (tmp_path / name).write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
        (tmp_path / name).chmod(mode)
    line = problem(text)
    assert line.startswith(f"{tmp_path / 'twistd.conf'}: {key}: ")
    assert remedy in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("listen = \n", "line 1"),
        ('a = 1\nb = "', "line 2"),
        ("[a\n", "line 1"),
        ("a = 1\na = 2", "line 2"),
        (b"a = '\xff'", "not UTF-8"),
        ("a = " + "[" * 100_000, "nested too deeply"),
        ("a = " + "1" * 5000, "not TOML"),
        ("a = 2026-13-45", "line 1"),
    ],
)
def test_a_mistake_in_the_syntax_names_the_file_and_the_line(
    problem: Problem, tmp_path: Path, text: str, said: str
) -> None:
    line = problem(text)
    assert line.startswith(f"{tmp_path / 'twistd.conf'}: ")
    assert said in line


def test_a_byte_order_mark_is_no_mistake(read: Read) -> None:
    assert read(b"\xef\xbb\xbflisten = 'tcp:1'").listen == "tcp:1"


def test_a_file_that_is_named_but_not_there_is_a_mistake(problem: Problem, tmp_path: Path) -> None:
    assert problem(config="nowhere").startswith(f"--config: {tmp_path / 'nowhere'} cannot be read: No such file")
    assert problem(None, {"STACKIT_CONFIG": "nowhere"}).startswith("STACKIT_CONFIG: ")
    assert problem(config=".").startswith("--config: ")
    assert problem(config="").startswith("--config: expected a path")


def test_ten_thousand_repositories_fit_into_a_file(read: Read, tmp_path: Path) -> None:
    text = "".join(f'[[repos]]\nname = "octo/repository-number-{number}"\n' for number in range(10_000))
    assert len(read(text).repos) == 10_000
    assert len(read(None, config=str(tmp_path / "twistd.conf")).repos) == 10_000


@pytest.mark.parametrize("named", [True, False])
def test_a_file_that_is_a_pipe_is_a_mistake_and_not_waited_for(problem: Problem, tmp_path: Path, named: bool) -> None:
    os.mkfifo(tmp_path / "twistd.conf")
    assert "it is not a regular file" in (problem(config="twistd.conf") if named else problem())


@pytest.mark.parametrize("named", [True, False])
def test_a_file_without_end_is_a_mistake(problem: Problem, tmp_path: Path, named: bool) -> None:
    with (tmp_path / "twistd.conf").open("wb") as file:
        file.truncate(2**40)
    assert "it is larger than 16384 KiB" in (problem(config="twistd.conf") if named else problem())


def test_a_default_file_that_leads_nowhere_is_a_mistake(problem: Problem, tmp_path: Path) -> None:
    (tmp_path / "twistd.conf").symlink_to("nowhere")
    assert "twistd.conf: cannot be read" in problem()


@pytest.mark.parametrize(
    ("option", "variable", "value", "remedy"),
    [
        ("listen", "STACKIT_LISTEN", "8080", "expected a Twisted endpoint"),
        ("admin_listen", "STACKIT_ADMIN_LISTEN", "tcp:0", "needs a token"),
        ("sync_interval", "STACKIT_SYNC_INTERVAL", "5 min", "'5m'"),
        ("state_dir", "STACKIT_STATE_DIR", "~/x", "write the whole path"),
        (None, "STACKIT_LOG_FORMAT", "yaml", "'text', 'json'"),
        (None, "STACKIT_GITHUB_WEBHOOK_SECRET", f"{SECRET}\udcff", "not UTF-8"),
        (None, "STACKIT_API_TOKEN", f"{SECRET} {SECRET}", "one token"),
        (None, "STACKIT_API_TOKEN", f"{SECRET}é", "one token"),
    ],
)
def test_a_mistake_on_the_command_line_or_in_the_environment_names_where_it_is(
    problem: Problem, option: str | None, variable: str, value: str, remedy: str
) -> None:
    line = problem("listen = 'tcp:1'", {variable: value})
    assert line.startswith(f"{variable}: ")
    assert remedy in line
    if option:
        line = problem("listen = 'tcp:1'", {variable: "not this"}, **{option: value})
        assert line.startswith(f"--{option.replace('_', '-')}: ")
        assert remedy in line


# -- the file that is shipped --------------------------------------------------------


def uncommented() -> str:
    """The shipped file with the settings that are commented out in it, examples included."""
    return re.sub(r"^# (?=[a-z_]+ = |\[)", "", SHIPPED.read_text(), flags=re.MULTILINE)


def test_running_with_the_shipped_file_is_running_without(tmp_path: Path) -> None:
    without = load({}, {}, cwd=tmp_path)
    (tmp_path / "twistd.conf").write_text(SHIPPED.read_text())
    with_it = load({}, {}, cwd=tmp_path)
    assert msgspec.structs.replace(with_it, source=None) == without


ROWS: dict[str, type[msgspec.Struct]] = {
    "repos": RepoTable,
    "owners": OwnerTable,
    "hosts": HostTable,
    "apps": AppTable,
    "discover": DiscoverTable,
}


def settings_of(table: type[msgspec.Struct], prefix: str = "") -> set[str]:
    names: set[str] = set()
    for field in msgspec.structs.fields(table):
        kind = ROWS.get(prefix + field.name, field.type)
        nested = isinstance(kind, type) and issubclass(kind, msgspec.Struct)
        names |= settings_of(kind, f"{prefix}{field.name}.") if nested else {prefix + field.name}
    return names - {"plugins", "forges"}


def test_the_shipped_file_mentions_every_setting_and_no_other() -> None:
    tables = tomllib.loads(uncommented())
    mentioned = set()
    for key, value in tables.items():
        if key in ("plugins", "forges"):
            continue
        tables_of = value if isinstance(value, list) else [value]
        nested = [each for each in tables_of if isinstance(each, dict)]
        mentioned |= {f"{key}.{inner}" for each in nested for inner in each} if nested else {key}
    assert mentioned == settings_of(FileTable)


def test_the_shipped_file_shows_the_bundled_plugins_settings_with_their_defaults() -> None:
    tables = tomllib.loads(uncommented())["plugins"]
    assert set(tables) == {"mirror", "ratelimit", "logger", "metrics"}
    for name, plugin in (("mirror", Mirror), ("ratelimit", RateLimit)):
        assert set(tables[name]) == set(plugin.Settings.__struct_fields__)
        assert msgspec.convert(tables[name], plugin.Settings, dec_hook=decode_unit) == plugin.Settings()
