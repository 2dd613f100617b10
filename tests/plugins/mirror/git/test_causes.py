"""An error names its cause: of many lines the one that tells it, with an advice that the URL has a use for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from mirror_harness import Harness, Upstream, git, managed

from stackit import StackitError
from stackit.plugins.mirror.git.causes import find_cause
from stackit.plugins.mirror.git.diagnosis import classify, explain, find_warnings
from stackit.plugins.mirror.git.http_trace import HttpAnswer

SSH_END = """fatal: Could not read from remote repository.

Please make sure you have the correct access rights
and the repository exists.
"""
CORRUPT = """remote: Enumerating objects: 9, done.
remote: Counting objects: 100% (9/9), done.
remote: error: inflate: data stream error (incorrect header check)
remote: fatal: loose object 20fe71d8 (stored in ./objects/20/fe71d8) is corrupt
error: git upload-pack: git-pack-objects died with error.
remote: aborting due to possible repository corruption on the remote side.
fatal: protocol error: bad pack header
fatal: git upload-pack: aborting due to possible repository corruption on the remote side.
"""

CAUSES = {
    "Host key verification failed.\n" + SSH_END: "Host key verification failed.",
    "ssh: connect to host h port 22: No route to host\n" + SSH_END: "ssh: connect to host h port 22: No route to host",
    "ssh: Could not resolve hostname h: Name or service not known\n"
    + SSH_END: "ssh: Could not resolve hostname h: Name or service not known",
    "git@h: Permission denied (publickey).\n" + SSH_END: "git@h: Permission denied (publickey).",
    "Warning: Permanently added 'h' (ED25519) to the list of known hosts.\n"
    "FATAL: R any octo/widget ci DENIED by fallthru\n(or you mis-spelled the reponame)\n"
    + SSH_END: "FATAL: R any octo/widget ci DENIED by fallthru",
    "ERROR: Repository not found.\n" + SSH_END: "ERROR: Repository not found.",
    "remote: \nremote: ====\nremote: The project you were looking for could not be found.\n"
    + SSH_END: "the remote says: ====",
    "kex_exchange_identification: Connection closed by remote host\n"
    + SSH_END: "kex_exchange_identification: Connection closed by remote host",
    CORRUPT: "the remote says: inflate: data stream error (incorrect header check)",
    "fatal: unable to connect to h:\nh[0: ::1]: errno=No route to host\n": "h[0: ::1]: errno=No route to host",
    "fatal: remote error: access denied or repository not exported: /x\n": "remote error: access denied or repository "
    "not exported: /x",
    "fatal: unable to access 'u': The requested URL returned error: 403\n": "unable to access 'u': The requested URL "
    "returned error: 403",
    "error: RPC failed; HTTP 500\nfatal: the remote end hung up unexpectedly\n": "RPC failed; HTTP 500",
    SSH_END: "and the repository exists.",
    "remote: error: a\tb\x1b[31m  \n": "the remote says: a b?[31m",
    "fatal: " + "x" * 1000: "x" * 300,
}


@pytest.mark.parametrize("said", CAUSES)
def test_the_line_with_the_cause_is_kept(said: str) -> None:
    assert find_cause(said) == CAUSES[said]


def test_where_nothing_was_said_the_status_is_all_there_is() -> None:
    assert find_cause("\n \n") is None
    assert explain("remote", "", HttpAnswer(), 7) == "git: git ended with status 7"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (CORRUPT, "remote"),
        ("remote: fatal: unable to read 1234\nfatal: early EOF", "remote"),
        ("fatal: remote error: unable to read tree", "remote"),
        ("remote: error: file write error: No space left on device\nfatal: early EOF", "remote"),
        ("fatal: http://h/x/info/refs not valid: is this a git repository?", "remote"),
        ("FATAL: R any x y DENIED by fallthru\n" + SSH_END, "forbidden"),
        ("Host key verification failed.\n" + SSH_END, "forbidden"),
        ("ERROR: Repository not found.\n" + SSH_END, "gone"),
        ("ssh: connect to host h port 22: No route to host\n" + SSH_END, "remote"),
        ("fatal: something new", "remote"),
        ("fatal: loose object 1234 (stored in /mirrors/o/n.git/objects/12/34) is corrupt\nfatal: early EOF", "mirror"),
        ("error: object file /m/objects/12/34 is empty\nfatal: the remote end hung up", "mirror"),
    ],
)
def test_what_the_remote_says_of_itself_is_no_trouble_of_the_mirror(said: str, kind: str) -> None:
    assert classify(said, HttpAnswer(), "remote") == kind


@pytest.mark.parametrize("kind", ["forbidden", "gone"])
@pytest.mark.parametrize(
    ("scheme", "token"), [("https", True), ("http", True), ("ssh", False), ("git", False), ("file", False)]
)
def test_an_advice_is_one_that_the_url_can_take(kind: Any, scheme: str, token: bool) -> None:
    assert ("token" in explain(kind, "fatal: no", HttpAnswer(), 128, scheme)) == token


def test_a_warning_that_nothing_was_left_out_of_is_none() -> None:
    harmless = (
        "warning: Ignoring --negotiation-tip because the protocol does not support it.\n"
        "warning: ignoring --negotiation-tip because the protocol does not support it\n"
        "warning: no common commits\nwarning: redirecting to https://h/x/\nWarning: Permanently added 'h'\n"
    )
    funny = "error: * Ignoring funny ref 'refs/heads/a..b' locally"
    assert find_warnings(harmless) == ""
    assert find_warnings(f"{harmless}{funny}\n") == funny


def test_a_host_key_that_is_not_known_is_told_as_that() -> None:
    said = "Host key verification failed.\n" + SSH_END
    text = explain("forbidden", said, HttpAnswer(), 128, "ssh")
    assert "known_hosts" in text
    assert text.endswith("(git: Host key verification failed.)")


@pytest.mark.parametrize(("scheme", "way_out"), [("file", "chown it, or fetch it by"), ("ssh", "safe.directory")])
def test_a_repository_of_another_user_is_told_as_that(tmp_path: Path, scheme: str, way_out: str) -> None:
    upstream = Upstream(tmp_path / "upstream")
    upstream.advance()
    environ = {**os.environ, "GIT_TEST_ASSUME_DIFFERENT_OWNER": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
    command = ["git", "ls-remote", f"file://{upstream.directory}"]
    said = subprocess.run(command, env=environ, capture_output=True, text=True, check=False).stderr
    kind = classify(said, HttpAnswer(), "remote")
    text = explain(kind, said, HttpAnswer(), 128, scheme)
    assert kind == "forbidden"
    assert "another user" in text
    assert way_out in text
    assert f"git: detected dubious ownership in repository at '{upstream.directory}'" in text


def test_a_mirror_of_another_user_is_no_refusal_of_the_remote() -> None:
    said = "fatal: detected dubious ownership in repository at '/m/mirrors/o/n.git'\n"
    assert classify(said, HttpAnswer(), "mirror") == "mirror"


@pytest_twisted.ensureDeferred
async def test_a_corrupt_remote_says_so_and_no_mirror_is_read_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = Upstream(tmp_path / "upstream")
    upstream.advance()
    harness = Harness(tmp_path / "state", managed(upstream))
    await harness.worker().sync("start")
    runs = noted_gits(tmp_path, monkeypatch)
    broken = upstream.advance()
    upstream.advance()
    path = upstream.directory / "objects" / broken[:2] / broken[2:]
    path.chmod(0o644)
    path.write_bytes(b"garbage")
    for cause_ in ("manual", "backstop", "start"):
        with pytest.raises(StackitError, match="is corrupt"):
            await harness.worker().sync(cause_)
    assert " fetch " in runs.read_text()
    assert " fsck " not in runs.read_text()
    assert git(harness.path(), "rev-parse", "main")
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_ssh_that_cannot_reach_its_host_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    ssh = folder / "ssh"
    ssh.write_text("#!/bin/sh\necho 'ssh: connect to host h port 22: No route to host' >&2\nexit 255\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    harness = Harness(tmp_path / "state", managed("ssh://git@h/octo/widget.git"))
    with pytest.raises(StackitError, match="No route to host"):
        await harness.worker().sync("start")
    assert "token" not in harness.worker().status.error
    await harness.stop()


def noted_gits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have every git that is started write its arguments into a file; returns it."""
    (folder / "noting").mkdir()
    runs = folder / "noting" / "runs"
    wrapper = folder / "noting" / "git"
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> {runs}\nexec /usr/bin/git "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'noting'}:{os.environ['PATH']}")
    return runs
