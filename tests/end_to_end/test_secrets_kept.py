"""Secrets show nowhere: not in a log, an answer, a metric, a command line, an environment or a file."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_twisted
from outside import Held, Notebook, check_log, descendants, files, git_runs, mirror_refs, process_file, twistd
from twisted.web.resource import Resource
from twisted.web.server import Site

from stackit.testing import PretendGitHub, RunningStackit

WEBHOOK_SECRET = "the-webhook-secret-6b1f"
FILE_SECRET = "the-secret-of-the-file-77aa"
REPOSITORY_TOKEN = "ghp_TheRepositoryToken0123456789"
WRONG_TOKEN = "ghp_AnotherRepositoryToken98765432"
API_TOKEN = "the-api-token-which-is-long-enough-9c"
SECRETS = [each.encode() for each in (WEBHOOK_SECRET, FILE_SECRET, REPOSITORY_TOKEN, WRONG_TOKEN, API_TOKEN)]


ECHOED = "f00-the-token-that-is-said-back-9d"
HANDLER = """
from pathlib import Path
from stackit import Permanent, on

@on("issues")
def issues(event):
    raise Permanent("the API said: wrong token " + Path({token_file!r}).read_text().strip().encode().hex())
"""


def in_any_form(secret: str) -> list[bytes]:
    raw = secret.encode()
    encoded = [b64encode(b"x" * before + raw)[3:-4] for before in range(3)]
    quoted = [quote(each, safe="").encode() for each in (raw, *encoded)]
    return [raw, raw.hex().encode(), *encoded, *quoted]


class Echo(Resource):
    """A remote that says back what it was sent: in the text of an error, and in the address of a redirect."""

    isLeaf = True

    def render(self, request: Any) -> bytes:
        sent = request.getHeader("authorization")
        if sent is None:
            request.setResponseCode(401)
            request.setHeader("www-authenticate", 'Basic realm="git"')
            return b""
        token = request.getPassword().decode()
        if request.path.startswith(b"/octo/moved"):
            request.redirect(f"http://elsewhere.example.org/{token}/{'x' * 120}{token}/widget.git/info/refs".encode())
            return b""
        request.setResponseCode(403 if request.path.startswith(b"/octo/denied") else 500)
        request.setHeader("content-type", "text/plain")
        kept = [sent, token, quote(token + "/", safe=""), "".join(f"%{byte:02X}" for byte in token.encode())]
        return "\n".join([*kept, token.encode().hex(), "a" * 480 + token, f'{{"token": "{token}"}}']).encode()


def tells(text: bytes) -> list[bytes]:
    return [secret for secret in SECRETS if secret in text]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("log_format", ["text", "json"])
async def test_secrets_show_nowhere(
    running_stackit: Any, pretend_github: PretendGitHub, tmp_path: Path, log_format: str
) -> None:
    token_files = {}
    for name, text in (("right", REPOSITORY_TOKEN), ("wrong", WRONG_TOKEN), ("webhook", FILE_SECRET)):
        token_files[name] = tmp_path / name
        token_files[name].write_text(f"{text}\n")
        token_files[name].chmod(0o600)
    private = await pretend_github.create("octo/private", private_token=REPOSITORY_TOKEN)
    locked = await pretend_github.create("octo/locked", private_token=REPOSITORY_TOKEN)
    for name in ("octo/private", "octo/locked"):
        await pretend_github.commit(name)
    notebook = Notebook(tmp_path / "notebook")
    server: RunningStackit = await running_stackit(
        secret=WEBHOOK_SECRET,
        config={
            "sync": {"interval": "0"},
            "log_format": log_format,
            "webhook": {"secret_files": [token_files["webhook"]]},
            "repos": [
                {"name": "octo/private", "url": private, "token_file": token_files["right"]},
                {"name": "octo/locked", "url": locked, "token_file": token_files["wrong"]},
            ],
            "plugins": {"notebook": notebook.table},
        },
        environment={**notebook.environment, "STACKIT_API_TOKEN": API_TOKEN},
    )
    pretend_github.webhook(server.webhook_url, WEBHOOK_SECRET)
    with Held(pretend_github):
        sent = await pretend_github.push("octo/private")
        assert sent.status == 202
        await git_runs(server)
        for pid in descendants(server.pid):
            assert not tells(process_file(pid, "environ"))
            assert not tells(process_file(pid, "cmdline"))
        assert not tells(process_file(server.pid, "cmdline"))
    await server.wait_for(sent.guid, visible=True)
    assert await mirror_refs(server, "octo/private") == await pretend_github.refs("octo/private")
    answers = [
        await server.deliver("issues", secret=FILE_SECRET),
        await server.deliver("issues", secret="wrong"),
        await server.ask("GET", f"{server.url}/?token={API_TOKEN}"),
        await server.ask("GET", f"{server.admin_url}/metrics"),
        await server.ask("GET", f"{server.admin_url}/metrics", headers={"Authorization": f"Bearer {API_TOKEN}x"}),
        await server.sync("octo/locked"),
        await server.admin("GET", "/metrics"),
        await server.admin("GET", "/readyz"),
        await server.admin("GET", "{prefix}/repos"),
        await server.admin("GET", "{prefix}/deliveries"),
        await server.ask("GET", f"{server.url}/api/v1/config"),
    ]
    assert [each.status for each in answers] == [202, 401, 404, 401, 401, 502, 200, 200, 200, 200, 200]
    for each in answers:
        assert not tells(each.body), each.body
    for path, content in files(server.state_dir).items():
        assert not tells(content), path
    assert await server.stop() == 0
    assert not tells(server.log.encode())
    for path, content in files(server.state_dir).items():
        assert not tells(content), path
    if log_format == "text":
        check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_a_secret_that_is_changed_in_its_file_is_valid_without_a_restart(
    running_stackit: Any, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text("  the old one\n")
    server: RunningStackit = await running_stackit(
        secret=None, config={"sync": {"interval": "0"}, "webhook": {"secret_files": [file]}}
    )
    assert (await server.deliver("issues", secret="the old one")).status in (202, 204)
    changed = tmp_path / "changed"
    changed.write_text("the new one, which is longer\n")
    changed.rename(file)

    async def taken() -> bool:
        return (await server.deliver("issues", secret="the new one, which is longer")).status in (202, 204)

    await server.until(taken, "the new secret to be valid")
    assert (await server.deliver("issues", secret="the old one")).status == 401
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_a_rotation_can_be_watched_to_its_end(running_stackit: Any, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "gh-new"
    old.write_bytes(b"\xef\xbb\xbfthe-old-one\r\n")  # as an editor on Windows saves it
    new.write_text("")
    server: RunningStackit = await running_stackit(
        secret=None, config={"sync": {"interval": "0"}, "webhook": {"secret_files": [old, new]}}
    )
    assert (await server.deliver("push", secret="the-old-one")).status == 202
    new.write_text("the-new-one-of-two")
    for _ in range(2):
        assert (await server.deliver("push", secret="the-new-one-of-two")).status == 202
    assert (await server.deliver("push", b"[]", secret="the-new-one-of-two")).status == 204
    assert (await server.deliver("push", secret="another")).status == 401
    metrics = await server.metrics()
    counted = {name: count for name, count in metrics.items() if name.startswith("stackit_deliveries_verified_total")}
    assert counted == {
        f'stackit_deliveries_verified_total{{secret="{old}"}}': 1,
        f'stackit_deliveries_verified_total{{secret="{new}"}}': 3,
    }
    assert await server.stop() == 0
    accepted = [line for line in server.log.splitlines() if "delivery accepted" in line]
    assert [line.partition("verified_by=")[2].split()[0] for line in accepted] == [str(old), *[str(new)] * 3]
    for told in (
        f"webhook secret {old}: it begins with a byte order mark, which is left out and is shorter than 16 characters",
        f"webhook secret {new}: it is empty, so there is none",
        f"webhook secret file {new} was read again: its secret is valid from now on",
    ):
        assert server.log.count(told) == 1, told
    assert "the-old-one" not in server.log
    assert "the-new-one" not in server.log
    check_log(server.log)


@pytest_twisted.async_yield_fixture
async def echo() -> AsyncIterator[str]:
    from twisted.internet import reactor as the_reactor  # noqa: PLC0415 - importing it installs it

    root: Any = Echo()  # type: ignore[no-untyped-call]  # it has Twisted's own, which is not typed
    reactor: Any = the_reactor
    port = reactor.listenTCP(0, Site(root, parsePOSTFormSubmission=False), interface="127.0.0.1")
    yield f"http://127.0.0.1:{port.getHost().port}"
    await port.stopListening()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("log_format", ["text", "json"])
async def test_what_a_remote_says_back_shows_nowhere(
    running_stackit: Any, echo: str, tmp_path: Path, log_format: str
) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(f"{ECHOED}\n")
    (tmp_path / "fails.py").write_text(HANDLER.format(token_file=str(token_file)))
    names = ("denied", "moved", "broken")
    server: RunningStackit = await running_stackit(
        secret=WEBHOOK_SECRET,
        config={
            "sync": {"interval": "0"},
            "log_format": log_format,
            "repos": [
                {"name": f"octo/{name}", "url": f"{echo}/octo/{name}.git", "token_file": token_file} for name in names
            ],
            "plugins": {"fails": {"file": str(tmp_path / "fails.py")}},
        },
    )
    texts = []
    for name in names:
        answer = await server.sync(f"octo/{name}")
        assert answer.status == 502
        texts.append(answer.body)
    assert b"elsewhere.example.org/***/" in texts[1]
    accepted = await server.deliver("issues", secret=WEBHOOK_SECRET)
    assert accepted.status == 202
    receipt = f"{{prefix}}/deliveries/{accepted.json()['id']}"

    async def failed() -> bool:
        return b'"dead"' in (await server.admin("GET", receipt)).body

    await server.until(failed, "the handler to fail")
    texts += [(await server.admin("GET", path)).body for path in (receipt, "{prefix}/repos", "/readyz", "/metrics")]
    assert b"the API said: wrong token ***" in texts[3]
    assert await server.stop() == 0
    texts.append(server.log.encode())
    texts += [content for path, content in files(server.state_dir).items() if "/mirrors/" not in str(path)]
    for text in texts:
        for form in in_any_form(ECHOED):
            assert form not in text, text


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("where", ["", "from stackit import hookimpl\n@hookimpl\ndef stackit_service(app): "])
async def test_a_plugin_that_stops_the_start_says_no_secret(tmp_path: Path, where: str) -> None:
    raising = "raise ValueError('denied: ' + __import__('os').environ['STACKIT_API_TOKEN'].encode().hex())\n"
    (tmp_path / "mine.py").write_text(where + raising)
    config = tmp_path / "stackit.toml"
    config.write_text('listen = "tcp:0:interface=127.0.0.1"\n[plugins.mine]\nfile = "mine.py"\n')
    (tmp_path / "state").mkdir(mode=0o700)
    options = ("--config", str(config), "--state-dir", str(tmp_path / "state"))
    ended = await twistd(*options, "--admin-listen", "tcp:0:interface=127.0.0.1", STACKIT_API_TOKEN=API_TOKEN)
    said = ended.stdout + ended.stderr
    assert ended.status == 1
    assert b"ValueError: denied: ***" in said
    assert API_TOKEN.encode().hex().encode() not in said


KEYED = """
import logging

