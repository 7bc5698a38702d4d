"""Where no Dovecot can be had these tests are skipped, loudly; in CI that is a failure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.absent import skip_without
from tests.dovecot.dovecot import Dovecot, dovecot, why_unavailable
from tests.dovecot.running import RELEASES, Server, running, why_not_running
from tests.mailstore.conftest import alice, site

__all__ = ["alice", "site"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [one for kind in terminalreporter.stats.values() for one in kind if hasattr(one, "nodeid")]
    if any("tests/dovecot/" in report.nodeid for report in reports) and why_unavailable():
        terminalreporter.section("NOT TESTED AGAINST A REAL DOVECOT", sep="!", red=True, bold=True)
        terminalreporter.line(f"{why_unavailable()}: tests/dovecot was skipped")


@pytest.fixture(scope="session")
def real_dovecot() -> None:
    """Skip where none can be had; in CI, fail."""
    skip_without("real Dovecot", why_unavailable())


@pytest.fixture(params=[False, True], ids=["plain", "listescape"])
def server(real_dovecot: None, request: pytest.FixtureRequest) -> Iterator[Dovecot]:
    """A Dovecot with an empty home."""
    with dovecot(escape=request.param) as made:
        yield made


@pytest.fixture(scope="session", params=RELEASES)
def serving(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A whole Dovecot of each release, which all tests share: each has users of its own in it."""
    with running_or_skipped(request.param) as made:
        yield made


@contextmanager
def running_or_skipped(release: str, **setup: Any) -> Iterator[Server]:
    """As `running`; where that release cannot be had the test is skipped, in CI it fails."""
    skip_without(f"Dovecot {release}", why_not_running(release))
    with running(release, **setup) as made:
        yield made
