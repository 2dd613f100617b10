"""The shell commands, against an admin side that listens for real."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_twisted
from fleet_answers import OUT, out_of_the_fleet
from memory_journal import MemoryJournal
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue

from stackit import AdminRequest, Response, Route, error
from stackit.cli.loading import load_commands
from stackit.cli.parser import parse
from stackit.cli.run import run
from stackit.config.model import Config
from stackit.config.secret import Secret
from stackit.fleet.answers import Draining, FleetAnswer, fleet_route
from stackit.service.node import SingleNode
from stackit.text.tables import table
from stackit.text.times import rfc3339
from stackit.web.admin.site import admin_site

NOW = 1_795_459_409.123 + 200
"""200 seconds after the deliveries."""


def delivery(number: int, **changes: Any) -> dict[str, Any]:
    """A delivery as the admin side shows it."""
    handling = {
        "subscriber": "deploy",
        "state": "dead",
        "attempts": 3,
        "error": "ValueError: \x1b[31mred\nline",
        "next_at": None,
        "finished_at": "2026-11-23T18:43:31.000Z",
    }
    done = {**handling, "subscriber": "notes", "state": "done", "attempts": 1, "error": None}
    pending = {**handling, "subscriber": "mirror", "state": "pending", "error": None, "finished_at": None}
    pending["next_at"] = "2026-11-23T20:46:59.000Z"
    return {
        "id": str(number),
        "delivery": f"guid-{number}",
        "hook": "77",
        "via": "webhook",
        "event": "issues",
        "action": "opened",
        "repo": "octo/widget",
        "received_at": "2026-11-23T18:43:29.123Z",
        "state": "dead",
        "visible_at": None,
        "handlings": [done, handling, pending],
        **changes,
    }


class Pretend:
    """An admin side with known answers, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.count = 3
        self.problems: list[str] = []
        self.read_only = False
        self.node: str | None = None
        self.fleet: FleetAnswer | None = None

    def drain(self, request: AdminRequest) -> Response:
        last = request.args["node"] == "last"
        warning = "it goes on to receive: no other node that is up does" if last else None
        return Response(status=202, body=Draining(request.args["node"], draining=True, warning=warning))

    def routes(self) -> list[Route]:
        return [
            Route("GET", "{prefix}/deliveries", self._noted(self.listing)),
            Route("GET", "{prefix}/deliveries/{id}", self._noted(self.show)),
            Route("POST", "{prefix}/deliveries/replay", self._noted(lambda _request: Response(body={"replayed": 4}))),
            Route(
                "POST", "{prefix}/deliveries/{id}/replay", self._noted(lambda _request: Response(body={"replayed": 1}))
            ),
            Route("GET", "{prefix}/repos", self._noted(self.repos)),
            Route("GET", "{prefix}/status", self._noted(self.status)),
            fleet_route(self._noted(lambda _request: Response(body=self.fleet))),
            Route("POST", "{prefix}/fleet/nodes/{node}/drain", self._noted(self.drain)),
            Route("POST", "{prefix}/repos/{owner}/{name}/sync", self._noted(self.sync)),
        ]

    def _noted(self, handler: Callable[[AdminRequest], Response]) -> Callable[[AdminRequest], Response]:
        def note(request: AdminRequest) -> Response:
            self.asked.append((request.method, request.path, dict(request.query)))
            return handler(request)

        return note

    def listing(self, request: AdminRequest) -> Response:
        first = int(request.query.get("cursor", "0"))
        last = min(first + int(request.query["limit"]), self.count)
        rest = str(last) if last < self.count else None
        return Response(body={"deliveries": [delivery(number) for number in range(first, last)], "next": rest})

    def show(self, request: AdminRequest) -> Response:
        if request.args["id"] != "1":
            return error(404, "no such delivery")
        payload = {"payload": {"zen": "caf\u00e9"}} if request.query.get("payload") == "1" else {}
        return Response(body={**delivery(1), **payload})

    def status(self, _request: AdminRequest) -> Response:
        subscribers = [
            {"subscriber": "deploy", "pending": 2, "dead": 1, "paused": True},
            {"subscriber": "mirror", "pending": 0, "dead": 0, "paused": False},
        ]
        return Response(
            body={
                "version": "9.8.7",
                "started_at": "2026-11-21T18:43:29.123Z",
                "ready": not self.problems,
                "problems": self.problems,
                "since": [{"problem": each, "since": "2026-11-21T18:43:29.123Z"} for each in self.problems],
                "read_only": self.read_only,
                "pending": 2,
                "dead": 1,
                "subscribers": subscribers,
                "repos": 1,
            }
        )

    def repos(self, _request: AdminRequest) -> Response:
        row = {
            "name": "octo/widget",
            "url": "u",
            "source": "file",
            "added_by": None,
            "state": "in_step",
            "verified_at": None,
            "error": None,
            "next_at": None,
            "held_deletions": False,
            "node": self.node,
            "path": "/srv/mirrors/octo/widget.git",
        }
        return Response(body={"repos": [row]})

    def sync(self, request: AdminRequest) -> Response:
        if request.args["name"] == "broken":
            return error(502, "the remote says: repository not found")
        if request.args["name"] == "emptied" and request.query.get("accept") != "deletions":
            return error(409, "the mirror keeps them")
        change = {"ref": "refs/heads/caf\udce9", "old": "0" * 40, "new": "a" * 40, "kind": "created", "forced": False}
        return Response(body={"changes": [change] if request.args["name"] == "widget" else []})


