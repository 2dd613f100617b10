"""The pretend GitHub, asked by real git; its webhook, answered by a real web server."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource

from stackit.subprocesses import Finished, ProcessLimits, run
from stackit.testing.bare import GIT_ENVIRONMENT, GitFailed
from stackit.testing.github import PretendGitHub
from stackit.testing.listening import LoopbackSite

ZEROS = "0" * 40
MAIN = "refs/heads/main"


@pytest.fixture
def github(pretend_github: PretendGitHub) -> PretendGitHub:
    return pretend_github


async def git(*arguments: str | Path, **variables: str) -> Finished:
    return await git_within(20, *arguments, **variables)


async def git_within(seconds: float, *arguments: str | Path, **variables: str) -> Finished:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    return await run(
        reactor,
        ["git", *map(str, arguments)],
        env={**GIT_ENVIRONMENT, **variables},
        limits=ProcessLimits(timeout=seconds),
    )


async def remote_refs(url: str, **variables: str) -> dict[str, str]:
    listed = await git("ls-remote", url, **variables)
    assert listed.status == 0, listed.stderr
    return {ref: found for found, ref in (line.split("\t") for line in listed.stdout.decode().splitlines())}


@pytest_twisted.ensureDeferred
async def test_a_clone_and_a_fetch_bring_the_commits_that_were_made(github: PretendGitHub, tmp_path: Path) -> None:
    url = await github.create("octo/widget")
    first = await github.commit("octo/widget")
    mirror = tmp_path / "mirror.git"
    assert (await git("clone", "-q", "--mirror", url, mirror)).status == 0
    second = await github.commit("octo/widget", count=3)
    fetched = await git("-C", mirror, "fetch", "-q", "origin")
    assert fetched.status == 0, fetched.stderr
    assert (await git("-C", mirror, "rev-parse", MAIN)).stdout.decode().strip() == second.after
    assert (first.before, second.before) == (ZEROS, first.after)
    assert [each.id for each in second.commits][-1] == second.after
    assert github.fetches("octo/widget") == 2
    assert {each.protocol for each in github.requests} == {"version=2"}
    assert (await git("-C", mirror, "fsck", "--strict")).status == 0


@pytest_twisted.ensureDeferred
async def test_commits_are_the_same_on_every_run(github: PretendGitHub) -> None:
    await github.create("octo/widget")
    await github.create("octo/other")
    made = await github.commit("octo/widget", message="Hello")
    assert made.after == "f423eb930a0fba082fcac3e2b07c7d8c93afbf03"
    assert made.commits[0].tree == await github.git("octo/widget", "rev-parse", f"{made.after}^{{tree}}")
    assert (await github.commit("octo/other", message="Hello")).after != made.after


@pytest_twisted.ensureDeferred
async def test_a_request_that_git_compressed_is_understood(github: PretendGitHub, tmp_path: Path) -> None:
    url = await github.create("octo/widget")
    await github.commit("octo/widget", count=40)
    # Git compresses what is longer than 1,024 bytes: forty branches with a tip each are more to ask for than that.
    for number in range(40):
        await github.set_ref("octo/widget", f"refs/heads/b{number}", f"{MAIN}~{number}")
    mirror = tmp_path / "mirror.git"
    assert (await git("clone", "-q", "--mirror", url, mirror)).status == 0
    assert any(each.compressed and each.command == "fetch" for each in github.requests)
    assert await remote_refs(url) == await remote_refs(str(mirror))


def _posted(command: str) -> bytes:
    return f"{len(command) + 5:04x}{command}\n0000".encode()


@pytest.mark.parametrize("protocol", ["", "version=1", "version=2", "version=1:version=2"])
@pytest.mark.parametrize(
    ("method", "path", "kind", "body"),
    [
        ("GET", "/info/refs", "", b""),
        ("POST", "/git-upload-pack", "application/x-git-upload-pack-request", _posted("command=ls-refs")),
        ("POST", "/git-upload-pack", "application/x-git-upload-pack-request", b"what is this"),
        ("POST", "/git-upload-pack", "text/plain", _posted("command=ls-refs")),
    ],
)
@pytest_twisted.ensureDeferred
async def test_it_says_what_gits_own_server_says(
    github: PretendGitHub, protocol: str, method: str, path: str, kind: str, body: bytes
) -> None:
    url = await github.create("octo/widget")
    await github.commit("octo/widget")
    query = "service=git-upload-pack" if method == "GET" else ""
    asked = {"Git-Protocol": [protocol]} if protocol else {}
    import treq  # noqa: PLC0415 - installs a reactor
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    headers = Headers({**asked, **({"Content-Type": [kind]} if kind else {})})
    answer = await treq.request(method, f"{url}{path}?{query}", headers=headers, data=body, persistent=False)
    said = await answer.content()
    cgi = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, "CONTENT_TYPE": kind}
    cgi |= {"GIT_PROJECT_ROOT": str(github.path("octo/widget")), "GIT_HTTP_EXPORT_ALL": "1"}
    cgi |= {"GIT_PROTOCOL": protocol} if protocol else {}
    expected = await run(reactor, ["git", "http-backend"], env={**GIT_ENVIRONMENT, **cgi}, stdin=body)
    head, _, expected_body = expected.stdout.partition(b"\r\n\r\n")
    lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
    assert answer.code == int(lines.pop("Status", "200").split()[0])
    if answer.code == 200:
        assert said == expected_body
        assert {name: answer.headers.getRawHeaders(name) for name in lines} == {
            name: [value] for name, value in lines.items()
        }


@pytest_twisted.ensureDeferred
async def test_refs_of_every_kind_come_move_and_go(github: PretendGitHub) -> None:
    url = await github.create("octo/widget")
    await github.commit("octo/widget", count=2)
    made = await github.set_ref("octo/widget", "refs/stackit/note", MAIN)
    assert made.before == ZEROS
    assert not made.forced
    forced = await github.force("octo/widget")
    assert forced.forced
    assert await github.git("octo/widget", "rev-list", "--count", MAIN) == "2"
    branched = await github.commit("octo/widget", "refs/heads/topic")
    assert (branched.before, branched.forced) == (ZEROS, False)
    assert await github.git("octo/widget", "rev-parse", "refs/heads/topic~1") == forced.after
    await github.delete_ref("octo/widget", "refs/heads/topic")
    back = await github.set_ref("octo/widget", MAIN, made.after)
    assert back.forced
    gone = await github.delete_ref("octo/widget", "refs/stackit/note")
    assert (gone.before, gone.after) == (made.after, ZEROS)
    assert await remote_refs(url) == {"HEAD": made.after, MAIN: made.after}
    with pytest.raises(GitFailed):
        await github.set_ref("octo/widget", "refs/heads/x", "no-such-commit")
    with pytest.raises(LookupError, match="has no refs/heads/x"):
        await github.delete_ref("octo/widget", "refs/heads/x")


@pytest_twisted.ensureDeferred
async def test_the_only_commit_of_a_branch_can_be_replaced(github: PretendGitHub) -> None:
    await github.create("octo/widget")
    first = await github.commit("octo/widget")
    assert (await github.force("octo/widget")).before == first.after
    assert await github.git("octo/widget", "rev-list", "--count", MAIN) == "1"


@pytest_twisted.ensureDeferred
async def test_the_default_branch_can_be_renamed(github: PretendGitHub) -> None:
    url = await github.create("octo/widget")
    tip = (await github.commit("octo/widget")).after
    await github.rename_default_branch("octo/widget", "trunk")
    listed = await git("ls-remote", "--symref", url, "HEAD")
    assert listed.stdout.decode().splitlines()[0] == "ref: refs/heads/trunk\tHEAD"
    assert await remote_refs(url) == {"HEAD": tip, "refs/heads/trunk": tip}
    assert github.repository("octo/widget")["default_branch"] == "trunk"


@pytest_twisted.ensureDeferred
async def test_a_sha256_repository_works_alike(github: PretendGitHub) -> None:
    url = await github.create("octo/widget", object_format="sha256")
    moved = await github.commit("octo/widget")
    assert (moved.before, len(moved.after)) == ("0" * 64, 64)
    assert (await remote_refs(url))[MAIN] == moved.after


@pytest_twisted.ensureDeferred
async def test_a_private_repository_wants_its_token(github: PretendGitHub) -> None:
    url = await github.create("octo/secret", private_token="t0ken")
    await github.commit("octo/secret")

    def as_user(password: str) -> dict[str, str]:
        return {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "credential.helper",
            "GIT_CONFIG_VALUE_0": f"!f() {{ echo username=x-access-token; echo password={password}; }}; f",
        }

    assert MAIN in await remote_refs(url, **as_user("t0ken"))
    nobody = await git("ls-remote", url)
    assert nobody.status == 128
    assert b"could not read Username" in nobody.stderr
    wrong = await git("ls-remote", url, **as_user("wrong"))
    assert b"not found" in wrong.stderr
    missing = await git("ls-remote", github.url("octo/nothing"))
    assert b"could not read Username" in missing.stderr


@pytest_twisted.ensureDeferred
async def test_names_are_found_in_any_letter_case(github: PretendGitHub) -> None:
    await github.create("Octo/Widget")
    await github.commit("octo/widget")
    assert MAIN in await remote_refs(github.url("OCTO/WIDGET"))
    with pytest.raises(LookupError, match="create it first"):
        await github.commit("octo/other")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (401, b"could not read Username"),
        (403, b"error: 403"),
        (404, b"not found"),
        (429, b"error: 429"),
        ("echo", b"error: 500"),
        (500, b"error: 500"),
        ("truncate", b"transfer closed"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_fault_shows_to_git_and_can_be_healed(github: PretendGitHub, fault: Any, said: bytes) -> None:
    url = await github.create("octo/widget")
    await github.commit("octo/widget")
    github.fault("octo/widget", fault)
    failed = await git("ls-remote", url)
    assert failed.status == 128
    assert said in failed.stderr
    github.heal("octo/widget")
    assert MAIN in await remote_refs(url)


@pytest.mark.parametrize("fault", ["hang", "hang_mid", "drip"])
@pytest_twisted.ensureDeferred
async def test_an_answer_that_does_not_end_leaves_git_waiting(github: PretendGitHub, fault: Any) -> None:
    url = await github.create("octo/widget")
    await github.commit("octo/widget")
    github.fault("octo/widget", fault, times=1)
    assert (await git_within(0.5, "ls-remote", url)).timed_out
    assert MAIN in await remote_refs(url)


@pytest_twisted.ensureDeferred
async def test_a_redirect_leads_to_the_same_repository_under_another_host(github: PretendGitHub) -> None:
    url = await github.create("octo/widget")
    await github.commit("octo/widget")
    github.fault("octo/widget", "redirect")
    assert MAIN in await remote_refs(url)
    assert {each.host.partition(":")[0] for each in github.requests} == {"127.0.0.1", "localhost"}
    refused = await git("-c", "http.followRedirects=false", "ls-remote", url)
    assert refused.status == 128


@pytest_twisted.ensureDeferred
async def test_a_stale_answer_is_as_the_refs_were(github: PretendGitHub, tmp_path: Path) -> None:
    url = await github.create("octo/widget")
    before = (await github.commit("octo/widget")).after
    await github.git("octo/widget", "pack-refs", "--all")
    github.fault("octo/widget", "stale")
    after = (await github.commit("octo/widget")).after
    assert (await remote_refs(url))[MAIN] == before
    mirror = tmp_path / "mirror.git"
    assert (await git("clone", "-q", "--mirror", url, mirror)).status == 0
    github.heal("octo/widget")
    assert (await remote_refs(url))[MAIN] == after


@pytest_twisted.ensureDeferred
async def test_an_unknown_fault_is_refused(github: PretendGitHub) -> None:
    await github.create("octo/widget")
    with pytest.raises(ValueError, match="no such fault: 'sulk'"):
        github.fault("octo/widget", cast("Any", "sulk"))


@pytest_twisted.ensureDeferred
async def test_git_cannot_push(github: PretendGitHub, tmp_path: Path) -> None:
    url = await github.create("octo/widget")
    await github.commit("octo/widget")
    await git("clone", "-q", "--mirror", url, tmp_path / "mirror.git")
    assert (await git("-C", tmp_path / "mirror.git", "push", "-q", url, f"{MAIN}:refs/heads/x")).status != 0
    assert "refs/heads/x" not in await github.refs("octo/widget")


class Receiver(Resource):
    """Keeps what was posted, and says 202."""

    isLeaf = True

    def __init__(self) -> None:
        Resource.__init__(self)
        self.posted: list[tuple[dict[str, str], bytes]] = []

    def render_POST(self, request: Any) -> bytes:
        headers = {name.decode(): values[0].decode() for name, values in request.requestHeaders.getAllRawHeaders()}
        self.posted.append((headers, request.content.read()))
        request.setResponseCode(202)
        return b"{}"


@pytest_twisted.async_yield_fixture
async def receiver(github: PretendGitHub) -> AsyncIterator[Receiver]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    root = Receiver()
    site = LoopbackSite(reactor, root)
    github.webhook(f"http://127.0.0.1:{site.port}/hook", "s3cret")
    await github.create("octo/widget")
    yield root
    await site.close()


@pytest_twisted.ensureDeferred
async def test_a_push_sends_a_signed_delivery_of_what_was_pushed(github: PretendGitHub, receiver: Receiver) -> None:
    sent = await github.push("octo/widget", count=2)
    assert (sent.status, sent.body) == (202, b"{}")
    [(headers, body)] = receiver.posted
    payload = msgspec.json.decode(body)
    assert sent.moved is not None
    assert (payload["before"], payload["after"]) == (ZEROS, sent.moved.after)
    assert payload["created"] is True
    assert [each["id"] for each in payload["commits"]] == [each.id for each in sent.moved.commits]
    assert payload["head_commit"]["id"] == sent.moved.after
    assert payload["repository"]["clone_url"] == github.url("octo/widget")
    assert headers["X-Github-Event"] == "push"
    assert headers["X-Github-Delivery"] == sent.guid
    assert headers["X-Hub-Signature-256"] == "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()


@pytest_twisted.ensureDeferred
async def test_forced_updates_and_deletions_are_announced_as_such(github: PretendGitHub, receiver: Receiver) -> None:
    await github.commit("octo/widget", count=2)
    await github.announce(await github.force("octo/widget"))
    await github.announce(await github.delete_ref("octo/widget", MAIN))
    forced, deleted = (msgspec.json.decode(body) for _, body in receiver.posted)
    assert (forced["forced"], forced["deleted"]) == (True, False)
    assert (deleted["deleted"], deleted["after"], deleted["commits"], deleted["head_commit"]) == (True, ZEROS, [], None)


@pytest_twisted.ensureDeferred
async def test_a_ref_of_ones_own_is_never_announced(github: PretendGitHub, receiver: Receiver) -> None:
    with pytest.raises(ValueError, match="announces no push for refs/stackit/note"):
        await github.push("octo/widget", "refs/stackit/note")
    assert receiver.posted == []
    assert "refs/stackit/note" in await github.refs("octo/widget")


@pytest_twisted.ensureDeferred
async def test_a_lost_delivery_arrives_only_when_it_is_sent_again(github: PretendGitHub, receiver: Receiver) -> None:
    github.lose_next()
    lost = await github.push("octo/widget")
    assert (lost.status, lost.error, receiver.posted) == (None, "lost on purpose", [])
    again = await github.redeliver(lost.guid)
    assert (again.status, again.guid) == (202, lost.guid)
    assert (await github.push("octo/widget")).status == 202
    assert len(receiver.posted) == 2
    with pytest.raises(LookupError):
        await github.redeliver("never")


@pytest_twisted.ensureDeferred
async def test_a_receiver_that_is_not_there_is_an_outcome_and_no_error(github: PretendGitHub) -> None:
    await github.create("octo/widget")
    github.webhook("http://127.0.0.1:1/hook", "s3cret")
    sent = await github.push("octo/widget")
    assert sent.status is None
    assert "refused" in sent.error


@pytest_twisted.ensureDeferred
async def test_commits_made_at_once_queue_up(github: PretendGitHub) -> None:
    await github.create("octo/widget")
    made = await gatherResults([Deferred.fromCoroutine(github.commit("octo/widget")) for _ in range(5)])
    assert [each.before for each in made[1:]] == [each.after for each in made[:-1]]
