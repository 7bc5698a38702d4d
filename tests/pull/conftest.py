"""A store that pulls from a server of the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cyrus_sync.pull.settings import ImapSettings
from tests.dovecot.pulling import Sidecar
from tests.pull.fake import FakeImap


@pytest.fixture
def server() -> Iterator[FakeImap]:
    with FakeImap() as made:
        yield made


@pytest.fixture
def beside(tmp_path: Path) -> Iterator[Callable[[FakeImap], Sidecar]]:
    """Makes our store beside a server."""
    made: list[Sidecar] = []

    def make(server: FakeImap) -> Sidecar:
        settings = ImapSettings("127.0.0.1", server.port, master="m", password="p", sieve_port=0, timeout=20)
        made.append(Sidecar(tmp_path, settings))
        return made[-1]

    yield make
    for one in made:
        one.close()
