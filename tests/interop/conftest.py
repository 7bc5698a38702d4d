"""Fixtures for the tests against the real Cyrus.

Where it cannot be run these tests are skipped, loudly; with CI in the environment that is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .cyrus import Cyrus, why_unavailable


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/interop/" in str(item.path):
            item.add_marker(pytest.mark.interop)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reason = why_unavailable()
    if reason:
        terminalreporter.section("NOT TESTED AGAINST THE REAL CYRUS", sep="!", red=True, bold=True)
        terminalreporter.line(f"{reason}: tests/interop was skipped")


@pytest.fixture(scope="session", autouse=True)
def real_cyrus() -> None:
    """Skip everything here where no real Cyrus can be had; in CI, fail."""
    reason = why_unavailable()
    if reason and os.environ.get("CI"):
        pytest.fail(f"CI must test against the real Cyrus: {reason}")
    if reason:
        pytest.skip(f"no real Cyrus: {reason}")


@pytest.fixture(scope="session")
def master(real_cyrus: None) -> Iterator[Cyrus]:
    """A real Cyrus that tests fill; each uses users of its own."""
    with Cyrus.running("master", {"maxliteral": "0"}) as cyrus:
        yield cyrus


@pytest.fixture(scope="session")
def replica(real_cyrus: None) -> Iterator[Cyrus]:
    """A real Cyrus that receives."""
    with Cyrus.running("replica", {"sync_log": "0", "maxliteral": "0"}) as cyrus:
        yield cyrus


@pytest.fixture
def fresh_master(real_cyrus: None) -> Iterator[Cyrus]:
    """A real Cyrus for one test alone, with a sync log that nobody else writes."""
    with Cyrus.running("master", {"maxliteral": "0"}) as cyrus:
        yield cyrus


@pytest.fixture
def fresh_replica(real_cyrus: None) -> Iterator[Cyrus]:
    with Cyrus.running("replica", {"sync_log": "0", "maxliteral": "0"}) as cyrus:
        yield cyrus


_counter = 0


@pytest.fixture
def user() -> str:
    """A userid that no other test has."""
    global _counter  # noqa: PLW0603
    _counter += 1
    return f"user{os.getpid()}n{_counter}"
