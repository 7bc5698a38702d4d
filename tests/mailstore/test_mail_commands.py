import hashlib
import time

import pytest

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import open_store
from cyrus_sync.mailstore import context
from tests.mailstore.conftest import MESSAGE, Site

# -- deliver


@pytest.mark.covers("mailstore: commands and options", "deliver")
@pytest.mark.covers("Lines of the action log", "APPEND")
def test_deliver_appends_to_the_inbox_and_logs_it(alice: Site) -> None:
    before = int(time.time())
    assert alice.ok("deliver", "alice", stdin=MESSAGE).lines == ["user/alice 1"]
    (record,) = alice.records("user.alice")
    assert (record.uid, record.flags, record.size) == (1, "", len(MESSAGE))
    assert record.guid == hashlib.sha1(MESSAGE).digest()
    assert before <= record.internaldate <= time.time()
    assert alice.log() == [("APPEND", "user.alice"), ("MAILBOX", "user.alice")]


@pytest.mark.covers("mailstore: commands and options", "deliver -m")
@pytest.mark.parametrize("typed", ["Work", "user/alice/Work"])
def test_deliver_takes_a_folder_below_the_inbox_or_a_full_name(alice: Site, typed: str) -> None:
    assert alice.ok("deliver", "alice", "-m", typed, stdin=MESSAGE).lines == ["user/alice/Work 1"]


@pytest.mark.covers("mailstore: commands and options", "deliver -f")
def test_deliver_makes_line_ends_crlf_and_drops_an_mbox_line(alice: Site) -> None:
    raw = b"From bob Mon Jan  1 00:00:00 2024\nSubject: x\n\na\r\nb\n"
    alice.ok("deliver", "alice", "-f", "\\seen", "-f", "Later", "-r", "<bob@x.example>", stdin=raw)
    assert (
        alice.ok("show", "user/alice", "1").raw
        == b"Return-Path: <bob@x.example>\r\nSubject: x\r\n\r\na\r\nb\r\n"
    )
    assert alice.records("user.alice")[0].flags == "\\Seen Later"


@pytest.mark.covers("Exit statuses", "mailstore 65")
@pytest.mark.parametrize(
    ("argv", "stdin", "status"),
    [
        (["bob"], MESSAGE, 67),
        (["alice", "-m", "Nowhere"], MESSAGE, 67),
        (["alice"], b"", 65),
        (["alice"], b"Subject: a\0b\n\n", 65),
        (["alice", "-f", "\\Nonsense"], MESSAGE, 64),
    ],
)
def test_deliver_refuses_with_the_status_that_a_mail_server_expects(
    alice: Site, argv: list[str], stdin: bytes, status: int
) -> None:
    result = alice.run("deliver", *argv, stdin=stdin)
    assert result.status == status
    assert result.err.startswith("mailstore: ")
    assert alice.log() == []


@pytest.mark.parametrize("stdin", [b"", b"From bob Mon Jan  1 00:00:00 2024\n", b"Subject: a\0b\n\n"])
def test_a_message_that_is_none_is_refused_with_mailbox_and_user(alice: Site, stdin: bytes) -> None:
    result = alice.run("deliver", "alice", "-m", "Work", stdin=stdin)
    assert result.status == 65
    assert result.err.endswith(" [user=alice mailbox=user/alice/Work]\n")


@pytest.mark.covers("mailstore: commands and options", "deliver -q")
@pytest.mark.covers("Exit statuses", "mailstore 75")
@pytest.mark.parametrize("limit", ["MESSAGE=2", "STORAGE=1"])
def test_deliver_keeps_to_the_quota_unless_told_otherwise(alice: Site, limit: str) -> None:
    message = MESSAGE + b"x" * 400
    alice.ok("setquota", "user/alice", limit)
    for _ in range(2):
        alice.ok("deliver", "alice", "-m", "Work", stdin=message)
    result = alice.run("deliver", "alice", "-m", "Work", stdin=message)
    assert result.status == 75
    assert "user/alice is over quota" in result.err
    assert len(alice.records("user.alice.Work")) == 2
    alice.ok("deliver", "alice", "-m", "Work", "--ignore-quota", stdin=message)
    assert len(alice.records("user.alice.Work")) == 3


