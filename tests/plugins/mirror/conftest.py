"""What the tests of the mirror share: a remote on disk, the same over HTTP, one that is silent, and the plugin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from mirror_harness import GitHttp, Harness, SilentRemote, Upstream, managed
from twisted.internet.defer import Deferred

from stackit.plugins.mirror.sync.tunables import Tunables


@pytest.fixture
def reactor() -> Any:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    return reactor


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    """A remote with one commit, which ``server`` serves as octo/widget.git."""
    upstream = Upstream(tmp_path / "remote" / "octo" / "widget.git")
    upstream.advance()
    return upstream


@pytest.fixture
def server(reactor: Any, upstream: Upstream) -> Iterator[GitHttp]:
    server = GitHttp(reactor, upstream.directory.parent.parent)
    yield server
    pytest_twisted.blockon(server.stop())


@pytest.fixture
def hung(reactor: Any) -> Iterator[SilentRemote]:
    hung = SilentRemote(reactor)
    yield hung
    pytest_twisted.blockon(hung.stop())


@pytest.fixture
def tunables() -> Tunables:
    """The figures that no setting changes; a test has others by ``parametrize``."""
    return Tunables()


@pytest.fixture
def harness(tmp_path: Path, upstream: Upstream, tunables: Tunables) -> Iterator[Harness]:
    """The plugin with a mirror of ``upstream``, which is not there yet."""
    harness = Harness(tmp_path / "state", managed(upstream), tunables=tunables)
    yield harness
    pytest_twisted.blockon(harness.worker().rounds.idle())
    pytest_twisted.blockon(harness.stop())


@pytest.fixture
def synced(tmp_path: Path, upstream: Upstream, tunables: Tunables) -> Iterator[Harness]:
    """The plugin with a mirror of ``upstream`` that is in step."""
    harness = Harness(tmp_path / "state", managed(upstream), tunables=tunables)
    pytest_twisted.blockon(Deferred.fromCoroutine(harness.worker().sync("start")))
    yield harness
    pytest_twisted.blockon(harness.stop())
