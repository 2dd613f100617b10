"""git as a client of the pretend GitHub, with a token."""

from __future__ import annotations

import base64

from stackit.subprocesses import Finished, ProcessLimits, run
from stackit.testing.bare import GIT_ENVIRONMENT


async def ls_remote(url: str, token: str = "", *options: str) -> Finished:
    """Run ``git ls-remote`` with a token as GitHub wants it: as the password of ``x-access-token``."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    basic = base64.b64encode(f"x-access-token:{token}".encode()).decode()
    said = ["-c", f"http.extraHeader=Authorization: Basic {basic}"] if token else []
    argv = ["git", *said, *options, "ls-remote", url]
    return await run(reactor, argv, env=GIT_ENVIRONMENT, limits=ProcessLimits(timeout=60))
