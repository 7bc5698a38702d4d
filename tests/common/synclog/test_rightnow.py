"""A change that is replicated before the one who made it is answered."""

from __future__ import annotations

import subprocess

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.synclog.rightnow import RightNow
from tests.sync_client.real import BIN, Pair

MAIL = b"From: a@example.org\r\nSubject: at once\r\n\r\nat once\r\n"


def deliver(pair: Pair) -> None:
    subprocess.run([BIN / "mailstore", "-C", pair.master.conf, "deliver", "alice"], input=MAIL, check=True)


@pytest.mark.covers("imapd.conf", "sync_rightnow_channel")
def test_sync_rightnow_channel_replicates_a_change_before_it_is_answered(pair):
    pair.master.create("alice")
    pair.master.add('sync_rightnow_channel: ""')
    deliver(pair)
    assert pair.replica.messages("alice") == 1


def test_a_named_channel_has_its_own_replica(pair):
    pair.master.create("alice")
    pair.master.add("sync_rightnow_channel: near", f"near_sync_host: {pair.socket}", "sync_log: no")
    pair.master.conf.write_text(pair.master.conf.read_text().replace("sync_log: 1\n", ""))
    deliver(pair)
    assert pair.replica.messages("alice") == 1


@pytest.mark.covers("imapd.conf", "sync_rightnow_channel")
def test_what_cannot_be_replicated_at_once_goes_to_the_log_of_the_channel(pair):
    pair.master.create("alice")
    pair.master.add("sync_rightnow_channel: away", "away_sync_host: 127.0.0.1:1")
    deliver(pair)
    assert b"MAILBOX user.alice\n" in pair.master.log("away").read_bytes()
    assert pair.replica.messages("alice") == 0


def test_sync_client_does_not_call_itself(pair):
    pair.master.add('sync_rightnow_channel: ""')
    assert RightNow.from_config(Config.load(pair.master.conf, "sync_client")) is None
    assert RightNow.from_config(Config.load(pair.master.conf, "mailstore")) is not None
