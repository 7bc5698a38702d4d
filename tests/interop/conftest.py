"""Fixtures for the tests against the real Cyrus.

A test marked ``every_release`` runs with each of `RELEASES`, all others with the machine's own; with
INTEROP_RELEASE=3.2 all run with that one. What cannot be run is skipped, loudly; with CI in the environment
that is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.absent import skip_without

from .cyrus import Cyrus
from .releases import HOST, RELEASES, SAME_FILES, Release, chosen, current, unavailable


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left = [item for item in items if _shows_no_more(item) or _leaves_out_the_release(item)]
    if left:
        config.hook.pytest_deselected(items=left)
        gone = set(left)
        items[:] = [item for item in items if item not in gone]
    for item in items:
        if "/interop/" in str(item.path):
            item.add_marker(pytest.mark.interop)
            # Of a test's time: a release that is still being made is waited for before it begins.
            if item.get_closest_marker("timeout") is None and item.get_closest_marker("every_release"):
                item.add_marker(pytest.mark.timeout(120, func_only=True))


def _shows_no_more(item: pytest.Item) -> bool:
    """Of the pairs of ends, two of ours need no other release, and where our client reads the spool one of
    those with the same files is enough."""
    params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    pair, release = str(params.get("pair", "")), params.get("release", str(HOST))
    if pair.startswith("beside-"):
        return release in SAME_FILES
    return pair == "ours-ours" and release != str(HOST)


def _leaves_out_the_release(item: pytest.Item) -> bool:
    """With INTEROP_RELEASE: whether the test is not meant for that one."""
    marker = item.get_closest_marker("every_release")
    return marker is not None and os.environ.get("INTEROP_RELEASE") in marker.kwargs.get("without", ())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("every_release")
    if marker and "INTEROP_RELEASE" not in os.environ:
        without = marker.kwargs.get("without", ())
        wanted = [name for name in RELEASES if name not in without]
        metafunc.parametrize("release", wanted, indirect=True, scope="session")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    releases = list(RELEASES.values())
    missing = unavailable(releases)
    if missing:
        terminalreporter.section("NOT TESTED AGAINST EVERY REAL CYRUS", sep="!", red=True, bold=True)
        for release, reason in missing.items():
            terminalreporter.line(f"Cyrus {release}: {reason}: what needs it in tests/interop was skipped")
    there = ", ".join(release.version or str(release) for release in releases if release not in missing)
    terminalreporter.line(f"real Cyrus: {there or 'none'}")


@pytest.fixture(scope="session", autouse=True)
def release(request: pytest.FixtureRequest) -> Iterator[Release]:
    """The real Cyrus that the test runs with. Where it cannot be had, skip; in CI, fail."""
    wanted = RELEASES[getattr(request, "param", str(current()))]
    wanted.wait()
    skip_without(f"Cyrus {wanted}", wanted.why_unavailable())
    with chosen(wanted):
        yield wanted


@pytest.fixture(scope="session")
def real_cyrus(release: Release) -> None:
    """Whatever starts a real Cyrus begins after the release is chosen, and ends before another is."""


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
