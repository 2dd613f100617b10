"""Tokens that are renewed while a mirror is kept: had before each step, and again where the remote refuses one."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from mirror_harness import GitHttp, Harness, Upstream, managed, pushed, refs

from stackit import AccessProblem, StackitError
from stackit.plugins.mirror.sync.tunables import Tunables


class Source:
    """A ``TokenSource``: gives the next of its tokens when the one before was refused.

    ``problem`` is the reason for which it gives none.
    """

    def __init__(self, *tokens: str) -> None:
        self.tokens = list(tokens)
        self.problem: AccessProblem | None = None
        self.asked = 0
        self.taken: list[str] = []
        self.refused: list[tuple[str, int]] = []

    def current(self) -> str:
        return self.tokens[0]

    async def ready(self) -> None:
        self.asked += 1
        if self.problem is not None:
            raise StackitError(f"there is no token: {self.problem}")

    def accepted(self, token: str) -> None:
        self.taken.append(token)

    async def rejected(self, token: str, status: int) -> bool:
        self.refused.append((token, status))
        if token == self.tokens[0] and len(self.tokens) > 1:
            del self.tokens[0]
            return True
        return token != self.tokens[0]


@pytest.mark.parametrize("tunables", [Tunables(), Tunables(clone_from=0)], ids=["by fetch", "by clone"])
@pytest_twisted.ensureDeferred
async def test_a_refused_token_is_replaced_in_the_middle_of_a_round(
    upstream: Upstream, server: GitHttp, tmp_path: Path, tunables: Tunables
) -> None:
    source = Source("expired", "valid")
    server.bearer = "valid"
    remote = managed(server.url("octo/widget.git"), token_source=source, token_scheme="bearer")
    harness = Harness(tmp_path / "state", remote, tunables=tunables)
    await harness.worker().sync("start")
    assert source.refused == [("expired", 401)]
    assert set(source.taken) == {"valid"}
    assert source.asked >= 2  # before the list, and before the objects
    # It ends again: the fast fetch of a push, and a look by git, go on with the next one.
    source.tokens, server.bearer = ["valid", "later"], "later"
    old = upstream.refs()["refs/heads/main"]
    await harness.push(pushed(harness, old, upstream.advance()))
    source.tokens, server.bearer = ["later", "latest"], "latest"
    upstream.advance()
    await harness.worker().sync("manual")
    assert harness.named("fallback") == []
    assert refs(harness.path()) == upstream.refs()
    assert [each.outcome for each in harness.named("synced")] == ["changed", "changed", "changed"]
    assert "valid" not in (harness.path() / "config").read_text()
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_a_refusal_that_is_believed_is_about_the_repository(
    upstream: Upstream, server: GitHttp, tmp_path: Path
) -> None:
    source = Source("foreign")
    server.bearer = "own"
    upstream.advance()
    harness = Harness(tmp_path / "state", managed(server.url("octo/widget.git"), token_source=source))
    with pytest.raises(StackitError, match="let the App read the contents of this repository"):
        await harness.worker().sync("manual")
    assert source.refused == [("foreign", 401)]
    assert source.taken == []
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_without_tokens_nothing_is_asked_and_there_is_no_quarantine(
    upstream: Upstream, server: GitHttp, tmp_path: Path
) -> None:
    source = Source("valid")
    server.bearer = "valid"
    remote = managed(server.url("octo/widget.git"), token_source=source, token_scheme="bearer")
    harness = Harness(tmp_path / "state", remote)
    await harness.worker().sync("start")
    asked = len(server.authorizations)
    upstream.advance()
    for problem in ("suspended", "no_access"):
        source.problem = problem
        for _ in range(5):
            with pytest.raises(StackitError, match=f"there is no token: {problem}"):
                await harness.worker().sync("manual")
            assert harness.worker().state == problem
    assert len(server.authorizations) == asked
    assert not harness.worker().status.quarantined
    source.problem = None
    assert harness.worker().state == "failing"
    await harness.worker().rounds.idle()
    harness.app.repos.access_returned(Source())  # another one
    assert not harness.worker().rounds.busy
    harness.app.repos.access_returned(source)
    await harness.worker().rounds.idle()
    assert harness.worker().state == "in_step"
    assert refs(harness.path()) == upstream.refs()
    await harness.stop()
