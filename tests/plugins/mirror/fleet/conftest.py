"""A fleet of mirror plugins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from mirror_fleet import MirrorFleet
from twisted.internet.defer import Deferred


@pytest.fixture
def fleet(reactor: Any, tmp_path: Path) -> Iterator[MirrorFleet]:
    fleet = MirrorFleet(reactor, tmp_path / "nodes")
    yield fleet
    pytest_twisted.blockon(Deferred.fromCoroutine(fleet.close()))
