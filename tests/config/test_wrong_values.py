"""A setting that is wrong is named in one line, with its file (or option, or variable) and the value."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stackit.api.errors import ConfigError
from stackit.bus.bus import Bus
from stackit.bus.loader import load_plugins
from stackit.config.access import HostTable, OwnerTable, RepoTable
from stackit.config.load import load
from stackit.config.model import FileTable
from stackit.config.setting import settings
from stackit.config.values import told
from stackit.plugins.mirror import Mirror
from stackit.plugins.ratelimit import RateLimit

SECRET = "hush-hush-hush"
WRONG = "-7.25"
"""In TOML: of no setting's type, or beyond its bounds."""

ROWS: dict[str, type[msgspec.Struct]] = {"repos": RepoTable, "owners": OwnerTable, "hosts": HostTable}
PLUGINS: dict[str, type[msgspec.Struct]] = {"mirror": Mirror.Settings, "ratelimit": RateLimit.Settings}


def every_setting() -> Iterator[tuple[str, str]]:
    """Every setting by its key in a message, with a file in which it is wrong."""
    for name, _ in settings(FileTable):
        yield name, f"{name} = {WRONG}"
    for table, row in ROWS.items():
        for name, _ in settings(row):
            other = "" if name == "name" else "name = 'octo/widget'\n"
            yield f"{table}[1].{name}", f"[[{table}]]\n{other}{name} = {WRONG}"
    for plugin, struct in PLUGINS.items():
        for field in msgspec.structs.fields(struct):
            yield f"plugins.{plugin}.{field.encode_name}", f"[plugins.{plugin}]\n{field.encode_name} = {WRONG}"


def problem(directory: Path, text: str, env: dict[str, str] | None = None, **options: str | None) -> str:
    """The line with which a configuration is refused, its plugins included."""
    (directory / "twistd.conf").write_text(text)

    def start() -> None:
        config = load(options, env or {}, cwd=directory)
        load_plugins(Bus(), config.plugins, directory=directory, source=config.source)

    with pytest.raises(ConfigError) as raised:
        start()
    line = str(raised.value)
    assert line.isprintable()
    assert SECRET not in line
    return line


@pytest.mark.parametrize(("key", "text"), list(every_setting()), ids=lambda each: each.partition("\n")[0])
def test_a_wrong_value_is_shown_with_its_file_and_key_unless_it_may_be_a_secret(
    tmp_path: Path, key: str, text: str
) -> None:
    line = problem(tmp_path, text)
    assert line.startswith(f"{tmp_path}/twistd.conf: {key}: ")
    may_be_secret = re.search("secret|token|key|url|postgres", key.rpartition(".")[2]) is not None
    assert line.endswith("(it is -7.25)") is not may_be_secret
    assert ("-7.25" in line) is not may_be_secret


@pytest.mark.parametrize(
    ("text", "key", "shown"),
    [
        ("listen = 'tpc:8080'", "listen", "'tpc:8080'"),
        ("listen = 'tcp:99999'", "listen", "'tcp:99999'"),
        ("listen = 'tcp:80:interface=127.0.0.256'", "listen", "'tcp:80:interface=127.0.0.256'"),
        ("listen = 'unix:'", "listen", "'unix:'"),
        ("[admin]\nlisten = 'tcp:8081'", "admin.listen", "'tcp:8081'"),
        ("listen = 'tcp:8081'", "admin.listen", "'tcp:8081:interface=127.0.0.1'"),
        ("[admin]\nlisten = 'unix:/x:mode=8'", "admin.listen", "'unix:/x:mode=8'"),
        ("[admin]\nlisten = 'unix:/x:mode=660'", "admin.listen", "'unix:/x:mode=660'"),
        ("[admin]\nhosts = ['a', 'x.org:80']", "admin.hosts", "'x.org:80'"),
        ("api_prefixes = ['/a', 'b']", "api_prefixes", "'b'"),
        ("api_prefixes = ['/a', 5]", "api_prefixes", "5"),
        ("grace = '10 fortnights'", "grace", "'10 fortnights'"),
        ("log_format = 'xml'", "log_format", "'xml'"),
        ("[sync]\ninterval = '0.001s'", "sync.interval", "0.001s"),
        ("[webhook]\nmax_body = 0", "webhook.max_body", "0"),
        ("[webhook]\nrefuse_replays = 'true'", "webhook.refuse_replays", "'true'"),
        ("[handlers]\nconcurrency = true", "handlers.concurrency", "true"),
        ("handlers = 5", "handlers", "5"),
        ("repos = 'octo/widget'", "repos", "'octo/widget'"),
        ("repos = ['octo/widget']", "repos[1]", "'octo/widget'"),
        ("[[repos]]\nname = 'widget'", "repos[1].name", "'widget'"),
        ("[[repos]]\nname = 'a/b'\nrefspecs = ['+x']", "repos[1] (a/b).refspecs", "'+x'"),
        ("[[owners]]\nname = 'a/b'\ntoken_file = 'x'", "owners[1].name", "'a/b'"),
        ("[[hosts]]\nname = 'https://a'\nca_file = 'x'", "hosts[1].name", "'https://a'"),
        ("[plugins]\nmirror = 4", "plugins.mirror", "4"),
        ("[plugins.mirror]\nconcurrency = 0", "plugins.mirror.concurrency", "0"),
        ("[plugins.mirror]\ntimeout = '0s'", "plugins.mirror.timeout", "'0s'"),
        ("[plugins.mirror]\ngit_memory = '1 MiB'", "plugins.mirror.git_memory", "'1 MiB'"),
        ("[plugins.mirror]\nmin_refs = 0", "plugins.mirror.min_refs", "0"),
        ("[plugins.ratelimit]\nburst = 0", "plugins.ratelimit.burst", "0"),
        ("[plugins.ratelimit]\nper_minute = 'x'", "plugins.ratelimit.per_minute", "'x'"),
        (
            "[plugins.ratelimit]\ntrusted_proxies = ['10.0.0.0/8', '10.0.0.1/8']",
            "plugins.ratelimit.trusted_proxies",
            "'10.0.0.1/8'",
        ),
        ("[plugins.mirror]\nenabled = 'no'", "plugins.mirror.enabled", "'no'"),
    ],
)
def test_a_value_that_makes_no_sense_is_shown_with_its_file_and_key(
    tmp_path: Path, text: str, key: str, shown: str
) -> None:
    line = problem(tmp_path, text)
    assert line.startswith(f"{tmp_path}/twistd.conf: {key}: ")
    assert line.endswith(f"(it is {shown})")


