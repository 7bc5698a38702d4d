"""Each command calls its verb with decoded arguments, and words the answer as a real server does."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from cyrus_sync.common.model import (
    Annotation,
    MailboxAnnotation,
    MailboxState,
    MessageBody,
    Quota,
    Record,
    Seen,
    SieveScript,
    Since,
    UserMeta,
    UserState,
    Verified,
)
from cyrus_sync.common.protocol.commands import COMMANDS
from cyrus_sync.common.waiting import Waiting
from cyrus_sync.sync_server import handlers
from cyrus_sync.sync_server.bulk import RECORDS_IN_MEMORY
from tests.sync_server.conversation import Conversation

GUID = bytes.fromhex("aba82959ececf5a30f63e9c81f19ec1232a723f0")
HEX = GUID.hex().encode()
STATE = MailboxState(
    uniqueid="o0ikrmy6bj1swhe9brbj0kew",
    name="user.erin",
    sync_crc=0,
    sync_crc_annot=12345678,
    last_uid=1,
    highestmodseq=9,
    uidvalidity=1795239982,
    partition="default",
    acl="erin\tlrswipkxtecdan\t",
    options="P",
    createdmodseq=1,
    foldermodseq=1,
)
STATE_LINE = (
    b"%(UNIQUEID o0ikrmy6bj1swhe9brbj0kew MBOXNAME user.erin SYNC_CRC 0 SYNC_CRC_ANNOT 12345678 LAST_UID 1 "
    b"HIGHESTMODSEQ 9 RECENTUID 0 RECENTTIME 0 LAST_APPENDDATE 0 POP3_LAST_LOGIN 0 POP3_SHOW_AFTER 0 "
    b'UIDVALIDITY 1795239982 PARTITION default ACL "erin\tlrswipkxtecdan\t" OPTIONS P CREATEDMODSEQ 1 '
    b"FOLDERMODSEQ 1"
)
RECORD_LINE = (
    b"%%(UID 1 MODSEQ 9 LAST_UPDATED 1700000000 FLAGS (\\Seen $x) INTERNALDATE 1600000000 SIZE 145 GUID %s)"
    % HEX
)
RECORD = Record(1, 9, 1700000000, "\\Seen $x", False, 1600000000, 145, GUID)
SEEN = Seen("abc", 1, 2, 3, "1:4,7")
NOTE = MailboxAnnotation("user.erin", "/comment", "", b"two words")
SCRIPT = SieveScript("main.script", 1795247992, GUID)
ACTIVE = SieveScript("main.bc", 0, bytes(20), True)

QUOTA_LINE = b"* QUOTA %(ROOT user.erin LIMIT 4294967295 MESSAGE 5 MODSEQ 2)"
SEEN_LINE = b"* SEEN %(UNIQUEID abc LASTREAD 1 LASTUID 2 LASTCHANGE 3 SEENUIDS 1:4,7)"
NOTE_LINE = b'* ANNOTATION %(MBOXNAME user.erin ENTRY /comment USERID "" VALUE "two words")'
SCRIPT_LINES = (
    b"* SIEVE %%(FILENAME main.script LAST_UPDATE 1795247992 GUID %s ISACTIVE 0)\r\n"
    b"* SIEVE %%(FILENAME main.bc LAST_UPDATE 0 GUID %s ISACTIVE 1)" % (HEX, b"0" * 40)
)

META = UserMeta(seen=(SEEN,), subscriptions=("user.erin", "user.erin.a b"), sieve=(SCRIPT, ACTIVE))
META_LINES = b'%s\r\n* LSUB (user.erin "user.erin.a b")\r\n%s' % (SEEN_LINE, SCRIPT_LINES)

GETS: list[tuple[bytes, Any, tuple[Any, ...], bytes]] = [
    (
        b"GET USER erin",
        UserState((STATE,), (Quota("user.erin", {"MESSAGE": 5}, 2),), META),
        ("get_user", "erin"),
        b"* MAILBOX %s)\r\n%s\r\n%s" % (STATE_LINE, QUOTA_LINE, META_LINES),
    ),
    (b"GET META erin", META, ("get_meta", "erin"), META_LINES),
    (
        b"GET MAILBOXES (user.erin user.x)",
        [STATE],
        ("get_mailboxes", ["user.erin", "user.x"]),
        b"* MAILBOX %s)" % STATE_LINE,
    ),
    (
        b"GET UNIQUEIDS (abc NIL (x) def)",
        [STATE],
        ("get_uniqueids", ["abc", "def"]),
        b"* MAILBOX %s)" % STATE_LINE,
    ),
    (
        b"GET FULLMAILBOX user.erin",
        (STATE, [[RECORD]]),
        ("get_full_mailbox", "user.erin"),
        b"* MAILBOX %s RECORD (%s))" % (STATE_LINE, RECORD_LINE),
    ),
    (
        b"GET FULLMAILBOX user.erin",
        (STATE, []),
        ("get_full_mailbox", "user.erin"),
        b"* MAILBOX %s RECORD ())" % STATE_LINE,
    ),
    (b"GET QUOTA user.erin", Quota("user.erin", {"MESSAGE": 5}, 2), ("get_quota", "user.erin"), QUOTA_LINE),
    (b"GET ANNOTATION user.erin", [NOTE], ("get_annotations", "user.erin"), NOTE_LINE),
    (
        b'GET ANNOTATION ""',
        [MailboxAnnotation("", "/motd", "", b"\x00\r\n")],
        ("get_annotations", ""),
        b'* ANNOTATION %(MBOXNAME "" ENTRY /motd USERID "" VALUE {3}\r\n\x00\r\n)',
    ),
    (
        b"GET FETCH %%(MBOXNAME user.erin PARTITION default UNIQUEID abc GUID %s UID 1)" % HEX,
        MessageBody("default", GUID, 6, b"OK\r\nxx"),
        ("fetch", "user.erin", "default", "abc", GUID.hex(), 1),
        b"* MESSAGE %%{default %s 6}\r\nOK\r\nxx" % HEX,
    ),
    (
        b"GET FETCH %%(MBOXNAME user.erin PARTITION default UNIQUEID abc GUID %s UID 1)" % HEX,
        MessageBody("default", GUID, 6, [b"OK\r", b"\nxx"]),
        ("fetch", "user.erin", "default", "abc", GUID.hex(), 1),
        b"* MESSAGE %%{default %s 6}\r\nOK\r\nxx" % HEX,
    ),
    (
        b"GET FETCH %%(MBOXNAME user.erin PARTITION default UNIQUEID abc GUID %s UID 1)" % HEX,
        None,
        ("fetch", "user.erin", "default", "abc", GUID.hex(), 1),
        b"* MESSAGE NIL",
    ),
    (
        b"GET FETCH_SIEVE %(USERID erin FILENAME main.script)",
        b"keep;",
        ("fetch_sieve", "erin", "main.script"),
        b"* SIEVE %(USERID erin FILENAME main.script CONTENT keep;)",
    ),
    (
        b"APPLY RESERVE %%(PARTITION default MBOXNAME (user.erin user.x) GUID (%s %s))" % (HEX, b"0" * 40),
        [GUID],
        ("reserve", "default", ["user.erin", "user.x"], [GUID.hex(), "0" * 40]),
        b"* MISSING (%s)" % HEX,
    ),
]


@pytest.mark.covers(
    "GET, APPLY, RESTORE",
    "GET USER",
    "GET META",
    "GET MAILBOXES",
    "GET UNIQUEIDS",
    "GET FULLMAILBOX",
    "GET QUOTA",
    "GET ANNOTATION",
    "GET FETCH",
    "GET FETCH_SIEVE",
    "APPLY RESERVE",
)
@pytest.mark.parametrize(("command", "answer", "event", "lines"), GETS)
def test_what_the_replica_answers_is_worded(
    tmp_path: Path, command: bytes, answer: Any, event: tuple[Any, ...], lines: bytes
) -> None:
    talk = Conversation(tmp_path)
    talk.replica.answers[event[0]] = answer
    assert talk.ask(command) == lines + b"\r\nOK success"
    assert talk.replica.events == [event]


CHANGES: list[tuple[bytes, tuple[Any, ...]]] = [
    (
        b"APPLY RENAME %(OLDMBOXNAME user.a NEWMBOXNAME user.b PARTITION default UIDVALIDITY 5)",
        ("rename", "user.a", "user.b", "default", 5, False),
    ),
    (
        b"APPLY LOCAL_RENAME %(OLDMBOXNAME user.a NEWMBOXNAME user.a PARTITION fast)",
        ("rename", "user.a", "user.a", "fast", 0, True),
    ),
    (b"APPLY UNMAILBOX user.a", ("unmailbox", "user.a", False)),
    (b"APPLY LOCAL_UNMAILBOX user.a", ("unmailbox", "user.a", True)),
    (b"APPLY UNMAILBOX %(MBOXNAME user.a)", ("unmailbox", "user.a", False)),
    (
        b"APPLY UNMAILBOX %(MBOXNAME user.a UNIQUEID id1 UIDVALIDITY 7)",
        ("unmailbox", "user.a", False, "id1", 7),
    ),
    (b"APPLY UNUSER erin", ("unuser", "erin", False)),
    (b"APPLY LOCAL_UNUSER erin", ("unuser", "erin", True)),
    (b"APPLY EXPUNGE %(MBOXNAME user.a UNIQUEID x UID (1 2 3))", ("expunge", "user.a", "x", [1, 2, 3])),
    (
        b"APPLY QUOTA %(ROOT user.a LIMIT 10 STORAGE 10 MESSAGE 5 ANNOTATION-STORAGE 3 MAILBOX 2 MODSEQ 7)",
        (
            "quota",
            Quota("user.a", {"STORAGE": 10, "MESSAGE": 5, "X-ANNOTATION-STORAGE": 3, "X-NUM-FOLDERS": 2}, 7),
        ),
    ),
    (b"APPLY UNQUOTA user.a", ("unquota", "user.a")),
    (b"APPLY SUB %(USERID erin MBOXNAME user.a)", ("sub", "erin", "user.a")),
    (b"APPLY UNSUB %(USERID erin MBOXNAME user.a)", ("unsub", "erin", "user.a")),
    (
        b"APPLY SEEN %(USERID erin UNIQUEID abc LASTREAD 1 LASTUID 2 LASTCHANGE 3 SEENUIDS 1:4,7)",
        ("seen", "erin", SEEN),
    ),
    (
        b"APPLY ANNOTATION %(MBOXNAME user.a ENTRY /comment USERID erin VALUE {3+}\r\n\x00\r\n)",
        ("annotation", MailboxAnnotation("user.a", "/comment", "erin", b"\x00\r\n")),
    ),
    (
        b'APPLY UNANNOTATION %(MBOXNAME "" ENTRY /comment USERID "")',
        ("unannotation", "", "/comment", ""),
    ),
    (
        b"APPLY SIEVE %(USERID erin FILENAME main.script LAST_UPDATE 17 CONTENT {7+}\r\nkeep;\r\n)",
        ("sieve", "erin", "main.script", 17, b"keep;\r\n"),
    ),
    (b"APPLY UNSIEVE %(USERID erin FILENAME main.script)", ("unsieve", "erin", "main.script")),
    (b"APPLY ACTIVATE_SIEVE %(USERID erin FILENAME main.bc)", ("activate_sieve", "erin", "main.bc")),
    (b"APPLY UNACTIVATE_SIEVE %(USERID erin)", ("unactivate_sieve", "erin")),
    (b"APPLY FORCE %()", ("force",)),
    (
        b"APPLY MAILBOX " + STATE_LINE + b" RECORD (" + RECORD_LINE + b"))",
        ("mailbox", "user.erin", [1], None, False),
    ),
    (
        b"APPLY LOCAL_MAILBOX " + STATE_LINE + b" SINCE_MODSEQ 3 SINCE_CRC 4 SINCE_CRC_ANNOT 5 RECORD ())",
        ("mailbox", "user.erin", [], Since(3, 4, 5), True),
    ),
    (b"RESTORE MAILBOX %(MBOXNAME user.erin RECORD ())", ("change", "erin")),
    (b"RESTORE LOCAL_MAILBOX %(MBOXNAME user.erin RECORD (" + RECORD_LINE + b"))", ("change", "erin")),
]


@pytest.mark.covers(
    "GET, APPLY, RESTORE",
    "APPLY MAILBOX",
    "APPLY RENAME",
    "APPLY UNMAILBOX",
    "APPLY UNUSER",
    "APPLY EXPUNGE",
    "APPLY QUOTA",
    "APPLY UNQUOTA",
    "APPLY SUB",
    "APPLY SEEN",
    "APPLY ANNOTATION",
    "APPLY SIEVE",
    "APPLY FORCE",
    "RESTORE MAILBOX",
)
@pytest.mark.parametrize(("command", "event"), CHANGES)
def test_a_change_is_handed_to_the_replica(tmp_path: Path, command: bytes, event: tuple[Any, ...]) -> None:
    talk = Conversation(tmp_path)
    assert talk.ask(command) == b"OK success"
    assert talk.replica.events == [event]


def test_every_declared_command_has_a_handler_and_every_handler_a_command() -> None:
    assert set(handlers.HANDLERS) == set(COMMANDS)
    named = {f"{verb}_{name}".lower() for verb, name in COMMANDS}
    written = {
        name
        for name in vars(handlers)
        if name.startswith(("get_", "apply_", "restore_")) and name != "restore_into"
    }
    assert written == named


def test_every_declared_command_is_exercised_here() -> None:
    asked = {tuple(c.split(b" ", 2)[:2]) for c, *_ in [*GETS, *CHANGES]}
    asked |= {(b"APPLY", b"MESSAGE"), (b"APPLY", b"CAPABILITIES")}
    asked |= {(b"APPLY", b"XFRAME")}  # in test_frames
    asked |= {(b"GET", b"XSHARED"), (b"GET", b"XVERIFY"), (b"APPLY", b"XWAITING")}
    asked |= {(b"GET", b"XUSERS"), (b"GET", b"XDIGESTS"), (b"GET", b"XDAMAGED"), (b"APPLY", b"XHEAL")}
    names = {(verb.decode(), name.decode().removeprefix("LOCAL_")) for verb, name in asked}
    assert names == set(COMMANDS)


@pytest.mark.covers("Capabilities", "X-CYRUS-SYNC-HEAL")
@pytest.mark.covers("GET, APPLY, RESTORE", "GET XDAMAGED", "APPLY XHEAL")
def test_damage_is_told_and_healed_where_that_was_agreed(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    talk.replica.answers.update(get_damaged_users=["alice"], get_damaged=[GUID])
    for command in (b'GET XDAMAGED ""', b"APPLY XHEAL alice"):
        assert talk.ask(command).startswith(b"NO IMAP_PROTOCOL_ERROR X-CYRUS-SYNC-HEAL was not agreed")
    assert talk.ask(b"APPLY CAPABILITIES (X-CYRUS-SYNC-HEAL)").startswith(b"* ENABLED (X-CYRUS-SYNC-HEAL)")
    assert talk.ask(b'GET XDAMAGED ""') == b"* XDAMAGED (alice)\r\nOK success"
    assert talk.ask(b"GET XDAMAGED alice") == b"* XDAMAGED (%s)\r\nOK success" % HEX
    assert talk.ask(b"APPLY XHEAL alice") == b"OK success"
    assert talk.replica.events == [("get_damaged_users",), ("get_damaged", "alice"), ("heal", "alice")]


@pytest.mark.covers("Capabilities", "X-CYRUS-SYNC-ADDITIONS")
def test_a_server_that_was_promoted_takes_additions_and_nothing_else(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    talk.service.refuses = lambda: "this server is the master"
    for command, *_ in CHANGES:
        assert talk.ask(command) == b"NO this server is the master", command
    assert talk.replica.events == []
    assert talk.ask(b"GET USER alice").endswith(b"OK success")
    talk.ask(b"APPLY CAPABILITIES (X-CYRUS-SYNC-ADDITIONS)")
    assert talk.ask(b"APPLY SUB %(USERID alice MBOXNAME user.alice)") == b"OK success"
    talk.service.refuses = lambda: ""
    assert Conversation(tmp_path / "other").ask(b"APPLY UNUSER alice") == b"OK success"


@pytest.mark.covers("Capabilities", "X-CYRUS-SYNC-WAITING")
@pytest.mark.covers("GET, APPLY, RESTORE", "APPLY XWAITING")
def test_a_masters_word_of_what_waits_is_kept_where_that_was_agreed(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    command = b'APPLY XWAITING %(MASTER m.example CHANNEL "" WAITING 2 DRAINED 0 OWNERS (alice shared:news))'
    assert talk.ask(command).startswith(b"NO IMAP_PROTOCOL_ERROR X-CYRUS-SYNC-WAITING was not agreed")
    talk.ask(b"APPLY CAPABILITIES (X-CYRUS-SYNC-WAITING)")
    assert talk.ask(command) == b"OK success"
    assert talk.replica.events == [("waiting", Waiting("m.example", "", 2, ("alice", "shared:news")))]


@pytest.mark.covers("Capabilities", "X-CYRUS-SYNC-VERIFY")
@pytest.mark.covers("GET, APPLY, RESTORE", "GET XVERIFY", "GET XSHARED")
def test_who_compares_has_messages_read_again_and_shared_mailboxes_listed(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    wanted = b"GET XVERIFY %(MBOXNAME user.alice UNIQUEID id1 FIRST 1 LAST 9)"
    talk.replica.answers.update(verify=Verified(9, 3, 4711, (GUID,)), get_shared=["news", "news.x"])
    for command in (wanted, b'GET XSHARED ""'):
        assert talk.ask(command).startswith(b"NO IMAP_PROTOCOL_ERROR X-CYRUS-SYNC-VERIFY was not agreed")
    talk.ask(b"APPLY CAPABILITIES (X-CYRUS-SYNC-VERIFY)")
    answer = b"* XVERIFY %%(UPTO 9 COUNT 3 OCTETS 4711 BAD (%s))\r\nOK success" % HEX
    assert talk.ask(wanted) == answer
    assert talk.ask(b'GET XSHARED ""') == b"* XSHARED (news news.x)\r\nOK success"
    assert talk.replica.events == [("verify", "user.alice", "id1", 1, 9), ("get_shared", "")]
    assert talk.ask(b"GET XVERIFY %(MBOXNAME user.alice UNIQUEID id1 FIRST 1 LAST x)").startswith(b"NO ")


@pytest.mark.covers("Capabilities", "X-CYRUS-SYNC-USERS")
@pytest.mark.covers("GET, APPLY, RESTORE", "GET XUSERS")
def test_users_are_listed_in_pages_where_that_was_agreed(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    talk.replica.answers["get_users"] = ["alice", "bob b"]
    assert talk.ask(b'GET XUSERS ""').startswith(b"NO IMAP_PROTOCOL_ERROR X-CYRUS-SYNC-USERS was not agreed")
    assert talk.ask(b"APPLY CAPABILITIES (X-CYRUS-SYNC-USERS)").startswith(b"* ENABLED (X-CYRUS-SYNC-USERS)")
    assert talk.ask(b'GET XUSERS ""') == b'* XUSERS (alice "bob b")\r\nOK success'
    assert talk.replica.events == [("get_users", "")]
    talk.replica.answers["get_users"] = []
    assert talk.ask(b'GET XUSERS "bob b"') == b"OK success"


@pytest.mark.covers("Capabilities", "X-CYRUS-SYNC-DIGESTS")
@pytest.mark.covers("GET, APPLY, RESTORE", "GET XDIGESTS")
def test_digests_are_told_in_pages_where_that_was_agreed(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    talk.replica.answers["get_digests"] = {"alice": bytes(2), "bob b": b""}
    assert talk.ask(b'GET XDIGESTS ""').startswith(
        b"NO IMAP_PROTOCOL_ERROR X-CYRUS-SYNC-DIGESTS was not agreed"
    )
    assert talk.ask(b"APPLY CAPABILITIES (X-CYRUS-SYNC-DIGESTS)").startswith(
        b"* ENABLED (X-CYRUS-SYNC-DIGESTS)"
    )
    assert talk.ask(b'GET XDIGESTS ""') == b'* XDIGESTS (alice 0000 "bob b" "")\r\nOK success'
    assert talk.replica.events == [("get_digests", "")]
    talk.replica.answers["get_digests"] = {}
    assert talk.ask(b'GET XDIGESTS "bob b"') == b"OK success"


@pytest.mark.covers("Capabilities", "SIEVE-MAILBOX")
@pytest.mark.covers("GET, APPLY, RESTORE", "APPLY CAPABILITIES")
def test_capabilities_are_granted_as_far_as_they_are_known(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    assert (
        talk.ask(b"APPLY CAPABILITIES (X SIEVE-MAILBOX (a) NIL)")
        == b"* ENABLED (SIEVE-MAILBOX)\r\nOK success"
    )
    assert talk.replica.capabilities == {"SIEVE-MAILBOX"}
    assert talk.ask(b"APPLY CAPABILITIES ()") == b"* ENABLED ()\r\nOK success"
    assert talk.replica.capabilities == set()


# -- what comes ahead of a command's end


@pytest.mark.covers("GET, APPLY, RESTORE", "APPLY MESSAGE")
def test_messages_are_staged_as_they_come(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    one = b"%%{default %s 3}\r\nabc" % HEX
    assert talk.send(b"APPLY MESSAGE (" + one + b" " + one + b")\r\n") == b"OK success\r\n"
    assert [(body.guid, body.data) for body in talk.replica.messages] == [(GUID, b"abc")] * 2


def test_a_message_larger_than_memory_goes_through_a_file(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    large = bytes(range(256)) * 20_000
    head = b"APPLY MESSAGE (%%{default %s %d}\r\n" % (HEX, len(large))
    talk.send(head)
    for at in range(0, len(large), 100_000):
        talk.send(large[at : at + 100_000])
    assert talk.send(b")\r\n") == b"OK success\r\n"
    assert talk.replica.messages[0].data == large
    assert not list(tmp_path.glob("tmp*")), "the file has no name"


def test_a_failure_while_staging_is_the_answer_at_the_end(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    talk.replica.failures["message"] = [OSError(28, "No space left on device")]
    one = b"%%{default %s 3}\r\nabc" % hashlib.sha1(b"abc").hexdigest().encode()
    assert talk.send(b"APPLY MESSAGE (" + one + b" " + one + b")\r\nNOOP\r\n") == (
        b"NO no room left: No space left on device: mail store\r\nOK Noop completed\r\n"
    )


def test_records_of_a_large_mailbox_arrive_complete_and_in_order(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    count = RECORDS_IN_MEMORY * 2 + 17
    records = b" ".join(
        b"%%(UID %d MODSEQ 9 LAST_UPDATED 1700000000 FLAGS () INTERNALDATE 1600000000 SIZE 145 GUID %s)"
        % (uid, HEX)
        for uid in range(1, count + 1)
    )
    state = STATE_LINE.replace(b"LAST_UID 1", b"LAST_UID %d" % count)
    assert talk.send(b"APPLY MAILBOX " + state + b" RECORD (" + records + b"))\r\n") == b"OK success\r\n"
    assert [record.uid for record in talk.replica.records] == list(range(1, count + 1))


def test_annotations_of_a_record_come_along(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    noted = RECORD_LINE[:-1] + (
        b" ANNOTATIONS (%(ENTRY /comment USERID erin MODSEQ 3 VALUE x)"
        b' %(ENTRY /vendor/cmu/cyrus-imapd/thrid USERID "" MODSEQ 0 VALUE 8909f70763c9b264)))'
    )
    assert talk.send(b"APPLY MAILBOX " + STATE_LINE + b" RECORD (" + noted + b"))\r\n") == b"OK success\r\n"
    record = talk.replica.records[0]
    assert record.thrid == 0x8909F70763C9B264
    assert record.annotations == (Annotation("/comment", "erin", 3, b"x"),)


@pytest.mark.covers("Codes after NO", "IMAP_PROTOCOL_ERROR")
@pytest.mark.parametrize(
    "bad",
    [
        b"%(UID 1)",
        b"%(UID x MODSEQ 9 LAST_UPDATED 1 FLAGS () INTERNALDATE 1 SIZE 1 GUID " + HEX + b")",
        RECORD_LINE + b" " + RECORD_LINE,
        RECORD_LINE.replace(b"UID 1 ", b"UID 4294967296 "),
        RECORD_LINE.replace(HEX, b"0" * 40),
        RECORD_LINE.replace(b"SIZE 145", b"SIZE 0"),
        b"NIL",
        b"()",
    ],
)
def test_a_bad_record_list_is_a_protocol_error_and_changes_nothing(tmp_path: Path, bad: bytes) -> None:
    talk = Conversation(tmp_path)
    heard = talk.ask(b"APPLY MAILBOX " + STATE_LINE + b" RECORD (" + bad + b"))")
    assert heard.startswith(b"NO IMAP_PROTOCOL_ERROR ")
    assert talk.replica.events == []
    assert talk.ask(b"NOOP") == b"OK Noop completed"
