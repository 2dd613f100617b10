"""Mirrors that are fetched from another node, with real gits."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_twisted
from log_capture import lines_logged
from peer_nodes import BEARER, WIDGET, PeerFleet, PeerNode
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from waiting import until

from stackit import ManagedRepo, Repo
from stackit.peers.git_service import ServeLimits
from stackit.peers.tickets import VALID_FOR
from stackit.plugins.mirror.git.access import token_settings
from stackit.plugins.mirror.git.command import command, environment
from stackit.subprocesses import Finished, ProcessLimits, run
from stackit.testing.bare import GIT_ENVIRONMENT, BareRepository

GADGET = Repo.parse("octo/gadget")
NEWS = b"0014command=ls-refs\n0000"


async def served(fleet: PeerFleet, path: Path, size: int = 10, **more: Any) -> PeerNode:
    """A node with a mirror of octo/widget, which has a branch, a tag, and a ref of another kind."""
    made = BareRepository(reactor, WIDGET, path / "widget.git", object_format="sha1", default_branch="main")
    await made.init()
    blob = await made.git("hash-object", "-w", "--stdin", stdin=os.urandom(size))
    tree = await made.git("mktree", stdin=f"100644 blob {blob}\tfile\n".encode())
    who = ["-c", "user.name=octocat", "-c", "user.email=octocat@users.noreply.github.com"]
    commit = await made.git(*who, "commit-tree", tree, "-m", "one")
    for ref in ("refs/heads/main", "refs/tags/v1", "refs/stackit-kept/x"):
        await made.git("update-ref", ref, commit)
    node = await fleet.start("b", **more)
    fleet.mirrors["b"] = {WIDGET.key: made.path}
    return node


async def git(managed: ManagedRepo, home: Path, *arguments: str, token: str | None = None) -> Finished:
    """Run a git of the mirror plugin, with the access that it has to the remote."""
    settings, secret = token_settings(managed, managed.token() if token is None else token)
    return await run(
        reactor,
        command(*arguments, settings=settings),
        env=environment(home, managed.url),
        secret=secret,
        limits=ProcessLimits(timeout=60),
    )


def copy_of(fleet: PeerFleet, node: PeerNode, repo: Repo = WIDGET) -> ManagedRepo:
    found = node.peers.copy_at(fleet.managed(repo), node.node)
    assert found is not None
    return found


@pytest_twisted.ensureDeferred
async def test_a_mirror_is_cloned_and_fetched_with_all_its_refs(fleet: PeerFleet, tmp_path: Path) -> None:
    node = await served(fleet, tmp_path)
    managed = copy_of(fleet, node)
    done = await git(managed, tmp_path, "clone", "--mirror", managed.url, str(tmp_path / "copy"))
    assert done.status == 0, done.stderr.decode()
    refs = await run(reactor, ["git", "--git-dir", str(tmp_path / "copy"), "for-each-ref"], env=GIT_ENVIRONMENT)
    assert [line.split()[-1] for line in refs.stdout.decode().splitlines()] == [
        "refs/heads/main",
        "refs/stackit-kept/x",
        "refs/tags/v1",
    ]
    assert managed.refspecs == ("+refs/*:refs/*",)
    assert node.git.slots.taken == 0


@pytest_twisted.ensureDeferred
async def test_a_mirror_of_very_many_refs_is_cloned_by_a_request_of_more_than_a_megabyte(
    fleet: PeerFleet, tmp_path: Path
) -> None:
    node = await served(fleet, tmp_path)
    commits = b"".join(
        b"commit refs/heads/many\ncommitter o <o@example.org> %d +0000\ndata 2\nx\n\n" % number
        for number in range(23_000)
    )
    source = ["git", "--git-dir", str(tmp_path / "widget.git")]
    made = await run(reactor, [*source, "fast-import", "--quiet"], env=GIT_ENVIRONMENT, stdin=commits)
    assert made.status == 0, made.stderr
    found = (await run(reactor, [*source, "rev-list", "many"], env=GIT_ENVIRONMENT)).stdout.decode().split()
    packed = "".join(f"{oid} refs/heads/b{number:05}\n" for number, oid in enumerate(found))
    (tmp_path / "widget.git" / "packed-refs").write_text(f"# pack-refs with: peeled fully-peeled sorted\n{packed}")
    managed = copy_of(fleet, node)
    done = await git(managed, tmp_path, "clone", "--mirror", managed.url, str(tmp_path / "copy"))
    assert done.status == 0, done.stderr[-2000:]
    listed = [
        (await run(reactor, [*each, "for-each-ref"], env=GIT_ENVIRONMENT)).stdout
        for each in (source, ["git", "--git-dir", str(tmp_path / "copy")])
    ]
    assert listed[0] == listed[1]
    assert listed[0].count(b"\n") == 23_004


@pytest_twisted.ensureDeferred
async def test_the_secret_is_nowhere_but_in_the_file_of_its_git(fleet: PeerFleet, tmp_path: Path) -> None:
    node = await served(fleet, tmp_path)
    managed = copy_of(fleet, node)
    ticket = managed.token() or ""
    settings, secret = token_settings(managed, ticket)
    assert ticket.encode() in (secret or b"")
    said = [*command(managed.url, settings=settings), *environment(tmp_path, managed.url).values(), repr(managed)]
    assert not [each for each in said if ticket in str(each)]
    assert managed.token_file is None
    assert managed.repo == WIDGET


@pytest_twisted.ensureDeferred
async def test_a_ticket_is_for_one_mirror_of_one_process_for_a_while(fleet: PeerFleet, tmp_path: Path) -> None:
    node = await served(fleet, tmp_path)
    managed, other = copy_of(fleet, node), copy_of(fleet, node, GADGET)
    fleet.mirrors["b"][GADGET.key] = fleet.mirrors["b"][WIDGET.key]
    ticket = managed.token() or ""
    cut = ticket[:-1] + ("0" if ticket[-1] != "0" else "1")
    for wrong in (other.token(), "", "x", cut, "hunter2-hunter2"):
        assert (await git(managed, tmp_path, "ls-remote", managed.url, token=wrong or "none")).status != 0
    assert (await git(managed, tmp_path, "ls-remote", managed.url, token=ticket)).status == 0
    for at, counts in ((VALID_FOR - 5, True), (VALID_FOR + 5, False), (-2 * VALID_FOR, False)):
        fleet.clocks["b"] = at
        assert ((await git(managed, tmp_path, "ls-remote", managed.url, token=ticket)).status == 0) is counts
    fleet.clocks["b"] = 0
    fleet.map.change("b", incarnation=9)
    assert (await git(managed, tmp_path, "ls-remote", managed.url, token=ticket)).status != 0


@pytest_twisted.ensureDeferred
async def test_neither_a_person_nor_a_stranger_fetches_a_mirror_and_nobody_pushes(
    fleet: PeerFleet, tmp_path: Path
) -> None:
    node = await served(fleet, tmp_path)
    path = "/api/v1/nodes/git/octo/widget"
    ticket = f"Authorization: Bearer {copy_of(fleet, node).token()}"
    v2 = "Git-Protocol: version=2"
    fetch, push = "info/refs?service=git-upload-pack", "info/refs?service=git-receive-pack"
    for method, rest, headers, status in (
        ("GET", fetch, (v2,), 401),
        ("GET", fetch, (v2, BEARER), 401),
        ("GET", fetch, (v2, ticket, ticket), 401),
        ("GET", fetch, (ticket,), 400),
        ("GET", fetch, ("Git-Protocol: version=1", ticket), 400),
        ("GET", push, (v2, ticket), 403),
        ("POST", "git-receive-pack", (v2, ticket), 403),
        ("GET", "HEAD", (v2, ticket), 403),
        ("GET", "objects/info/packs", (v2, ticket), 404),
        ("GET", "../../octo/widget/info/refs", (v2, ticket), 404),
        ("POST", "git-upload-pack", (v2, ticket), 415),
        ("GET", fetch, (v2, ticket), 200),
    ):
        assert (await node.server.ask(method, f"{path}/{rest}", *headers)).status == status, (method, rest, headers)


@pytest.mark.parametrize(
    "body", [gzip.compress(NEWS)[:-4], b"\x1f\x8bnot", gzip.compress(bytes(49 * 2**20))], ids=["cut", "odd", "bomb"]
)
@pytest_twisted.ensureDeferred
async def test_a_request_that_cannot_be_read_starts_no_git(fleet: PeerFleet, tmp_path: Path, body: bytes) -> None:
    node = await served(fleet, tmp_path)
    headers = (
        "Git-Protocol: version=2",
        "Content-Type: application/x-git-upload-pack-request",
        "Content-Encoding: gzip",
        f"Authorization: Bearer {copy_of(fleet, node).token()}",
    )
    path = "/api/v1/nodes/git/octo/widget/git-upload-pack"
    assert (await node.server.ask("POST", path, *headers, body=body)).status == 400
    assert (await node.server.ask("POST", path, *headers, body=gzip.compress(NEWS))).status == 200


@pytest_twisted.ensureDeferred
async def test_a_mirror_that_is_not_there_or_broken_is_told(fleet: PeerFleet, tmp_path: Path) -> None:
    node = await served(fleet, tmp_path)
    managed = copy_of(fleet, node, GADGET)
    gone = await git(managed, tmp_path, "ls-remote", managed.url)
    assert b"not found" in gone.stderr
    (tmp_path / "broken").mkdir()
    fleet.mirrors["b"][GADGET.key] = tmp_path / "broken"
    with lines_logged() as lines:
        assert (await git(managed, tmp_path, "ls-remote", managed.url)).status != 0
    assert [line for line in lines if "octo/gadget: git upload-pack for another node failed" in line]


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_gets_all_of_it_and_little_is_held(fleet: PeerFleet, tmp_path: Path) -> None:
    size = 8 * 2**20
    node = await served(fleet, tmp_path, size, limits=ServeLimits(gits=1, patience=2.0))
    head = await run(
        reactor, ["git", "--git-dir", str(tmp_path / "widget.git"), "rev-parse", "main"], env=GIT_ENVIRONMENT
    )
    lines = [b"command=fetch", b"object-format=sha1"]
    wants = [b"no-progress", b"want " + head.stdout.strip(), b"done"]
    packet = b"".join(b"%04x%b\n" % (len(each) + 5, each) for each in lines) + b"0001"
    packet += b"".join(b"%04x%b\n" % (len(each) + 5, each) for each in wants) + b"0000"
    reader = await node.server.connect()
    reader.transport.write(
        b"POST /api/nodes/git/octo/widget/git-upload-pack HTTP/1.1\r\nHost: x\r\nGit-Protocol: version=2\r\n"
        b"Content-Type: application/x-git-upload-pack-request\r\n"
        b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b"
        % ((copy_of(fleet, node).token() or "").encode(), len(packet), packet)
    )
    reader.transport.pauseProducing()
    await until(lambda: node.git.slots.taken == 1)
    managed = copy_of(fleet, node)
    busy = await git(managed, tmp_path, "ls-remote", managed.url)
    assert b"503" in busy.stderr
    node.git.slots._patience = 60.0  # the next one has its turn, however slow the machine is
    waiting = Deferred.fromCoroutine(git(managed, tmp_path, "ls-remote", managed.url))
    await until(lambda: node.git.slots.is_full)
    reader.transport.resumeProducing()
    await reader.lost
    assert (await waiting).status == 0, "its turn came"
    assert len(reader.received) > size
    assert reader.received.endswith(b"0\r\n\r\n")
    assert node.git.slots.taken == 0


@pytest_twisted.ensureDeferred
async def test_who_hangs_up_and_who_stops_leave_no_git(fleet: PeerFleet, tmp_path: Path) -> None:
    """The fixtures of all tests fail for a child that is left."""
    node = await served(fleet, tmp_path, 2**20)
    managed = copy_of(fleet, node)
    for hangs_up in (True, False):
        reader = await node.server.connect()
        reader.transport.write(
            b"GET /api/nodes/git/octo/widget/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: x\r\n"
            b"Git-Protocol: version=2\r\nAuthorization: Bearer %b\r\n\r\n" % (managed.token() or "").encode()
        )
        if hangs_up:
            reader.transport.abortConnection()
        else:
            await until(lambda reader=reader: node.git.slots.taken == 1 or reader.received)  # type: ignore[misc]
            await node.git.stop()
        await reader.lost
    assert (await git(managed, tmp_path, "ls-remote", managed.url)).status != 0


@pytest_twisted.ensureDeferred
async def test_a_node_that_is_away_or_tells_no_address_has_no_copy_to_offer(fleet: PeerFleet) -> None:
    node = await fleet.start("b")
    for other in ({"address": ""}, {"state": "away"}):
        assert node.peers.copy_at(fleet.managed(), msgspec.structs.replace(node.node, **other)) is None