def test_mail_for_a_locked_user_is_tried_again_and_not_bounced(
    alice: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "LOCK_SECONDS", 0.1)
    store = open_store(alice.config())
    with store.write(Owner("user", "alice")):
        assert alice.run("deliver", "alice", stdin=MESSAGE).status == 75
    store.close()
    alice.ok("deliver", "alice", stdin=MESSAGE)


def test_users_of_a_domain_get_their_mail(site: Site) -> None:
    site.ok("create", "user/joe@example.org", "user/joe@example.org/Work")
    assert site.ok("deliver", "joe@example.org", "-m", "Work", stdin=MESSAGE).lines == [
        "user/joe@example.org/Work 1"
    ]
    assert site.log()[-1] == ("MAILBOX", "example.org!user.joe.Work")


# -- flag, expunge, unexpunge, copy


@pytest.mark.covers("mailstore: commands and options", "flag")
def test_flags_are_set_and_removed_and_logged_once(alice: Site) -> None:
    alice.deliver("alice", 4)
    alice.log()
    flags = ["--add", "\\Seen", "--add", "Work", "-r", "x"]
    assert alice.ok("flag", "user/alice", "2:3", *flags).lines == ["2 messages"]
    assert [record.flags for record in alice.records("user.alice")] == ["", "\\Seen Work", "\\Seen Work", ""]
    assert set(alice.log()) == {("MAILBOX", "user.alice")}
    alice.ok("flag", "user/alice", "1:*", "--remove", "Work")
    assert [record.flags for record in alice.records("user.alice")] == ["", "\\Seen", "\\Seen", ""]


@pytest.mark.covers("mailstore: commands and options", "flag")
@pytest.mark.parametrize(
    "argv", [["1"], ["1", "--add", "\\Expunged"], ["1", "-a", "two words"], ["x", "-a", "y"]]
)
def test_flag_wants_flags_and_uids(alice: Site, argv: list[str]) -> None:
    assert alice.run("flag", "user/alice", *argv).status == 64


@pytest.mark.covers("mailstore: commands and options", "expunge", "unexpunge")
def test_expunged_messages_can_be_listed_and_brought_back(alice: Site) -> None:
    alice.deliver("alice", 3)
    assert alice.ok("expunge", "user/alice", "2").lines == ["1 message"]
    assert [record.uid for record in alice.records("user.alice")] == [1, 3]
    (line,) = alice.ok("unexpunge", "user/alice").lines
    assert line.split("\t")[0] == "2"
    assert alice.ok("unexpunge", "user/alice", "2").lines == ["4"]
    assert [record.uid for record in alice.records("user.alice")] == [1, 3, 4]


@pytest.mark.covers("mailstore: commands and options", "expunge --deleted")
def test_expunge_of_deleted_leaves_the_others(alice: Site) -> None:
    alice.deliver("alice", 3)
    alice.ok("flag", "user/alice", "1,3", "-a", "\\Deleted")
    assert alice.ok("expunge", "user/alice", "1:2", "--deleted").lines == ["1 message"]
    assert alice.ok("expunge", "user/alice", "--deleted").lines == ["1 message"]
    assert [record.uid for record in alice.records("user.alice")] == [2]
    assert alice.run("expunge", "user/alice").status == 64


@pytest.mark.covers("mailstore: commands and options", "copy")
def test_copy_and_move(alice: Site) -> None:
    alice.deliver("alice", 3)
    assert alice.ok("copy", "user/alice", "1:2", "user/alice/Work").lines == ["2 messages"]
    assert alice.ok("copy", "user/alice", "3", "user/alice/Work", "--move").lines == ["1 message"]
    assert [record.uid for record in alice.records("user.alice")] == [1, 2]
    assert [record.uid for record in alice.records("user.alice.Work")] == [1, 2, 3]
    assert alice.run("copy", "user/alice", "1", "user/alice/None").status == 67
    assert alice.run("copy", "user/alice", "1", "user/bob").status == 64


