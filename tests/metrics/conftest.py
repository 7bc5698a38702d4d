"""Where no Prometheus can be had these tests are skipped, loudly; in CI that is a failure."""

from __future__ import annotations

import pytest

from tests.absent import skip_without
from tests.metrics.prometheus import why_unavailable


@pytest.fixture(scope="session")
def real_prometheus() -> None:
    """Skip where none can be had; in CI, fail."""
    skip_without("real Prometheus", why_unavailable())
