"""Credentials on their way to remotes: users, bearer tokens, and keys for ssh."""

from __future__ import annotations

import os
from base64 import b64encode
from pathlib import Path

import pytest
import pytest_twisted
from mirror_harness import GitHttp, Harness, Upstream, managed, pushed, refs

from stackit import StackitError
from stackit.plugins.mirror.git.access import remote_environment
from stackit.plugins.mirror.sync.tunables import Tunables

TOKEN = 'a-token"with\\odd=characters#and;more'

# In the place of ssh: notes what it was called with, and does as a host does whose shell is this machine's.
SSH = """#!/bin/sh
for each in "$@"; do printf '%s\\n' "$each" >> "$0.arguments"; done
printf '%s\\n' -- >> "$0.arguments"
for command; do :; done
exec sh -c "$command"
"""


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    return file


async def pushes_and_looks(harness: Harness, upstream: Upstream) -> None:
    """A clone by git, a push by the fast fetch, and a look by git."""
    await harness.worker().sync("start")
    old = upstream.refs()["refs/heads/main"]
    await harness.push(pushed(harness, old, upstream.advance()))
    assert harness.named("fallback") == []
    await harness.worker().sync("manual")
    assert refs(harness.path()) == upstream.refs()


@pytest.mark.parametrize("tunables", [Tunables(), Tunables(clone_from=0)], ids=["by fetch", "by clone"])
@pytest_twisted.ensureDeferred
async def test_a_bearer_token_travels_by_itself(
    upstream: Upstream,
    server: GitHttp,
    token_file: Path,
    tmp_path: Path,
    tunables: Tunables,
) -> None:
    server.bearer = TOKEN
    remote = managed(server.url("octo/widget.git"), token_file=token_file, token_scheme="bearer")
    harness = Harness(tmp_path / "state", remote, tunables=tunables)
    await pushes_and_looks(harness, upstream)
    assert set(server.authorizations) == {f"Bearer {TOKEN}"}
    assert TOKEN not in (harness.path() / "config").read_text()
    server.bearer = "another"
    with pytest.raises(StackitError, match="refuses access"):
        await harness.worker().sync("manual")
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_a_user_name_stands_beside_the_token(
    upstream: Upstream, server: GitHttp, token_file: Path, tmp_path: Path
) -> None:
    server.token = TOKEN
    remote = managed(server.url("octo/widget.git"), token_file=token_file, token_user="me@example.org")
    harness = Harness(tmp_path / "state", remote)
    await pushes_and_looks(harness, upstream)
    sent = f"Basic {b64encode(f'me@example.org:{TOKEN}'.encode()).decode()}"
    assert set(server.authorizations) == {None, sent}  # git asks first without
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_ssh_is_given_the_key_and_the_hosts_of_the_repository(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(SSH)
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    odd = tmp_path / "a key; touch pwned $(touch pwned) 'x'"
    odd.mkdir()
    remote = managed(
        f"ssh://git@host.example.org:2222{upstream.directory}",
        ssh_key_file=odd / "id",
        known_hosts_file=odd / "known",
    )
    harness = Harness(tmp_path / "state", remote)
    await harness.worker().sync("start")
    assert refs(harness.path()) == upstream.refs()
    calls = (tmp_path / "bin" / "ssh.arguments").read_text().split("--\n")[:-1]
    for call in calls:
        arguments = call.splitlines()
        assert arguments[arguments.index("-i") + 1] == str(odd / "id")
        options = {arguments[at + 1] for at, each in enumerate(arguments) if each == "-o"}
        assert options >= {
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=yes",
            "GlobalKnownHostsFile=/dev/null",
            f'UserKnownHostsFile="{odd / "known"}"',
        }
        assert arguments[arguments.index("-p") + 1] == "2222"
        assert "git@host.example.org" in arguments
    assert calls
    await harness.stop()
    left_behind = sorted(os.scandir(tmp_path), key=lambda each: each.name)
    assert [each.name for each in left_behind] == [odd.name, "bin", "remote", "state"]


def test_without_them_ssh_does_as_it_does_for_the_user() -> None:
    assert remote_environment(managed("ssh://git@host/x"), Path("/home"), {}) == {
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes"
    }
