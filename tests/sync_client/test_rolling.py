"""The rolling loop, second by second, with a clock that moves only when told to."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from cyrus_sync.common.errors import (
    ConnectionLost,
    MailboxLocked,
    QuietLogout,
    RemoteDenied,
    StoreError,
    SyncChecksum,
)
from cyrus_sync.sync_client.engine.errors import GaveWay
from cyrus_sync.sync_client.facts import NotGranted, Settings
from cyrus_sync.sync_client.machine import RollingState
from cyrus_sync.sync_client.rolling import Rolling
from tests.sync_client.fakes import (
    Events,
    FakeConnector,
    FakeSource,
    FakeWatch,
    advance,
    blocking,
    refused,
)


class Rig:
    """A rolling client with everything around it faked."""

    def __init__(self, *attempts: Any, lines: tuple[str, ...] = (), **settings: Any) -> None:
        self.events: Events = []
        self.clock = Clock()
        self.clock.advance(1000)
        self.answers: dict[str, Any] = {}
        self.connector = FakeConnector(self.events, self.answers, *attempts)
        self.source = FakeSource(self.events, *lines)
        self.watch = FakeWatch()
        self.said: list[str] = []
        self.reports: list[Any] = []
        self.rolling = Rolling(
            clock=self.clock,
            connector=self.connector,
            source=self.source,
            settings=Settings(**settings),
            blocking=blocking,
            watch=self.watch,
            say=self.said.append,
            report=lambda *what: self.reports.append(what),
            random=lambda: 0.0,
        )
        self.ended: list[int] = []

    def start(self) -> Rig:
        self.rolling.run().addCallback(self.ended.append)
        return self

    def log(self, *lines: str) -> None:
        """A daemon writes to the log, and inotify says so."""
        self.source.lines += lines
        self.watch.changed()

    def since(self) -> list[Any]:
        """What happened since the last look."""
        seen = list(self.events)
        self.events.clear()
        return seen

    @property
    def state(self) -> RollingState:
        return self.rolling.state


def rig(*attempts: Any, **more: Any) -> Rig:
    return Rig(*attempts, **more).start()


# -- work


def test_it_connects_and_then_waits_for_work():
    r = rig()
    assert r.since() == ["connect"] and r.state is RollingState.IDLE
    advance(r.clock, 60)
    assert r.since() == [] and r.ended == []


def test_the_replica_is_told_what_waits_before_a_run_and_what_is_left_after_it():
    r = rig(lines=("USER alice", "MAILBOX news"))
    advance(r.clock, 1)
    told = r.connector.connection.told
    assert told[0] == (1,), "something waits, and whose it is has not been read yet"
    assert set(told[1][1:]) == {"alice", "shared:news"} and told[1][0] == 2
    assert told[2:] == [(0,)]
    r.answers["USER alice"] = SyncChecksum()
    r.log("USER alice")
    advance(r.clock, 10)
    assert told[3] == (1, "alice")
    assert told[4][1:] == ("alice",), "who was not done still waits"


def test_work_that_is_there_at_the_start_is_done_at_once():
    r = rig(lines=("USER alice",))
    r.clock.advance(0.05)
    assert r.since() == ["connect", "take 1", "USER alice", "conclude 1"]
    assert r.state is RollingState.IDLE


def test_after_a_quiet_time_a_change_goes_out_within_a_few_hundredths_of_a_second():
    r = rig()
    advance(r.clock, 60)
    r.since()
    r.log("MAILBOX user.alice")
    r.clock.advance(0.02)
    assert r.since() == ["take 1", "MAILBOXES user.alice", "conclude 1"]


def test_lines_written_in_a_pair_are_one_run():
    r = rig()
    advance(r.clock, 10)
    r.log("APPEND user.alice")
    r.clock.advance(0.001)
    r.log("MAILBOX user.alice")
    r.clock.advance(0.05)
    assert r.since() == ["connect", "take 2", "MAILBOXES user.alice", "conclude 1"]


@pytest.mark.covers("sync_client: options", "-d")
@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "65")
def test_runs_start_at_least_the_delay_apart_and_what_comes_between_is_merged():
    r = rig(delay=3)
    starts = []
    r.log("USER a")
    began = r.clock.seconds()
    for i in range(100):
        r.log(f"USER u{i % 4}")
        r.clock.advance(0.1)
        if any(str(event).startswith("take") for event in r.since()):
            starts.append(r.clock.seconds() - began)
    gaps = [b - a for a, b in pairwise(starts)]
    assert len(starts) == 4 and all(gap >= 2.9 for gap in gaps)


def test_a_run_that_takes_its_time_goes_on_with_what_comes_meanwhile():
    r = rig(delay=4)
    first, second = Deferred(), Deferred()
    r.answers |= {"USER a": [first], "USER b": [second]}
    r.log("USER a")
    advance(r.clock, 0.4, step=0.01)
    first.callback(None)
    advance(r.clock, 0.3, step=0.01)  # as long as the run took, what comes goes with it
    r.log("USER b")
    advance(r.clock, 0.4, step=0.01)
    second.callback(None)
    r.log("USER c")
    advance(r.clock, 0.02, step=0.01)
    assert [event for event in r.since() if str(event).startswith("USER")] == ["USER a", "USER b", "USER c"]
    r.log("USER d")  # c took no time: that run is over
    advance(r.clock, 2.8, step=0.01)
    assert "USER d" not in r.since()
    advance(r.clock, 0.2, step=0.01)
    assert "USER d" in r.since()


def test_after_a_quiet_time_the_first_run_of_a_burst_goes_on_although_it_is_short():
    r = rig(delay=4)
    advance(r.clock, 10)
    r.since()
    began = r.clock.seconds()
    wait = Deferred[None]()
    r.answers["USER a"] = [wait]
    r.log("USER a")
    advance(r.clock, 0.06, step=0.01)
    wait.callback(None)
    r.log("USER b")
    advance(r.clock, 0.15, step=0.01)
    assert "USER b" not in r.since(), "what comes is gathered for a moment"
    r.log("USER c")
    advance(r.clock, 0.1, step=0.01)
    assert {"take 2", "USER b", "USER c"} <= set(r.since())
    r.log("USER d")  # they took no time
    advance(r.clock, 4 - 0.1 - (r.clock.seconds() - began), step=0.01)
    assert "USER d" not in r.since()
    advance(r.clock, 0.2, step=0.01)
    assert "USER d" in r.since()


def test_the_first_run_of_a_trickle_is_over_when_it_ends():
    r = rig(delay=4)
    advance(r.clock, 10)
    wait = Deferred[None]()
    r.answers["USER a"] = [wait]
    r.log("USER a")
    advance(r.clock, 0.04, step=0.01)
    wait.callback(None)
    r.since()
    r.log("USER b")
    advance(r.clock, 3.5, step=0.01)
    assert "USER b" not in r.since()


def test_what_goes_on_for_most_of_the_delay_waits_for_the_next_run():
    r = rig(delay=2)
    waits = {f"USER u{n}": Deferred() for n in range(13)}
    r.answers |= {name: [wait] for name, wait in waits.items()}
    started = []
    began = r.clock.seconds()
    for name, wait in waits.items():
        r.log(name)
        while name not in r.since():
            r.clock.advance(0.05)
        started.append(r.clock.seconds() - began)
        r.clock.advance(0.2)
        wait.callback(None)
    together = [moment for moment in started if moment <= 1.9]
    assert len(together) >= 7
    assert 2 <= started[len(together)] <= 2.1


def test_without_inotify_the_log_is_looked_at_every_second():
    r = rig()
    advance(r.clock, 10)
    r.source.lines.append("USER alice")
    advance(r.clock, 1.5)
    assert "USER alice" in r.since()


def test_lines_that_come_during_a_run_are_the_next_run():
    r = rig(delay=1)
    wait: Deferred[None] = Deferred()
    r.answers["USER a"] = [wait]
    r.log("USER a")
    r.clock.advance(0.1)
    r.log("USER b")
    advance(r.clock, 5)
    assert r.since() == ["connect", "take 1", "USER a"]
    wait.callback(None)
    r.clock.advance(0.1)
    assert r.since() == ["conclude 1", "take 1", "USER b", "conclude 1"]


def test_an_empty_claim_is_no_run():
    r = rig()
    r.watch.changed()
    r.clock.advance(0.1)
    assert r.since() == ["connect"] and r.rolling.facts.runs == 0


def test_a_log_that_somebody_else_has_claimed_is_left_alone_for_a_while():
    r = rig(delay=0)
    looked = []

    def claimed_elsewhere() -> None:
        looked.append(r.clock.seconds())

    r.source.take = claimed_elsewhere
    r.log("USER a")
    advance(r.clock, 10, step=0.02)
    assert 9 <= len(looked) <= 12


# -- failures of items


def test_what_failed_goes_back_and_is_tried_in_the_next_run():
    r = rig(delay=2)
    r.answers["MAILBOXES user.a"] = [SyncChecksum()]
    r.answers["USER a"] = [SyncChecksum()]
    r.log("MAILBOX user.a", "USER b")
    r.clock.advance(0.1)
    assert r.since() == ["connect", "take 2", "MAILBOXES user.a", "USER b", "USER a", "conclude 1"]
    assert r.source.lines == ["USER a"]
    advance(r.clock, 2)
    assert r.since() == ["take 1", "USER a", "conclude 1"]
    assert r.source.lines == [] and r.ended == []


def test_failing_work_does_not_spin_even_without_a_delay():
    r = rig(delay=0)
    r.answers["USER a"] = [RemoteDenied()] * 1000
    r.log("USER a")
    advance(r.clock, 20, step=0.02)
    assert 10 <= r.since().count("USER a") <= 21


def test_locked_work_is_deferred_to_the_log():
    r = rig(delay=2)
    r.answers["USER a"] = [MailboxLocked()]
    r.log("USER a")
    r.clock.advance(0.1)
    assert r.source.lines == ["USER a"]
    advance(r.clock, 3)
    assert r.source.lines == [] and r.since().count("USER a") == 2


def test_a_server_that_refuses_everybody_is_left_alone_ever_longer():
    r = rig(delay=0)
    users = [f"USER u{i}" for i in range(8)]
    for user in users:
        r.answers[user] = RemoteDenied("no space")
    r.log(*users)
    connects = []
    began = r.clock.seconds()
    for _ in range(2000):
        r.clock.advance(0.1)
        connects += [r.clock.seconds() - began for event in r.since() if event == "connect"]
    gaps = [b - a for a, b in pairwise(connects)]
    assert [round(gap) for gap in gaps] == [15, 30, 60]
    assert sorted(r.source.lines) == users
    assert r.said[0].startswith("Can not go on with server 'replica.example', retrying in 15 seconds")


def test_trouble_with_the_log_itself_is_waited_out():
    r = rig(delay=0)
    r.source.take_error = StoreError("cannot claim the action log")
    r.log("USER a")
    advance(r.clock, 5)
    assert r.ended == [] and r.state is RollingState.BACKING_OFF
    r.source.take_error = None
    advance(r.clock, 20)
    assert "USER a" in r.since()


def test_a_run_whose_rest_cannot_be_put_back_is_done_again():
    r = rig(delay=0)
    r.source.conclude_error = StoreError("disk full")
    r.log("USER a")
    advance(r.clock, 30)
    assert r.since().count("USER a") == 2
    assert r.source.lines == [] and r.ended == []


def test_a_bug_in_the_source_does_not_end_it():
    r = rig(delay=0)
    r.source.conclude_error = ZeroDivisionError()
    r.log("USER a")
    advance(r.clock, 30)
    assert r.since().count("USER a") == 2 and r.ended == []


# -- the connection


def test_a_server_that_is_down_is_tried_for_ever_with_growing_waits():
    r = rig(*[refused() for _ in range(8)], maxwait=100)
    began = r.clock.seconds()
    times = [0.0]
    r.since()
    for _ in range(6000):
        r.clock.advance(0.1)
        times += [r.clock.seconds() - began for event in r.since() if event == "connect"]
    gaps = [round(b - a) for a, b in pairwise(times)]
    assert gaps == [15, 30, 60, 100, 100, 100, 100]
    assert r.said[0] == (
        "Can not connect to server 'replica.example', retrying in 15 seconds (Connection refused)"
    )
    assert r.ended == []


def test_new_settings_hold_from_then_on():
    r = rig(*[refused() for _ in range(9)], maxwait=1200)
    r.rolling.reconfigure(Settings(maxwait=20))
    advance(r.clock, 100)
    assert r.since().count("connect") == 6


def test_sighup_ends_the_wait():
    r = rig(refused(), refused())
    r.since()
    r.rolling.hurry()
    assert r.since() == ["connect"]
    assert r.said[-1].startswith("Can not connect to server 'replica.example', retrying in 15 seconds")


def test_a_connection_that_is_lost_in_a_run_is_made_again_and_the_rest_is_done():
    r = rig(delay=0)
    r.answers["USER b"] = [ConnectionLost()]
    r.log("USER a", "USER b", "USER c")
    r.rolling.settings = Settings(delay=0, width=1)
    r.clock.advance(0.1)
    assert r.since() == ["connect", "take 3", "USER a", "USER b", "conclude 1", "close"]
    assert sorted(r.source.lines) == ["USER b", "USER c"]
    advance(r.clock, 3)
    assert r.since() == ["connect", "take 2", "USER c", "USER b", "conclude 2"]


def test_a_connection_that_breaks_at_once_each_time_is_not_remade_at_once():
    r = rig(delay=0)
    r.answers["USER a"] = [ConnectionLost()] * 100
    r.log("USER a")
    advance(r.clock, 200)
    assert r.since().count("connect") == 4


def test_after_a_connection_broke_items_go_one_by_one_until_a_run_is_through():
    r = rig(delay=0)
    waits: list[Deferred[None]] = [Deferred() for _ in range(6)]
    r.answers.update({"USER a": [waits[0], waits[2], waits[4]], "USER b": [waits[1], waits[3], waits[5]]})
    r.log("USER a", "USER b")
    r.clock.advance(0.1)
    assert r.since() == ["connect", "take 2", "USER a", "USER b"], "they overlap"
    waits[0].errback(ConnectionLost())
    waits[1].errback(ConnectionLost())
    advance(r.clock, 16)
    assert r.since() == ["conclude 0", "close", "connect", "take 2", "USER a"], "one at a time"
    waits[2].callback(None)
    assert r.since() == ["USER b"]
    waits[3].callback(None)
    r.log("USER a", "USER b")
    advance(r.clock, 2)
    assert r.since() == ["conclude 2", "take 2", "USER a", "USER b"], "they overlap again"


def test_a_connection_lost_while_idle_is_made_again():
    r = rig()
    r.log("USER a")
    r.clock.advance(0.1)
    r.since()
    r.connector.connection.lose()
    assert r.state is RollingState.BACKING_OFF
    advance(r.clock, 1.5)
    assert r.since() == ["close", "connect"] and r.state is RollingState.IDLE


def test_a_connection_lost_after_the_last_answer_of_a_run_is_noticed():
    r = rig()
    wait: Deferred[None] = Deferred()
    r.answers["USER a"] = [wait]
    r.log("USER a")
    r.clock.advance(0.1)
    r.connector.connection.lose()
    assert r.state is RollingState.RUNNING
    wait.callback(None)
    assert r.state is RollingState.BACKING_OFF


def test_news_of_a_former_connection_mean_nothing():
    r = rig()
    old = r.connector.connection
    old.lose()
    advance(r.clock, 20)
    r.since()
    old.lose()
    assert r.state is RollingState.IDLE and r.since() == []


@pytest.mark.covers("Commands of the session", "NOOP")
def test_an_idle_connection_is_kept_alive():
    r = rig(keepalive=30, timeout=0)
    advance(r.clock, 95)
    assert r.since() == ["connect", "noop", "noop", "noop"]


def test_a_noop_that_is_not_answered_well_means_a_new_connection():
    r = rig(keepalive=30, timeout=0)
    r.answers["noop"] = ConnectionLost()
    advance(r.clock, 31)
    assert r.since() == ["connect", "noop", "close"]


@pytest.mark.covers("sync_client: options", "-t")
@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "64")
def test_a_connection_older_than_the_timeout_is_renewed_with_restart():
    r = rig(timeout=100)
    advance(r.clock, 99)
    assert r.since() == ["connect"]
    advance(r.clock, 2)
    assert r.since() == ["restart", "close", "connect"]
    assert r.state is RollingState.IDLE


def test_a_restart_that_fails_is_no_reason_to_stop():
    r = rig(timeout=100)
    r.answers["restart"] = ConnectionLost()
    advance(r.clock, 101)
    assert r.since() == ["connect", "restart", "close", "connect"]


@pytest.mark.covers("sync_client: options", "-t")
def test_a_timeout_of_0_means_never():
    r = rig(timeout=0, keepalive=10**6)
    advance(r.clock, 5000, step=5)
    assert r.since() == ["connect"]


def test_work_that_comes_while_the_connection_is_renewed_is_done_on_the_new_one():
    r = rig(timeout=100)
    closing: Deferred[None] = Deferred()
    r.answers["close"] = closing
    advance(r.clock, 101)
    r.log("USER a")
    assert r.state is RollingState.RENEWING
    closing.callback(None)
    r.clock.advance(0.1)
    assert r.since() == ["connect", "restart", "close", "connect", "take 1", "USER a", "conclude 1"]


# -- stopping


def shutdown_rig(tmp_path: Path, *attempts: Any, **more: Any) -> tuple[Rig, Path]:
    path = tmp_path / "shutdown"
    return rig(*attempts, shutdown_file=path, **more), path


@pytest.mark.covers("imapd.conf", "sync_shutdown_file")
def test_the_shutdown_file_stops_an_idle_client_and_is_removed(tmp_path):
    r, path = shutdown_rig(tmp_path)
    path.touch()
    advance(r.clock, 1.5)
    assert r.ended == [0] and not path.exists()
    assert r.since() == ["connect", "close"] and not r.watch.running


def test_the_shutdown_file_is_seen_while_waiting_to_reconnect(tmp_path):
    r, path = shutdown_rig(tmp_path, refused())
    path.touch()
    advance(r.clock, 1.5)
    assert r.ended == [0] and not path.exists()


@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "62")
def test_the_shutdown_file_does_not_interrupt_a_run_but_ends_the_cycle(tmp_path):
    r, path = shutdown_rig(tmp_path, width=1)
    wait: Deferred[None] = Deferred()
    r.answers["USER a"] = [wait]
    r.log("USER a", "USER b")
    r.clock.advance(0.1)
    path.touch()
    advance(r.clock, 10)
    assert r.ended == [] and path.exists()
    wait.callback(None)
    assert r.since() == ["connect", "take 2", "USER a", "USER b", "conclude 2", "close"]
    assert r.ended == [0] and not path.exists()


def test_a_shutdown_file_that_is_there_already_stops_it_at_once(tmp_path):
    (tmp_path / "shutdown").touch()
    r, path = shutdown_rig(tmp_path, lines=("USER a",))
    r.clock.advance(1)
    assert r.ended == [0] and not path.exists()
    assert "USER a" not in r.since()


def test_a_signal_lets_the_running_item_end_and_puts_the_rest_back():
    r = rig(width=1)
    wait: Deferred[None] = Deferred()
    r.answers["USER a"] = [wait]
    r.log("USER a", "USER b")
    r.clock.advance(0.1)
    r.rolling.stop(75)
    assert r.state is RollingState.FINISHING and r.ended == []
    wait.callback(None)
    assert r.since() == ["connect", "take 2", "USER a", "conclude 1", "close"]
    assert r.source.lines == ["USER b"] and r.ended == [75]


def test_a_signal_while_connecting_gives_the_attempt_up():
    given_up = []
    attempt: Deferred[Any] = Deferred(lambda _: given_up.append(True))
    r = rig(attempt)
    r.rolling.stop(75)
    assert given_up and r.ended == [75]


def test_a_connection_that_comes_about_after_the_end_is_closed():
    attempt: Deferred[Any] = Deferred(lambda d: d.callback(r.connector.make()))
    r = rig(attempt)
    r.rolling.stop(75)
    assert r.since() == ["connect", "close"] and r.ended == [75]


def test_a_signal_while_the_connection_is_renewed_waits_for_its_end():
    r = rig(timeout=10)
    closing: Deferred[None] = Deferred()
    r.answers["close"] = closing
    advance(r.clock, 11)
    r.rolling.stop(75)
    assert r.ended == []
    closing.callback(None)
    assert r.ended == [75]


def test_stopping_twice_is_stopping_once():
    r = rig()
    r.rolling.stop(0)
    r.rolling.stop(75)
    assert r.ended == [0]


# -- once


@pytest.mark.covers("sync_client: options", "-1")
def test_once_with_nothing_to_do_ends_without_connecting():
    r = rig(once=True)
    assert r.ended == [0] and r.since() == []


def test_once_does_one_log_and_ends():
    r = rig(once=True, lines=("USER a",))
    r.clock.advance(0.1)
    assert r.since() == ["connect", "take 1", "USER a", "conclude 1", "close"] and r.ended == [0]


def test_once_says_by_its_exit_status_that_something_was_left_undone():
    r = Rig(once=True, lines=("USER a", "USER b"))
    r.answers["USER a"] = SyncChecksum()
    r.start()
    r.clock.advance(0.1)
    assert r.ended == [1] and r.source.lines == ["USER a"]


def test_once_goes_on_after_a_lost_connection():
    r = Rig(once=True, lines=("USER a",), delay=0)
    r.answers["USER a"] = [ConnectionLost()]
    r.start()
    advance(r.clock, 30)
    assert r.ended == [0] and r.since().count("USER a") == 2


# -- one attempt only


@pytest.mark.covers("sync_client: options", "-o")
def test_connect_once_ends_at_the_first_failure():
    r = rig(refused(), connect_once=True)
    assert r.ended == [1] and "Connection refused" in r.said[0]


def test_connect_once_ends_well_when_the_replica_shuts_down_cleanly():
    r = rig(connect_once=True)
    r.connector.connection.lose(QuietLogout())
    assert r.ended == [0]


def test_connect_once_ends_well_when_the_replica_says_bye_in_a_run_and_keeps_the_work():
    r = rig(connect_once=True)
    r.answers["USER a"] = [QuietLogout()]
    r.log("USER a")
    r.clock.advance(0.1)
    assert r.ended == [0] and r.source.lines == ["USER a"]


def test_a_lost_connection_is_tried_once_more_with_connect_once():
    r = rig(None, refused(), connect_once=True)
    r.connector.connection.lose()
    advance(r.clock, 20)
    assert r.ended == [1]


def test_bye_alone_never_ends_it():
    r = rig()
    r.connector.connection.lose(QuietLogout())
    advance(r.clock, 20)
    assert r.ended == [] and r.state is RollingState.IDLE


@pytest.mark.covers("sync_client: options", "--require-compression")
def test_a_server_without_what_was_demanded_ends_it_at_the_start_only():
    assert rig(NotGranted()).ended == [1]
    r = rig(None, NotGranted())
    r.log("USER a")
    r.clock.advance(0.1)
    r.connector.connection.lose()
    advance(r.clock, 20)
    assert r.ended == []


# -- what it tells


def test_facts_follow_the_work():
    r = rig(delay=1)
    advance(r.clock, 10)
    wait: Deferred[None] = Deferred()
    r.answers["USER b"] = [wait]
    logged = r.clock.seconds()
    r.log("USER a", "USER b")
    assert r.rolling.facts.oldest_change == logged
    r.clock.advance(0.01)
    assert r.rolling.queue == 1
    advance(r.clock, 5)
    wait.callback(None)
    facts = r.rolling.facts
    assert facts.oldest_change is None and facts.last_success is not None
    assert (facts.runs, facts.items, facts.failures) == (1, 2, 0)
    assert r.rolling.queue == 0


def test_the_age_of_the_oldest_change_counts_on_while_work_fails():
    r = rig(delay=1)
    r.answers["USER a"] = [SyncChecksum()] * 100
    r.log("USER a")
    logged = r.clock.seconds()
    advance(r.clock, 30)
    assert r.rolling.facts.oldest_change == logged
    assert r.rolling.facts.last_success is None


def test_failures_are_reported_with_what_happens_next():
    r = rig()
    r.answers["META a"] = [SyncChecksum()]
    r.log("META a")
    r.clock.advance(0.1)
    ((item, error, following),) = r.reports
    assert (str(item), str(error), following) == ("META a", "Checksum Failure", "trying USER a")


@pytest.mark.parametrize("when", ["idle", "backing off"])
def test_an_unexpected_failure_of_the_clock_tick_does_not_stop_the_clock(when):
    r = rig(*([refused()] if when == "backing off" else []))
    calls = []

    def broken() -> None:
        calls.append(None)
        raise ZeroDivisionError

    r.source.refresh = broken
    advance(r.clock, 5)
    assert len(calls) >= 4


def test_a_run_that_takes_long_gives_way_to_what_comes_and_goes_on_afterwards():
    r = Rig(lines=("USER big", "USER later"), width=1)
    big: Deferred[None] = Deferred()
    r.answers["USER big"] = [big]
    r.start()
    advance(r.clock, 1)
    assert r.since()[-1] == "USER big"
    r.log("MAILBOX user.bob")
    advance(r.clock, 0.01)
    assert r.rolling.turn.is_wanted()  # it has had its time
    big.errback(GaveWay())  # as the engine does after a part
    advance(r.clock, 0.1)
    # Who gave way comes last.
    assert r.since() == ["conclude 0", "take 3", "MAILBOXES user.bob", "USER later", "USER big", "conclude 3"]
    assert not r.rolling.turn.is_wanted()
    assert not r.reports and r.source.outcomes[-1].complete


def test_a_run_has_a_moment_for_itself_and_ten_times_what_ending_it_costs():
    r = Rig(lines=("USER big",))
    r.answers["USER big"] = [Deferred()]
    r.start()
    advance(r.clock, 0.02)
    r.rolling.turn.overhead = 0.1
    r.log("MAILBOX user.bob")
    assert not r.rolling.turn.is_wanted()
    advance(r.clock, 0.9)
    assert not r.rolling.turn.is_wanted()
    advance(r.clock, 0.2)
    assert r.rolling.turn.is_wanted()