class Ran(msgspec.Struct):
    status: int
    out: str
    err: str


class Shell:
    """Runs commands in this process, with an environment and a current directory of their own."""

    def __init__(self, reactor: Any, cwd: Path, environ: dict[str, str]) -> None:
        self._reactor = reactor
        self.cwd = cwd
        self.environ = environ

    async def __call__(self, *arguments: str) -> Ran:
        out, err = io.StringIO(), io.StringIO()
        status = await run(
            self._reactor, arguments, environ=self.environ, cwd=self.cwd, out=out, err=err, now=lambda: NOW
        )
        return Ran(status, out.getvalue(), err.getvalue())


Start = Callable[..., Awaitable[tuple[Shell, Pretend]]]


@pytest_twisted.async_yield_fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    from twisted.internet import reactor as the_reactor  # noqa: PLC0415 - importing it installs it

    reactor: Any = the_reactor
    ports = []
    sites = []
    readers = set(reactor.getReaders())

    async def listen(
        token: str | None = None, prefixes: tuple[str, ...] = ("/api/v1", "/api")
    ) -> tuple[Shell, Pretend]:
        pretend = Pretend()
        api_token = None if token is None else Secret(token)
        config = Config(state_dir=tmp_path, api_prefixes=prefixes, api_token=api_token)
        site = admin_site(config, pretend.routes(), reactor)
        sites.append(site)
        port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(site)
        ports.append(port)
        listen = f"tcp:{port.getHost().port}:interface=127.0.0.1"
        return Shell(reactor, tmp_path, {"STACKIT_ADMIN_LISTEN": listen}), pretend

    yield listen
    for port in ports:
        await port.stopListening()
    for site in sites:
        await site.wind_down(5)
    await _settle(reactor, readers)


async def _settle(reactor: Any, readers: set[Any]) -> None:
    """Until the server's ends of connections have seen the clients hang up."""
    while True:
        await deferLater(reactor, 0)
        if not set(reactor.getReaders()) - readers - reactor._internalReaders:
            return


