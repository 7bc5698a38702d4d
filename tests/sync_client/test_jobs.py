"""One run in several processes: each user is done by one of them, and the whole is as good as its worst
part."""

from __future__ import annotations

import os
import signal

import pytest

from cyrus_sync.common.errors import EX_TEMPFAIL, StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.sync_client.jobs import Part, in_processes
from tests.forking import fork
from tests.sync_client.real import Pair

USERS = [f"user{number}" for number in range(12)]


def status_of(count: int, work: object) -> int:
    """`in_processes` in a process of its own: it takes signals over."""
    pid = fork(lambda: in_processes(count, work))  # type: ignore[arg-type]
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_every_owner_is_the_work_of_one_part() -> None:
    parts = [Part(number, 3) for number in (1, 2, 3)]
    owners = [Owner("user", f"user{number}") for number in range(200)]
    shares = [[owner for owner in owners if part.has(owner)] for part in parts]
    assert sorted(owner for share in shares for owner in share) == sorted(owners)
    assert all(len(share) > 40 for share in shares)
    assert all(map(Part().has, owners))


def test_the_worst_status_counts() -> None:
    def kill_myself(part: Part) -> int:
        if part.number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    def fail(part: Part) -> int:
        raise StoreError("disk full")

    assert status_of(3, lambda part: 0) == 0
    assert status_of(3, lambda part: 1 if part.number == 2 else 0) == 1
    assert status_of(3, kill_myself) == EX_TEMPFAIL
    assert status_of(2, fail) == StoreError.exit_status


@pytest.mark.covers("imapd.conf", "sync_jobs")
def test_a_run_over_everybody_is_done_by_several_processes(pair: Pair) -> None:
    pair.master.add("sync_authname: cyrus", "sync_password: secret", "sync_jobs: 3")
    there = ["-S", f"127.0.0.1:{pair.server.port}"]
    pair.master.create(*USERS)
    pair.replica.create("alone")
    client = pair.run(*there, "-A", "-v")
    assert client.process.returncode == 1  # for who is on the replica alone, which is told once
    assert client.err.decode().count("only the replica has the user alone") == 1
    lines = client.out.decode().splitlines()
    assert sorted(line for line in lines if line.startswith("USER ")) == sorted(f"USER {u}" for u in USERS)
    assert all(map(pair.replica.has, USERS))
    pair.replica.store.close()
    client = pair.run(*there, "-u", *USERS)
    assert client.process.returncode == 0