@pytest.mark.parametrize(
    "words",
    [
        ["flag", "user/alice", "UIDS", "-a", "\\Seen"],
        ["expunge", "user/alice", "UIDS"],
        ["copy", "user/alice", "UIDS", "user/alice/Work"],
        ["copy", "user/alice", "UIDS", "user/alice/Work", "--move"],
    ],
    ids=" ".join,
)
def test_uids_that_are_not_there_are_named_and_the_others_are_done(alice: Site, words: list[str]) -> None:
    def run(uids: str) -> tuple[int, str, str]:
        result = alice.run(*[uids if word == "UIDS" else word for word in words])
        return result.status, result.out, result.err

    alice.deliver("alice", 4)
    alice.ok("expunge", "user/alice", "2")
    said = "mailstore: there is no message {} in user/alice\n"
    assert run("2,1,7:9") == (1, "1 message\n", said.format("2,7:9"))
    assert run("3:8") == (0, "2 messages\n", "")  # a range may have gaps
    assert run("11,12") == (65, "0 messages\n", said.format("11,12"))


def test_messages_that_cannot_come_back_are_named(alice: Site) -> None:
    alice.deliver("alice", 3)
    alice.ok("expunge", "user/alice", "2")
    result = alice.run("unexpunge", "user/alice", "1:2,3")
    assert (result.status, result.lines) == (1, ["4"])
    assert result.err == "mailstore: there is no expunged message 3 in user/alice\n"
    result = alice.run("unexpunge", "user/alice", "2")
    assert (result.status, result.lines) == (1, [])
    assert "1 of these messages of user/alice stay expunged: they are back already" in result.err


def test_what_has_not_the_flag_is_there_all_the_same(alice: Site) -> None:
    alice.deliver("alice", 2)
    assert alice.ok("expunge", "user/alice", "1:2", "--deleted").lines == ["0 messages"]
    assert alice.ok("expunge", "user/alice/Work", "--deleted").lines == ["0 messages"]


# -- show, ls


@pytest.mark.covers("mailstore: commands and options", "show")
def test_show_prints_the_message_as_it_is_stored(alice: Site) -> None:
    raw = b"Subject: x\r\n\r\n\xff\xfe\x01\r\n"
    alice.ok("deliver", "alice", stdin=raw)
    assert alice.ok("show", "user/alice", "1").raw == raw
    assert alice.ok("show", "user/alice", "1", "--header").raw == b"Subject: x\r\n"
    index = alice.ok("show", "user/alice", "1", "--index").lines
    assert index[:3] == ["uid: 1", f"guid: {hashlib.sha1(raw).hexdigest()}", f"size: {len(raw)}"]
    alice.ok("expunge", "user/alice", "1")
    assert "expunged: yes" in alice.ok("show", "user/alice", "1", "-i").lines
    assert alice.run("show", "user/alice", "2").status == 65
    assert alice.run("show", "user/bob", "1").status == 67


@pytest.mark.covers("mailstore: commands and options", "ls")
def test_ls_lists_owners_and_mailboxes(alice: Site) -> None:
    alice.ok("create", "board", "board/Minutes")
    alice.deliver("alice", 2)
    alice.ok("flag", "user/alice", "1", "-a", "\\Seen")
    size = 2 * (len(MESSAGE) + 10)
    assert [line.split() for line in alice.ok("ls").lines] == [
        ["alice", "2", "mailboxes", "2", "messages", "1", "unseen", f"{size}", "octets"],
        ["shared:board", "2", "mailboxes", "0", "messages", "0", "unseen", "0", "octets"],
    ]
    assert alice.ok("ls", "--names").lines == ["alice", "shared:board"]
    assert alice.ok("ls", "-1", "shared:board").lines == ["board", "board/Minutes"]
    first = alice.ok("ls", "alice").lines[0].split()
    assert first == ["user/alice", "2", "messages", "1", "unseen", f"{size}", "octets", "uid", "2", "default"]
    assert alice.run("ls", "bob").status == 67


@pytest.mark.covers("mailstore: commands and options", "ls --deleted")
def test_ls_shows_deleted_mailboxes_when_asked(alice: Site) -> None:
    alice.ok("delete", "user/alice/Work")
    assert alice.ok("ls", "-1", "alice").lines == ["user/alice"]
    (_, deleted) = alice.ok("ls", "-1", "--deleted", "alice").lines
    assert deleted.startswith("DELETED/user/alice/Work/")
