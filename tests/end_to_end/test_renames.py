"""Repositories of GitHub that are renamed, transferred and swapped: their mirrors keep objects and history."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest_twisted
from outside import ZEROS, Notebook, check_log, mirror_refs
from twisted.internet.task import deferLater
from waiting import until

from stackit.testing import RunningStackit
from stackit.testing.github import PretendGitHub
from stackit.testing.github_api.apps import PretendApp

Start = Callable[..., Awaitable[RunningStackit]]


def tables(directory: Path, github: PretendGitHub, app: PretendApp, notebook: Notebook) -> dict[str, Any]:
    """The configuration of one App whose repositories are discovered."""
    (directory / "main.pem").write_text(app.private_key)
    (directory / "main-secret").write_text(app.webhook_secret)
    return {
        "sync": {"interval": "1h"},
        "apps": [
            {
                "name": "main",
                "app_id": app.id,
                "private_key_file": directory / "main.pem",
                "secret_files": [directory / "main-secret"],
                "api_url": github.api_url,
            }
        ],
        "discover": [{"app": "main"}],
        "plugins": {"notebook": notebook.table},
    }


async def mirrored(stackit: RunningStackit, github: PretendGitHub, *repos: str) -> None:
    """Wait until mirrors are in step, and equal to their repositories."""
    for repo in repos:

        async def is_equal(repo: str = repo) -> bool:
            found = await stackit.admin("GET", f"{{prefix}}/repos/{repo}")
            if found.status != 200 or (found.json()["name"], found.json()["state"]) != (repo, "in_step"):
                return False
            return await mirror_refs(stackit, repo) == await github.refs(repo)

        await stackit.until(is_equal, f"the mirror of {repo}")


def objects(stackit: RunningStackit, repo: str) -> dict[str, int]:
    """The objects of a mirror: every file with its inode."""
    mirror = stackit.state_dir / "mirrors" / f"{repo}.git" / "objects"
    return {each.name: each.stat().st_ino for each in mirror.rglob("*") if each.is_file()}


def announced(notebook: Notebook) -> list[tuple[str, bool]]:
    """What plugins were told of, in order: the repository, and whether the ref is new. A handler may run again."""
    notes = {note["id"]: note for note in reversed(notebook.read("refs"))}
    return [(note["repo"], note["changes"][0][1] == ZEROS) for note in reversed(notes.values())]


def fetched(github: PretendGitHub) -> int:
    """How often git or stackit asked for objects, of whatever repository."""
    return sum(each.command == "fetch" for each in github.requests)


async def made(github: PretendGitHub, *repos: str) -> None:
    """Make repositories, each with a history of its own."""
    for number, repo in enumerate(repos, 1):
        await github.create(repo, private=True)
        await github.commit(repo, message=f"The first of {repo}", count=number)


@pytest_twisted.ensureDeferred
async def test_renames_transfers_and_names_that_others_take_fetch_nothing_and_announce_nothing(
    pretend_github: PretendGitHub, running_stackit: Start, tmp_path: Path
) -> None:
    github, notebook = pretend_github, Notebook(tmp_path / "notebook")
    app = github.apps.create("stackit")
    for owner in ("octo", "acme"):
        await app.install(owner)
    await made(github, "octo/widget", "octo/gadget")
    stackit = await running_stackit(config=tables(tmp_path, github, app, notebook), environment=notebook.environment)
    github.hooks.of_app(app).config.url = stackit.webhook_url
    await mirrored(stackit, github, "octo/widget", "octo/gadget")
    await until(lambda: len(announced(notebook)) == 2, "both first changes to be announced")
    widget, gadget = objects(stackit, "octo/widget"), objects(stackit, "octo/gadget")
    asked = fetched(github)

    await github.admin.rename("octo/widget", "Renamed")
    await github.admin.transfer("octo/gadget", "acme")
    await mirrored(stackit, github, "octo/Renamed", "acme/gadget")
    assert (objects(stackit, "octo/Renamed"), objects(stackit, "acme/gadget")) == (widget, gadget)
    assert (len(announced(notebook)), fetched(github)) == (2, asked)
    assert not (stackit.state_dir / "mirrors/octo/widget.git").exists()

    # Another repository takes the old name, and is another mirror.
    await made(github, "octo/widget")
    await mirrored(stackit, github, "octo/widget", "octo/Renamed")
    assert objects(stackit, "octo/Renamed") == widget
    assert fetched(github) > asked
    sent = await github.push("octo/Renamed")
    await stackit.wait_for(sent.guid, visible=True)
    for name in ("octo/widget", "octo/Renamed", "acme/gadget"):
        assert await mirror_refs(stackit, name) == await github.refs(name)
    await until(lambda: len(announced(notebook)) >= 4, "both later changes to be announced")
    assert announced(notebook)[2:] == [("octo/widget", True), ("octo/Renamed", False)]
    check_log(stackit.log)


@pytest_twisted.ensureDeferred
async def test_two_that_swapped_names_while_nothing_ran_swap_their_mirrors_through_any_crash(
    pretend_github: PretendGitHub, running_stackit: Start, tmp_path: Path
) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    github, notebook = pretend_github, Notebook(tmp_path / "notebook")
    app = github.apps.create("stackit")
    await app.install("octo")
    await made(github, "octo/one", "octo/two", "octo/three")
    stackit = await running_stackit(config=tables(tmp_path, github, app, notebook), environment=notebook.environment)
    await mirrored(stackit, github, "octo/one", "octo/two", "octo/three")
    before = [objects(stackit, f"octo/{each}") for each in ("one", "two", "three")]
    await until(lambda: len(announced(notebook)) == 3, "the first changes to be announced")
    asked = fetched(github)
    await stackit.kill()
    await github.admin.rename("octo/one", "between")
    await github.admin.rename("octo/two", "one")
    await github.admin.rename("octo/three", "two")
    await github.admin.rename("octo/between", "three")
    for pause in (0.0, 0.05, 0.2, 0.4):
        await stackit.start()
        await deferLater(reactor, pause)
        await stackit.kill()
    await stackit.start()
    await mirrored(stackit, github, "octo/one", "octo/two", "octo/three")
    assert [objects(stackit, f"octo/{each}") for each in ("three", "one", "two")] == before
    assert (len(announced(notebook)), fetched(github)) == (3, asked)
    assert list((stackit.state_dir / "mirrors/.aside").iterdir()) == []
    assert (await stackit.stop()) == 0
    check_log(stackit.log)
