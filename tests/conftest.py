"""What every test may count on."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.deadlines import scaled


@pytest.fixture(autouse=True)
def _umask_of_its_own() -> Iterator[None]:
    """Daemons whose ``main`` runs within a test set the umask; the next test shall not see it."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """The time after which a test is ended scales with the machine."""
    marker = item.get_closest_marker("timeout")
    seconds = marker.args[0] if marker and marker.args else float(item.config.getini("timeout") or 0)
    if seconds:
        more = marker.kwargs if marker else {}
        item.add_marker(pytest.mark.timeout(scaled(seconds), **more), append=False)
    return (yield)
