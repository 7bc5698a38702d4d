"""The client's side of a connection: greeting, answers, bulk, challenges, replies, and its end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyrus_sync.common.model import MessageBody, Record
from cyrus_sync.common.protocol import connection_client
from cyrus_sync.common.protocol.connection_client import (
    MAX_GREETING,
    MOVES,
    ClientConnection,
    ClientMove,
    ClientState,
)
from cyrus_sync.common.protocol.dlist import File, Limits
from cyrus_sync.common.protocol.events import (
    NEED_DATA,
    Answer,
    Challenge,
    ConnectionClosed,
    Fatal,
    MessageChunk,
    MessageData,
    MessageEnd,
    MessageStart,
    RecordBatch,
    Reply,
)
from cyrus_sync.common.protocol.records import encode_records
from tests.common.protocol.kit import BULK, events, merged
from tests.common.protocol.values import chunks, cut_lists

GREETING = b"* SASL PLAIN LOGIN\r\n* STARTTLS\r\n* OK replica.example Cyrus sync server 3.6.1\r\n"
GREETED = [
    Answer("SASL", b"PLAIN LOGIN"),
    Answer("STARTTLS", b""),
    Answer("OK", b"replica.example Cyrus sync server 3.6.1"),
]
GUID = "aba82959ececf5a30f63e9c81f19ec1232a723f0"
RECORDS = [Record(uid, 5, 6, "\\Seen", False, 7, 8, bytes.fromhex(GUID)) for uid in range(1, 4)]
OK = Reply("OK", "success")


def greeted(**options: Any) -> ClientConnection:
    connection = ClientConnection(**options)
    assert events(connection, [GREETING]) == GREETED
    return connection


@given(cuts=cut_lists)
def test_the_greeting_is_read_line_by_line(cuts: list[int]) -> None:
    assert events(ClientConnection(), chunks(GREETING, cuts)) == GREETED


def test_the_end_of_the_greeting_is_told_whatever_its_case() -> None:
    assert events(ClientConnection(), [b"* ok x\r\n* LSUB (a)\r\n"])[1] == Answer("LSUB", [b"a"])


def test_after_starttls_the_server_greets_again() -> None:
    connection = greeted()
    connection.receive_data(b"OK Begin TLS negotiation now\r\n")
    assert connection.next_event() == Reply("OK", "Begin TLS negotiation now")
    assert connection.trailing_data() == b""
    connection.expect_greeting()
    assert events(connection, [GREETING]) == GREETED


def test_what_follows_a_switch_of_layers_can_be_taken_out() -> None:
    connection = greeted()
    connection.receive_data(b"OK DEFLATE active\r\n\x00\x01")
    assert connection.next_event() == Reply("OK", "DEFLATE active")
    assert connection.trailing_data() == b"\x00\x01"
    assert connection.buffered == 0


def test_a_server_may_refuse_instead_of_greeting() -> None:
    assert events(ClientConnection(), [b"BYE too many\r\n"]) == [Reply("BYE", "too many")]
    assert events(ClientConnection(), [b"* BYE too many\r\n"]) == [Reply("BYE", "too many")]
    assert events(ClientConnection(), [b"* Fatal error: no\r\n"]) == [Fatal(b"Fatal error: no")]


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"OK success\r\n", OK),
        (b"ok\n", Reply("OK", "")),
        (b"NO IMAP_MAILBOX_LOCKED Mailbox locked\r\n", Reply("NO", "IMAP_MAILBOX_LOCKED Mailbox locked")),
        (b"BAD Null command\r\n", Reply("BAD", "Null command")),
        (b"BYE shutting down\r\n", Reply("BYE", "shutting down")),
        (b"* BYE shutting down\r\n", Reply("BYE", "shutting down")),
        (b"+ cGFzcw==\r\n", Challenge(b"cGFzcw==")),
        (b"+ \r\n", Challenge(b"")),
        (b"+\r\n", Challenge(b"")),
        (b"* LSUB (user.a user.b)\r\n", Answer("LSUB", [b"user.a", b"user.b"])),
        (b"* enabled ()\r\n", Answer("ENABLED", [])),
        (b"* QUOTA %(ROOT {6}\r\nuser.a LIMIT 1)\r\n", Answer("QUOTA", {b"ROOT": b"user.a", b"LIMIT": b"1"})),
        (b"* MESSAGE NIL\r\n", Answer("MESSAGE", None)),
        (b"* Fatal error: Internal error\r\n", Fatal(b"Fatal error: Internal error")),
    ],
)
def test_lines_are_read_in_any_pieces(line: bytes, event: Any) -> None:
    assert events(greeted(), [line]) == [event]
    assert events(greeted(), [line[i : i + 1] for i in range(len(line))]) == [event]


def test_the_records_of_a_mailbox_come_ahead_of_it() -> None:
    items = encode_records(RECORDS, server=True)
    found = events(greeted(), [b"* MAILBOX %(A 1 RECORD (" + items + b"))\r\nOK success\r\n"])
    assert found == [RecordBatch(tuple(RECORDS)), Answer("MAILBOX", {b"A": b"1", b"RECORD": []}), OK]


def test_a_fetched_message_comes_ahead_of_its_answer() -> None:
    line = f"* MESSAGE %{{default {GUID} 3}}\r\nfoo\r\nOK success\r\n".encode()
    assert events(greeted(), [line]) == [
        MessageData((MessageBody("default", bytes.fromhex(GUID), 3, b"foo"),)),
        Answer("MESSAGE", File(b"default", GUID.encode(), 3)),
        OK,
    ]


def test_a_large_fetched_message_streams() -> None:
    data = b"0123456789abcdef" * 100_000
    line = f"* MESSAGE %{{default {GUID} {len(data)}}}\r\n".encode() + data + b"\r\nOK success\r\n"
    connection, found = greeted(), []
    for at in range(0, len(line), 65536):
        found += events(connection, [line[at : at + 65536]])
        assert connection.buffered < 70_000
    assert found[0] == MessageStart("default", bytes.fromhex(GUID), len(data))
    assert b"".join(event.data for event in found if isinstance(event, MessageChunk)) == data
    assert found[-3:] == [MessageEnd(), Answer("MESSAGE", File(b"default", GUID.encode(), len(data))), OK]


@pytest.mark.parametrize(
    "line",
    [
        b"\r\n",
        b"HELLO\r\n",
        b"OKAY\r\n",
        b"* \r\n",
        b"* LSUB (a) b\r\n",
        b"* LSUB (a))\r\n",
        b"* LSUB %x\r\n",
        b"* LSUB " + b"(" * 30_000 + b"\r\n",
        b"* MAILBOX %(RECORD (%(UID 1)))\r\n",
        b"* MESSAGE %{default xyz 3}\r\nfoo\r\n",
        b"OK " + b"x" * 30_000,
        b"* LSUB {200}\r\n",
    ],
)
@settings(max_examples=20)
@given(cuts=cut_lists)
def test_a_server_that_breaks_the_grammar_is_followed_no_further(line: bytes, cuts: list[int]) -> None:
    connection = greeted(limits=Limits(max_literal=100))
    found = events(connection, chunks(line + b"OK success\r\n", cuts))
    assert [type(event) for event in found] == [Fatal]
    assert connection.state is ClientState.FAILED
    connection.receive_data(b"OK success\r\n")
    assert connection.next_event() is NEED_DATA
    assert connection.buffered == 0


@pytest.mark.parametrize(
    ("sent", "clean"), [(b"", True), (b"OK x\r\n", True), (b"O", False), (b"* LSUB (", False)]
)
def test_the_end_is_clean_between_two_lines(sent: bytes, clean: bool) -> None:
    connection = greeted()
    events(connection, [sent])
    connection.receive_eof()
    assert connection.next_event() == ConnectionClosed(clean)
    assert isinstance(connection.next_event(), ConnectionClosed)


def test_an_end_in_the_greeting_is_not_clean() -> None:
    connection = ClientConnection()
    connection.receive_eof()
    assert connection.next_event() == ConnectionClosed(False)


@pytest.mark.parametrize("state", ClientState)
@pytest.mark.parametrize("move", ClientMove)
def test_every_move_is_declared_or_a_mistake(state: ClientState, move: ClientMove) -> None:
    connection = ClientConnection()
    connection._state = state
    if (state, move) in MOVES:
        connection._move(move)
        assert connection.state is MOVES[state, move]
    else:
        with pytest.raises(KeyError):
            connection._move(move)
        assert connection.state is state


def test_every_state_can_be_reached() -> None:
    assert {ClientState.GREETING} | set(MOVES.values()) == set(ClientState)


SCRIPT = (
    GREETING + b"OK Success\r\n* ENABLED (X)\r\n* MAILBOX %(A {1}\r\nx RECORD ("
    + encode_records(RECORDS, server=True) + b") B (c (d)))\r\n* MESSAGE %{default "
    + GUID.encode() + b' 6}\r\nOK x\r\n\r\n* LSUB ("a b" {3}\r\nOK )\r\n+ eHg=\r\nNO x\r\n'
)  # fmt: skip


@given(
    st.lists(st.tuples(st.integers(0, len(SCRIPT)), st.integers(0, 20), st.binary(max_size=4)), max_size=3),
    cut_lists,
)
def test_mutated_answers_end_in_events_that_do_not_depend_on_the_pieces(
    mutations: list[tuple[int, int, bytes]], cuts: list[int]
) -> None:
    wire = SCRIPT
    for at, removed, inserted in mutations:
        wire = wire[:at] + inserted + wire[at + removed :]
    whole = merged(events(ClientConnection(), [wire]))
    pieces = merged(events(ClientConnection(), chunks(wire, cuts)))
    for found in (whole, pieces):  # bulk of an unfinished answer may have been delivered or not
        while found and isinstance(found[-1], BULK):
            found.pop()
    assert whole == pieces


@given(st.binary(max_size=300), cut_lists)
def test_arbitrary_bytes_end_in_events(data: bytes, cuts: list[int]) -> None:
    connection = greeted()
    events(connection, chunks(b"* " + data, cuts))
    connection.receive_eof()
    while not isinstance(connection.next_event(), ConnectionClosed):
        pass


# -- a server that never comes to an end


@pytest.mark.parametrize("line", [b"* X%d\r\n", b"* X%d " + b"y" * 5000 + b"\r\n"])
def test_a_greeting_without_end_is_fatal_and_nothing_of_it_is_held(line: bytes) -> None:
    connection = ClientConnection()
    sent = 0
    for number in range(50_000):
        found = events(connection, [line % number])
        sent += len(line % number)
        assert connection.buffered <= 6000
        if any(isinstance(event, Fatal) for event in found):
            break
    assert found == [Fatal(b"greeting too long")]
    assert sent <= MAX_GREETING + 6000


def test_the_greeting_after_starttls_has_a_bound_of_its_own() -> None:
    connection = ClientConnection()
    long = b"* X " + b"y" * 20_000 + b"\r\n"
    assert len(events(connection, [long, long, GREETING])) == 5
    connection.expect_greeting()
    assert len(events(connection, [long, long, GREETING])) == 5
    connection.expect_greeting()
    assert events(connection, [long, long, long, long])[-1] == Fatal(b"greeting too long")


def test_a_line_of_a_greeting_without_end_is_fatal() -> None:
    connection = ClientConnection()
    found = events(connection, [b"* X"] + [b"y" * 1000] * 100)
    assert [type(event) for event in found] == [Fatal]
    assert connection.buffered == 0


@pytest.mark.parametrize(
    ("answer", "bound"),
    [(b"* LSUB " + b"x" * 1000 + b"\r\n", "MAX_ANSWERS"), (b"* LSUB (a b c)\r\n", "MAX_ANSWER_ITEMS")],
)
def test_the_answers_to_one_command_have_a_bound_and_the_next_command_has_it_anew(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, bound: str
) -> None:
    monkeypatch.setattr(connection_client, bound, 10_000 if bound == "MAX_ANSWERS" else 30)
    connection = greeted()
    for _ in range(5):
        found = events(connection, [answer] * 9 + [b"OK success\r\n"])
        assert len(found) == 10 and found[-1] == OK
    found = events(connection, [answer] * 20)
    assert len(found) <= 11 and found[-1] == Fatal(b"too much in the answers to one command")
    assert connection.state is ClientState.FAILED


def test_records_and_messages_that_stream_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_client, "MAX_ANSWERS", 1000)
    monkeypatch.setattr(connection_client, "MAX_ANSWER_ITEMS", 100)
    connection = greeted()
    many = [RECORDS[0]._replace(uid=uid) for uid in range(1, 500)]
    wire = b"* MAILBOX %(A 1 RECORD (" + encode_records(many, server=True) + b"))\r\nOK success\r\n"
    assert events(connection, [wire])[-1] == OK
