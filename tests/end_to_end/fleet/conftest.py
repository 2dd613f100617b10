"""A handler that notes what it does, for the fleets of these tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet_load import Load, StartFleet

from stackit.testing import RunningFleet


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    load = Load(tmp_path / "load")
    yield load
    load.stop()


@pytest.fixture
def start_fleet(running_fleet: StartFleet, load: Load) -> StartFleet:
    """Start three nodes with the handler that notes what it does. Their lease is longer than a machine stands still."""

    async def start(
        *, config: dict[str, Any] | None = None, fleet: dict[str, Any] | None = None, **settings: Any
    ) -> RunningFleet:
        return await running_fleet(
            config={**load.config, **(config or {})},
            environment=load.environment,
            fleet={"lease": "6s", **(fleet or {})},
            **settings,
        )

    return start