@pytest.mark.parametrize(
    ("origin", "value"),
    [
        ("--listen", "8080"),
        ("--admin-listen", "tcp:99999"),
        ("--admin-listen", "unix:/x:mode=666"),
        ("--state-dir", "~/var"),
        ("--sync-interval", "soon"),
        ("STACKIT_LISTEN", "8080"),
        ("STACKIT_ADMIN_LISTEN", "tcp:8080"),
        ("STACKIT_STATE_DIR", "~/var"),
        ("STACKIT_SYNC_INTERVAL", "0.01s"),
        ("STACKIT_LOG_FORMAT", "xml"),
    ],
)
def test_an_option_and_a_variable_are_named_with_their_value(tmp_path: Path, origin: str, value: str) -> None:
    if origin.startswith("--"):
        options: dict[str, Any] = {origin.removeprefix("--").replace("-", "_"): value}
        line = problem(tmp_path, "", **options)
    else:
        line = problem(tmp_path, "", {origin: value})
    assert line.startswith(f"{origin}: ")
    assert value.removesuffix("s") in line


@pytest.mark.parametrize(
    "text",
    [
        f"webhook = '{SECRET}'",
        f"[webhook]\nsecret_files = '{SECRET}'",
        f"[webhook]\nsecret = '{SECRET}'",
        f"[admin]\ntoken_files = '{SECRET}'",
        f"[[repos]]\nname = 'a/b'\nurl = 'https://x:{SECRET}@h/p'",
        f"[[repos]]\nname = 'https://x:{SECRET}@h/p'",
        f"[[repos]]\nname = 'a/b'\ntoken_user = 'x:{SECRET}'",
        f"[[repos]]\nname = 'a/b'\ntoken_scheme = '{SECRET}'",
        f"[plugins.mirror]\ntoken = '{SECRET}'",
        f"[plugins]\ntoken = '{SECRET}'",
    ],
)
def test_a_secret_in_the_wrong_place_is_not_shown(tmp_path: Path, text: str) -> None:
    assert problem(tmp_path, text).startswith(f"{tmp_path}/twistd.conf: ")


@pytest.mark.parametrize(
    "key",
    [
        *("api_key", "apiToken", "password", "db-url", "DSN", "slackWebhook", "PIN"),
        *("apikey", "APIKEY", "clientsecret", "smtppassword", "authtoken", "baseurl", "dbpasswd", "oauth"),
    ],
)
def test_a_key_whose_name_speaks_of_a_secret_shows_no_value(key: str) -> None:
    assert told(key, SECRET) == ""
    assert told("channel", SECRET) == f" (it is '{SECRET}')"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a" * 500, f"'{'a' * 79}…"),
        ("https://octo:hush@example.org/x", "'https://***@example.org/x'"),
        (["a", 1, True], "['a', 1, true]"),
        ({"a": SECRET}, "a table"),
        ("a\nb", r"'a\nb'"),
    ],
)
def test_a_shown_value_is_short_one_line_and_without_credentials(value: object, shown: str) -> None:
    assert told("channel", value) == f" (it is {shown})"
