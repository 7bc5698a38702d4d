"""Where no Dovecot can be had these tests are skipped, loudly; in CI that is a failure."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.dovecot.dovecot import Dovecot, dovecot, why_unavailable
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
    reason = why_unavailable()
    if reason and os.environ.get("CI"):
        pytest.fail(f"CI must test against a real Dovecot: {reason}")
    if reason:
        pytest.skip(f"no real Dovecot: {reason}")


@pytest.fixture(params=[False, True], ids=["plain", "listescape"])
def server(real_dovecot: None, request: pytest.FixtureRequest) -> Iterator[Dovecot]:
    """A Dovecot with an empty home."""
    with dovecot(escape=request.param) as made:
        yield made
