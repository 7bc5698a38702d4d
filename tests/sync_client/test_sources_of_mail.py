"""Whose mail is replicated: `sync_source`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.files import give_to_owner_of, write_over
from cyrus_sync.common.stores.master import NativeMaster
from cyrus_sync.common.synclog.log import SyncLog
from cyrus_sync.spool.master import SpoolMaster
from cyrus_sync.spool.whose import Mail, whose_mail
from cyrus_sync.sync_client.channel import ChannelLock
from cyrus_sync.sync_client.masters import look_at_master, open_master
from cyrus_sync.sync_client.quarantine_file import replace_file
from tests.reactors import new_reactor


def _config(tmp_path: Path, *lines: str) -> Config:
    for name in ("conf", "mail"):
        (tmp_path / name).mkdir(exist_ok=True)
    path = tmp_path / "imapd.conf"
    usual = (f"configdirectory: {tmp_path}/conf", f"partition-default: {tmp_path}/mail")
    path.write_text("".join(f"{line}\n" for line in (*usual, *lines)))
    return Config.load(path)


def test_mail_is_that_of_our_store_where_no_cyrus_is(tmp_path: Path) -> None:
    cfg = _config(tmp_path)
    assert whose_mail(cfg) is Mail.STORE
    assert isinstance(look_at_master(cfg), NativeMaster)


def test_a_list_of_mailboxes_tells_a_real_cyrus(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "mailboxes.db").touch()
    cfg = _config(tmp_path)
    assert isinstance(look_at_master(cfg), SpoolMaster)
    assert isinstance(open_master(cfg, new_reactor()).master, SpoolMaster)
    assert whose_mail(_config(tmp_path, "sync_source: native")) is Mail.STORE


@pytest.mark.covers("imapd.conf", "mboxlist_db_path")
def test_the_list_may_be_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "list").touch()
    assert whose_mail(_config(tmp_path, f"mboxlist_db_path: {tmp_path}/list")) is Mail.SPOOL


def test_a_cyrus_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"conf/mailboxes\.db: not there"):
        open_master(_config(tmp_path, "sync_source: cyrus"), new_reactor())


def test_a_partition_that_is_not_there_is_an_error_at_the_start(tmp_path: Path) -> None:
    cfg = _config(tmp_path, "sync_source: cyrus", f"partition-fast: {tmp_path}/fast")
    (tmp_path / "conf" / "mailboxes.db").touch()
    with pytest.raises(StoreError, match="partition-fast"):
        open_master(cfg, new_reactor())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for another")
def test_what_root_writes_into_the_log_of_daemons_stays_theirs(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 54321)
    SyncLog(tmp_path / "log").append([("USER", "alice")])
    made = (tmp_path / "log").stat()
    assert (made.st_uid, made.st_gid) == (12345, 54321)
    with SyncLog(tmp_path / "log").claim() as claimed:  # type: ignore[union-attr]
        assert claimed.read() == b"USER alice\n"
    assert {path.stat().st_uid for path in tmp_path.iterdir()} == {12345}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for another")
def test_a_file_that_is_somebody_elses_already_stays_so(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 54321)
    path = tmp_path / "file"
    path.touch()
    os.chown(path, 777, 777)
    descriptor = os.open(path, os.O_RDONLY)
    give_to_owner_of(tmp_path, descriptor)
    os.close(descriptor)
    assert path.stat().st_uid == 777


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for another")
def test_what_root_leaves_in_the_channel_stays_the_daemons(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 54321)
    ChannelLock(tmp_path).acquire().release()
    replace_file(tmp_path / "status.json", b"{}")
    write_over(tmp_path / "withheld.json", b"{}")
    assert {path.name: path.stat().st_uid for path in tmp_path.iterdir()} == {
        "sync_client.lock": 12345,
        "status.json": 12345,
        "withheld.json": 12345,
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="root's rights are taken away for a moment")
def test_who_may_not_look_is_told_and_gets_no_store_of_ours(tmp_path: Path) -> None:
    cfg = _config(tmp_path)
    (tmp_path / "conf" / "mailboxes.db").touch()
    (tmp_path / "conf").chmod(0o700)
    os.seteuid(65534)
    try:
        with pytest.raises(StoreError, match=r"mailboxes\.db: run this as the user that Cyrus runs as"):
            whose_mail(cfg)
    finally:
        os.seteuid(0)
