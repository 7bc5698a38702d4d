"""Where no Prometheus can be had these tests are skipped, loudly; in CI that is a failure."""

from __future__ import annotations

import pytest

from tests.absent import skip_without
from tests.fleet.postgres import why_unavailable as no_postgres
from tests.metrics.prometheus import why_unavailable


@pytest.fixture(scope="session")
def real_prometheus() -> None:
    """Skip where none can be had; in CI, fail."""
    skip_without("real Prometheus", why_unavailable())


@pytest.fixture(scope="session")
def real_postgres() -> None:
    """Likewise, for what watches a fleet."""
    skip_without("real PostgreSQL", no_postgres())
