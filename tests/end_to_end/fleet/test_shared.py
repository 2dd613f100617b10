"""What one stackit keeps for itself, and a fleet has in common: sessions, pauses, the audit, the registry, the hour."""

from __future__ import annotations

from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_twisted
from fleet_load import Load, StartFleet
from twisted.internet.threads import deferToThread

from stackit.testing import PretendGitHub, payload_for
from stackit.testing.fleet_node import FleetNode
from stackit.testing.process import StackitFailed

TOKEN = "the-token-of-operators"
BEARER = {"Authorization": f"Bearer {TOKEN}", "X-Stackit-CSRF": "1"}


async def asked(node: FleetNode, method: str, path: str, cookie: str = "", body: bytes | None = None) -> Any:
    """Ask as somebody with a session, or with the token."""
    who = {"Cookie": cookie, "X-Stackit-CSRF": "1"} if cookie else BEARER
    return await node.ask(method, f"{node.admin_url}/api/v1{path}", headers=who, body=body)


def log_in(node: FleetNode) -> str:
    """Log in by the token as a browser does, and return the session's token. Blocks."""
    host = node.admin_url.removeprefix("http://")
    form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": node.admin_url}
    connection = HTTPConnection(host, timeout=60)
    connection.request("POST", "/login", f"token={TOKEN}", form)
    cookie = connection.getresponse().headers["Set-Cookie"]
    connection.close()
    return cookie.partition(";")[0].partition("=")[2]


@pytest_twisted.ensureDeferred
async def test_whichever_node_is_asked_people_find_the_same(
    start_fleet: StartFleet, load: Load, pretend_github: PretendGitHub, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    fleet = await start_fleet(config={"admin": {"token_files": [str(token)]}}, nodes=("a", "b"), fleet={"lease": "60s"})
    a, b = fleet["a"], fleet["b"]

    # Log in at one, and be known at the other with the next request.
    session = await deferToThread(log_in, a)
    cookie = f"__Host-stackit={session}"
    for node in (b, a):
        me = (await asked(node, "GET", "/session", cookie)).json()
        assert (me["by"], me["logged_in"]) == ("token", True)

    # Add a repository at any node: both mirror it, or know who does, within a second.
    url = await pretend_github.create("octo/late")
    await pretend_github.commit("octo/late")
    for node in (a, b):
        added = await asked(node, "POST", "/repos", cookie, b'{"name": "octo/late", "url": "%s"}' % url.encode())
        assert added.status == (201 if node is a else 409), added.body
    for node in (a, b):

        async def is_there(node: FleetNode = node) -> bool:
            answer = await asked(node, "GET", "/repos/octo/late", cookie)
            return bool(answer.status == 200 and answer.json()["state"] == "in_step")

        await fleet.until(is_there, f"octo/late at {node.name}")

    # A pause holds at both, and ends at both.
    (name,) = await handlers(a)
    assert (await asked(b, "POST", f"/subscribers/{name}/pause", cookie)).status == 200

    async def is_paused() -> bool:
        return all((await handlers(a)).values())

    await fleet.until(is_paused, "the pause at the other node")
    sent = await fleet.deliver("issues", {**payload_for("issues"), "asked": {}}, guid="one")
    assert sent.status == 202
    assert (await asked(a, "POST", f"/subscribers/{name}/resume", cookie)).status == 200

    async def is_handled() -> bool:
        found = (await asked(b, "GET", "/deliveries?delivery=one&state=done", cookie)).json()["deliveries"]
        return len(found) == 1

    await fleet.until(is_handled, "the delivery to be handled")

    async def goes_on() -> bool:
        return await handlers(b) == {name: False}

    await fleet.until(goes_on, "the end of the pause at the other node")

    # Each shows the same hour, and the same audit with the node that was asked.
    async def same(path: str) -> bool:
        shown = [(await asked(node, "GET", path, cookie)).json() for node in (a, b)]
        return bool(shown[0] == shown[1])

    await fleet.until(lambda: same("/audit"), "the same audit at both nodes")
    audit = (await asked(b, "GET", "/audit", cookie)).json()["audit"]
    assert {each["node"] for each in audit} == {"a", "b"}
    assert [each["target"] for each in audit if each["action"] == "login"] == ["/login"]

    async def counted() -> bool:
        hours = [(await asked(node, "GET", "/history", cookie)).json() for node in (a, b)]
        return all(each["deliveries"] == 1 for each in hours)

    await fleet.until(counted, "the delivery in the last hour of both nodes")

    # Remove the repository at the other node, and log out there: both know soon.
    assert (await asked(b, "DELETE", "/repos/octo/late", cookie)).status == 200

    async def is_gone() -> bool:
        return all([(await asked(node, "GET", "/repos/octo/late", cookie)).status == 404 for node in (a, b)])

    await fleet.until(is_gone, "octo/late to be gone at both nodes")
    assert (await asked(b, "DELETE", "/session", cookie)).status == 200

    async def is_out() -> bool:
        return all([(await asked(node, "GET", "/session", cookie)).status == 401 for node in (a, b)])

    await fleet.until(is_out, "the end of the session at both nodes")


@pytest_twisted.ensureDeferred
async def test_a_node_does_not_start_without_what_it_has_in_common_with_others(
    start_fleet: StartFleet, load: Load, postgres: str
) -> None:
    fleet = await start_fleet(nodes=("a",))
    a = fleet["a"]
    (name,) = await handlers(a)
    assert (await asked(a, "POST", f"/subscribers/{name}/pause")).status == 200
    await a.stop()
    with psycopg.connect(postgres) as somebody:
        somebody.execute("LOCK TABLE documents")
        with pytest.raises(StackitFailed, match="stackit ended with status 1"):
            await a.start()
    assert "stackit: the journal cannot be read from the database: canceling statement due to lock timeout" in a.log
    await a.start()
    assert await handlers(a) == {name: True}


async def handlers(node: FleetNode) -> dict[str, bool]:
    """The handlers that note, each with whether it is paused."""
    plugins = (await asked(node, "GET", "/plugins")).json()["plugins"]
    found = [each for plugin in plugins for each in plugin["handlers"] if "issues" in each["events"]]
    return {str(each["subscriber"]): bool(each["paused"]) for each in found}
