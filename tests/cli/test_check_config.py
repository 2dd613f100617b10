"""``check-config``: the words of a start, of every mistake at once, without a start."""

from __future__ import annotations

import json
import os
from contextlib import closing
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from stackit import StackitError
from stackit.bus.bus import Bus
from stackit.bus.loader import load_plugins
from stackit.cli.run import run
from stackit.config.load import load


async def check(directory: Path, text: str, *arguments: str, **environ: str) -> tuple[int, str, list[str]]:
    """The exit status, the output and the lines of errors for a file with this text."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    (directory / "twistd.conf").write_text(text)
    out, err = StringIO(), StringIO()
    status = await run(reactor, ["check-config", *arguments], environ=environ, cwd=directory, out=out, err=err)
    return status, out.getvalue(), err.getvalue().splitlines()


def refusal(directory: Path, **environ: str) -> str:
    """What a start says of that file."""
    try:
        config = load({}, environ, cwd=directory)
        load_plugins(Bus(), config.plugins, directory=directory, source=config.source)
    except StackitError as problem:
        return f"stackit: {problem}"
    raise AssertionError("it starts")


MISTAKES = [
    "colour = 'red'",
    "listen = 8080",
    "listen = 'nonsense:1'",
    "[sync]\ninterval = 'soon'",
    "[webhook]\nsecret_files = ['missing']",
    "[webhook]\nsecret_files = 'missing'",
    "[[repos]]\nname = 'octo'",
    "[[repos]]\nurl = 'https://example.org/x.git'",
    "[[repos]]\nname = 'octo/widget'\n[[repos]]\nname = 'Octo/Widget'",
    "[[repos]]\nname = 'octo/widget'\nforge = 'gitlab'",
    "[[owners]]\nname = 'octo'",
    "[[hosts]]\nname = 'example.org'\nca_file = 'missing'",
    "repos = 3",
    "api_prefixes = ['/api', '/api']",
    "[forges.nowhere]",
    "[plugins.mirror]\nconcurency = 1",
    "[plugins.mirror]\nconcurrency = 0",
    "[plugins.ratelimit]\nburst = 0",
    "[plugins.ratelimit]\nburst = 'many'",
    "[plugins.nobody]",
    "[plugins.diary]\nfile = 'missing.py'",
    "[plugins.logger]\nenabled = 'yes'",
    "[admin]\nlisten = 'tcp:0'",
    "[admin]\nlisten = 'tcp:8080:interface=127.0.0.1'",
]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("text", MISTAKES)
async def test_one_mistake_is_one_line_that_a_start_says_too(tmp_path: Path, text: str) -> None:
    status, _, lines = await check(tmp_path, text)
    assert status == 2
    assert lines == [refusal(tmp_path)]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("conninfo", ["hots=db1 dbname=stackit", "db1", "postgresql://[db1/stackit"])
async def test_where_the_database_of_a_fleet_is_has_to_be_understood(tmp_path: Path, conninfo: str) -> None:
    status, _, lines = await check(tmp_path, f"[fleet]\npostgres = '{conninfo}'")
    assert status == 2
    (line,) = lines
    assert line.startswith(f"stackit: {tmp_path / 'twistd.conf'}: fleet.postgres: fleet.postgres is not understood: ")


@pytest_twisted.ensureDeferred
async def test_every_mistake_is_found_at_once(tmp_path: Path) -> None:
    apart = [
        "listen = 8080",
        "sync.interval = 'soon'",
        "handlers.concurrency = 0",
        "[[repos]]\nname = 'octo'",
        "[[repos]]\nname = 'octo/widget'\nurl = 'ftp://example.org/x'\nrefspecs = ['x']",
        "[[repos]]\nurl = 'https://example.org/x.git'",
        "[[owners]]\nname = 'octo'",
        "[[hosts]]\nname = '??'\ntoken_file = 'missing'",
        "[forges.nowhere]",
        "[plugins.mirror]\nconcurency = 1",
        "[plugins.nobody]",
    ]
    status, _, lines = await check(tmp_path, "\n".join(apart), STACKIT_LOG_FORMAT="xml")
    assert status == 2
    named = ["listen:", "sync.interval:", "STACKIT_LOG_FORMAT:", "handlers.concurrency:", "repos[1].name:"]
    named += ["repos[2] (octo/widget).url:", "repos[2] (octo/widget).refspecs:", "repos[3].name: missing"]
    named += ["owners[1]:", "hosts[1].name:", "forges.nowhere:", "plugins.mirror.concurency:", "plugins.nobody:"]
    assert [name for name in named if not any(name in line for line in lines)] == []
    assert len(lines) == len(named)
    assert all(str(tmp_path / "twistd.conf") in line for line in lines if "STACKIT_" not in line)


@pytest_twisted.ensureDeferred
async def test_a_configuration_without_mistakes_is_summed_up_with_what_a_start_would_give_notice_of(
    tmp_path: Path,
) -> None:
    text = "[[repos]]\nname = 'octo/widget'\n[plugins.metrics]\nenabled = false\n"
    status, out, lines = await check(tmp_path, text)
    assert (status, lines) == (0, [])
    first, *notices = out.splitlines()
    assert first == f"{tmp_path / 'twistd.conf'}: no mistakes; repositories: 1; plugins: logger, mirror, ratelimit"
    assert notices == ["notice: no webhook secret is configured: the webhook endpoint answers 404"]
    status, out, _ = await check(tmp_path, text, STACKIT_GITHUB_WEBHOOK_SECRET="long-enough-for-anybody")
    assert len(out.splitlines()) == 1
    assert os.listdir(tmp_path) == ["twistd.conf"]  # noqa: PTH208 - it is quick
    (tmp_path / "token").write_text("of-a-person-and-long-enough")
    status, out, _ = await check(tmp_path, text + "[[discover]]\nuser = 'hubot'\ntoken_file = 'token'\n")
    assert (status, "repositories: 1 and those that [[discover]] finds;" in out) == (0, True)


@pytest_twisted.ensureDeferred
async def test_secrets_of_stackit_that_cannot_be_looked_at_are_no_mistake_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "webhook-secrets").write_text("a file in its place")
    status, out, errors = await check(tmp_path, 'public_url = "https://stackit.example.org"\n')
    assert (status, errors) == (0, [])
    assert "the webhook secrets that stackit made cannot be looked at: " in out
    assert "webhook-secrets: Not a directory" in out


@pytest_twisted.ensureDeferred
async def test_a_program_gets_json(tmp_path: Path) -> None:
    status, out, _ = await check(tmp_path, "grace = 'x'", "--json")
    answer: Any = json.loads(out)
    assert (status, len(answer["mistakes"])) == (2, 1)
    status, out, _ = await check(tmp_path, "", "--json")
    answer = json.loads(out)
    assert (status, answer["mistakes"], answer["repos"]) == (0, [], 0)
    assert answer["file"] == str(tmp_path / "twistd.conf")


@pytest_twisted.ensureDeferred
async def test_a_secret_that_a_plugin_repeats_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret-of-this-very-test")
    (tmp_path / "leaky.py").write_text("raise ValueError('s3cret-of-this-very-test')")
    text = "[admin]\ntoken_files = ['token']\n[plugins.leaky]\nfile = 'leaky.py'\n"
    status, out, lines = await check(tmp_path, text)
    assert status == 2
    assert "leaky" in lines[0]
    assert "s3cret" not in out + "".join(lines)


FLEET = """
admin.listen = "tcp:8081:interface=127.0.0.1"
[fleet]
postgres = "{}"
"""


@pytest_twisted.ensureDeferred
async def test_the_database_of_a_fleet_is_tried_when_asked_to_and_left_as_it_is(tmp_path: Path, postgres: str) -> None:
    from stackit.journal.postgres.connection import Server  # noqa: PLC0415 - only a fleet needs it

    status, out, _ = await check(tmp_path, FLEET.format(postgres), "--connect")
    assert status == 0
    assert "the database of the fleet can be used" in out.splitlines()
    assert "notice: the server of the fleet has fsync = off: " in out  # that of these tests
    with closing(Server(postgres).connect("test")) as connection:
        assert connection.execute("SELECT to_regclass('version')").fetchall() == [(None,)]
    status, out, lines = await check(tmp_path, FLEET.format(f"{postgres} port=1"), "--connect")
    (line,) = lines
    assert (status, out) == (2, "")
    assert line.startswith(
        f"stackit: {tmp_path}/twistd.conf: fleet.postgres: the database of the fleet (fleet.postgres)"
    )
    assert "port=1" not in line
    assert (await check(tmp_path, FLEET.format(f"{postgres} port=1")))[0] == 0
    status, out, _ = await check(tmp_path, "", "--connect", "--json")
    assert (status, json.loads(out)["connected"]) == (0, False)
