"""Backup and restore from a shell, beside a running stackit: what is there after a disk was lost, or a journal only."""

from __future__ import annotations

import json
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import pytest_twisted
from outside import Notebook, all_handled, mirror_refs, shell

from stackit.testing import PretendGitHub, RunningStackit, delivery
from stackit.testing.process import SECRET

WIDGET = "octo/widget"
MAIN = "refs/heads/main"
ZEROS = "0" * 40

MOODY = """
import os
from stackit import on

@on("issues")
def moody(event):
    if not os.path.exists(os.environ["WELL"]):
        raise OSError("not well today")
    with open(os.environ["WELL"], "a") as notes:
        notes.write(f"{event.delivery} ")
"""


def run(*argv: Any) -> Any:
    return shell(sys.executable, "-m", "stackit", *map(str, argv))


def documented(title: str, server: RunningStackit, backups: Path) -> list[list[str]]:
    """The commands below a title of the documentation that the user stackit gives, with the places of a test."""
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
    section = text.partition(f"\n### {title}\n")[2].partition("\n### ")[0]
    lines = [line.partition("-- ")[2] for line in section.splitlines() if line.startswith("runuser -u stackit -- ")]
    places = {
        "/opt/stackit/bin/stackit": f"{sys.executable} -m stackit",
        "/var/lib/stackit": str(server.state_dir),
        "/var/backups/stackit": str(backups),
        "monday.sqlite3": str(backups / "monday.sqlite3"),  # the directory is the current one
    }
    for place, here in places.items():
        lines = [line.replace(place, here) for line in lines]
    return [line.split() for line in lines]


class Harness:
    """A stackit with a mirror and two plugins, one of which fails as long as ``well`` is not there."""

    def __init__(self, server: RunningStackit, notebook: Notebook, well: Path, backup: Path) -> None:
        self.server, self.notebook, self.well, self.backup = server, notebook, well, backup

    def announced(self) -> list[list[str]]:
        """The changes of the mirror that plugins were told of, in order."""
        return [change for note in self.notebook.read("refs") for change in note["changes"]]

    def get_well(self) -> None:
        self.well.touch()

    def treated(self) -> list[str]:
        """The deliveries that the moody plugin has handled."""
        return self.well.read_text().split() if self.well.exists() else []

    def lose(self, *, mirrors: bool) -> None:
        """Lose the whole state directory, or all of it but the mirrors."""
        for each in self.server.state_dir.iterdir():
            if each.name != "mirrors":
                each.unlink()
        if mirrors:
            shutil.rmtree(self.server.state_dir)


async def harness(running_stackit: Any, github: PretendGitHub, tmp_path: Path) -> Harness:
    url = await github.create(WIDGET)
    notebook = Notebook(tmp_path / "notebook")
    (tmp_path / "moody.py").write_text(MOODY)
    (tmp_path / "backups").mkdir()
    server: RunningStackit = await running_stackit(
        config={
            "sync": {"interval": "1h"},
            "repos": [{"name": WIDGET, "url": url}],
            "plugins": {"notebook": notebook.table, "moody": {"file": str(tmp_path / "moody.py")}},
        },
        environment={**notebook.environment, "WELL": str(tmp_path / "well")},
    )
    github.webhook(server.webhook_url, SECRET)
    return Harness(server, notebook, tmp_path / "well", tmp_path / "backups" / "monday.sqlite3")


