"""Where no Prometheus can be had these tests are skipped, loudly; in CI that is a failure."""

from __future__ import annotations

import os

import pytest

from tests.metrics.prometheus import why_unavailable


@pytest.fixture(scope="session")
def real_prometheus() -> None:
    """Skip where none can be had; in CI, fail."""
    reason = why_unavailable()
    if reason and os.environ.get("CI"):
        pytest.fail(f"CI must test against a real Prometheus: {reason}")
    if reason:
        pytest.skip(f"no real Prometheus: {reason}")
