"""A rolling pair, one of whose disks fills up: nothing is lost, and when there is space again it flows.

The limit on file sizes plays the full disk: it can be set and lifted while a process runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.synclog.lines import parse_lines
from tests.deadlines import until
from tests.faults.pair import BurningPair, burning_pair
from tests.sync_client.real import Client

pytestmark = pytest.mark.fault

USERS = tuple(f"u{number}" for number in range(6))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[BurningPair]:
    with burning_pair(tmp_path, 1) as made:
        made.master.create(*USERS)
        made.drained()
        yield made


def lines_kept(pair: BurningPair) -> set[tuple[str, ...]]:
    """Every line of the log, the run file and the quarantine."""
    directory = pair.master.directory()
    data = b""
    for name in ("log-run", "log", "log-run", "quarantine.log"):  # a claim moves log to log-run
        with contextlib.suppress(FileNotFoundError):
            data += (directory / name).read_bytes()
    return {(line.type, *line.args) for line in parse_lines(data)}


def waits(pair: BurningPair) -> set[str]:
    """Users of whom a line is kept."""
    return {user for user in USERS for line in lines_kept(pair) if any(user in arg for arg in line[1:])}


def kept_while_it_tries(pair: BurningPair, times: int) -> None:
    """At no moment is any user's work not on the disk, until the client has looked at its log so many times
    more, as the turns that its process takes tell."""
    begun = turns(pair)

    def tried() -> bool:
        assert waits(pair) == set(USERS)
        return turns(pair) - begun >= times

    until(tried, f"the client has taken {times} turns", every=0.001)


def turns(pair: BurningPair) -> int:
    """How often the client has waited for something: its reactor's turns, at least one a second."""
    status = Path(f"/proc/{client_pid(pair)}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def server_pid(pair: BurningPair) -> int:
    assert pair.server.process is not None
    return pair.server.process.pid


def client_pid(pair: BurningPair) -> int:
    assert pair.client is not None
    return pair.client.pid


def equal(pair: BurningPair) -> None:
    pair.drained()
    assert pair.differences() == []
    pair.verify()


def test_a_replica_with_a_full_disk_catches_up_by_itself_when_there_is_space(pair: BurningPair) -> None:
    pair.limit(server_pid(pair), 1)
    for number in range(3):
        for user in USERS:
            pair.master.deliver(user, f"{user} {number}")
    until(lambda: b"sync failed" in pair.said.read_bytes(), "the client is refused")
    refused = pair.said.read_bytes().count(b"sync failed")
    until(
        lambda: pair.said.read_bytes().count(b"sync failed") >= refused + 2 * len(USERS),
        "two more runs meet the same disk",
    )
    assert waits(pair) == set(USERS), "what cannot be done now is kept"
    assert [pair.replica.messages(user) for user in USERS] == [0] * len(USERS)
    assert not (pair.master.directory() / "quarantine.yaml").exists(), "it is nobody's fault"
    pair.limit(server_pid(pair))
    until(lambda: [pair.replica.messages(user) for user in USERS] == [3] * len(USERS), "it flows on")
    equal(pair)


def test_a_client_that_cannot_write_a_file_loses_no_line(pair: BurningPair) -> None:
    pair.limit(client_pid(pair), 0)
    pair.limit(server_pid(pair), 1)
    for user in USERS:
        pair.master.deliver(user, "one")
    kept_while_it_tries(pair, 30)
    assert pair.at_work, "what it could not put back is left in the run file"
    pair.kill_client()
    pair.limit(client_pid(pair), 0)
    for user in USERS:
        pair.master.deliver(user, "two")
    kept_while_it_tries(pair, 20)
    pair.limit(server_pid(pair))
    pair.limit(client_pid(pair))
    equal(pair)
    assert [pair.replica.messages(user) for user in USERS] == [2] * len(USERS)


def test_a_client_begins_and_works_on_a_full_disk(pair: BurningPair) -> None:
    pair.kill_client()
    pair.limit(client_pid(pair), 0)
    pair.master.deliver(USERS[0], "one")
    until(lambda: pair.replica.messages(USERS[0]) == 1, "the message arrives")
    equal(pair)


def test_of_clients_that_race_for_a_channel_one_works_and_another_takes_over(pair: BurningPair) -> None:
    rivals = [Client(pair.master, "-R") for _ in range(3)]
    assert [rival.ended() for rival in rivals] == [75, 75, 75]
    pair.master.deliver(USERS[0], "for the first")
    until(lambda: pair.replica.messages(USERS[0]) == 1, "the first one works")
    assert pair.client is not None
    pair.client.kill()
    pair.client.wait()
    rivals = [Client(pair.master, "-R") for _ in range(3)]
    try:
        until(lambda: sum(rival.process.poll() is None for rival in rivals) == 1, "two are refused")
        assert sorted(rival.process.poll() or 0 for rival in rivals) == [0, 75, 75]
        pair.master.deliver(USERS[1], "for the one that is left")
        until(lambda: pair.replica.messages(USERS[1]) == 1, "the one that is left works")
    finally:
        for rival in rivals:
            rival.kill()