# -- what each command shows ------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_deliveries_are_a_table_with_the_filters_passed_on(start: Start) -> None:
    shell, pretend = await start()
    ran = await shell(
        "deliveries",
        "--state=dead",
        "--event=issues",
        "--repo=o/w",
        "--subscriber=deploy",
        "--delivery=g",
        "--limit=7",
        "--since=2h",
        "--until=2026-11-23T19:00:00+01:00",
    )
    assert (ran.status, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert re.split("  +", lines[0]) == ["ID", "RECEIVED", "EVENT", "REPO", "STATE", "DELIVERY", "NOT DONE AT"]
    row = ["0", "3 minutes ago", "issues.opened", "octo/widget", "dead", "guid-0", "deploy (dead), mirror (pending)"]
    assert re.split("  +", lines[1]) == row
    assert len(lines) == 4
    filters = {"state": "dead", "event": "issues", "repo": "o/w", "subscriber": "deploy", "delivery": "g"}
    filters |= {"since": "2h", "until": "2026-11-23T19:00:00+01:00"}
    assert pretend.asked == [("GET", "/api/v1/deliveries", {**filters, "limit": "7"})]


@pytest_twisted.ensureDeferred
async def test_a_limit_beyond_a_page_is_gathered_from_several(start: Start) -> None:
    shell, pretend = await start()
    pretend.count = 450
    ran = await shell("deliveries", "--limit", "420", "--json")
    answer = json.loads(ran.out)
    assert [each["id"] for each in answer["deliveries"]] == [str(number) for number in range(420)]
    assert answer["next"] == "420"
    assert [query["limit"] for _, _, query in pretend.asked] == ["200", "200", "20"]


@pytest_twisted.ensureDeferred
async def test_a_table_that_ends_early_says_so_and_an_empty_one_too(start: Start) -> None:
    shell, pretend = await start()
    assert "--limit 2 reached" in (await shell("deliveries", "--limit", "2")).out
    pretend.count = 0
    assert (await shell("deliveries")).out == "no deliveries\n"


@pytest_twisted.ensureDeferred
async def test_one_delivery_shows_each_subscriber_and_control_characters_are_escaped(start: Start) -> None:
    shell, _ = await start()
    ran = await shell("delivery", "1")
    assert ran.status == 0
    assert "state:     dead\n" in ran.out
    assert "received:  2026-11-23T18:43:29.123Z (3 minutes ago)\n" in ran.out
    rows = [re.split("  +", line) for line in ran.out.splitlines()]
    assert ["deploy", "dead", "3", "3 minutes ago", "-", "ValueError: \\x1b[31mred\\nline"] in rows
    assert ["mirror", "pending", "3", "-", "in 2 hours", "-"] in rows
    assert "\\x1b[31mred\\nline" in ran.out
    assert "\x1b" not in ran.out
    assert "zen" not in ran.out


@pytest_twisted.ensureDeferred
async def test_the_payload_is_shown_on_request(start: Start) -> None:
    shell, _ = await start()
    assert '"zen": "caf\\u00e9"' in (await shell("delivery", "1", "--payload")).out
    assert json.loads((await shell("delivery", "1", "--payload", "--json")).out)["payload"] == {"zen": "café"}


@pytest_twisted.ensureDeferred
async def test_replay_of_one_or_of_all_dead(start: Start) -> None:
    shell, pretend = await start()
    assert (await shell("replay", "1")).out == "1 handling will run again\n"
    assert (await shell("replay", "1", "--subscriber", "deploy")).status == 0
    assert (await shell("replay", "--dead", "--subscriber", "deploy")).out == "4 handlings will run again\n"
    assert json.loads((await shell("replay", "1", "--json")).out) == {"replayed": 1}
    assert pretend.asked[:3] == [
        ("POST", "/api/v1/deliveries/1/replay", {}),
        ("POST", "/api/v1/deliveries/1/replay", {"subscriber": "deploy"}),
        ("POST", "/api/v1/deliveries/replay", {"subscriber": "deploy", "state": "dead"}),
    ]


@pytest_twisted.ensureDeferred
async def test_repositories_and_a_sync_are_tables(start: Start) -> None:
    shell, pretend = await start()
    assert "octo/widget  in_step  file  -" in (await shell("repos")).out
    pretend.node = "b"
    assert (await shell("repos")).out.splitlines()[:2] == [
        "NAME         NODE  STATE    FROM  VERIFIED  NEXT  ERROR",
        "octo/widget  b     in_step  file  -         -     -",
    ]
    ran = await shell("sync", "octo/widget")
    assert ran.out.splitlines()[1].split() == ["created", "000000000000", "aaaaaaaaaaaa", "refs/heads/caf\\udce9"]
    assert (await shell("sync", "octo/quiet")).out == "in step; nothing changed\n"
    assert json.loads((await shell("sync", "octo/quiet", "--json")).out) == {"changes": []}


@pytest_twisted.ensureDeferred
async def test_the_status_is_the_state_of_all_of_stackit(start: Start) -> None:
    shell, pretend = await start()
    ran = await shell("status")
    assert (ran.status, ran.err) == (0, "")
    lines = [re.split("  +", line) for line in ran.out.splitlines()]
    assert lines == [
        ["state:", "ready"],
        ["version:", "9.8.7"],
        ["started:", "2026-11-21T18:43:29.123Z (2 days ago)"],
        ["pending:", "2"],
        ["dead:", "1"],
        ["repos:", "1"],
        ["mirrors:", "1 in_step"],
        ["paused:", "deploy"],
        [""],
        ["SUBSCRIBER", "PENDING", "DEAD"],
        ["deploy", "2", "1"],
        ["mirror", "0", "0"],
    ]
    pretend.problems = ["the disk is full: make room", "plugin x: \x1b[31m"]
    shown = (await shell("status")).out
    assert shown.startswith("state:    not ready\n")
    assert shown.endswith(
        "\n\nproblems:\n  the disk is full: make room (first seen 2 days ago)\n"
        "  plugin x: \\x1b[31m (first seen 2 days ago)\n"
    )
    pretend.read_only = True
    assert (await shell("status")).out.startswith("state:    not ready, read-only\n")
    answer = json.loads((await shell("status", "--json")).out)
    assert (answer["problems"], answer["mirrors"]) == (pretend.problems, {"in_step": 1})


@pytest_twisted.ensureDeferred
async def test_the_fleet_is_a_table_with_what_is_wrong_and_what_is_old(start: Start) -> None:
    shell, pretend = await start()

    pretend.fleet = out_of_the_fleet()
    ran = await shell("fleet")
    rows = [re.split("  +", line)[:2] for line in ran.out.splitlines()[1:5]]
    assert rows == [["a (here)", "out"], ["b (leader)", "up"], ["c", "draining"], ["d", "away for 61 s"]]
    assert "0 (+3 wait)" in ran.out
    assert (ran.out + ran.err).splitlines()[-4:] == [
        OUT,
        "the other nodes are shown as this one saw them last",
        "PostgreSQL 15.4, 1 MiB, 1 synchronous standby",
        "1 of 16 shards of mirrors without an owner now",
    ]
    assert (await shell("fleet", "drain", "b")).out == (
        "b is draining: it finishes what it has in hand; its work goes to others\n"
    )
    assert (await shell("fleet", "drain", "last")).out == (
        "last is draining: it goes on to receive: no other node that is up does\n"
    )


@pytest_twisted.ensureDeferred
async def test_deletions_are_accepted_on_request(start: Start) -> None:
    shell, _ = await start()
    assert await shell("sync", "octo/emptied") == Ran(1, "", "stackit: the mirror keeps them\n")
    assert (await shell("sync", "octo/emptied", "--accept-deletions")).status == 0


# -- where the service is, and the way in -----------------------------------------


@pytest_twisted.ensureDeferred
async def test_what_the_service_refuses_is_one_line_and_status_1(start: Start) -> None:
    shell, _ = await start()
    assert await shell("delivery", "2") == Ran(1, "", "stackit: no such delivery\n")
    assert await shell("sync", "octo/broken") == Ran(1, "", "stackit: the remote says: repository not found\n")
    assert (await shell("delivery", "../x")).status == 1


@pytest_twisted.ensureDeferred
async def test_the_token_comes_from_the_environment_or_a_file(start: Start) -> None:
    shell, _ = await start(token="right")
    ran = await shell("repos")
    wanted = " wants a token: log in (stackit login), set STACKIT_API_TOKEN, or give --token-file\n"
    assert (ran.status, ran.err.endswith(wanted)) == (1, True)
    shell.environ["STACKIT_API_TOKEN"] = "wrong"
    ran = await shell("repos")
    assert (ran.status, "wrong" in ran.err) == (1, False)
    assert ran.err.endswith(" refuses this token: is the one of STACKIT_API_TOKEN still valid?\n")
    (shell.cwd / "old-token").write_text("outworn\n")
    ran = await shell("repos", "--token-file", "old-token")
    assert (ran.status, "outworn" in ran.err) == (1, False)
    assert ran.err.endswith(" refuses this token: is the one of --token-file old-token still valid?\n")
    (shell.cwd / "token").write_text("right\n")
    assert (await shell("repos", "--token-file", "token")).status == 0
    (shell.cwd / "marked").write_bytes(b"\xef\xbb\xbfright\r\n")  # as the admin side itself reads its file
    assert (await shell("repos", "--token-file", "marked")).status == 0
    shell.environ["STACKIT_API_TOKEN"] = " right "
    assert (await shell("repos")).status == 0


@pytest_twisted.ensureDeferred
async def test_the_address_comes_from_the_option_then_the_environment_then_the_file(start: Start) -> None:
    shell, pretend = await start(prefixes=("/hooks",))
    listen = shell.environ.pop("STACKIT_ADMIN_LISTEN")
    (shell.cwd / "twistd.conf").write_text(f'api_prefixes = ["/hooks"]\n[admin]\nlisten = "{listen}"\n')
    assert (await shell("repos")).status == 0
    assert pretend.asked == [("GET", "/hooks/repos", {})]
    shell.environ["STACKIT_ADMIN_LISTEN"] = "tcp:1:interface=127.0.0.1"
    ran = await shell("repos")
    assert ran.err.startswith("stackit: no stackit answers at http://127.0.0.1:1; start it with: twistd -n stackit")
    assert ran.status == 1
    assert (await shell("repos", "--admin-url", f"http://127.0.0.1:{listen.split(':')[1]}/")).status == 0


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("tcp:1", "http://127.0.0.1:1"),
        ("tcp:port=1:interface=0.0.0.0", "http://127.0.0.1:1"),
        ("tcp:1:interface=localhost", "http://localhost:1"),
        ("tcp6:1:interface=\\:\\:1", "http://[::1]:1"),
        ("tcp6:1:interface=\\:\\:", "http://[::1]:1"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_address_to_listen_on_is_turned_into_one_to_ask(start: Start, listen: str, address: str) -> None:
    shell, _ = await start()
    shell.environ["STACKIT_ADMIN_LISTEN"] = listen
    assert f"no stackit answers at {address};" in (await shell("repos")).err


@pytest.mark.parametrize(
    ("arguments", "environ", "file", "reason"),
    [
        (["--admin-url", "localhost:8081"], {}, "", "--admin-url: expected a URL"),
        (["--admin-url", "http://"], {}, "", "--admin-url: expected a URL"),
        (["--admin-url", "http://h:99999"], {}, "", "--admin-url: expected a URL"),
        (["--admin-url", "http://user:pass@h"], {}, "", "without user name"),
        (["--admin-url", "unix:"], {}, "", "--admin-url: expected a path (behind unix:)"),
        (["--admin-url", f"unix:/{'x' * 200}"], {}, "", "--admin-url: the path of a unix socket has at most 107 bytes"),
        ([], {"STACKIT_ADMIN_LISTEN": "nonsense"}, "", "STACKIT_ADMIN_LISTEN: expected a Twisted endpoint"),
        ([], {"STACKIT_ADMIN_LISTEN": "systemd:domain=INET:index=0"}, "", "give --admin-url"),
        ([], {"STACKIT_CONFIG": "missing.toml"}, "", "missing.toml: cannot be read"),
        ([], {}, "[admin]\nlisten = 5", "twistd.conf: admin.listen: expected"),
        ([], {}, "api_prefixes = 5", "twistd.conf: api_prefixes: expected"),
        ([], {}, "api_prefixes = []", "twistd.conf: api_prefixes: expected"),
        ([], {}, "[admin", "not TOML"),
        (["--token-file", "missing"], {}, "", "--token-file missing: cannot be read"),
        ([], {"STACKIT_API_TOKEN": "two words"}, "", "STACKIT_API_TOKEN:"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_settings_that_make_no_sense_are_one_line_and_status_2(
    start: Start, arguments: list[str], environ: dict[str, str], file: str, reason: str
) -> None:
    shell, _ = await start()
    shell.environ = environ
    if file:
        (shell.cwd / "twistd.conf").write_text(file)
    ran = await shell("repos", *arguments)
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert reason in ran.err
    assert "pass" not in ran.err
    assert "two words" not in ran.err


@pytest_twisted.ensureDeferred
async def test_options_of_every_command_stand_before_or_behind_its_name(start: Start) -> None:
    shell, pretend = await start(token="right")
    (shell.cwd / "token").write_text("right\n")
    url = f"http://127.0.0.1:{shell.environ.pop('STACKIT_ADMIN_LISTEN').split(':')[1]}"
    common = [["--admin-url", url], ["--token-file", "token"], ["--timeout", "60s"], ["--json"]]
    for number in range(len(common) + 1):
        before, behind = list(chain(*common[:number])), list(chain(*common[number:]))
        ran = await shell(*before, "repos", *behind)
        assert (ran.status, ran.err) == (0, ""), (before, behind)
        assert json.loads(ran.out)["repos"]
    assert len(pretend.asked) == 5


@pytest_twisted.ensureDeferred
async def test_of_an_option_given_twice_the_one_behind_the_command_counts(start: Start) -> None:
    shell, _ = await start()
    url = f"http://127.0.0.1:{shell.environ['STACKIT_ADMIN_LISTEN'].split(':')[1]}"
    assert (await shell("--admin-url", "http://127.0.0.1:1", "repos", "--admin-url", url)).status == 0
    (shell.cwd / "here.conf").write_text("[plugins.mirror]\nenabled = false\n")
    for arguments in (["--config", "here.conf", "deliveries"], ["deliveries", "--config", "here.conf"]):
        assert (await shell(*arguments)).status == 0


@pytest_twisted.ensureDeferred
async def test_a_socket_that_cannot_be_asked_is_one_line(tmp_path: Path) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    (tmp_path / "file").write_text("")
    for path in ("file", "there/is none:of this"):
        ran = await Shell(reactor, tmp_path, {})("repos", "--admin-url", f"unix:{path}")
        assert (ran.status, ran.out, ran.err.count("\n")) == (1, "", 1)
        assert f"no stackit answers at unix:{tmp_path}/{path};" in ran.err


@pytest.mark.parametrize("how", ["--admin-url", "--admin-url=relative", "STACKIT_ADMIN_LISTEN", "admin.listen"])
@pytest_twisted.ensureDeferred
async def test_a_unix_socket_is_asked_as_well(tmp_path: Path, how: str) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    pretend = Pretend()
    site = admin_site(Config(state_dir=tmp_path), pretend.routes(), reactor)
    with tempfile.TemporaryDirectory() as directory:  # the path of a socket is short
        path = Path(directory) / "admin.sock"
        shell = Shell(reactor, Path(directory), {})
        given = ["--admin-url", f"unix:{path}"] if how == "--admin-url" else []
        if how == "--admin-url=relative":
            given = ["--admin-url", "unix:admin.sock"]
        if how == "STACKIT_ADMIN_LISTEN":
            shell.environ[how] = f"unix:{path}:mode=600"
        if how == "admin.listen":
            (shell.cwd / "twistd.conf").write_text(f'[admin]\nlisten = "unix:{path}"\n')
        ran = await shell("repos", *given)
        assert (ran.status, ran.err.startswith(f"stackit: no stackit answers at unix:{path};")) == (1, True)
        port = await serverFromString(reactor, f"unix:{path}").listen(site)
        ran = await shell("repos", *given)
        assert (ran.status, ran.err) == (0, "")
        assert (await shell("deliveries", "--limit", "2", *given)).status == 0
        assert len(pretend.asked) == 2
        await port.stopListening()
        await site.wind_down(5)


class _Foreign(Protocol):
    transport: Any  # a zope interface, which mypy does not know

    def dataReceived(self, data: bytes) -> None:
        if b"/silent" in data:
            return
        body = b"{}   " if b"/json" in data else b"hello"
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + body)
        self.transport.loseConnection()


@pytest_twisted.ensureDeferred
async def test_another_service_or_a_silent_one_is_recognised(tmp_path: Path) -> None:
    from twisted.internet import reactor as the_reactor  # noqa: PLC0415 - importing it installs it

    reactor: Any = the_reactor
    readers = set(reactor.getReaders())
    port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(Factory.forProtocol(_Foreign))
    shell = Shell(reactor, tmp_path, {})
    address = f"http://127.0.0.1:{port.getHost().port}"
    ran = await shell("repos", "--admin-url", address)
    assert (ran.status, "is not the admin side of stackit" in ran.err) == (1, True)
    ran = await shell("repos", "--admin-url", f"{address}/json")
    assert (ran.status, "this version cannot read" in ran.err) == (1, True)
    ran = await shell("repos", "--admin-url", f"{address}/silent", "--timeout", "0.1s")
    assert (ran.status, "took longer than 0.1 seconds" in ran.err) == (1, True)
    await port.stopListening()
    await _settle(reactor, readers)


# -- the command line itself ------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["deliveries", "--state", "broken"],
        ["deliveries", "--limit", "0"],
        ["deliveries", "--limit", "x"],
        ["deliveries", "--since", "yesterday"],
        ["deliveries", "--until", "2026-11-23"],
        ["delivery"],
        ["replay"],
        ["replay", "1", "--dead", "--subscriber", "s"],
        ["replay", "--dead"],
        ["sync", "widget"],
        ["repos", "--timeout", "soon"],
    ],
)
def test_a_command_line_that_makes_no_sense_ends_with_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments, load_commands(None, {}, tmp_path)[0])
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("file", ["[admin", "plugins = 5", "[plugins.mirror]\nfile = 5"])
@pytest_twisted.ensureDeferred
async def test_help_and_version_are_there_whatever_the_configuration_is(
    file: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    (tmp_path / "twistd.conf").write_text(file)
    for arguments, said in ((["--help"], "usage: "), (["--version"], "stackit "), (["replay", "-h"], "usage: ")):
        with pytest.raises(SystemExit) as ended:
            await Shell(reactor, tmp_path, {})(*arguments)
        assert (ended.value.code, capsys.readouterr().out.startswith(said)) == (0, True)


@pytest.mark.parametrize("command", [["deliveries"], ["send", "push"], ["dev", "x.py"], ["backup", "copy"]])
@pytest_twisted.ensureDeferred
async def test_a_directory_in_which_nothing_can_be_looked_for_is_one_line(tmp_path: Path, command: list[str]) -> None:
    """A name that is too long stands for a directory of another user, where root may look all the same."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    ran = await Shell(reactor, tmp_path / ("x" * 300), {})(*command)
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert "/twistd.conf: cannot be looked for: File name too long; name a file with --config, or change" in ran.err


@pytest_twisted.ensureDeferred
async def test_python_m_stackit_runs_the_command_and_exits_with_its_status(start: Start) -> None:
    shell, _ = await start()

    async def python_m_stackit(*arguments: str, **environ: str) -> tuple[bytes, bytes, int]:
        environment = {"PATH": os.environ["PATH"], **shell.environ, **environ}
        command = ["-m", "stackit", *arguments]
        ended: tuple[bytes, bytes, int] = await getProcessOutputAndValue(
            sys.executable, command, env=environment, path=str(shell.cwd)
        )
        return ended

    out, err, status = await python_m_stackit("repos")
    assert (status, err) == (0, b"")
    assert b"octo/widget" in out
    out, err, status = await python_m_stackit("delivery", "7")
    assert (out, err, status) == (b"", b"stackit: no such delivery\n", 1)
    _, err, status = await python_m_stackit("repos", STACKIT_ADMIN_LISTEN="tcp:1")
    assert (err.count(b"\n"), status) == (1, 1)
    assert b"no stackit answers" in err
    _, _, status = await python_m_stackit("nonsense")
    assert status == 2


# -- the small things -------------------------------------------------------------


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table(["A", "LONG"], [["wider", None], [1, "\t"]]) == "A      LONG\nwider  -\n1      \\t\n"


def test_times_are_rfc_3339_in_utc_with_milliseconds() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1_795_459_409.123) == "2026-11-23T18:43:29.123Z"
    assert rfc3339(1.9996) == "1970-01-01T00:00:02.000Z"


def test_a_repository_that_begins_with_a_hyphen_comes_after_two(tmp_path: Path) -> None:
    commands, _ = load_commands(None, {}, tmp_path)
    assert str(parse(["sync", "--accept-deletions", "--", "-octo/widget"], commands).repo) == "-octo/widget"


@pytest_twisted.ensureDeferred
async def test_without_a_fleet_there_is_no_node_to_drain(tmp_path: Path) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    site = admin_site(Config(state_dir=tmp_path), SingleNode(MemoryJournal(reactor), lambda: NOW).routes(), reactor)
    port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(site)
    shell = Shell(reactor, tmp_path, {"STACKIT_ADMIN_LISTEN": f"tcp:{port.getHost().port}:interface=127.0.0.1"})
    for command in (["fleet"], ["fleet", "drain", "b"], ["fleet", "undrain", "b"]):
        ran = await shell(*command)
        assert (ran.status, ran.out) == (1, "")
        assert ran.err.startswith("stackit: this stackit is not in a fleet: ")
    await port.stopListening()
    await site.wind_down(5)


@pytest_twisted.ensureDeferred
async def test_the_status_without_the_plugin_of_the_mirrors_has_none(tmp_path: Path) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    pretend = Pretend()
    routes = [each for each in pretend.routes() if "/repos" not in each.path]
    site = admin_site(Config(state_dir=tmp_path), [*routes, Route("POST", "{prefix}/repos", pretend.repos)], reactor)
    port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(site)
    shell = Shell(reactor, tmp_path, {"STACKIT_ADMIN_LISTEN": f"tcp:{port.getHost().port}:interface=127.0.0.1"})
    ran = await shell("status")
    assert (ran.status, ran.err) == (0, "")
    assert "version:  9.8.7" in ran.out
    assert "mirrors:" not in ran.out
    await port.stopListening()
    await site.wind_down(5)
