"""What happens before the first run of a rolling client."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from cyrus_sync.common.errors import EX_SOFTWARE
from cyrus_sync.sync_client import start, start_rolling
from cyrus_sync.sync_client.arguments import Mode
from tests.deadlines import scaled


class Threads:
    """Work off the reactor that ends when a test says so."""

    def __init__(self) -> None:
        self.working: list[tuple[Any, Deferred[Any]]] = []

    def run(self, function: Any, *arguments: Any) -> Deferred[Any]:
        self.working.append((function, Deferred()))
        return self.working[-1][1]


@pytest.fixture
def parts() -> Any:
    reactor = SimpleNamespace(addSystemEventTrigger=lambda *_: None)
    return SimpleNamespace(reactor=reactor, threads=Threads(), sweep=object())


def behind_sweep(parts: Any, **arguments: Any) -> list[str]:
    """What has been run."""
    ran: list[str] = []

    def run() -> Deferred[int]:
        ran.append("run")
        return succeed(0)

    job: Any = SimpleNamespace(arguments=SimpleNamespace(**{"once": False, "input_file": None, **arguments}))
    start_rolling._behind_sweep(job, parts, run)
    return ran


def test_a_rolling_client_does_not_wait_for_the_sweep(parts: Any) -> None:
    assert behind_sweep(parts) == ["run"]
    assert [function for function, _ in parts.threads.working] == [parts.sweep]


def test_a_single_run_comes_behind_the_sweep_and_finds_its_lines(parts: Any) -> None:
    ran = behind_sweep(parts, once=True)
    assert ran == []
    parts.threads.working[0][1].callback([])
    assert ran == ["run"]


def test_a_sweep_that_fails_stops_nothing(parts: Any) -> None:
    ran = behind_sweep(parts, once=True)
    parts.threads.working[0][1].errback(OSError(28, "No space left on device"))
    assert ran == ["run"]


def test_with_a_file_as_the_log_nothing_is_swept(parts: Any) -> None:
    assert behind_sweep(parts, input_file="log") == ["run"]
    assert parts.threads.working == []


def test_what_fails_before_anything_began_ends_the_client() -> None:
    code = (
        "from cyrus_sync.common.reactor import installed;"
        "from cyrus_sync.sync_client.until_done import until_done;"
        "raise SystemExit(until_done(installed(), lambda: 1 / 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=scaled(60))
    assert done.returncode == EX_SOFTWARE


def test_many_users_by_name_are_compared_by_their_digests_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "MANY", 2)
    known = {"alice": SimpleNamespace(digest=b"1"), "carol": SimpleNamespace(digest=b"3")}
    master: Any = SimpleNamespace(known_users=lambda: known)

    def digests(*names: str) -> dict[str, bytes]:
        job: Any = SimpleNamespace(arguments=SimpleNamespace(mode=Mode.USERS), names=list(names))
        items, found = start._items(job, master)
        assert [item.owner.name for item in items] == list(names), "all of them are done"
        return found

    assert digests("alice", "bob") == {"alice": b"1"}
    assert digests("alice") == {}, "one or two are looked at"
