"""Repositories that people add and remove while stackit runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest_twisted
from outside import command

from stackit.testing import PretendGitHub, RunningStackit


async def shown(server: RunningStackit, name: str) -> dict[str, Any] | None:
    """What the admin side shows of a repository; None where it is not mirrored."""
    repos = (await server.admin("GET", "{prefix}/repos")).json()["repos"]
    return next((each for each in repos if each["name"] == name), None)


async def in_step(server: RunningStackit, name: str) -> None:
    """Wait until a mirror is equal to its remote."""

    async def is_so() -> bool:
        found = await shown(server, name)
        return found is not None and found["state"] == "in_step"

    await server.until(is_so, f"{name} to be in step")


@pytest_twisted.ensureDeferred
async def test_what_a_person_added_is_mirrored_survives_a_crash_and_a_reload_and_goes_when_somebody_says_so(
    pretend_github: PretendGitHub, running_stackit: Any, tmp_path: Path
) -> None:
    for name in ("octo/file", "octo/widget"):
        await pretend_github.create(name)
        await pretend_github.commit(name)
    token = tmp_path / "ops.token"
    token.write_text("a-token-of-somebody-in-operations\n")
    repos = [{"name": "octo/file", "url": pretend_github.url("octo/file")}]
    admin = {"token_files": [str(token)]}
    environment = {"STACKIT_API_TOKEN": "another-token-that-is-valid-too"}
    server: RunningStackit = await running_stackit(config={"repos": repos, "admin": admin}, environment=environment)

    url = pretend_github.url("octo/widget")
    mine = ("--token-file", str(token))
    added = await command(server, "repos", "add", "octo/widget", "--url", url, *mine)
    assert (added.status, added.stdout.decode()) == (0, f"octo/widget is mirrored from now on, from {url}\n")
    again = await command(server, "repos", "add", "Octo/Widget", *mine)
    assert (again.status, "is mirrored already: added by ops.token" in again.stderr.decode()) == (1, True)
    await in_step(server, "octo/widget")

    await server.kill()
    await server.start()
    await in_step(server, "octo/widget")
    outcome = await server.reload({"repos": [], "admin": admin})
    assert "removed octo/file" in outcome
    found = await shown(server, "octo/widget")
    assert found is not None
    assert (found["source"], found["added_by"]) == ("people", "ops.token")
    listed = await command(server, "repos", *mine)
    assert listed.stdout.decode().splitlines()[1].split()[:3] == ["octo/widget", "in_step", "ops.token"]
    metrics = (await server.admin("GET", "/metrics")).body.decode()
    assert 'stackit_repos{state="managed"} 1.0' in metrics

    mirror = server.state_dir / "mirrors/octo/widget.git"
    removed = await command(server, "repos", "remove", "octo/widget", *mine)
    assert removed.stdout.decode() == f"octo/widget is mirrored no more; its mirror stays at {mirror}\n"
    assert mirror.is_dir()
    gone = await command(server, "repos", "remove", "octo/widget", *mine)
    assert (gone.status, gone.stderr.decode()) == (1, "stackit: octo/widget is not mirrored\n")
    await server.stop()
    await server.start()
    assert await shown(server, "octo/widget") is None
