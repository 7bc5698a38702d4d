"""Where no PostgreSQL can be had these tests are skipped, loudly; in CI that is a failure."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.absent import skip_without
from tests.fleet.postgres import Postgres, new_postgres, why_unavailable
from tests.reactors import new_reactor


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [one for kind in terminalreporter.stats.values() for one in kind if hasattr(one, "nodeid")]
    if any("tests/fleet/" in report.nodeid for report in reports) and why_unavailable():
        terminalreporter.section("NOT TESTED AGAINST A REAL POSTGRESQL", sep="!", red=True, bold=True)
        terminalreporter.line(f"{why_unavailable()}: tests/fleet was skipped")


@pytest.fixture(scope="session")
def real_postgres() -> None:
    """Skip where none can be had; in CI, fail."""
    skip_without("real PostgreSQL", why_unavailable())


@pytest.fixture(scope="session")
def postgres(real_postgres: None) -> Iterator[Postgres]:
    """One server for all tests of this process."""
    with new_postgres() as server:
        server.start()
        yield server


@pytest.fixture
def database(postgres: Postgres) -> str:
    """The address of a database in which there is nothing."""
    return postgres.database()


@pytest.fixture(autouse=True)
def _a_reactor_for_each_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in the process of the tests, and a reactor runs once."""
    monkeypatch.setattr("cyrus_sync.mailstore.reactor.installed", new_reactor)
