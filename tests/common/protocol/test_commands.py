"""The table of commands: complete, consistent, and able to print and read each of them."""

from __future__ import annotations

from typing import Any

import pytest

from cyrus_sync.common.model import MailboxAnnotation, MailboxState, Quota, Seen
from cyrus_sync.common.protocol.commands import COMMANDS, SESSION_VERBS, find
from cyrus_sync.common.protocol.connection import ServerConnection
from cyrus_sync.common.protocol.events import NEED_DATA, DlistCommand
from cyrus_sync.common.waiting import Waiting

DOCUMENTED = {
    "GET": "USER META MAILBOXES UNIQUEIDS FULLMAILBOX XUSERS XDIGESTS XDAMAGED QUOTA ANNOTATION FETCH"
    " FETCH_SIEVE XSHARED XVERIFY",
    "APPLY": "MESSAGE XFRAME XHEAL XWAITING RESERVE MAILBOX RENAME UNMAILBOX UNUSER EXPUNGE QUOTA UNQUOTA"
    " SUB UNSUB SEEN"
    " ANNOTATION UNANNOTATION SIEVE UNSIEVE ACTIVATE_SIEVE UNACTIVATE_SIEVE FORCE CAPABILITIES",
    "RESTORE": "MAILBOX",
}
SEEN = Seen("id1", 1, 2, 3, "1:2")
ARGUMENTS: dict[tuple[str, str], tuple[Any, ...]] = {
    ("GET", "USER"): ("alice",),
    ("GET", "META"): ("alice",),
    ("GET", "MAILBOXES"): (["user.a", "user.b c"],),
    ("GET", "UNIQUEIDS"): (["id1"],),
    ("GET", "FULLMAILBOX"): ("user.a",),
    ("GET", "XDIGESTS"): ("",),
    ("GET", "XUSERS"): ("",),
    ("GET", "XDAMAGED"): ("alice",),
    ("GET", "XSHARED"): ("",),
    ("GET", "XVERIFY"): ("user.a", "id1", 1, 4000),
    ("APPLY", "XHEAL"): ("alice",),
    ("APPLY", "XWAITING"): (Waiting("m.example", "", 2, ("alice", "shared:news"), True),),
    ("GET", "QUOTA"): ("user.a",),
    ("GET", "ANNOTATION"): ("",),
    ("GET", "FETCH"): ("user.a", "default", "id1", bytes(20), 4),
    ("GET", "FETCH_SIEVE"): ("alice", "a.script"),
    ("APPLY", "MESSAGE"): ([],),
    ("APPLY", "XFRAME"): ([],),
    ("APPLY", "RESERVE"): ("default", ["user.a"], [bytes(20)]),
    ("APPLY", "MAILBOX"): (MailboxState("id1", "user.a", mbtype="i"),),
    ("APPLY", "RENAME"): ("user.a", "user.b", "default", 4),
    ("APPLY", "UNMAILBOX"): ("user.a", "id1", 7),
    ("APPLY", "UNUSER"): ("alice",),
    ("APPLY", "EXPUNGE"): ("user.a", "id1", [1, 2]),
    ("APPLY", "QUOTA"): (Quota("user.a", {"STORAGE": 4}),),
    ("APPLY", "UNQUOTA"): ("user.a",),
    ("APPLY", "SUB"): ("alice", "user.a"),
    ("APPLY", "UNSUB"): ("alice", "user.a"),
    ("APPLY", "SEEN"): ("alice", SEEN),
    ("APPLY", "ANNOTATION"): (MailboxAnnotation("user.a", "/x", "", b"\0"),),
    ("APPLY", "UNANNOTATION"): ("user.a", "/x", ""),
    ("APPLY", "SIEVE"): ("alice", "a.script", 5, b"keep;\r\n"),
    ("APPLY", "UNSIEVE"): ("alice", "a.script"),
    ("APPLY", "ACTIVATE_SIEVE"): ("alice", "a.bc"),
    ("APPLY", "UNACTIVATE_SIEVE"): ("alice",),
    ("APPLY", "FORCE"): (),
    ("APPLY", "CAPABILITIES"): (["SIEVE-MAILBOX"],),
    ("RESTORE", "MAILBOX"): (MailboxState("id1", "user.a", partition="p"),),
}


def test_every_documented_command_is_declared_and_no_other() -> None:
    assert set(COMMANDS) == {(verb, name) for verb, names in DOCUMENTED.items() for name in names.split()}
    assert set(ARGUMENTS) == set(COMMANDS)


def test_exactly_these_have_a_local_form() -> None:
    local = {command.title for command in COMMANDS.values() if command.local}
    assert local == {"APPLY MAILBOX", "APPLY RENAME", "APPLY UNMAILBOX", "APPLY UNUSER", "RESTORE MAILBOX"}


@pytest.mark.parametrize("key", sorted(COMMANDS))
@pytest.mark.parametrize("local", [False, True])
def test_what_a_client_sends_a_server_decodes(key: tuple[str, str], local: bool) -> None:
    command = COMMANDS[key]
    if local and not command.local:
        with pytest.raises(ValueError, match="LOCAL_"):
            command.line(*ARGUMENTS[key], local=True)
        return
    server = ServerConnection()
    server.authenticated = True
    server.receive_data(command.line(*ARGUMENTS[key], local=local))
    event = server.next_event()
    assert isinstance(event, DlistCommand)
    assert (event.verb, event.name, event.local) == (*key, local)
    decoded = command.decode(event.value)
    arguments = ARGUMENTS[key]
    if command.argument in ("str", "(str …)"):
        assert decoded == arguments[0]
    elif isinstance(decoded, tuple) and key[1] not in ("MAILBOX", "ANNOTATION", "UNANNOTATION"):
        assert decoded == arguments
    assert server.next_event() is NEED_DATA


def test_names_are_found_with_and_without_local() -> None:
    assert find("APPLY", "RENAME")[:2] == ("RENAME", False)
    assert find("APPLY", "LOCAL_RENAME") == ("RENAME", True, COMMANDS["APPLY", "RENAME"])
    assert find("APPLY", "LOCAL_QUOTA") == ("LOCAL_QUOTA", False, None)
    assert find("GET", "RENAME") == ("RENAME", False, None)


def test_session_verbs_are_declared() -> None:
    assert set(SESSION_VERBS) == {"AUTHENTICATE", "STARTTLS", "COMPRESS", "NOOP", "RESTART", "EXIT"}
