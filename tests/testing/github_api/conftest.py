"""Requests of the pretend GitHub's API."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_twisted
from api_client import ApiClient

from stackit.testing.github import PretendGitHub


@pytest.fixture
def github(pretend_github: PretendGitHub) -> PretendGitHub:
    return pretend_github


@pytest_twisted.async_yield_fixture
async def api(pretend_github: PretendGitHub) -> AsyncIterator[ApiClient]:
    client = ApiClient(pretend_github)
    yield client
    await client.close()
