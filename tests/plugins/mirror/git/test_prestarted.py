"""Gits that wait for their input end with whoever started them, however impatient that is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from mirror_harness import git
from twisted.internet.defer import CancelledError, Deferred

from stackit.plugins.mirror.git.prestarted import PrestartedGit
from stackit.plugins.mirror.git.runner import Git

COMMANDS = (("hash-object", "--stdin"), ("rev-list", "--stdin"), ("unpack-objects", "-q"))


@pytest.fixture
def prestarted(reactor: Any, tmp_path: Path) -> PrestartedGit:
    git(tmp_path, "init", "-q", "--bare", "mirror.git")
    runner = Git(reactor, tmp_path, lambda text: text)
    return PrestartedGit(runner, tmp_path / "mirror.git", {})


@pytest_twisted.ensureDeferred
async def test_all_that_wait_are_ended(prestarted: PrestartedGit) -> None:
    prestarted.start(*COMMANDS)
    prestarted.release()
    prestarted.start(COMMANDS[0])
    await prestarted.close()
    await prestarted.close()


@pytest_twisted.ensureDeferred
async def test_all_that_wait_are_ended_before_a_cancelled_close_is(prestarted: PrestartedGit) -> None:
    prestarted.start(*COMMANDS[:1])
    prestarted.release()
    prestarted.start(*COMMANDS)
    closing = Deferred.fromCoroutine(prestarted.close())
    closing.cancel()
    with pytest.raises(CancelledError):
        await closing
