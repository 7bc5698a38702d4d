"""The server's side of a connection: commands, bulk, refusals; the stream stays in step or ends."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyrus_sync.common.errors import MailboxLocked
from cyrus_sync.common.model import MessageBody, Record
from cyrus_sync.common.protocol.connection_server import MOVES, ServerConnection, ServerMove, ServerState
from cyrus_sync.common.protocol.dlist import Limits
from cyrus_sync.common.protocol.events import (
    NEED_DATA,
    ConnectionClosed,
    DlistCommand,
    Fatal,
    MessageChunk,
    MessageData,
    MessageEnd,
    MessageStart,
    RecordBatch,
    Refused,
    SaslLine,
    SessionCommand,
)
from cyrus_sync.common.protocol.records import encode_records
from tests.common.protocol.kit import events, merged, server
from tests.common.protocol.values import chunks, cut_lists

GUID = b"aba82959ececf5a30f63e9c81f19ec1232a723f0"
NOOP = SessionCommand("NOOP", b"")
UNPARSABLE = Refused(b"BAD IMAP_PROTOCOL_ERROR Failed to parse APPLY line")
LOGIN_FIRST = Refused(b"NO Please authenticate first")


def body(data: bytes, partition: str = "default") -> MessageBody:
    return MessageBody(partition, bytes.fromhex(GUID.decode()), len(data), data)


def file(data: bytes) -> bytes:
    return b"%%{default %s %d}\r\n%s" % (GUID, len(data), data)


RECORDS = [Record(uid, 5, 6, "\\Seen", False, 7, 8, bytes.fromhex(GUID.decode())) for uid in range(1, 4)]


# -- the session layer


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"NOOP\r\n", NOOP),
        (b"noop\n", NOOP),
        (b"\r\n", SessionCommand("", b"")),
        (b" NOOP\r\n", SessionCommand("", b"NOOP")),
        (b"AUTHENTICATE PLAIN AGFk\r\n", SessionCommand("AUTHENTICATE", b"PLAIN AGFk")),
        (b"C01 CAPABILITY\r\n", SessionCommand("C01", b"CAPABILITY")),
        (b"NOOP(x)\r\n", SessionCommand("NOOP", b"(x)")),
        (b'NOOP"x"\r\n', SessionCommand("NOOP", b'"x"')),
        (b"COMPRESS  DEFLATE\r\n", SessionCommand("COMPRESS", b"DEFLATE")),
    ],
)
def test_session_commands_are_read(line: bytes, event: SessionCommand) -> None:
    assert events(server(False), [line]) == [event]
    assert events(server(False), [line[i : i + 1] for i in range(len(line))]) == [event]


def test_a_session_command_swallows_literals_that_it_has_no_use_for() -> None:
    found = events(server(False), [b"LOGIN {6+}\r\nEXIT\r\n {4}\r\nEXIT\r\nNOOP\r\n"])
    assert found == [SessionCommand("LOGIN", b"{6+}"), NOOP]


def test_an_answer_to_a_challenge_is_a_sasl_line() -> None:
    connection = server(False)
    assert events(connection, [b"AUTHENTICATE LOGIN\r\n"]) == [SessionCommand("AUTHENTICATE", b"LOGIN")]
    connection.expect_sasl_line()
    connection.receive_data(b"YWxpY2U=\r\nNOOP\r\n")
    assert connection.next_event() == SaslLine(b"YWxpY2U=")
    connection.expect_sasl_line()
    assert connection.next_event() == SaslLine(b"NOOP")
    assert events(connection, [b"\r\n"]) == [SessionCommand("", b"")]


def test_what_follows_a_switch_of_layers_can_be_taken_out() -> None:
    connection = server(False)
    connection.receive_data(b"COMPRESS DEFLATE\r\n\x00\x01GET ")
    assert connection.next_event() == SessionCommand("COMPRESS", b"DEFLATE")
    assert connection.trailing_data() == b"\x00\x01GET "
    assert connection.buffered == 0
    assert events(connection, [b"NOOP\r\n"]) == [NOOP]


@pytest.mark.parametrize("start", [b"", b"NOOP ", b"AUTHENTICATE PLAIN "])
def test_a_line_without_end_is_fatal(start: bytes) -> None:
    line = start + b"x" * 30_000
    connection = server(False)
    assert events(connection, chunks(line, list(range(0, 30_000, 500)))) == [
        Fatal(b"* Fatal error: line too long")
    ]
    connection.receive_data(b"\r\nNOOP\r\n")
    assert connection.next_event() is NEED_DATA
    assert connection.buffered == 0


# -- commands with a dlist


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"GET USER alice\r\n", DlistCommand("GET", "USER", False, b"alice")),
        (b"get user alice\n", DlistCommand("GET", "USER", False, b"alice")),
        (b"GET USER\r\n  alice\r\n", DlistCommand("GET", "USER", False, b"alice")),
        (b'GET "user" {5+}\r\nalice\r\n', DlistCommand("GET", "USER", False, b"alice")),
        (b"GET {4+}\r\nUSER NIL\r\n", DlistCommand("GET", "USER", False, None)),
        (b"GET MAILBOXES(a b)\r\n", DlistCommand("GET", "MAILBOXES", False, [b"a", b"b"])),
        (b"APPLY LOCAL_UNUSER alice\r\n", DlistCommand("APPLY", "UNUSER", True, b"alice")),
        (b"APPLY LOCAL_SEEN %()\r\n", DlistCommand("APPLY", "LOCAL_SEEN", False, {})),
        (b"APPLY ODD (%{p g 3}\r\nfoo)\r\n", DlistCommand("APPLY", "ODD", False, [None])),
        (b"RESTORE MAILBOX %(A b)\r\n", DlistCommand("RESTORE", "MAILBOX", False, {b"A": b"b"})),
    ],
)
def test_commands_are_read(line: bytes, event: DlistCommand) -> None:
    for pieces in ([line], [line[i : i + 1] for i in range(len(line))]):
        found = events(server(), pieces)
        assert len(found) == 1
        assert isinstance(found[0], DlistCommand)
        if event.name != "ODD":
            assert found[0] == event
        else:
            assert found[0].value[0].data is None


def test_a_missing_value_waits_for_the_next_line_and_swallows_it() -> None:
    assert events(server(), [b"GET USER\r\nNOOP\r\nNOOP\r\n"]) == [
        DlistCommand("GET", "USER", False, b"NOOP"),
        NOOP,
    ]


@pytest.mark.parametrize("verb", ["GET", "APPLY", "RESTORE"])
def test_a_verb_alone_cannot_be_parsed(verb: str) -> None:
    reply = Refused(f"BAD IMAP_PROTOCOL_ERROR Failed to parse {verb} line".encode())
    assert events(server(), [f"{verb}\r\nNOOP\r\n".encode()]) == [reply, NOOP]


@pytest.mark.covers("Replies of the session", "BAD IMAP_PROTOCOL_ERROR Failed to parse X line")
@pytest.mark.parametrize(
    "line",
    [
        b"APPLY (x) y\r\n",
        b"APPLY  MAILBOX %()\r\n",
        b"APPLY \r\n",
        b"APPLY UNUSER a b\r\n",
        b"APPLY UNUSER a \r\n",
        b"APPLY UNUSER )\r\n",
        b"APPLY UNUSER %x\r\n",
        b'APPLY UNUSER "a\r\n',
        b'APPLY "UN\r\n',
        b"APPLY MESSAGE (" + b"(" * 30_000 + b"\r\n",
        b"APPLY MESSAGE %x\r\n",
        b"APPLY MAILBOX %(RECORD (" + b"(" * 30_000 + b"\r\n",
        b"APPLY UNUSER " + b"(" * 30_000 + b")" * 30_000 + b"\r\n",
    ],
)
@settings(max_examples=20)
@given(cuts=cut_lists)
def test_a_line_without_content_that_cannot_be_parsed_is_refused(line: bytes, cuts: list[int]) -> None:
    found = events(server(), chunks(line + b"NOOP\r\n", cuts))
    assert merged(found) == [UNPARSABLE, NOOP]


@pytest.mark.parametrize(
    "line",
    [
        b"GET USER " + b"x" * 11,
        b"GET USER {11+}\r\n",
        b'GET USER "' + b"x" * 11,
        b"GET " + b"x" * 11,
        b"APPLY MESSAGE (%{p g 4294967296}\r\n",
        b"APPLY MAILBOX %(RECORD (%(UID {11}\r\n",
    ],
)
def test_what_is_too_long_is_fatal(line: bytes) -> None:
    connection = server(limits=Limits(max_word=10, max_quoted=10, max_literal=10))
    found = events(connection, [line + b"\r\nNOOP\r\n"])
    assert len(found) == 1
    assert isinstance(found[0], Fatal)
    assert found[0].reply.startswith(b"* Fatal error: ")
    assert connection.state is ServerState.FAILED


@pytest.mark.parametrize(
    "line",
    [
        b"APPLY UNUSER (a %(b)) {6+}\r\nNOOP\r\n\r\n",
        b"APPLY UNUSER a (%{p g 6}\r\nNOOP\r\n)\r\n",
        b"APPLY MESSAGE (" + file(b"NOOP\r\n") + b' "\r\n',
        b"APPLY MESSAGE (%{default {40+}\r\n" + GUID + b" x}\r\n",
        b"APPLY MESSAGE (" + file(b"NOOP\r\n") + b" %x " + file(b"EXIT\r\n") + b")\r\n",
        b"APPLY MAILBOX %(RECORD (%(UID 1 x) {6+}\r\nNOOP\r\n))\r\n",
        b"APPLY MESSAGE (" + file(b"NOOP\r\n") + b" x)\r\n",
        b"APPLY MESSAGE (" + file(b"NOOP\r\n") + b" (NIL))\r\n",
        b"APPLY MESSAGE (" + file(b"NOOP\r\n") + b")x\r\n",
        b"APPLY SIEVE %(USERID bob CONTENT {4+}\r\nkeep %x)\r\n",
        b"APPLY SIEVE %(USERID bob CONTENT {4+}\r\nkeep) x\r\n",
        b"GET {4+}\r\nUSER%x\r\n",
        b"APPLY MAILBOX %(RECORD (%(UID 1 FLAGS ({3+}\r\nabc)) %x))\r\n",
        b"APPLY {x}\r\n",
        b"APPLY x{y ()() x\r\n",
        b"APPLY UNUSER x} y\r\n",
        b'APPLY MESSAGE (x{default "\r\n',
        b'APPLY MESSAGE (a (b (x{default "\r\n',
        b"APPLY SIEVE %(USERID bob CONTENT %7+}\r\n",
        b"APPLY SIEVE %(USERID bob CONTENT x\r\n)\r\n",
        b"APPLY SIEVE %(USERID bob\n CONTENT x)\r\n",
        b"APPLY MESSAGE\r\n",
        b"APPLY MESSAGE (\r\nx)\r\n",
        b"APPLY MAILBOX %(RECORD (\r\n))\r\n",
        b"APPLY MAILBOX %(RECORD (%(UID 1\r\n))\r\n",
        b"GET USER\r\n alice x\r\n",
    ],
)
@settings(max_examples=20)
@given(cuts=cut_lists)
def test_a_command_that_cannot_be_parsed_and_may_hold_content_ends_the_connection(
    line: bytes, cuts: list[int]
) -> None:
    found = events(server(), chunks(line + b"NOOP\r\n", cuts))
    assert merged(found) == [Fatal(b"* Fatal error: cannot tell content from commands")]


def test_a_file_that_its_sender_could_not_read_is_nil_and_stands_anywhere() -> None:
    wire = b"APPLY MESSAGE (NIL " + file(b"foo") + b" NIL " + file(b"bar") + b" NIL)\r\n"
    found = events(server(), [wire])
    assert merged(found) == [
        MessageData((body(b"foo"),)),
        MessageData((body(b"bar"),)),
        DlistCommand("APPLY", "MESSAGE", False, [None, None, None]),
    ]


@pytest.mark.parametrize(
    "damaged",
    [
        b"APPLY MESSAGE (a%{default aba8 16}\r\n)\r\nUNUSER alice",
        b"APPLY MESSAGE ({default aba8 16}\r\n)\r\nUNUSER alice",
        b'APPLY MESSAGE ("%{default aba8 16}\r\n)\r\nUNUSER alice',
        b"APPLY MESSAGE (% {default aba8 16}\r\n)\r\nUNUSER alice",
        b"APPLY MESSAGE (%{default  aba8 16}\r\n)\r\nUNUSER alice",
        b"APPLY MESSAGE (x default} aba8 16\r\n)\r\nUNUSER alice",
    ],
)
@settings(max_examples=20)
@given(cuts=cut_lists)
def test_the_content_behind_a_damaged_head_is_not_read_as_commands(damaged: bytes, cuts: list[int]) -> None:
    found = merged(events(server(), chunks(damaged + b"\r\n)\r\nNOOP\r\n", cuts)))
    assert [type(event) for event in found] == [Fatal]


# -- messages


def test_small_messages_come_gathered_and_without_the_command_s_files() -> None:
    found = events(server(), [b"APPLY MESSAGE (x " + file(b"foo") + b" " + file(b"") + b")\r\nNOOP\r\n"])
    assert found == [
        MessageData((body(b"foo"), body(b""))),
        DlistCommand("APPLY", "MESSAGE", False, [b"x"]),
        NOOP,
    ]


def test_many_messages_come_in_batches() -> None:
    found = events(server(), [b"APPLY MESSAGE (" + b" ".join([file(b"foo")] * 600) + b")\r\n"])
    assert [len(event.messages) for event in found if isinstance(event, MessageData)] == [256, 256, 88]
    found = events(server(), [b"APPLY MESSAGE (" + b" ".join([file(b"x" * 400_000)] * 5) + b")\r\n"])
    assert [len(event.messages) for event in found if isinstance(event, MessageData)] == [3, 2]


@pytest.mark.covers("GET, APPLY, RESTORE", "APPLY MESSAGE")
def test_a_large_message_streams_and_is_not_held() -> None:
    connection = server()
    data = b"0123456789abcdef" * 200_000
    wire = b"APPLY MESSAGE (" + file(b"foo") + b" " + file(data) + b" " + file(b"bar") + b")\r\n"
    found: list[Any] = []
    for at in range(0, len(wire), 65536):
        found += events(connection, [wire[at : at + 65536]])
        assert connection.buffered < 70_000
    assert found[0] == MessageData((body(b"foo"),))
    assert found[1] == MessageStart("default", body(b"").guid, len(data))
    assert b"".join(event.data for event in found if isinstance(event, MessageChunk)) == data
    assert found[-3:] == [
        MessageEnd(),
        MessageData((body(b"bar"),)),
        DlistCommand("APPLY", "MESSAGE", False, []),
    ]


def test_partition_and_guid_may_be_quoted_or_literals() -> None:
    wire = b'APPLY MESSAGE (%{"default" {40+}\r\n' + GUID + b" 6}\r\nNOOP\r\n)\r\nNOOP\r\n"
    assert events(server(), [wire])[0] == MessageData((body(b"NOOP\r\n"),))


@pytest.mark.parametrize(
    "head",
    [b"default abc", b'default ""', b"default " + b"g" * 40, b"../x " + GUID, b'"" ' + GUID, b"\xe9 " + GUID],
)
@pytest.mark.parametrize("size", [6, 2_000_000])
def test_a_bad_guid_or_partition_still_announces_bytes(head: bytes, size: int) -> None:
    content = (b"NOOP\r\n" * size)[:size]
    wire = (
        b"APPLY MESSAGE ("
        + file(b"foo")
        + b" %%{%s %d}\r\n%s " % (head, size, content)
        + file(b"bar")
        + b")\r\n"
    )
    connection = server()
    found = events(connection, [*chunks(wire, list(range(0, len(wire), 60_000))), b"NOOP\r\n"])
    assert merged(found) == [UNPARSABLE, NOOP]


def test_a_file_where_none_belongs_is_passed_over() -> None:
    wire = b"APPLY ANNOTATION %(VALUE %{p g 6}\r\nNOOP\r\n)\r\nNOOP\r\n"
    found = events(server(), [wire])
    assert found[1] == NOOP
    assert found[0].value[b"VALUE"].data is None  # type: ignore[union-attr]


def test_a_message_value_that_is_no_list_is_the_session_s_business() -> None:
    assert events(server(), [b"APPLY MESSAGE NIL\r\n"]) == [DlistCommand("APPLY", "MESSAGE", False, None)]


# -- records


@pytest.mark.parametrize("verb", ["APPLY MAILBOX", "APPLY LOCAL_MAILBOX", "RESTORE MAILBOX"])
def test_records_stream_ahead_of_their_mailbox_wherever_they_stand(verb: str) -> None:
    items = encode_records(RECORDS, server=False)
    wire = verb.encode() + b" %(A 1 RECORD (" + items + b") B 2)\r\nNOOP\r\n"
    name = verb.split(maxsplit=1)[0], "MAILBOX", "LOCAL" in verb
    assert merged(events(server(), [wire])) == [
        *(RecordBatch((record,)) for record in RECORDS),
        DlistCommand(*name, {b"A": b"1", b"RECORD": [], b"B": b"2"}),
        NOOP,
    ]


def test_only_the_first_record_list_counts() -> None:
    items = encode_records(RECORDS[:1], server=False)
    found = events(server(), [b"APPLY MAILBOX %(RECORD (" + items + b") RECORD (" + items + b"))\r\n"])
    assert found == [
        RecordBatch((RECORDS[0],)),
        DlistCommand("APPLY", "MAILBOX", False, {b"RECORD": []}),
    ]


@pytest.mark.parametrize(
    "record", [b"x", b"%(UID 1)", b"%(UID 1 FLAGS (%{p g 6}\r\nNOOP\r\n))", b"NIL", b"()"]
)
def test_a_bad_record_refuses_the_whole_mailbox(record: bytes) -> None:
    items = encode_records(RECORDS, server=False)
    wire = (
        b"APPLY MAILBOX %(RECORD ("
        + items
        + b" "
        + record
        + b" "
        + items
        + b") B %{p g 6}\r\nNOOP\r\n)\r\nNOOP\r\n"
    )
    found = merged(events(server(), [wire]))
    assert len(found) == 2
    assert isinstance(found[0], Refused)
    assert found[0].reply.startswith(b"NO IMAP_PROTOCOL_ERROR ")
    assert found[1] == NOOP


def test_records_out_of_order_are_refused() -> None:
    items = encode_records([RECORDS[1], RECORDS[0]], server=False)
    found = merged(events(server(), [b"APPLY MAILBOX %(RECORD (" + items + b"))\r\nNOOP\r\n"]))
    assert found == [Refused(b"NO IMAP_PROTOCOL_ERROR records are not in ascending order"), NOOP]


def test_a_million_records_would_not_be_held() -> None:
    connection = server()
    connection.receive_data(b"APPLY MAILBOX %(RECORD (")
    uid = 0
    for _ in range(20):
        batch = [RECORDS[0]._replace(uid=uid + n) for n in range(1, 1001)]
        uid += 1000
        wire = encode_records(batch, server=False) + b" "
        for at in range(0, len(wire), 65536):
            for event in events(connection, [wire[at : at + 65536]]):
                assert isinstance(event, RecordBatch)
            assert connection.buffered < 70_000
    assert events(connection, [b"))\r\n"])[-1] == DlistCommand("APPLY", "MAILBOX", False, {b"RECORD": []})


# -- before login, and for those who may not


@pytest.mark.parametrize(
    "line",
    [
        b"GET USER alice\r\n",
        b"GET USER\r\n",
        b"APPLY UNUSER {6+}\r\nNOOP\r\n\r\n",
        b"APPLY MESSAGE (" + file(b"NOOP\r\n" * 10_000) + b" " + file(b"EXIT\r\n") + b")\r\n",
        b"APPLY MESSAGE (%{{6+}\r\nNOOP\r\n {6+}\r\nNOOP\r\n 6}\r\nNOOP\r\n)\r\n",
        b"RESTORE MAILBOX %(" + b"(" * 100_000 + b"\r\n",
    ],
)
def test_before_login_commands_are_swallowed_without_holding_them(line: bytes) -> None:
    connection = server(False)
    found: list[Any] = []
    for at in range(0, len(line), 1000):
        found += events(connection, [line[at : at + 1000]])
        assert connection.buffered <= 4096 + 1000
    assert [*found, *events(connection, [b"NOOP\r\n"])] == [LOGIN_FIRST, NOOP]


def test_who_may_not_is_told_so() -> None:
    connection = server(False)
    connection.denial = b"NO Permission denied"
    assert events(connection, [b"GET USER {5+}\r\nalice\r\n"]) == [Refused(b"NO Permission denied")]
    connection.authenticated = True
    assert isinstance(events(connection, [b"GET USER alice\r\n"])[0], DlistCommand)


# -- the end


@pytest.mark.parametrize(
    ("sent", "clean"),
    [
        (b"", True),
        (b"NOOP\r\n", True),
        (b"NOO", False),
        (b"GET USER ", False),
        (b"GET USER {9+}\r\nx", False),
    ],
)
def test_the_end_is_clean_between_two_commands(sent: bytes, clean: bool) -> None:
    connection = server()
    events(connection, [sent])
    connection.receive_eof()
    assert connection.next_event() == ConnectionClosed(clean)
    assert isinstance(connection.next_event(), ConnectionClosed)


def test_what_came_before_the_end_is_still_delivered() -> None:
    connection = server()
    connection.receive_data(b"NOOP\r\nNOOP\r\n")
    connection.receive_eof()
    assert [connection.next_event() for _ in range(3)] == [NOOP, NOOP, ConnectionClosed(True)]


# -- the machine


@pytest.mark.parametrize("state", ServerState)
@pytest.mark.parametrize("move", ServerMove)
def test_every_move_is_declared_or_a_mistake(state: ServerState, move: ServerMove) -> None:
    connection = server()
    connection._state = state
    if (state, move) in MOVES:
        connection._move(move)
        assert connection.state is MOVES[state, move]
    else:
        with pytest.raises(KeyError):
            connection._move(move)
        assert connection.state is state


def test_every_state_can_be_reached_and_left() -> None:
    reached = {ServerState.COMMAND} | set(MOVES.values())
    assert reached == set(ServerState)
    for state in set(ServerState) - {ServerState.CLOSED}:
        assert any(start is state and end is not state for (start, _), end in MOVES.items())


# -- what is sent


def test_answers_are_encoded() -> None:
    assert ServerConnection.ok() == b"OK success\r\n"
    assert ServerConnection.no(MailboxLocked()) == b"NO IMAP_MAILBOX_LOCKED Mailbox locked\r\n"
    assert ServerConnection.bad("Null command") == b"BAD Null command\r\n"
    assert ServerConnection.answer("LSUB", [b"user.a", b"h%i"]) == b"* LSUB (user.a {3}\r\nh%i)\r\n"
    assert ServerConnection.greeting(["SASL PLAIN", "STARTTLS"], "x Cyrus sync server") == (
        b"* SASL PLAIN\r\n* STARTTLS\r\n* OK x Cyrus sync server\r\n"
    )


# -- whatever is sent

SCRIPT = (
    b"GET USER {5+}\r\nalice\r\nNOOP\r\nAPPLY MESSAGE (" + file(b"NOOP\r\n") + b" " + file(b"x" * 50)
    + b')\r\nAPPLY MAILBOX %(UNIQUEID "a b" RECORD (' + encode_records(RECORDS, server=False)
    + b") ACL {3+}\r\na\tb X (a (b)))\r\nEXIT\r\n"
)  # fmt: skip


@given(
    st.lists(st.tuples(st.integers(0, len(SCRIPT)), st.integers(0, 20), st.binary(max_size=4)), max_size=4),
    cut_lists,
    st.booleans(),
)
def test_mutated_commands_end_in_events_that_do_not_depend_on_the_pieces(
    mutations: list[tuple[int, int, bytes]], cuts: list[int], authenticated: bool
) -> None:
    wire = SCRIPT
    for at, removed, inserted in mutations:
        wire = wire[:at] + inserted + wire[at + removed :]
    limits = Limits(max_literal=1000, max_line=500)
    whole = events(server(authenticated, limits=limits), [wire])
    pieces = events(server(authenticated, limits=limits), chunks(wire, cuts))
    assert without_unfinished(merged(whole)) == without_unfinished(merged(pieces))


def without_unfinished(found: list[Any]) -> list[Any]:
    """Bulk of a command of which nothing more is known may have been delivered or not."""
    while found and isinstance(
        found[-1], MessageData | MessageStart | MessageChunk | MessageEnd | RecordBatch
    ):
        found.pop()
    return found


@given(st.binary(max_size=300), cut_lists)
def test_arbitrary_bytes_end_in_events(data: bytes, cuts: list[int]) -> None:
    connection = server()
    events(connection, chunks(b"APPLY MAILBOX " + data, cuts))
    connection.receive_eof()
    while not isinstance(connection.next_event(), ConnectionClosed):
        pass
