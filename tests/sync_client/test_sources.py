"""The channel's log as a source of work: nothing leaves it that is not done or kept elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyrus_sync.common.errors import (
    ConnectionLost,
    CyrusSyncError,
    MailboxMoved,
    RemoteDenied,
    SnapshotLost,
    StoreError,
    SyncChecksum,
)
from cyrus_sync.common.names import Owner
from cyrus_sync.common.synclog.log import SyncLog
from cyrus_sync.sync_client.engine.errors import FoldersFailed, MovedMeanwhile, NeverStill
from cyrus_sync.sync_client.quarantine import BUSY_RETRY, FIRST_RETRY, PATIENCE, Quarantine
from cyrus_sync.sync_client.run import Failure, Outcome
from cyrus_sync.sync_client.sources import ChannelSource, FileSource, owner_of_line
from cyrus_sync.sync_client.work import Item

ALICE = Owner("user", "alice")


class Channel:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = 1_800_000_000.0
        self.log = SyncLog(directory / "log")
        self.restart()

    def restart(self) -> None:
        self.quarantine = Quarantine(self.directory, lambda: self.now, owner_of_line)
        self.quarantine.load()
        self.source = ChannelSource(self.log, self.quarantine)

    def write(self, *lines: str) -> None:
        self.log.append([tuple(line.split()) for line in lines])

    def logged(self) -> list[str]:
        return self.log.path.read_text().splitlines() if self.log.path.exists() else []

    def take(self):
        batch = self.source.take()
        assert batch is not None
        return batch

    def fail_user(self, name: str) -> None:
        """A run in which everything is done but USER `name`."""
        batch = self.take()
        failed = [Failure(Item.user(name), SyncChecksum())]
        self.source.conclude(batch, Outcome(done=len(batch.plan.items) - 1, failed=failed))


@pytest.fixture
def channel(tmp_path: Path) -> Channel:
    return Channel(tmp_path)


def items(batch) -> list[str]:
    return [str(item) for item in batch.plan.items]


def test_nothing_logged_is_nothing_to_do(channel):
    assert not channel.source.pending()
    assert channel.source.take() is None
    assert channel.source.since() is None


def test_a_batch_is_what_was_logged_and_done_work_leaves_nothing_behind(channel):
    channel.write("MAILBOX user.alice", "USER bob")
    assert channel.source.pending()
    assert channel.source.since() is not None
    batch = channel.take()
    assert items(batch) == ["MAILBOX user.alice", "USER bob"]
    channel.source.conclude(batch, Outcome(done=2))
    assert not channel.source.pending()
    assert [path.name for path in channel.directory.iterdir()] == ["log-claim"]


def test_a_left_over_run_file_comes_first(channel):
    channel.write("USER alice")
    channel.take().release()
    channel.write("USER bob")
    batch = channel.take()
    assert batch.reprocessing and items(batch) == ["USER alice"]
    channel.source.conclude(batch, Outcome(done=1))
    assert items(channel.take()) == ["USER bob"]


def test_what_a_broken_run_did_not_do_is_in_the_log_before_the_run_file_goes(channel):
    channel.write("USER alice", "MAILBOX user.bob")
    batch = channel.take()
    channel.write("USER carol")
    left = [item for item in batch.plan.items if item.owner.name == "alice"]
    channel.source.conclude(batch, Outcome(done=1, remaining=left, broken=ConnectionLost()))
    assert channel.logged() == ["USER carol", "USER alice"]
    assert not channel.log.run_path.exists()


def test_if_the_log_cannot_be_written_the_run_file_stays(channel, monkeypatch):
    channel.write("USER alice")
    batch = channel.take()

    def full(*_args: object, **_more: object) -> None:
        raise StoreError("disk full")

    monkeypatch.setattr(SyncLog, "append_bytes", full)
    with pytest.raises(StoreError):
        channel.source.conclude(batch, Outcome(remaining=list(batch.plan.items)))
    monkeypatch.undo()
    assert channel.log.run_path.read_text() == "USER alice\n"
    again = channel.take()
    assert again.reprocessing and items(again) == ["USER alice"]


def test_locked_work_goes_back_to_the_log(channel):
    channel.write("MAILBOX user.alice", "MAILBOX user.alice.x")
    batch = channel.take()
    channel.source.conclude(batch, Outcome(deferred=list(batch.plan.items)))
    assert channel.logged() == ["MAILBOX user.alice", "MAILBOX user.alice.x"]


def test_a_user_who_fails_again_and_again_is_set_aside_and_others_flow(channel):
    for _ in range(PATIENCE):
        channel.write("MAILBOX user.alice")
        channel.fail_user("alice")
    assert channel.source.set_aside == 1
    assert channel.logged() == []
    assert channel.quarantine.kept(ALICE) == [("USER", "alice")]
    assert not channel.source.pending()
    channel.write("MAILBOX user.alice", "MAILBOX user.bob")
    batch = channel.take()
    assert items(batch) == ["MAILBOX user.bob"]
    channel.source.conclude(batch, Outcome(done=1))
    assert not channel.source.pending()
    assert channel.quarantine.kept(ALICE) == [("USER", "alice"), ("MAILBOX", "user.alice")]


def test_when_his_time_comes_he_is_tried_as_a_whole(channel):
    for _ in range(PATIENCE):
        channel.write("MAILBOX user.alice")
        channel.fail_user("alice")
    channel.write("MAILBOX user.alice.x", "META alice", "UNUSER alice")
    batch = channel.take()
    assert items(batch) == []
    channel.source.conclude(batch, Outcome())
    channel.now += FIRST_RETRY
    assert channel.source.pending()
    batch = channel.take()
    assert items(batch) == ["UNUSER alice"]
    channel.source.conclude(batch, Outcome(done=1))
    assert channel.source.set_aside == 0 and not channel.source.pending()
    assert not channel.quarantine.lines_path.exists()


def test_his_lines_survive_a_restart_and_a_failed_retry(channel):
    for _ in range(PATIENCE):
        channel.write("USER alice")
        channel.fail_user("alice")
    channel.restart()
    channel.now += FIRST_RETRY
    channel.fail_user("alice")
    assert channel.source.set_aside == 1
    assert channel.quarantine.kept(ALICE) == [("USER", "alice")]
    assert not channel.source.pending()
    assert channel.quarantine.entries[ALICE].next_retry == int(channel.now) + 2 * FIRST_RETRY


def test_a_retry_in_a_run_that_broke_keeps_his_lines_and_his_turn(channel):
    for _ in range(PATIENCE):
        channel.write("USER alice")
        channel.fail_user("alice")
    channel.now += FIRST_RETRY
    batch = channel.take()
    channel.source.conclude(batch, Outcome(remaining=list(batch.plan.items), broken=ConnectionLost()))
    assert channel.logged() == []
    assert channel.source.pending()
    assert items(channel.take()) == ["USER alice"]


def test_an_administrator_who_clears_the_file_has_everybody_tried_at_once(channel):
    for _ in range(PATIENCE):
        channel.write("USER alice")
        channel.fail_user("alice")
    channel.quarantine.path.unlink()
    channel.source.refresh()
    assert channel.source.pending()
    batch = channel.take()
    assert items(batch) == ["USER alice"]
    channel.source.conclude(batch, Outcome(done=1))
    assert not channel.source.pending() and not channel.quarantine.lines_path.exists()


def test_a_user_on_whom_the_server_dies_each_time_is_set_aside(channel):
    for _ in range(PATIENCE):
        channel.write("USER alice", "USER bob")
        batch = channel.take()
        channel.source.conclude(
            batch, Outcome(remaining=list(batch.plan.items), broken=ConnectionLost(), suspects=(ALICE,))
        )
    batch = channel.take()
    assert items(batch) == ["USER bob"]


def test_when_several_were_under_way_nobody_is_blamed_for_the_connection(channel):
    bob = Owner("user", "bob")
    for _ in range(PATIENCE + 1):
        channel.write("USER alice", "USER bob")
        batch = channel.take()
        channel.source.conclude(
            batch, Outcome(remaining=list(batch.plan.items), broken=ConnectionLost(), suspects=(ALICE, bob))
        )
    assert channel.source.set_aside == 0


def test_a_user_whom_somebody_locks_for_ever_is_tried_once_a_minute(channel):
    channel.write("USER alice")
    runs = 0
    while channel.log.path.exists():
        batch = channel.take()
        channel.source.conclude(batch, Outcome(deferred=list(batch.plan.items)))
        runs += 1
        assert runs < 50
    assert channel.source.set_aside == 1
    assert "locked" in channel.quarantine.entries[ALICE].reason.lower()


def test_poison_lines_are_set_aside_with_the_reason_and_block_nothing(channel):
    channel.log.append_bytes(b"MAILBOX user.alice\nGARBAGE\nMAILBOX user.bob/../x\n" + b"USER a b\n")
    batch = channel.take()
    assert items(batch) == ["MAILBOX user.alice"]
    channel.source.conclude(batch, Outcome(done=1))
    assert not channel.source.pending()
    said = channel.quarantine.path.read_text()
    for poison in ("GARBAGE", "user.bob/../x", "USER a b"):
        assert poison in said
    assert all(line.reason for line in channel.quarantine.rejected)


@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "61")
def test_a_file_is_worked_through_once_and_left_as_it_is(tmp_path):
    path = tmp_path / "lines"
    path.write_bytes(b"MAILBOX user.alice\nBAD\n")
    said: list = []
    source = FileSource(path.read_bytes, lambda *what: said.append(what))
    assert source.pending()
    batch = source.take()
    assert [str(item) for item in batch.plan.items] == ["MAILBOX user.alice"]
    source.conclude(batch, Outcome(done=1))
    assert not source.pending() and source.take() is None
    assert path.read_bytes() == b"MAILBOX user.alice\nBAD\n"
    assert said == [("BAD", "cannot be read")]
    assert (source.read_lines, source.passed_over) == (1, 1)


def test_a_file_is_read_again_if_the_connection_broke(tmp_path):
    path = tmp_path / "lines"
    path.write_bytes(b"USER alice\n")
    source = FileSource(path.read_bytes, lambda *_: None)
    source.conclude(source.take(), Outcome(broken=ConnectionLost()))
    assert [str(item) for item in source.take().plan.items] == ["USER alice"]


def test_locked_work_of_a_file_goes_to_the_channels_log_if_there_is_a_channel(tmp_path):
    path = tmp_path / "lines"
    path.write_bytes(b"USER alice\n")
    log = SyncLog(tmp_path / "log")
    source = FileSource(path.read_bytes, lambda *_: None, log)
    batch = source.take()
    outcome = Outcome(deferred=list(batch.plan.items))
    source.conclude(batch, outcome)
    assert log.path.read_text() == "USER alice\n"
    assert outcome.complete


# -- what the replica refuses singly


def refuse(channel: Channel, *names: str) -> None:
    """A run in which USER alice is done but for the mailboxes `names`, and everything else is."""
    batch = channel.take()
    error = FoldersFailed([(name, RemoteDenied()) for name in names])
    failed = [Failure(Item.user("alice"), error)]
    channel.source.conclude(batch, Outcome(done=len(batch.plan.items) - 1, failed=failed))


@pytest.fixture
def refused(channel: Channel) -> Channel:
    channel.write("USER alice")
    for _ in range(PATIENCE):
        refuse(channel, "user.alice.Work")
    return channel


def test_a_mailbox_that_is_refused_waits_alone(refused):
    refused.write("MAILBOX user.alice.Work", "MAILBOX user.alice.Other", "SUB alice user.alice.Other")
    batch = refused.take()
    assert items(batch) == ["MAILBOX user.alice.Other", "SUB alice user.alice.Other"]
    refused.source.conclude(batch, Outcome(done=2))
    assert refused.logged() == []
    assert refused.quarantine.entries[ALICE].only == ("user.alice.Work",), (
        "others that were done prove nothing"
    )
    assert ("MAILBOX", "user.alice.Work") in refused.quarantine.kept(ALICE)


def test_that_only_a_mailbox_waits_survives_a_restart(refused):
    refused.restart()
    refused.write("MAILBOX user.alice.Work", "MAILBOX user.alice.Other")
    assert items(refused.take()) == ["MAILBOX user.alice.Other"]


def test_a_refused_mailbox_is_tried_again_when_its_time_has_come(refused):
    refused.now += FIRST_RETRY + 1
    batch = refused.take()
    assert items(batch) == ["USER alice"]
    refused.source.conclude(batch, Outcome(done=1))
    assert refused.quarantine.entries == {} and refused.quarantine.kept(ALICE) == []


def test_what_the_connection_cut_short_beside_a_refused_mailbox_goes_back_to_the_log(refused):
    refused.write("MAILBOX user.alice.Work", "MAILBOX user.alice.Other")
    batch = refused.take()
    refused.source.conclude(batch, Outcome(remaining=list(batch.plan.items), broken=ConnectionLost()))
    assert refused.logged() == ["MAILBOX user.alice.Other"]


def test_an_owner_who_fails_altogether_waits_altogether(refused):
    refused.write("USER alice")
    refused.fail_user("alice")
    refused.write("MAILBOX user.alice.Other")
    assert items(refused.take()) == []


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (NeverStill(), BUSY_RETRY),
        (FoldersFailed([("user.alice.A", MovedMeanwhile()), ("user.alice.B", SnapshotLost())]), BUSY_RETRY),
        (FoldersFailed([("user.alice.A", MovedMeanwhile()), ("user.alice.B", SyncChecksum())]), FIRST_RETRY),
        (MailboxMoved(), FIRST_RETRY),
    ],
)
def test_who_was_only_changed_too_fast_is_tried_again_soon_however_long_that_goes_on(
    channel: Channel, error: CyrusSyncError, wait: int
) -> None:
    """A storm of renames is over at some time: he must not wait an hour then."""
    for round_ in range(PATIENCE + 4):
        channel.write("USER alice")
        batch = channel.take()
        channel.source.conclude(batch, Outcome(failed=[Failure(Item.user("alice"), error)]))
        entry = channel.quarantine.entries.get(ALICE)
        assert (entry is not None) is (round_ >= PATIENCE - 1)
        if entry is not None:
            assert entry.next_retry is not None
            waits = entry.next_retry - channel.now
            assert waits == wait or (wait == FIRST_RETRY and round_ >= PATIENCE and waits > wait)
            channel.now = entry.next_retry
    channel.source.conclude(channel.take(), Outcome(done=1))
    assert not channel.quarantine.entries
