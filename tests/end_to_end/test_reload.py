"""SIGHUP: a running stackit takes what its file says now, all of it or nothing, and nobody notices."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_twisted
import supervisor as handed_over
from outside import Notebook, check_log, mirror_refs, shell
from rawhttp import request
from supervisor import on_loopback, on_path
from twisted.internet.threads import deferToThread
from waiting import until

from stackit.api.reactor import sleep
from stackit.subprocesses import Finished
from stackit.testing import PretendGitHub, RunningStackit, delivery
from stackit.testing.daemon import Daemon

TWISTD = "import sys; from twisted.scripts.twistd import run; sys.exit(run())"
QUIET = {"sync": {"interval": "0"}}

CHOOSY = """
import msgspec
from stackit import hookimpl, on


class Choosy:
    class Settings(msgspec.Struct, frozen=True):
        colour: str = "blue"

    def __init__(self, settings):
        self.settings = settings

    @on("issues")
    def seen(self, event):
        print(f"the colour is {self.settings.colour}")

    @hookimpl
    def stackit_reload(self, settings):
        if settings.colour == "red":
            raise ValueError("red is taken")
        self.settings = settings
"""


class Supervisor:
    """What systemd would hear."""

    def __init__(self, directory: Path) -> None:
        self.address = str(directory / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        heard = []
        while True:
            try:
                heard.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return heard

    async def hears(self, count: int) -> list[str]:
        """Wait for so many words, and no more of them."""
        heard: list[str] = []

        def all_heard() -> bool:
            heard.extend(self.heard())
            return len(heard) >= count

        await until(all_heard, f"{count} words to systemd")
        assert len(heard) == count, heard
        return heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path)
    yield supervisor
    supervisor.close()


async def in_step(server: RunningStackit, repo: str) -> None:
    async def there() -> bool:
        found = await server.admin("GET", f"{{prefix}}/repos/{repo}")
        return found.status == 200 and found.json()["state"] == "in_step"

    await server.until(there, f"{repo} to be in step")


@pytest_twisted.ensureDeferred
async def test_repositories_come_change_and_go_without_a_restart(
    running_stackit: Any, pretend_github: PretendGitHub
) -> None:
    urls = {}
    for name in ("octo/widget", "octo/gadget", "octo/moved"):
        urls[name] = await pretend_github.create(name)
        await pretend_github.commit(name)
    widget = {"name": "octo/widget", "url": urls["octo/widget"]}
    server: RunningStackit = await running_stackit(config={"repos": [widget]})
    await in_step(server, "octo/widget")
    pid = server.pid

    # One more.
    gadget = {"name": "octo/gadget", "url": urls["octo/gadget"]}
    line = await server.reload({"repos": [widget, gadget]})
    assert "outcome=done" in line
    assert "added octo/gadget" in line
    await in_step(server, "octo/gadget")
    assert await mirror_refs(server, "octo/gadget") == await pretend_github.refs("octo/gadget")

    # The first is elsewhere now.
    line = await server.reload({"repos": [{**widget, "url": urls["octo/moved"]}, gadget]})
    assert "changed octo/widget" in line
    expected = await pretend_github.refs("octo/moved")

    async def moved() -> bool:
        return await mirror_refs(server, "octo/widget") == expected

    await server.until(moved, "the mirror to follow the other URL")

    # The second is managed no more, and its mirror stays.
    line = await server.reload({"repos": [{**widget, "url": urls["octo/moved"]}]})
    assert "removed octo/gadget" in line
    assert (await server.admin("GET", "{prefix}/repos/octo/gadget")).status == 404
    assert await mirror_refs(server, "octo/gadget") == await pretend_github.refs("octo/gadget")
    samples = await server.metrics()
    assert [name for name in samples if "octo/gadget" in name] == []
    assert samples['stackit_reloads_total{outcome="done"}'] == 3
    assert server.pid == pid
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_a_secret_is_rotated_by_reloads(running_stackit: Any, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("the-old-secret-of-this-test")
    new.write_text("the-new-secret-of-this-test")
    server: RunningStackit = await running_stackit(
        config={**QUIET, "webhook": {"secret_files": [str(old)]}}, secret=None
    )

    async def statuses() -> list[int]:
        return [(await server.deliver("push", secret=each.read_text())).status for each in (old, new)]

    assert await statuses() == [202, 401]
    line = await server.reload({**QUIET, "webhook": {"secret_files": [str(old), str(new)]}})
    assert "webhook.secret_files" in line
    assert await statuses() == [202, 202]
    await server.reload({**QUIET, "webhook": {"secret_files": [str(new)]}})
    assert await statuses() == [401, 202]
    assert await server.stop() == 0
    assert "secret-of-this-test" not in server.log
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_a_delivery_that_is_under_way_while_its_secret_is_removed_is_refused(
    running_stackit: Any, tmp_path: Path
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("the-old-secret-of-this-test")
    new.write_text("the-new-secret-of-this-test")
    server: RunningStackit = await running_stackit(
        config={**QUIET, "webhook": {"secret_files": [str(old), str(new)]}}, secret=None
    )
    public = urlsplit(server.url)
    asked = []
    for secret in (old, new):
        made = delivery("push", secret=secret.read_text())
        sent = request("/api/v1/webhooks/github", headers=made.headers, body=made.body)
        channel = socket.create_connection((public.hostname, public.port), timeout=30)
        channel.sendall(sent[:-20])
        asked.append((channel, sent[-20:]))
    assert (await server.deliver("push", secret=new.read_text())).status == 202  # what was sent before has come, too
    await server.reload({**QUIET, "webhook": {"secret_files": [str(new)]}})
    statuses = []
    for channel, rest in asked:
        with channel:
            channel.sendall(rest)
            statuses.append((await deferToThread(channel.recv, 4096)).split()[1])
    assert statuses == [b"401", b"202"]
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_limits_and_tokens_hold_from_the_reload_on(running_stackit: Any, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-token-of-this-test")
    server: RunningStackit = await running_stackit(config={**QUIET, "log_level": "warn"})
    assert (await server.deliver("push", guid="untold")).status == 202
    large = b'{"filler": "' + b"x" * 4096 + b'"}'
    assert (await server.deliver("push", large)).status != 413
    assert (await server.admin("GET", "{prefix}/deliveries")).status == 200
    limits = {
        "webhook": {"max_body": "1 KiB", "deadline": "5s"},
        "admin": {"token_files": [str(token)], "hosts": ["stackit.example.org"]},
        "handlers": {"timeout": "1s", "concurrency": 3, "retry_for": "0"},
        "journal": {"keep_for": "1h", "keep_bytes": "10 MiB"},
    }
    line = await server.reload({**QUIET, **limits})
    for name in ("webhook.max_body", "webhook.deadline", "admin.token_files", "admin.hosts", "log_level"):
        assert name in line
    assert (await server.deliver("push", large)).status == 413
    small = b'{"repository": {"name": "widget", "owner": {"login": "octo"}}}'
    assert (await server.deliver("push", small, guid="told")).status == 202

    async def told() -> bool:
        return "delivery=told" in server.log

    await server.until(told, "the level of the log to be info")
    before, _, _ = server.log.partition(line)  # that it was handled may be told after the reload
    assert "untold" not in before
    assert (await server.admin("GET", "{prefix}/deliveries")).status == 401
    assert (await server.ask("GET", f"{server.url}/api/v1/config")).json()["auth_required"] is True
    headers = {"Authorization": "Bearer a-token-of-this-test"}
    answer = await server.ask("GET", f"{server.admin_url}/api/v1/deliveries", headers=headers)
    assert answer.status == 200
    # The same once more is no change.
    assert "nothing changed" in await server.reload()
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_a_broken_file_changes_nothing_and_is_named_with_the_key(running_stackit: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("another-secret-of-this-test")
    server: RunningStackit = await running_stackit(config=QUIET)
    broken = {"webhook": {"secret_files": [str(secret)], "max_body": "1 KiB"}, "handlers": {"concurrency": 0}}
    line = await server.reload({**QUIET, **broken})
    assert "outcome=refused" in line
    assert "stackit.toml: handlers.concurrency: must be at least 1" in line
    line = await server.reload("this is = not TOML [")
    assert "not TOML" in line
    line = await server.reload({**QUIET, "plugins": {"ratelimit": {"bursts": 1}}})
    assert "plugins.ratelimit.bursts: unknown key" in line
    line = await server.reload({**QUIET, "webhook": {"secret_files": [str(tmp_path / "missing")]}})
    assert "missing cannot be read" in line
    assert (await server.deliver("push", secret=secret.read_text())).status == 401
    assert (await server.deliver("push", b'{"filler": "' + b"x" * 4096 + b'"}')).status != 413
    assert (await server.metrics())['stackit_reloads_total{outcome="refused"}'] == 4
    # What was not applied is no obstacle to what comes next.
    assert "nothing changed" in await server.reload(QUIET)
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_a_plugin_that_refuses_its_table_keeps_everything_as_it_was(running_stackit: Any, tmp_path: Path) -> None:
    (tmp_path / "choosy.py").write_text(CHOOSY)
    secret = tmp_path / "secret"
    secret.write_text("another-secret-of-this-test")

    def config(colour: str, *files: Path, burst: int = 100000) -> dict[str, Any]:
        return {
            **QUIET,
            "webhook": {"secret_files": [str(file) for file in files]},
            "plugins": {
                "a": {"module": "choosy:Choosy", "colour": "green" if files else "blue"},
                "choosy": {"module": "choosy:Choosy", "colour": colour},
                "ratelimit": {"burst": burst},
            },
        }

    server: RunningStackit = await running_stackit(config=config("blue"), plugins=tmp_path)

    def told() -> list[str]:
        return re.findall(r"the colour is (\w+)", server.log)

    async def colours(guid: str) -> list[str]:
        before = len(told())
        assert (await server.deliver("issues", guid=guid)).status == 202
        await server.wait_for(guid)
        await until(lambda: len(told()) == before + 2, "the log to tell")
        return told()[-2:]

    assert await colours("one") == ["blue", "blue"]
    line = await server.reload(config("red", secret, burst=1))
    assert "outcome=refused" in line
    assert "plugins.choosy: the plugin refuses it: ValueError: red is taken" in line
    # Not even the plugin that had taken its table before.
    assert await colours("two") == ["blue", "blue"]
    assert [(await server.deliver("push", secret=secret.read_text())).status for _ in range(3)] == [401] * 3
    line = await server.reload(config("pink", secret))
    assert "plugins.choosy" in line
    assert sorted(await colours("three")) == ["green", "pink"]
    assert (await server.deliver("push", secret=secret.read_text())).status == 202
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_what_needs_a_restart_is_named_in_one_line_each_time(running_stackit: Any, tmp_path: Path) -> None:
    notebook = Notebook(tmp_path / "notebook")
    server: RunningStackit = await running_stackit(config=QUIET)
    changed = {
        "grace": "3s",
        "api_prefixes": ["/other"],
        "sync": {"interval": "1h"},
        "plugins": {"notebook": notebook.table, "mirror": {"enabled": False}},
        "handlers": {"timeout": "7s"},
    }
    for expected in ("changed: handlers.timeout", "nothing changed"):
        assert expected in await server.reload(changed)
        (line,) = [each for each in server.log.splitlines() if "a restart is needed" in each][-1:]
        for name in ("grace", "api_prefixes", "sync.interval", "plugins.notebook", "plugins.mirror"):
            assert name in line
    assert server.log.count("a restart is needed") == 2
    assert (await server.deliver("push")).status == 202
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_a_supervisor_hears_of_the_start_each_reload_and_the_stop(
    running_stackit: Any, supervisor: Supervisor
) -> None:
    server: RunningStackit = await running_stackit(config=QUIET, environment={"NOTIFY_SOCKET": supervisor.address})
    assert await supervisor.hears(1) == ["READY=1"]
    await server.reload()
    reloading, ready = await supervisor.hears(2)
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", reloading)
    assert ready == "READY=1\nSTATUS=reloaded"
    await server.reload("colour = 'red'")
    reloading, ready = await supervisor.hears(2)
    assert ready.startswith("READY=1\nSTATUS=the last reload was refused, and nothing changed: ")
    assert "colour: unknown key" in ready
    assert await server.stop() == 0
    assert "STOPPING=1" in supervisor.heard()


def takes_hangups(pid: int | None) -> bool:
    """Whether SIGHUP would not end a process now."""
    found = re.findall(r"^Sig(?:Ign|Cgt):\t([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return any(int(each, 16) & 1 << (signal.SIGHUP - 1) for each in found)


@pytest_twisted.ensureDeferred
async def test_a_hangup_at_any_time_ends_nothing_also_without_a_file(tmp_path: Path) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    script = "import sys; from twisted.scripts.twistd import run; sys.exit(run())"
    argv = [sys.executable, "-P", "-c", script, "--nodaemon", "--pidfile=", f"--rundir={tmp_path}", "stackit"]
    argv += ["--listen", "tcp:0:interface=127.0.0.1", "--admin-listen", "tcp:0:interface=127.0.0.1"]
    measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path), **measured}
    daemon = Daemon.spawn(reactor, argv, {**environment, "STATE_DIRECTORY": str(tmp_path / "state")})
    while daemon.status is None and not takes_hangups(daemon.pid):
        await sleep(reactor, 0.01)
    while daemon.status is None and b"nothing changed" not in daemon.output:
        daemon.signal(signal.SIGHUP)
        await sleep(reactor, 0.01)
    daemon.signal(signal.SIGTERM)
    while daemon.status is None:
        daemon.signal(signal.SIGHUP)
        await sleep(reactor, 0.005)
    assert await daemon.ended() == 0
    log = daemon.output.decode()
    assert "outcome=refused" not in log
    check_log(log)


async def checked(file: Path) -> Finished:
    return await shell(sys.executable, "-m", "stackit", "check-config", "--config", str(file))


@pytest_twisted.ensureDeferred
async def test_a_file_is_checked_without_a_start(tmp_path: Path) -> None:
    file = tmp_path / "stackit.toml"
    file.write_text(f'state_dir = "{tmp_path / "state"}"\n[[repos]]\nname = "octo/widget"\n')
    good = await checked(file)
    assert good.status == 0, good.stderr
    assert f"{file}: no mistakes; repositories: 1; plugins: logger, metrics, mirror, ratelimit" in good.stdout.decode()
    assert not (tmp_path / "state").exists()
    file.write_text("handlers.concurrency = 0\n[plugins.mirror]\nconcurrency = 'many'\n")
    bad = await checked(file)
    assert bad.status == 2
    assert [line.partition(": ")[2].partition(": ")[2] for line in bad.stderr.decode().splitlines()] == [
        "handlers.concurrency: must be at least 1 (it is 0)",
        "plugins.mirror.concurrency: expected a whole number, got text in quotes (it is 'many')",
    ]


@pytest_twisted.ensureDeferred
async def test_a_reload_takes_no_token_from_a_socket_that_was_handed_over_and_that_others_reach(tmp_path: Path) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    admin = on_path(tmp_path / "admin.sock")
    (tmp_path / "admin.sock").chmod(0o666)
    (tmp_path / "token").write_text("a-token")
    config = tmp_path / "stackit.toml"
    state = f'state_dir = "{tmp_path / "state"}"\n'
    config.write_text(f'{state}[admin]\ntoken_files = ["token"]\n')
    measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    argv = [sys.executable, "-P", "-c", TWISTD, "--nodaemon", "--pidfile=", "stackit", "--config", str(config)]
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path), **measured}
    sockets = {"public": on_loopback(), "admin": admin}
    supervised = handed_over.Supervisor(reactor, tmp_path, argv, environment, sockets)

    async def status(*options: str) -> Finished:
        where = ["--admin-url", f"unix:{tmp_path}/admin.sock", "--config", str(config)]
        return await shell(sys.executable, "-m", "stackit", "status", *where, *options)

    await supervised.start()
    assert b"wants a token" in (await status()).stderr
    config.write_text(state)
    told = await supervised.reload()
    assert "nothing changed" in told
    assert "needs a token" in told
    assert b"wants a token" in (await status()).stderr
    assert (await status("--token-file", str(tmp_path / "token"))).status == 0
    assert await supervised.stop() == 0
    check_log(supervised.log)
    supervised.close()
