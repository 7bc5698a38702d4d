"""What every test may count on."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest

from tests.deadlines import scaled
from tests.objects.seaweed import Seaweed, running
from tests.reactors import close_reactors, open_descriptors

MOST_LEFT_OPEN = 60
"""How many descriptors the tests of a module may leave open, together."""


@pytest.fixture(autouse=True)
def _umask_of_its_own() -> Iterator[None]:
    """Daemons whose ``main`` runs within a test set the umask; the next test shall not see it."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(autouse=True)
def _reactors_are_closed() -> Iterator[None]:
    yield
    close_reactors()


@pytest.fixture(autouse=True, scope="module")
def _descriptors_are_given_back() -> Iterator[None]:
    """A process runs many modules: what each leaves open would add up to the limit of the process."""
    before = open_descriptors()
    yield
    gc.collect()
    after = open_descriptors()
    assert len(after) - len(before) <= MOST_LEFT_OPEN, sorted(set(after) - set(before))


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """A real S3 server. There is one for all: whoever uses it takes a prefix of its own."""
    with running(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """The time after which a test is ended scales with the machine."""
    marker = item.get_closest_marker("timeout")
    seconds = marker.args[0] if marker and marker.args else float(item.config.getini("timeout") or 0)
    if seconds:
        more = marker.kwargs if marker else {}
        item.add_marker(pytest.mark.timeout(scaled(seconds), **more), append=False)
    return (yield)
