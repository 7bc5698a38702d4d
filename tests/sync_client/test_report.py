"""A failure is one line that tells it apart; operations go where they were asked for."""

from __future__ import annotations

import logging
import os
import socket
from contextlib import contextmanager

import pytest

from cyrus_sync.common import syslog
from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import MailboxMoved, RemoteDenied, SyncChecksum
from cyrus_sync.sync_client.engine.errors import FoldersFailed
from cyrus_sync.sync_client.report import Reporter, failure_lines, log, quoted, set_up
from cyrus_sync.sync_client.work import Item, Kind, owner_of_name


def group(*names: str) -> Item:
    return Item(Kind.MAILBOXES, owner_of_name(names[0]), names)


@pytest.mark.covers("Other errors", "CyrusSyncError")
def test_a_failure_names_user_mailbox_uniqueid_channel_command_and_reply():
    error = SyncChecksum().at(mailbox="user.alice.My Work", uniqueid="abc", command="APPLY MAILBOX")
    (line,) = failure_lines(
        group("user.alice.My Work"), error, "trying USER alice", channel="north", server="r"
    )
    assert line == (
        'sync failed: user=alice mailbox="user.alice.My Work" uniqueid=abc channel=north '
        'command="APPLY MAILBOX" reply="IMAP_SYNC_CHECKSUM Checksum Failure" error="Checksum Failure" '
        'server=r item="MAILBOX user.alice.My Work" next="trying USER alice"'
    )


def test_each_mailbox_that_failed_has_its_line():
    error = FoldersFailed(
        [
            ("user.a", SyncChecksum().at(mailbox="user.a")),
            ("user.a.x", MailboxMoved().at(mailbox="user.a.x")),
        ]
    )
    lines = failure_lines(Item.user("a"), error, "given up for now")
    assert len(lines) == 2 and "mailbox=user.a " in lines[0] and "mailbox=user.a.x" in lines[1]


def test_an_unexpected_error_is_told_by_its_class():
    (line,) = failure_lines(Item.user("a"), ZeroDivisionError("division"), "given up")
    assert 'error="ZeroDivisionError: division"' in line and "user=a" in line


def test_a_line_stays_a_line():
    error = RemoteDenied("no\r\nMay  1 forged: line").at(mailbox="user.a\n")
    (line,) = failure_lines(Item.user("a"), error, "given up")
    assert "\n" not in line and "\r" not in line


def test_a_group_of_thousands_is_told_briefly():
    (line,) = failure_lines(group(*(f"user.a.{i}" for i in range(5000))), SyncChecksum(), "x")
    assert len(line) < 700


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ("a b", '"a b"'),
        ('a"b', '"a\\"b"'),
        ("", '""'),
        ("a=b", '"a=b"'),
        ("a\nb", '"a\\nb"'),
    ],
)
def test_values_are_quoted_where_they_must_be(value, shown):
    assert quoted(value) == shown


@pytest.fixture
def logger(monkeypatch):
    monkeypatch.setattr("cyrus_sync.sync_client.report.adopt_twisted", lambda: None)
    root = logging.getLogger()
    kept = root.handlers[:]
    yield root
    for handler in root.handlers:
        if handler not in kept:
            handler.close()


def configured(tmp_path, text=""):
    conf = tmp_path / "imapd.conf"
    conf.write_text(f"configdirectory: {tmp_path}\n{text}")
    return Config.load(conf)


@contextmanager
def syslog_daemon(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(path))
        daemon.settimeout(20)
        yield daemon
    path.unlink()


@pytest.mark.covers("imapd.conf", "syslog_facility")
def test_facility_and_prefix_of_syslog_come_from_imapd_conf(tmp_path, monkeypatch, logger):
    monkeypatch.setattr(syslog, "SOCKET", tmp_path / "log")
    cfg = configured(tmp_path, "syslog_facility: local3\nsyslog_prefix: master\n")
    with syslog_daemon(tmp_path / "log") as daemon:
        set_up(cfg, stderr=False)
        log.error("two\nlines")
        assert daemon.recv(999).decode() == f"<155>master/sync_client[{os.getpid()}]: two"
        assert daemon.recv(999).decode() == f"<155>master/sync_client[{os.getpid()}]: lines"
        set_up(cfg, stderr=False, to_syslog=False)
        log.error("nowhere")
        daemon.setblocking(False)
        with pytest.raises(BlockingIOError):
            daemon.recv(1)


