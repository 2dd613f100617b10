"""A forge that a third party wrote: the example of docs/forges.md, installed beside stackit."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from pathlib import Path
from typing import Any

import pytest_twisted
from outside import Notebook, check_log, command, mirror_refs, twistd

from stackit.testing import Answer, PretendGitHub, RunningStackit, push_payload

ROOT = Path(__file__).parent.parent.parent
MAIN = "refs/heads/main"
SECRET = "the secret of the depot"
NAME = "depot.example.org/group/subgroup/widget"
PATH = "depot.example.org+group+subgroup/widget"


def install(directory: Path, text: str | None = None) -> Path:
    """Put the forge of the documentation, or this one, where pip would put it."""
    if text is None:
        page = (ROOT / "docs/forges.md").read_text()
        (text,) = re.findall(r"^```python\n(# depot_forge.py\n.*?)^```$", page, re.MULTILINE | re.DOTALL)
    directory.mkdir()
    (directory / "depot_forge.py").write_text(text)
    about = directory / "depot_forge-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: depot_forge\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[stackit.forges]\ndepot = depot_forge:Depot\n")
    return directory


class Depot:
    """The other end: what a depot sends to a running stackit."""

    def __init__(self, server: RunningStackit) -> None:
        self._server = server
        self.url = f"{server.url}{server.prefix}/webhooks/depot"

    async def send(self, event: str, *, delivery: str, hook: str = "1", secret: str = SECRET, **payload: str) -> Answer:
        body = json.dumps({"event": event, "project": "group/subgroup/widget", **payload}).encode()
        digest = hmac.new(secret.encode(), body, hashlib.sha512).digest()
        headers = {
            "X-Depot-Event": event,
            "X-Depot-Delivery": delivery,
            "X-Depot-Hook": hook,
            "X-Depot-Signature": base64.b64encode(digest).decode(),
        }
        return await self._server.ask("POST", self.url, body=body, headers=headers)


@pytest_twisted.ensureDeferred
async def test_deliveries_of_another_forge_are_verified_written_down_handled_and_mirrored(
    running_stackit: Any, pretend_github: PretendGitHub, tmp_path: Path
) -> None:
    url = await pretend_github.create("octo/widget")  # git over HTTP is the same everywhere
    await pretend_github.commit("octo/widget")
    secret = tmp_path / "depot-secret"
    secret.write_text(f"{SECRET}\n")
    notebook = Notebook(tmp_path / "notebook")
    server: RunningStackit = await running_stackit(
        config={
            "sync": {"interval": "0"},
            "forges": {"depot": {"secret_files": [secret], "host": "depot.example.org"}},
            "repos": [{"name": "group/subgroup/widget", "forge": "depot", "url": url}],
            "plugins": {"notebook": notebook.table},
        },
        plugins=install(tmp_path / "site-packages"),
        environment=notebook.environment,
    )
    depot = Depot(server)
    assert (await depot.send("push", delivery="forged", secret="another")).status == 401

    moved = await pretend_github.commit("octo/widget")
    push = {"delivery": "7", "ref": MAIN, "old": moved.before, "new": moved.after}
    answer = await depot.send("push", **push)
    assert (answer.status, answer.json()["duplicate"]) == (202, False)
    receipt = await server.wait_for("7", visible=True)
    assert (receipt["repo"], receipt["event"], receipt["hook"]) == (NAME, "push", "depot:1")
    assert await mirror_refs(server, PATH) == await pretend_github.refs("octo/widget")
    assert (await depot.send("push", **push)).json()["duplicate"] is True

    # Equal ids of two forges are two deliveries.
    payload = push_payload("octo/other", MAIN, "1" * 40, "2" * 40)
    assert (await server.deliver("push", payload, guid="7")).json()["duplicate"] is False
    assert (await depot.send("test", delivery="8")).status == 204
    assert (await depot.send("issue", delivery="9", project="../../etc")).status == 204
    assert (await depot.send("issue", delivery="10")).status == 202
    await server.wait_for("10")

    # The journal makes the same event again, after a restart as well.
    assert await server.stop() == 0
    await server.start()
    again = await server.admin("POST", f"{{prefix}}/deliveries/{receipt['id']}/replay", subscriber="notebook:events")
    assert again.status == 200

    async def noted() -> bool:
        return len(notebook.read()) >= 4

    await server.until(noted, "the replay to be handled")
    assert [(note["guid"], note["event"], note["repo"]) for note in notebook.read()] == [
        ("7", "push", NAME),
        ("7", "push", "octo/other"),
        ("10", "issue", NAME),
        ("7", "push", NAME),
    ]
    assert {note["repo"] for note in notebook.read("refs")} == {NAME}
    assert notebook.replayed_refs(NAME) == await pretend_github.refs("octo/widget")

    # By hand: over HTTP with the two segments, in the shell with the name.
    await pretend_github.commit("octo/widget")
    done = await command(server, "sync", NAME)
    assert done.status == 0, done.stderr
    shown = (await server.admin("GET", f"{{prefix}}/repos/{PATH}")).json()
    assert (shown["name"], shown["state"]) == (NAME, "in_step")
    assert await mirror_refs(server, PATH) == await pretend_github.refs("octo/widget")
    listed = (await server.admin("GET", "{prefix}/deliveries", repo=NAME)).json()["deliveries"]
    assert {each["repo"] for each in listed} == {NAME}
    assert await server.stop() == 0
    assert SECRET not in server.log
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_without_a_secret_the_endpoint_of_another_forge_is_not_there(
    running_stackit: Any, tmp_path: Path
) -> None:
    server: RunningStackit = await running_stackit(
        config={"forges": {"depot": {}}}, plugins=install(tmp_path / "site-packages")
    )
    depot = Depot(server)
    unknown = await server.ask("POST", f"{server.url}{server.prefix}/webhooks/nothing", body=b"{}")
    for method in ("POST", "GET"):
        answer = await server.ask(method, depot.url, body=b"{}")
        assert (answer.status, answer.body) == (404, unknown.body)
    assert "forge depot has no webhook secret" in server.log
    assert await server.stop() == 0


@pytest_twisted.ensureDeferred
async def test_the_secret_of_another_forge_may_be_in_the_environment(running_stackit: Any, tmp_path: Path) -> None:
    server: RunningStackit = await running_stackit(
        config={"sync": {"interval": "0"}},
        plugins=install(tmp_path / "site-packages"),
        environment={"STACKIT_DEPOT_WEBHOOK_SECRET": SECRET},
    )
    assert (await Depot(server).send("push", delivery="1", ref=MAIN)).status == 202
    assert (await Depot(server).send("push", delivery="2", secret="another")).status == 401
    assert await server.stop() == 0
    assert SECRET not in server.log


@pytest_twisted.ensureDeferred
async def test_a_broken_forge_is_left_out_and_one_that_the_configuration_names_stops_the_start(
    running_stackit: Any, tmp_path: Path
) -> None:
    packages = install(tmp_path / "site-packages", "class Depot:\n    name = 'depot'\n")
    server: RunningStackit = await running_stackit(config={"sync": {"interval": "0"}}, plugins=packages)
    assert (await server.deliver("push")).status == 202
    assert "it lacks" in server.log
    assert await server.stop() == 0

    config = tmp_path / "stackit.toml"
    config.write_text("[forges.depot]\n")
    ended = await twistd("--config", str(config), PYTHONPATH=str(packages))
    said = (ended.stdout + ended.stderr).decode()
    assert ended.status == 1
    assert "forges.depot: depot_forge:Depot cannot be used" in said
    assert "Traceback" not in said
