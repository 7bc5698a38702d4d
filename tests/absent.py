"""Tests that need somebody else's program are skipped where it cannot be had; in CI that is a failure."""

from __future__ import annotations

import os

import pytest


def skip_without(what: str, reason: str) -> None:
    """End the test, or the fixture, where `what` cannot be had. `reason`: why; "" where it can."""
    if reason and os.environ.get("CI"):
        pytest.fail(f"CI must test against a {what}: {reason}")
    if reason:
        pytest.skip(f"no {what}: {reason}")