def test_with_a_stale_syslog_all_is_on_stderr_once(tmp_path, monkeypatch, logger, capsys):
    monkeypatch.setattr(syslog, "SOCKET", tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(tmp_path / "log"))
    set_up(configured(tmp_path), stderr=True)
    log.info("an operation")
    log.error("a failure")
    notice, operation, failure = capsys.readouterr().err.splitlines()
    assert (
        "no syslog behind" in notice and operation.endswith("INFO: an operation") and failure == "a failure"
    )


def test_a_brief_process_says_what_it_would_without_a_syslog(tmp_path, monkeypatch, logger, capsys):
    monkeypatch.setattr(syslog, "SOCKET", tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(tmp_path / "log"))
    set_up(configured(tmp_path), stderr=True, briefly=True)
    log.info("an operation")
    log.error("a failure")
    assert capsys.readouterr().err == "a failure\n"


def test_without_a_syslog_operations_that_were_asked_for_are_on_stderr(tmp_path, monkeypatch, logger, capsys):
    monkeypatch.setattr(syslog, "SOCKET", tmp_path / "nothing")
    for operations, said in ((False, ""), (True, "an operation\n")):
        set_up(configured(tmp_path), stderr=True, operations=operations)
        log.info("an operation")
        assert capsys.readouterr().err == said


def test_in_the_background_lines_wait_for_a_syslog(tmp_path, monkeypatch, logger, capsys):
    monkeypatch.setattr(syslog, "SOCKET", tmp_path / "log")
    set_up(configured(tmp_path), stderr=False)
    log.error("before")
    with syslog_daemon(tmp_path / "log") as daemon:
        log.error("after")
        said = [daemon.recv(999).decode().split(": ", 1)[1] for _ in range(3)]
    assert said == ["syslog is back; 1 lines waited for it, 0 are lost", "before", "after"]
    assert capsys.readouterr().err == ""


@pytest.mark.covers("sync_client: options", "-v")
def test_operations_go_to_stdout_with_v_only(capsys):
    Reporter(verbose=1).operation("MAILBOX user.alice")
    Reporter().operation("MAILBOX user.bob")
    assert capsys.readouterr().out == "MAILBOX user.alice\n"


@pytest.mark.covers("sync_client: options", "-l")
@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "57")
def test_operations_go_to_the_log_with_l_only(caplog):
    caplog.set_level(logging.INFO)
    Reporter(verbose_logging=True).operation("MAILBOX user.alice")
    Reporter().operation("MAILBOX user.bob")
    assert [record.getMessage() for record in caplog.records] == ["MAILBOX user.alice"]


@pytest.mark.covers("sync_client: options", "-v")
def test_the_protocol_is_traced_with_v_twice_only(capsysbinary):
    assert Reporter(verbose=1).trace is None
    trace = Reporter(verbose=2).trace
    assert trace is not None
    trace(">", b"NOOP\r\n")
    trace("<", b"OK Noop completed\r\n")
    out, in_ = capsysbinary.readouterr().err.splitlines()
    assert out.startswith(b">") and out.endswith(b">NOOP") and in_.endswith(b"<OK Noop completed")


def test_failures_go_to_the_log_and_bugs_with_their_traceback(caplog):
    reporter = Reporter(channel="north")
    reporter.failure(Item.user("a"), SyncChecksum(), "given up for now")
    assert "channel=north" in caplog.text and "Traceback" not in caplog.text
    try:
        raise ZeroDivisionError
    except ZeroDivisionError as error:
        reporter.failure(Item.user("a"), error, "given up for now")
    assert "Traceback" in caplog.text
