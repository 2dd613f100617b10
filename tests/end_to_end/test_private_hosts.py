"""A host behind a private authority that asks for a certificate and a bearer token, as an operator configures it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest_twisted
from certificates import Authority, server_options
from mirror_harness import GitHttp, Upstream
from outside import check_log, descendants, mirror_refs, process_file
from twisted.internet.defer import Deferred, DeferredList

from stackit.testing import RunningStackit

TOKEN = "a-bearer-token-of-this-host-31"


@pytest_twisted.ensureDeferred
async def test_a_private_host_is_mirrored_with_what_its_table_says(running_stackit: Any, tmp_path: Path) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    authority = Authority(tmp_path)
    cert, key = authority.issue("client")
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    upstream = Upstream(tmp_path / "remote" / "octo" / "widget.git")
    upstream.advance()
    server = GitHttp(
        reactor, upstream.directory.parent.parent, server_options(*authority.issue("server"), authority.ca)
    )
    server.bearer = TOKEN
    stackit: RunningStackit = await running_stackit(
        config={
            "sync": {"interval": "0"},
            "repos": [{"name": "octo/widget", "url": server.url("octo/widget.git")}],
            "hosts": [
                {
                    "name": "127.0.0.1",
                    "ca_file": authority.ca,
                    "client_cert": cert,
                    "client_key": key,
                    "token_file": tmp_path / "token",
                    "token_scheme": "bearer",
                }
            ],
        },
    )
    assert (await stackit.sync("octo/widget")).status == 200
    before = upstream.refs()["refs/heads/main"]
    after = upstream.advance()
    payload = {
        "ref": "refs/heads/main",
        "before": before,
        "after": after,
        "repository": {"name": "widget", "full_name": "octo/widget", "owner": {"login": "octo"}},
    }
    assert (await stackit.deliver("push", payload, guid="pushed")).status == 202
    await stackit.wait_for("pushed", visible=True)
    assert await mirror_refs(stackit, "octo/widget") == upstream.refs()
    # Where git waits, nobody reads the token of it.
    server.hang_on = b"command=ls-refs"
    syncing = Deferred.fromCoroutine(stackit.sync("octo/widget"))
    await stackit.until(lambda: _hangs(server), "git to ask")
    for pid in descendants(stackit.pid):
        assert TOKEN.encode() not in process_file(pid, "environ") + process_file(pid, "cmdline")
    assert await stackit.stop() == 0
    await DeferredList([syncing], consumeErrors=True)
    check_log(stackit.log)
    await server.stop()


async def _hangs(server: GitHttp) -> bool:
    return bool(server._hanging)
