"""What a client says, however spoiled, means the same whatever way a network cuts it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyrus_sync.common.protocol.dlist import Limits
from cyrus_sync.common.protocol.events import DlistCommand, Fatal, Refused, SessionCommand
from tests.common.protocol.kit import events, merged, server
from tests.common.protocol.values import chunks, cut_lists

GUID = b"aba82959ececf5a30f63e9c81f19ec1232a723f0"
IN_DOUBT = Fatal(b"* Fatal error: cannot tell content from commands")
UNPARSABLE = Refused(b"BAD IMAP_PROTOCOL_ERROR Failed to parse APPLY line")
EXIT = SessionCommand("EXIT", b"")
RECORD = b"%(UID 1 MODSEQ 3 LAST_UPDATED 1795240020 FLAGS () INTERNALDATE 1704067200 SIZE 141 GUID " + GUID

FOUND = {
    "a record in the usual shape whose end never comes": (
        b"APPLY MAILBOX %(RECORD (" + RECORD + b" ANNOTATIONS (%(ENTRY /thrid " + b"(" * 200,
        [UNPARSABLE, EXIT],
    ),
    "a record that the line ends before it is too deep": (
        b"APPLY MAILBOX %(RECORD (" + RECORD + b" ANNOTATIONS " + b"(" * 20,
        [IN_DOUBT],
    ),
    "a damaged head, and a quote in the message": (
        b"APPLY MESSAGE (\x0f{default " + GUID + b' 22}\r\nA: "b\r\nMIME-Version: 1\r\n)',
        [IN_DOUBT],
    ),
    "a damaged head, and a literal too large": (
        b"APPLY MESSAGE (NIL default{ {999999999+}",
        [IN_DOUBT],
    ),
    "a damaged head in a list within the list": (
        b"APPLY MESSAGE ((x{default " + GUID + b" 20}\r\nA: b)\r\n)\r\nUNUSER a\r\n)",
        [IN_DOUBT],
    ),
    "two sizes before a frame": (
        b"APPLY XFRAME (5 5 %{default " + GUID + b" 3}\r\nabc)",
        [UNPARSABLE, EXIT],
    ),
    "two sizes before a later frame": (
        b"APPLY XFRAME (5 %{default " + GUID + b" 3}\r\nabc 5 5 %{default " + GUID + b" 3}\r\nabc)",
        [IN_DOUBT],
    ),
    "more items than may be, and then a word that is too long": (
        b"APPLY ODD (" + b"a " * 40 + b"x" * 70 + b" )",
        [UNPARSABLE, EXIT],
    ),
    "a word that is too long among more items than may be": (
        b"APPLY ODD (a " + b"x" * 70 + b" " + b"a " * 40 + b")",
        [Fatal(b"* Fatal error: word too long")],
    ),
    "a value too large, and then a word that is too long": (
        b"APPLY ODD (" + b"y" * 60 + b" " + b"z" * 60 + b" " + b"x" * 70 + b" )",
        [UNPARSABLE, EXIT],
    ),
}


@pytest.mark.parametrize("case", FOUND)
@settings(max_examples=50)
@given(cuts=cut_lists)
def test_what_was_found_cut_in_two_ways(case: str, cuts: list[int]) -> None:
    wire, expected = FOUND[case]
    limited = {"limits": Limits(max_items=30, max_word=64, max_value=110)} if b"ODD" in wire else {}
    for pieces in ([wire + b"\r\nEXIT\r\n"], chunks(wire + b"\r\nEXIT\r\n", cuts)):
        assert merged(events(server(**limited), pieces)) == expected


FILE = b"%{default " + GUID + b" 3}\r\nabc"
TOKENS = [
    *(
        b" ",
        b" ",
        b" ",
        b"(",
        b")",
        b"%(",
        b"%{",
        b"{",
        b"}",
        b'"',
        b'""',
        b"\\",
        b"\r\n",
        b"\n",
        b"\r",
        b"%",
    ),
    *(b"{3+}\r\n", b"{3}\r\n", b"{3+}", b" 3}\r\n", b"abc", b"NIL", b"3", b"5", b"default", b"\\Seen"),
    *(b"y z " * 20, b"x" * 70, b"(" * 70, FILE, b"5 " + FILE, b" RECORD (", RECORD, RECORD + b")", b" UID 1"),
    b"\r\nAPPLY UNUSER a\r\n",
]
STARTS = [
    *(b"APPLY MESSAGE (", b"APPLY MESSAGE ", b"APPLY XFRAME (", b"APPLY MAILBOX %(RECORD ("),
    *(b"APPLY MAILBOX %(A ", b"APPLY ODD ", b"GET USER ", b"GET ", b"RESTORE MAILBOX %("),
    *(b"NOOP ", b"APPLY", b""),
]


@settings(max_examples=1500)
@given(
    start=st.sampled_from(STARTS),
    tokens=st.lists(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=3)), max_size=12),
    cuts=cut_lists,
    authenticated=st.sampled_from([True, True, True, False]),
)
def test_any_cut_gives_the_same_events(
    start: bytes, tokens: list[bytes], cuts: list[int], authenticated: bool
) -> None:
    wire = start + b"".join(tokens) + b"\r\nEXIT\r\n"
    limits = Limits(max_items=60, max_word=64, max_value=400, max_literal=1000, max_line=500)
    whole = merged(events(server(authenticated, limits=limits), [wire]))
    assert merged(events(server(authenticated, limits=limits), chunks(wire, cuts))) == whole
    each = [wire[at : at + 1] for at in range(len(wire))]
    assert merged(events(server(authenticated, limits=limits), each)) == whole


BODY = b"From: a (b)\r\nTo: x\r\n\r\n:-)\r\nAPPLY UNUSER bob\r\n%(a b)\r\nAPPLY UNUSER bob\r\n"
HEADS = {
    "message": b"APPLY MESSAGE (%%{default %s %d}\r\n" % (GUID, len(BODY)),
    "second message": b"APPLY MESSAGE (%%{default %s 3}\r\nabc %%{default %s %d}\r\n"
    % (GUID, GUID, len(BODY)),
    "frame": b"APPLY XFRAME (%d %%{default %s %d}\r\n" % (len(BODY), GUID, len(BODY)),
    "script": b"APPLY SIEVE %%(USERID bob FILENAME x LAST_UPDATE 1 CONTENT {%d+}\r\n" % len(BODY),
    "value": b'APPLY ANNOTATION %%(MBOXNAME a ENTRY /c USERID "" VALUE {%d+}\r\n' % len(BODY),
    "restored": b"RESTORE MAILBOX %%(MBOXNAME a ACL {%d+}\r\n" % len(BODY),
}


@pytest.mark.parametrize("kind", HEADS)
def test_content_is_no_command_whichever_octet_before_it_is_spoiled(kind: str) -> None:
    head = HEADS[kind]
    for at in range(len(head)):
        for other in (b"", *(bytes([octet]) for octet in b' "(){}%\\\r\n+0x\xff')):
            for spoiled in (head[:at] + other + head[at + 1 :], head[:at] + other + head[at:]):
                found = events(server(), [spoiled + BODY + b")\r\nEXIT\r\n"])
                evil = [
                    event for event in found if isinstance(event, DlistCommand) and event.name == "UNUSER"
                ]
                assert not evil, spoiled
