"""One user at a time, between processes and within one; some are set aside."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock

from cyrus_sync.common.errors import MailboxLocked
from cyrus_sync.sync_client.engine.locks import UserLocks, lock_name
from cyrus_sync.sync_client.engine.options import Options
from tests.sync_client.engine.lines import InlineThreads
from tests.sync_client.engine.world import World, finish


async def held(
    locks: UserLocks, order: list[str], name: str, users: list[str], until: Deferred[None]
) -> None:
    async with locks.hold(users):
        order.append(name)
        await until


def begin(work: Coroutine[Any, Any, None]) -> Deferred[None]:
    return ensureDeferred(work)


def test_two_runs_of_one_engine_wait_for_one_another() -> None:
    locks = UserLocks(Options(), InlineThreads())
    order: list[str] = []
    first, second = Deferred[None](), Deferred[None]()
    one = begin(held(locks, order, "one", ["bob", "alice"], first))
    two = begin(held(locks, order, "two", ["alice"], second))
    begin(held(locks, order, "other", ["carol"], second))
    assert order == ["one", "other"]
    first.callback(None)
    assert order == ["one", "other", "two"]
    second.callback(None)
    finish(one)
    finish(two)
    assert locks._queues == {}


def test_a_user_locked_by_another_process_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / lock_name("replica.example", "alice")
    script = (
        "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX);"
        "print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout is not None
        other.stdout.readline()
        clock = Clock()
        options = Options(server="replica.example", lock_dir=tmp_path, clock=clock)
        order: list[str] = []
        until = Deferred[None]()
        work = begin(held(UserLocks(options, InlineThreads()), order, "me", ["alice"], until))
        clock.pump([0.1] * 5)
        assert order == []
        other.communicate(b"")
        clock.pump([0.1] * 2)
        assert order == ["me"]
        until.callback(None)
        finish(work)
    finally:
        other.kill()
        other.wait()


@pytest.mark.covers("sync_client: options", "-N")
def test_skip_locked_does_not_wait(tmp_path: Path) -> None:
    options = Options(lock_dir=tmp_path, skip_locked=True)
    mine, theirs = UserLocks(options, InlineThreads()), UserLocks(options, InlineThreads())
    until = Deferred[None]()
    begin(held(mine, [], "me", ["alice"], until))
    for locks in (mine, theirs):
        with pytest.raises(MailboxLocked) as caught:
            finish(begin(held(locks, [], "no", ["alice"], until)))
        assert caught.value.address["user"] == "alice"
    until.callback(None)
    finish(begin(held(theirs, [], "yes", ["alice"], until)))


def test_a_skipuser_file_holds_a_user_back(alice: World, tmp_path: Path) -> None:
    (tmp_path / "skipuser-alice").touch()
    with pytest.raises(MailboxLocked):
        alice.sync(skip_dir=tmp_path)
    assert alice.line.events == []
    (tmp_path / "skipuser-alice").unlink()
    alice.sync(skip_dir=tmp_path)


def test_a_failed_lock_gives_back_those_that_were_had(tmp_path: Path) -> None:
    (tmp_path / "skipuser-bob").touch()
    locks = UserLocks(Options(lock_dir=tmp_path / "locks", skip_dir=tmp_path), InlineThreads())
    until = Deferred[None]()
    with pytest.raises(MailboxLocked):
        finish(begin(held(locks, [], "no", ["alice", "bob"], until)))
    until.callback(None)
    finish(begin(held(locks, [], "yes", ["alice"], until)))


def test_locks_are_named_as_cyrus_names_them() -> None:
    assert lock_name("replica.example", "zoe.b") == "*S*replica^example*zoe^b"
    assert "/" not in lock_name("/run/sync.sock", "a")
