"""What every test may count on."""

from __future__ import annotations

import gc
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deadlines import scaled
from tests.objects.seaweed import Seaweed, running
from tests.reactors import close_reactors, open_descriptors

MOST_LEFT_OPEN = 60
"""How many descriptors the tests of a module may leave open, together."""

LAST_ROOMS = ("interop", "mailstore", "common")
"""Whose tests run last, in this order. On a bare machine the releases of Cyrus that those of ``interop`` need
are made meanwhile; and where several processes run the tests, file by file, many short files at the end keep
all of them busy to the last."""


@pytest.fixture(autouse=True)
def _umask_of_its_own() -> Iterator[None]:
    """Daemons whose ``main`` runs within a test set the umask; the next test shall not see it."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(autouse=True)
def _log_of_its_own() -> Iterator[None]:
    """A ``main`` that runs within a test directs the log to what is standard error then; the next test shall
    not find that closed."""
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising


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


MEMORY = Path("/dev/shm")
ENOUGH = 3 << 30
"""Octets that must be free there: what the tests of all processes have at once is less than half of it."""


def pytest_configure(config: pytest.Config) -> None:
    # What is fsynced by thousands of tests takes as long as all else; no test needs a disk.
    if config.option.basetemp is None and _much_memory():
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
    # Otherwise the files with the fewest tests run last, and these are the longest.
    config.option.loadscopereorder = False


def _much_memory() -> bool:
    available = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
    free = shutil.disk_usage(MEMORY).free if os.access(MEMORY, os.W_OK) else 0
    return available is not None and min(free, int(available[1]) * 1024 // 2) >= ENOUGH


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    places = {room: place for place, room in enumerate(LAST_ROOMS, 1)}
    items.sort(key=lambda item: places.get(item.path.relative_to(tests).parts[0], 0))


def pytest_collection_finish() -> None:
    """The tests themselves are hundreds of thousands of objects that stay: no collection shall walk them."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """The time after which a test is ended scales with the machine."""
    marker = item.get_closest_marker("timeout")
    seconds = marker.args[0] if marker and marker.args else float(item.config.getini("timeout") or 0)
    if seconds:
        more = marker.kwargs if marker else {}
        item.add_marker(pytest.mark.timeout(scaled(seconds), **more), append=False)
    return (yield)
