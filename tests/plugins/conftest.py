"""What the tests of the bundled plugins share."""

from __future__ import annotations

import pytest
from scraping import Scraped


@pytest.fixture
def scraped() -> Scraped:
    """Metrics as Prometheus scrapes them."""
    return Scraped()