async def lost_and_restored(it: Harness, github: PretendGitHub, *, mirrors: bool) -> None:
    """Back up while an event is pending, go on, lose the disk, restore, and see that everything promised is there."""
    server = it.server
    first = await github.push(WIDGET, message="before the backup")
    await server.wait_for(first.guid, visible=True)
    ailing = delivery("issues", secret=SECRET)
    assert (await server.post(ailing)).status == 202
    await server.until(lambda: told_of(it, 1), "the change to be announced")
    await server.until(lambda: only_one_pending(server), "all but the ailing handler to be through")

    (to_backup,) = documented("Backup", server, it.backup.parent)
    made = await shell(*to_backup, "--json")
    assert (made.status, made.stderr) == (0, b"")
    told = json.loads(made.stdout)
    assert (told["deliveries"], told["pending"]) == (2, 1)
    assert mode(it.backup) == 0o600

    later = await github.push(WIDGET, message="after the backup")
    await server.wait_for(later.guid, visible=True)
    await server.until(lambda: told_of(it, 2), "the change to be announced")
    in_use = await run("restore", it.backup, "--state-dir", server.state_dir, "--force")
    assert in_use.status == 1
    assert b"is held by another stackit" in in_use.stderr

    await server.kill()
    it.lose(mirrors=mirrors)
    (to_restore,) = documented("Restore", server, it.backup.parent)
    back = await shell(*to_restore)
    assert (back.status, back.stderr) == (0, b"")
    it.get_well()
    await server.start()

    # What was pending runs again, and what is done does not.
    await server.wait_for(ailing.guid, "done")
    assert it.treated() == [ailing.guid]
    assert (await server.receipt(first.guid) or {})["state"] == "done"
    assert it.notebook.seen()[first.guid] == 1
    assert (await github.redeliver(first.guid)).status == 202
    assert it.notebook.seen()[first.guid] == 1
    # What came after the backup is not known. The first round found its push, and told of it from where the backup was.
    assert await server.receipt(later.guid) is None
    await server.until(lambda: told_of(it, 3), "the change to be announced again")
    assert first.moved is not None
    assert later.moved is not None
    assert it.announced() == [
        [MAIN, ZEROS, first.moved.after],
        [MAIN, first.moved.after, later.moved.after],
        [MAIN, first.moved.after, later.moved.after],
    ]
    # GitHub's "Redeliver" brings the delivery itself back: it is handled as the new one that it is.
    await github.redeliver(later.guid)
    await server.wait_for(later.guid, visible=True)
    await all_handled(server)
    assert it.notebook.seen()[later.guid] == 2
    assert len(it.announced()) == 3
    assert await mirror_refs(server, WIDGET) == await github.refs(WIDGET)


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


async def only_one_pending(server: RunningStackit) -> bool:
    pending: int = (await server.admin("GET", "{prefix}/status")).json()["pending"]
    return pending == 1


async def told_of(it: Harness, changes: int) -> bool:
    return len(it.announced()) >= changes


@pytest_twisted.ensureDeferred
async def test_after_the_disk_was_lost_a_backup_brings_back_all_that_was_promised(
    running_stackit: Any, pretend_github: PretendGitHub, tmp_path: Path
) -> None:
    it = await harness(running_stackit, pretend_github, tmp_path)
    await lost_and_restored(it, pretend_github, mirrors=True)


@pytest_twisted.ensureDeferred
async def test_a_mirror_that_is_newer_than_the_journal_is_announced_from_where_the_journal_is(
    running_stackit: Any, pretend_github: PretendGitHub, tmp_path: Path
) -> None:
    it = await harness(running_stackit, pretend_github, tmp_path)
    await lost_and_restored(it, pretend_github, mirrors=False)


# -- what only a mirror has ----------------------------------------------------------


async def git(argv: list[str]) -> None:
    done = await shell(*argv)
    assert done.status == 0, done.stderr


@pytest_twisted.ensureDeferred
async def test_what_only_a_mirror_has_comes_back_from_a_copy_as_the_documentation_says(
    running_stackit: Any, pretend_github: PretendGitHub, tmp_path: Path
) -> None:
    url = await pretend_github.create(WIDGET)
    server: RunningStackit = await running_stackit(
        config={"sync": {"interval": "1h"}, "repos": [{"name": WIDGET, "url": url, "keep_forced": True}]}
    )
    pretend_github.webhook(server.webhook_url, SECRET)
    (tmp_path / "backups").mkdir()
    copy, update, put_back = documented("What only a mirror has", server, tmp_path / "backups")
    first = await pretend_github.push(WIDGET)
    await server.wait_for(first.guid, visible=True)
    await git(copy)
    forced = await pretend_github.announce(await pretend_github.force(WIDGET))
    await server.wait_for(forced.guid, visible=True)
    before = await mirror_refs(server, WIDGET)
    assert first.moved is not None
    assert first.moved.after in before.values()
    assert first.moved.after not in (await pretend_github.refs(WIDGET)).values()
    await git(update)
    assert (await run("backup", tmp_path / "backups" / "monday", "--state-dir", server.state_dir)).status == 0

    await server.stop()
    remove(server.state_dir)
    assert (await run("restore", tmp_path / "backups" / "monday", "--state-dir", server.state_dir)).status == 0
    await git(put_back)
    await server.start()
    later = await pretend_github.push(WIDGET)
    await server.wait_for(later.guid, visible=True)
    assert later.moved is not None
    assert await mirror_refs(server, WIDGET) == {**before, MAIN: later.moved.after}
    state = (await server.admin("GET", f"{{prefix}}/repos/{WIDGET}")).json()
    assert (state["state"], state["error"]) == ("in_step", None)


def remove(directory: Path) -> None:
    shutil.rmtree(directory)
