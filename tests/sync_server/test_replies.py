"""Every answer of the session layer, as a real 3.6.1 server words it (each line was asked of one)."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyrus_sync.common.errors import (
    REPLY_ERRORS,
    MailboxLocked,
    MailboxMoved,
    MailboxNonexistent,
    MailboxNotSupported,
    ProtocolError,
    ReplyError,
    StoreCorrupt,
    StoreError,
    SyncBadSieve,
    SyncChanged,
    SyncChecksum,
    UnknownFailure,
)
from cyrus_sync.common.names import BadName
from tests.sync_server.conversation import Conversation

STRANGER = [
    (b"", b"BAD Null command"),
    (b"FOO", b"BAD IMAP_PROTOCOL_ERROR Unrecognized command"),
    (b"NOOP", b"OK Noop completed"),
    (b"noop", b"OK Noop completed"),
    (b"noop x", b"BAD Unexpected extra arguments to Noop"),
    (b"RESTART", b"OK Restarting"),
    (b"RESTART x", b"BAD Unexpected extra arguments to Restart"),
    (b"COMPRESS", b"BAD Missing required argument to Compress"),
    (b"COMPRESS LZ4", b"NO Unknown compression algorithm: LZ4"),
    (b"COMPRESS DEFLATE x", b"BAD Unexpected extra arguments to Compress"),
    (b"STARTTLS", b"BAD IMAP_PROTOCOL_ERROR Unrecognized command"),
    (b"STARTTLS x", b"BAD IMAP_PROTOCOL_ERROR Unrecognized command"),
    (b"AUTHENTICATE", b"BAD Missing required argument to Authenticate"),
    (b"AUTHENTICATE PL\\AIN x", b"BAD Invalid mechanism"),
    (b"AUTHENTICATE PLAIN x y", b"BAD Unexpected extra arguments to Authenticate"),
    (b"AUTHENTICATE PLAIN", b"+ "),
    (b"GET USER alice", b"NO Please authenticate first"),
    (b"APPLY FOO bar", b"NO Please authenticate first"),
    (b"RESTORE MAILBOX %()", b"NO Please authenticate first"),
    (b"EXIT x", b"BAD Unexpected extra arguments to Exit"),
    (b"EXIT", b"OK Finished"),
]

DENIED = [
    (b"", b"BAD Null command"),
    (b"NOOP", b"NO Permission denied"),
    (b"FOO", b"NO Permission denied"),
    (b"GET USER x", b"NO Permission denied"),
    (
        b"APPLY MESSAGE (%{default 0123456789012345678901234567890123456789 3}\r\nabc)",
        b"NO Permission denied",
    ),
    (b"AUTHENTICATE PLAIN x", b"NO Permission denied"),
    (b"COMPRESS DEFLATE", b"NO Permission denied"),
    (b"RESTART", b"NO Permission denied"),
    (b"EXIT", b"NO Permission denied"),
]

BAD_PARAMETERS = b"NO IMAP_PROTOCOL_BAD_PARAMETERS "
NONEXISTENT = b"NO IMAP_MAILBOX_NONEXISTENT No Such Mailbox"

ADMIN = [
    (b"AUTHENTICATE PLAIN x", b"BAD Already authenticated"),
    (b"STARTTLS", b"BAD IMAP_PROTOCOL_ERROR Unrecognized command"),
    (b"GET", b"BAD IMAP_PROTOCOL_ERROR Failed to parse GET line"),
    (b"GET FOO x", b"NO IMAP_PROTOCOL_ERROR Protocol error"),
    (b"GET LOCAL_USER x", b"NO IMAP_PROTOCOL_ERROR Protocol error"),
    (b"APPLY FOO x", b"NO IMAP_PROTOCOL_ERROR Protocol error"),
    (b"APPLY LOCAL_FOO x", b"NO IMAP_PROTOCOL_ERROR Protocol error"),
    (b"RESTORE FOO x", b"NO IMAP_PROTOCOL_ERROR Protocol error"),
    (b"GET USER (a b)", b"OK success"),
    (b"GET USER NIL", b"OK success"),
    (b"GET USER %(A b)", b"OK success"),
    (b"GET USER a/b", b"OK success"),
    (b'GET USER "no such"', b"OK success"),
    (b"get user bob", b"OK success"),
    (b"Get User bob", b"OK success"),
    (b"GET USER alice extra", b"BAD IMAP_PROTOCOL_ERROR Failed to parse GET line"),
    (b'GET USER "a', b"BAD IMAP_PROTOCOL_ERROR Failed to parse GET line"),
    (b"GET META nouser", b"OK success"),
    (b"GET MAILBOXES user.x", b"OK success"),
    (b"GET MAILBOXES (user..x /x)", b"OK success"),
    (b"GET UNIQUEIDS (a b)", b"OK success"),
    (b"GET QUOTA user.x", b"OK success"),
    (b'GET ANNOTATION ""', b"OK success"),
    (b"GET ANNOTATION user.nope", b"OK success"),
    (b"GET FULLMAILBOX user..x", NONEXISTENT),
    (b"GET FETCH x", BAD_PARAMETERS),
    (b"GET FETCH %(MBOXNAME user.x)", BAD_PARAMETERS),
    (b"GET FETCH_SIEVE %(USERID alice)", BAD_PARAMETERS),
    (b"APPLY CAPABILITIES (SIEVE-MAILBOX FOO)", b"* ENABLED (SIEVE-MAILBOX)\r\nOK success"),
    (b"APPLY CAPABILITIES ()", b"* ENABLED ()\r\nOK success"),
    (b"APPLY FORCE %()", b"OK success"),
    (b"APPLY FORCE x", b"OK success"),
    (b"APPLY MESSAGE ()", b"OK success"),
    (b"APPLY MESSAGE x", b"OK success"),
    (b"APPLY MESSAGE (a b)", b"OK success"),
    (b"APPLY RESERVE %(PARTITION default)", BAD_PARAMETERS),
    (b"APPLY MAILBOX x", BAD_PARAMETERS),
    (b"APPLY MAILBOX %(UNIQUEID abcdefgh)", BAD_PARAMETERS),
    (b"APPLY RENAME %(OLDMBOXNAME user.x)", BAD_PARAMETERS),
    (b"APPLY UNMAILBOX NIL", NONEXISTENT),
    (b"APPLY UNMAILBOX (a)", NONEXISTENT),
    (b"APPLY UNUSER nobody", b"OK success"),
    (b'APPLY UNUSER ""', b"OK success"),
    (b"APPLY EXPUNGE %(MBOXNAME user.x UNIQUEID a)", BAD_PARAMETERS),
    (b"APPLY QUOTA %(ROOT user.x LIMIT 10)", b"OK success"),
    (b"APPLY UNQUOTA user.zz", b"OK success"),
    (b"APPLY SUB %(USERID nouser)", BAD_PARAMETERS),
    (b"APPLY SUB %(USERID nouser MBOXNAME user.x)", b"OK success"),
    (b"APPLY UNSUB %(USERID nouser MBOXNAME user.x)", b"OK success"),
    (b"APPLY SEEN %(USERID nouser)", BAD_PARAMETERS),
    (b"APPLY SEEN %(USERID u UNIQUEID abc LASTREAD 1 LASTUID 1 LASTCHANGE 1 SEENUIDS 1)", b"OK success"),
    (b'APPLY ANNOTATION %(MBOXNAME "" ENTRY /comment)', BAD_PARAMETERS),
    (b'APPLY ANNOTATION %(MBOXNAME "" ENTRY /comment USERID "" VALUE a)', b"OK success"),
    (b'APPLY UNANNOTATION %(MBOXNAME "" ENTRY /comment USERID "")', b"OK success"),
    (b"APPLY SIEVE %(USERID nouser)", BAD_PARAMETERS),
    (b"RESTORE MAILBOX %()", BAD_PARAMETERS),
    (b"NOOP", b"OK Noop completed"),
    (b"RESTART", b"OK Restarting"),
    (b"EXIT", b"OK Finished"),
]


@pytest.mark.covers("Commands of the session", "NOOP", "RESTART", "EXIT")
@pytest.mark.covers(
    "Replies of the session",
    "OK Noop completed",
    "NO Unknown compression algorithm: X",
    "BAD Null command",
    "BAD Missing required argument to X",
    "NO Please authenticate first",
    "BAD Invalid mechanism",
)
@pytest.mark.parametrize(("command", "answer"), STRANGER)
def test_before_login(tmp_path: Path, command: bytes, answer: bytes) -> None:
    assert Conversation(tmp_path, login=False).ask(command) == answer


@pytest.mark.covers("imapd.conf", "admins")
@pytest.mark.covers("Replies of the session", "NO Permission denied")
@pytest.mark.parametrize(("command", "answer"), DENIED)
def test_somebody_who_is_no_administrator(tmp_path: Path, command: bytes, answer: bytes) -> None:
    talk = Conversation(tmp_path, login=False)
    assert talk.login("alice", "secret") == b"OK Success (no protection)\r\n"
    assert talk.ask(command) == answer
    assert talk.replica.events == []


@pytest.mark.covers(
    "Codes after NO", "IMAP_MAILBOX_NONEXISTENT", "IMAP_PROTOCOL_BAD_PARAMETERS", "IMAP_PROTOCOL_ERROR"
)
@pytest.mark.covers(
    "Replies of the session",
    "OK success",
    "BAD IMAP_PROTOCOL_ERROR Failed to parse X line",
    "NO IMAP_PROTOCOL_ERROR Protocol error",
    "BAD Already authenticated",
)
@pytest.mark.parametrize(("command", "answer"), ADMIN)
def test_an_administrator(tmp_path: Path, command: bytes, answer: bytes) -> None:
    talk = Conversation(tmp_path)
    assert talk.ask(command) == answer
    if command != b"EXIT":
        assert talk.ask(b"NOOP") == b"OK Noop completed", "out of step"


def test_all_of_them_pipelined_are_answered_in_order(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    heard = talk.send(b"".join(command + b"\r\n" for command, _ in ADMIN))
    assert heard == b"".join(answer + b"\r\n" for _, answer in ADMIN)


def test_a_bare_lf_ends_a_line_too(tmp_path: Path) -> None:
    assert Conversation(tmp_path).send(b"NOOP\nGET USER bob\n") == b"OK Noop completed\r\nOK success\r\n"


CODES = {
    "IMAP_INVALID_USER": "No Such User",
    "IMAP_MAILBOX_LOCKED": "Mailbox locked",
    "IMAP_MAILBOX_MOVED": "Mailbox exists with another name or uniqueid",
    "IMAP_MAILBOX_NONEXISTENT": "No Such Mailbox",
    "IMAP_MAILBOX_NOTSUPPORTED": "Operation is not supported on mailbox",
    "IMAP_PARTITION_UNKNOWN": "Unknown/invalid partition",
    "IMAP_PERMISSION_DENIED": "Permission denied",
    "IMAP_PROTOCOL_BAD_PARAMETERS": "",
    "IMAP_PROTOCOL_ERROR": "Protocol error",
    "IMAP_SYNC_BADSIEVE": "Sieve script compilation failure",
    "IMAP_SYNC_CHANGED": "Changed since last sync",
    "IMAP_SYNC_CHECKSUM": "Checksum Failure",
}


@pytest.mark.covers(
    "Codes after NO",
    "IMAP_INVALID_USER",
    "IMAP_MAILBOX_NONEXISTENT",
    "IMAP_MAILBOX_LOCKED",
    "IMAP_MAILBOX_MOVED",
    "IMAP_MAILBOX_NOTSUPPORTED",
    "IMAP_PARTITION_UNKNOWN",
    "IMAP_PERMISSION_DENIED",
    "IMAP_PROTOCOL_BAD_PARAMETERS",
    "IMAP_PROTOCOL_ERROR",
    "IMAP_SYNC_BADSIEVE",
    "IMAP_SYNC_CHANGED",
    "IMAP_SYNC_CHECKSUM",
)
def test_every_code_has_its_text_on_the_wire(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    talk.replica.failures["unmailbox"] = [error() for error in REPLY_ERRORS.values()]
    heard = [talk.ask(b"APPLY UNMAILBOX user.x").decode() for _ in REPLY_ERRORS]
    assert sorted(heard) == [f"NO {code} {text}" for code, text in sorted(CODES.items())]


_NO_MESSAGE = b"NO IMAP_PROTOCOL_ERROR a record without its message (" + b"ab" * 20 + b")"
_READ_ONLY = b"NO cannot be written: Read-only file system: /mail/x"
_INTERNAL = b"NO internal error (ZeroDivisionError), see the log of the replica"


@pytest.mark.covers("Codes after NO", "IMAP_MAILBOX_BADNAME", "Unknown error")
@pytest.mark.covers("Replies of the session", "NO Unknown error")
@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (MailboxNonexistent(), NONEXISTENT),
        (MailboxLocked(), b"NO IMAP_MAILBOX_LOCKED Mailbox locked"),
        (MailboxMoved(), b"NO IMAP_MAILBOX_MOVED Mailbox exists with another name or uniqueid"),
        (MailboxNotSupported(), b"NO IMAP_MAILBOX_NOTSUPPORTED Operation is not supported on mailbox"),
        (SyncChecksum(), b"NO IMAP_SYNC_CHECKSUM Checksum Failure"),
        (SyncChanged(), b"NO IMAP_SYNC_CHANGED Changed since last sync"),
        (SyncBadSieve(), b"NO IMAP_SYNC_BADSIEVE Sieve script compilation failure"),
        (BadName(), b"NO IMAP_MAILBOX_BADNAME Invalid mailbox name"),
        (ReplyError(), b"NO Unknown error"),
        (UnknownFailure("alice has no INBOX"), b"NO alice has no INBOX"),
        (UnknownFailure("IMAP_SYNC_CHANGED is no reason"), b"NO error: IMAP_SYNC_CHANGED is no reason"),
        (ProtocolError("a record without its message").at(guid="ab" * 20), _NO_MESSAGE),
        (StoreError("disk full"), b"NO disk full"),
        (StoreError("two\r\nOK lines"), b"NO two OK lines"),
        (StoreCorrupt("index damaged: malformed").at(user="alice"), b"NO index damaged: malformed"),
        (OSError(28, "No space left on device"), b"NO no room left: No space left on device: mail store"),
        (OSError(30, "Read-only file system", "/mail/x"), _READ_ONLY),
        (ZeroDivisionError("a mistake of ours"), _INTERNAL),
        (SyncChecksum("a text\r\nOK success"), b"NO IMAP_SYNC_CHECKSUM a text  OK success"),
    ],
)
def test_what_a_verb_raises_becomes_its_answer(tmp_path: Path, error: Exception, reply: bytes) -> None:
    talk = Conversation(tmp_path)
    talk.replica.failures["unmailbox"] = [error]
    assert talk.ask(b"APPLY UNMAILBOX user.x") == reply
    assert talk.ask(b"NOOP") == b"OK Noop completed"