import msgspec
from stackit import PublicRoute, Response, Route, SecretFile, hookimpl, on


class Keyed:
    class Settings(msgspec.Struct, frozen=True):
        key: SecretFile

    def __init__(self, settings):
        self.key = settings.key
        FAIL

    def fault(self, length):
        # Where a text is cut to this length, a part of the key would be left.
        return ValueError("x" * (length - len("ValueError: ") - 20) + self.key.read() + "y" * 100)

    @on("issues")
    def logs(self, event):
        for length in (500, 2000):
            try:
                raise self.fault(length)
            except ValueError:
                logging.getLogger("keyed").exception("it failed")
        raise self.fault(500)

    async def fail(self, request):
        raise self.fault(480)

    @hookimpl
    def stackit_routes(self, app):
        return [Route("GET", "/keyed", self.fail)]

    @hookimpl
    def stackit_public_routes(self, app):
        return [PublicRoute(method="GET", path="/keyed", handler=self.fail)]
"""


def parts(secret: str) -> list[bytes]:
    return [secret[at : at + 10].encode() for at in range(len(secret) - 9)]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("log_format", ["text", "json"])
async def test_no_part_of_the_secret_of_a_plugin_is_left_where_a_text_is_cut(
    running_stackit: Any, tmp_path: Path, log_format: str
) -> None:
    (tmp_path / "keyed.py").write_text(KEYED.replace("FAIL", ""))
    (tmp_path / "key").write_text(ECHOED)
    table = {"file": f"{tmp_path}/keyed.py:Keyed", "key": str(tmp_path / "key")}
    server: RunningStackit = await running_stackit(config={"log_format": log_format, "plugins": {"keyed": table}})
    assert (await server.deliver("issues", action="opened")).status == 202

    async def failed() -> bool:
        return "handler failed" in server.log

    await server.until(failed, "the handler to have failed")
    assert (await server.admin("GET", "/keyed")).status == 500
    assert (await server.ask("GET", f"{server.url}/keyed")).status == 500
    assert await server.stop() == 0
    assert server.log.count("it failed") >= 2
    assert all(f"{side} route GET /keyed failed" in server.log for side in ("admin", "public"))
    assert not [part for part in parts(ECHOED) if part in server.log.encode()]


@pytest_twisted.ensureDeferred
async def test_a_plugin_that_cannot_be_set_up_says_no_part_of_its_secret(tmp_path: Path) -> None:
    (tmp_path / "keyed.py").write_text(KEYED.replace("FAIL", "raise self.fault(500 - 40)"))
    (tmp_path / "key").write_text(ECHOED)
    config = tmp_path / "stackit.toml"
    config.write_text('[plugins.keyed]\nfile = "keyed.py:Keyed"\nkey = "key"\n')
    (tmp_path / "state").mkdir(mode=0o700)
    ended = await twistd("--config", str(config), "--state-dir", str(tmp_path / "state"))
    assert ended.status == 1
    assert b"cannot be set up: ValueError: xxx" in ended.stdout + ended.stderr
    assert not [part for part in parts(ECHOED) if part in ended.stdout + ended.stderr]
