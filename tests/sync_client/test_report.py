"""A failure is one line that tells it apart; operations go where they were asked for."""

from __future__ import annotations

import logging
import syslog

import pytest

from common.config import Config
from common.errors import MailboxMoved, RemoteDenied, SyncChecksum
from sync_client.engine.errors import FoldersFailed
from sync_client.report import Reporter, failure_lines, quoted, set_up
from sync_client.work import Item, Kind, owner_of_name


def group(*names: str) -> Item:
    return Item(Kind.MAILBOXES, owner_of_name(names[0]), names)


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


def test_facility_and_prefix_of_syslog_come_from_imapd_conf(tmp_path, monkeypatch):
    conf = tmp_path / "imapd.conf"
    conf.write_text(f"configdirectory: {tmp_path}\nsyslog_facility: local3\nsyslog_prefix: master\n")
    opened = []
    monkeypatch.setattr("sync_client.report.syslog.openlog", lambda *how: opened.append(how))
    monkeypatch.setattr("sync_client.report.Path.exists", lambda path: True)
    monkeypatch.setattr("sync_client.report._adopt_twisted", lambda: None)
    kept = logging.getLogger().level
    set_up(Config.load(conf), stderr=False)
    set_up(Config.load(conf), stderr=False, to_syslog=False)
    logging.getLogger().setLevel(kept)
    assert opened == [("master/sync_client", syslog.LOG_PID, syslog.LOG_LOCAL3)]


def test_operations_go_to_stdout_with_v_only(capsys):
    Reporter(verbose=1).operation("MAILBOX user.alice")
    Reporter().operation("MAILBOX user.bob")
    assert capsys.readouterr().out == "MAILBOX user.alice\n"


def test_operations_go_to_the_log_with_l_only(caplog):
    caplog.set_level(logging.INFO)
    Reporter(verbose_logging=True).operation("MAILBOX user.alice")
    Reporter().operation("MAILBOX user.bob")
    assert [record.getMessage() for record in caplog.records] == ["MAILBOX user.alice"]


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
