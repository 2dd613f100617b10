"""Discovery on a pretend GitHub, over a registry in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_twisted
from discovery_harness import DiscoveryHarness

from stackit.testing.github import PretendGitHub
from stackit.testing.timelapse import Timelapse


@pytest_twisted.async_yield_fixture
async def harness(tmp_path: Path) -> AsyncIterator[DiscoveryHarness]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    time = Timelapse(reactor)
    github = PretendGitHub(time.now)
    await github.start(reactor, tmp_path / "github")
    made = DiscoveryHarness(time, github, tmp_path)
    try:
        yield made
    finally:
        await made.close()
        await github.stop()
