"""Three nodes behind a load balancer without stickiness: what people begin at one node goes on at any other."""

from __future__ import annotations

import html
import json
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest_twisted
from login_app import members, tables
from login_browser import Browser, Page
from outside import check_log, shell
from round_robin import RoundRobin
from twisted.internet.defer import Deferred, gatherResults

from stackit.testing import PretendGitHub, RunningFleet
from stackit.testing.fleet_node import FleetNode
from stackit.testing.http_client import Answer

StartFleet = Callable[..., Awaitable[RunningFleet]]
NAMES = ("a", "b", "c")
TOKEN = "a-token-of-operators-5c11"
CSRF = {"X-Stackit-CSRF": "1"}


class Balanced:
    """The fleet behind its load balancer, with an App that people log in by."""

    def __init__(self, fleet: RunningFleet, balancer: RoundRobin, github: PretendGitHub, directory: Path) -> None:
        self.fleet = fleet
        self.balancer = balancer
        self.github = github
        self.directory = directory
        self.url = balancer.url

    def take(self, *names: str) -> None:
        """Have the load balancer send requests to these nodes alone, in this order."""
        self.balancer.balance([int(urlsplit(self.fleet[name].admin_url).port or 0) for name in names])

    async def stackit(self, *arguments: str, **environ: str) -> Any:
        """Run a shell command through the load balancer."""
        argv = (sys.executable, "-m", "stackit", *arguments, "--admin-url", self.url)
        return await shell(*argv, HOME=str(self.directory), **environ)

    async def ask(self, node: FleetNode, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Ask a node as a stranger."""
        sent = None if body is None else json.dumps(body).encode()
        return await node.ask(method, f"{node.admin_url}/api/v1{path}", headers={**CSRF, **headers}, body=sent)

    async def code(self) -> str:
        """Return the code of the only login that waits."""

        async def waits() -> list[str]:
            return self.github.logins.waiting

        (code,) = await self.fleet.until(waits, "a code")
        return code


@pytest_twisted.async_yield_fixture
async def balanced(running_fleet: StartFleet, pretend_github: PretendGitHub, tmp_path: Path) -> AsyncIterator[Balanced]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    github, app = pretend_github, members(pretend_github)
    await app.install("octo")
    balancer = RoundRobin(reactor)
    config = tables(tmp_path, github, app)
    del config["login"]["client_secret_file"]
    token = tmp_path / "operators.token"
    token.write_text(TOKEN)
    config |= {"admin": {"url": balancer.url, "token_files": [token]}, "public_url": "https://stackit.example.org"}
    fleet = await running_fleet(nodes=NAMES, fleet={"lease": "60s"}, config=config)
    github.hooks.of_app(app).config.url = fleet["a"].webhook_url
    found = Balanced(fleet, balancer, github, tmp_path)
    found.take(*NAMES)
    yield found
    await balancer.close()


@pytest_twisted.ensureDeferred
async def test_what_people_begin_at_one_node_goes_on_at_any_other(balanced: Balanced) -> None:
    await log_in_by_a_code(balanced)
    await set_up_an_app(balanced)
    await read_what_was_written(balanced)
    await show_what_the_leader_knows(balanced)
    await fall_with_a_node(balanced)


async def log_in_by_a_code(balanced: Balanced) -> None:
    github, fleet = balanced.github, balanced.fleet
    octocat = github.owners.get("octocat")

    # A shell.
    logging_in = Deferred.fromCoroutine(balanced.stackit("login"))
    github.logins.enter(await balanced.code(), octocat)
    done = await logging_in
    assert done.status == 0, done.stderr
    assert b"logged in as octocat" in done.stdout
    assert (await balanced.stackit("status")).status == 0
    out = await balanced.stackit("logout")
    assert (out.status, b"logged out" in out.stdout) == (0, True), out.stderr

    # A browser: whichever node shows the page, it has the code, and at its end the way on.
    browser = Browser(balanced.url)
    page = f"{balanced.url}/login/code"
    assert (await browser.submit(page, balanced.url, next="/repositories")).status == 303
    code = await balanced.code()
    for _ in NAMES:
        assert code in (await browser.get(page)).text
    github.logins.enter(code, octocat)

    async def is_sent_on() -> bool:
        return (await browser.get(page)).location == "/repositories"

    await fleet.until(is_sent_on, "the login by a code in a browser")
    for _ in NAMES:
        assert (await browser.who())["role"] == "operator"

    # Two nodes that are asked at once: one of them lets the person in.
    a, b, c = (fleet[name] for name in NAMES)
    device = (await balanced.ask(a, "POST", "/login/device")).json()["device"]
    assert (await balanced.ask(b, "POST", "/login/device/poll", {"device": device})).json()["state"] == "pending"
    github.logins.enter(await balanced.code(), octocat)

    async def polled() -> list[Answer]:
        polling = [balanced.ask(node, "POST", "/login/device/poll", {"device": device}) for node in (b, c, a)]
        answers: list[Answer] = await gatherResults([Deferred.fromCoroutine(each) for each in polling])
        return answers if {answer.status for answer in answers} != {200} or any(map(is_done, answers)) else []

    answers = await fleet.until(polled, "the login to be done")
    assert len(list(filter(is_done, answers))) == 1
    for node in (a, b, c):
        again = await balanced.ask(node, "POST", "/login/device/poll", {"device": device})
        assert (again.status, again.json()["error"]) == (404, "no login waits by that name (any more): begin again")

    # What nodes tell each other is told to nobody else, and no secret is in a log or in the database.
    for path in ("/nodes/login", "/nodes/setup"):
        question = {"digest": "0" * 64, "handler": "state", "query": {}, "cookie": ""}
        asked = await balanced.ask(b, "POST", path, question, Authorization=f"Bearer {TOKEN}")
        assert (asked.status, "only the nodes" in asked.json()["error"]) == (403, True)
    documents = await fleet.query("SELECT string_agg(encode(document, 'escape'), '') FROM documents")
    kept = f"{documents}{''.join(node.log for node in (a, b, c))}"
    for secret in (device, device.partition(".")[0], *re.findall(r"ghu_\w+", " ".join(github.api.credentials))):
        assert secret not in kept


def is_done(answer: Answer) -> bool:
    return answer.status == 200 and bool(answer.json()["state"] == "done")


async def set_up_an_app(balanced: Balanced) -> None:
    github, fleet = balanced.github, balanced.fleet
    create = ("app", "create", "--name", "second", "--api-url", github.api_url, "--json")
    environ = {"STACKIT_API_TOKEN": TOKEN}

    # The window is opened at a, the browser comes to b and then to c, and the command asks all of them.
    balanced.take("a", "b", "c")
    opened = json.loads((await balanced.stackit(*create, "--no-wait", **environ)).stdout)
    browser, other = Browser(balanced.url), Browser(balanced.url)
    ticket = parse_qs(urlsplit(opened["url"]).query)["ticket"][0]
    for wrong in (ticket[:-1], ticket.partition(".")[0], f"x{ticket}"):
        assert (await other.get(f"{balanced.url}/setup/app?ticket={wrong}")).status == 403
    balanced.take("b")
    form = await browser.get(opened["url"])
    assert form.status == 200, form.text
    assert (await other.get(opened["url"])).status == 403, "the first browser has it"
    back = (await pressed(browser, form)).location
    balanced.take("c")
    assert (await other.get(back)).status == 403
    done = await browser.get(back)
    assert done.status == 200, done.text
    assert "at node a" in done.text
    for names in ("b", "a"):
        balanced.take(names)
        assert (await browser.get(back)).status == 403, "a second use"
    (key,) = balanced.directory.rglob("private-key.pem")
    assert key.is_relative_to(fleet["a"].state_dir)

    # The command learns of it at any node.
    for name in NAMES:
        shown = await asked_as_operator(balanced, name, f"/setup/app?setup={opened['setup']}", "GET")
        assert (shown.json()["state"], shown.json()["node"]) == ("done", "a")
        assert "PRIVATE KEY" not in shown.body.decode()
    balanced.take(*NAMES)
    waiting = Deferred.fromCoroutine(balanced.stackit(*create, **environ))
    assert b"has the files of an App of that name" in (await waiting).stderr


async def read_what_was_written(balanced: Balanced) -> None:
    """Whichever node a change is asked of, the leader makes it, and the node that answers knows of it."""
    for name in NAMES:
        repo = f"octo/of-{name}"
        body = {"name": repo, "url": await balanced.github.create(repo)}
        added = await asked_as_operator(balanced, name, "/repos", body=body)
        assert added.status == 201, added.body
        assert (await asked_as_operator(balanced, name, f"/repos/{repo}", "GET")).status == 200
        assert (await asked_as_operator(balanced, name, f"/repos/{repo}", "DELETE")).status == 200
        assert (await asked_as_operator(balanced, name, f"/repos/{repo}", "GET")).status == 404


async def show_what_the_leader_knows(balanced: Balanced) -> None:
    """What is wrong at GitHub is on the pages of every node, and each node's status says whose it is."""
    assert (await asked_as_operator(balanced, "b", "/hooks/check")).status == 200
    for name in NAMES:
        node = balanced.fleet[name]
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        for path in ("/", "/github"):
            page = await node.ask("GET", f"{node.admin_url}{path}", headers=bearer)
            assert "the webhook of the App main sends to" in page.body.decode(), (name, path)
        assert (await asked_as_operator(balanced, name, "/status", "GET")).json()["node"] == name


async def fall_with_a_node(balanced: Balanced) -> None:
    """What began at a node that is gone is over, and that is told in one line with the way out."""
    fleet, browser = balanced.fleet, Browser(balanced.url)
    device = (await balanced.ask(fleet["a"], "POST", "/login/device")).json()["device"]
    opened = (await asked_as_operator(balanced, "a", f"/setup/app?name=third&api_url={balanced.github.api_url}")).json()
    balanced.take("a")
    form = await browser.get(opened["url"])
    back = (await pressed(browser, form)).location
    await fleet["a"].kill()
    balanced.take("b", "c")
    for name in ("b", "c"):
        gone = await balanced.ask(fleet[name], "POST", "/login/device/poll", {"device": device})
        assert gone.status == 410
        assert gone.json()["error"] == "the node of the fleet where this login began does not answer: begin again"
    for url in (opened["url"], back):
        page = await browser.get(url)
        assert page.status == 502
        assert "the node of the fleet where this set-up began does not answer" in page.text
    shown = await asked_as_operator(balanced, "c", f"/setup/app?setup={opened['setup']}", "GET")
    assert (shown.status, "begin again" in shown.json()["error"]) == (502, True)
    for node in fleet.nodes.values():
        check_log(node.log)


async def pressed(browser: Browser, page: Page) -> Page:
    """Press the button of the form for GitHub."""
    (action,) = re.findall(r'<form method="post" action="([^"]+)">', page.text)
    (manifest,) = re.findall(r'name="manifest" value="([^"]+)"', page.text)
    sent = await browser.submit(html.unescape(action), "null", manifest=html.unescape(manifest))
    assert sent.status == 302, sent.text
    return sent


async def asked_as_operator(balanced: Balanced, name: str, path: str, method: str = "POST", body: Any = None) -> Answer:
    return await balanced.ask(balanced.fleet[name], method, path, body, Authorization=f"Bearer {TOKEN}")
