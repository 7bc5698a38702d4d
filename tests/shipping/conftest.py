from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.shipping import children
from tests.forking import forked
from tests.ports import ADDRESSES, free_port
from tests.shipping.kit import Host


@pytest.fixture
def started_children() -> None:
    """Asked for by tests whose children are started, as they are outside of tests."""


@pytest.fixture(autouse=True)
def _children_with_patches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children have what the test has patched, and are there at once."""
    if "started_children" not in request.fixturenames:
        monkeypatch.setattr(children, "start", forked)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Host, Host, Host]]:
    """Three hosts; nobody receives yet."""
    port = free_port()
    boston, hub, bangalore = (
        Host(tmp_path / name, address, port)
        for name, address in zip(("boston", "hub", "bangalore"), ADDRESSES, strict=True)
    )
    try:
        yield boston, hub, bangalore
    finally:
        for host in (boston, hub, bangalore):
            host.stop(signal.SIGKILL)


@pytest.fixture
def pair(hosts: tuple[Host, Host, Host]) -> tuple[Host, Host]:
    """A sender, and a receiver that listens."""
    hosts[1].start()
    return hosts[0], hosts[1]
