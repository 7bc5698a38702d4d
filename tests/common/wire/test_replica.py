"""`WireReplica`: every verb in the words of the protocol, pipelined, with errors that know their address."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cyrus_sync.common.errors import (
    BadParameters,
    ConnectionLost,
    MailboxLocked,
    MailboxMoved,
    MailboxNonexistent,
    ProtocolError,
    ProtocolViolation,
    QuietLogout,
    RemoteDenied,
    StoreError,
)
from cyrus_sync.common.model import (
    MailboxAnnotation,
    MailboxState,
    MailboxUpdate,
    MessageBody,
    Quota,
    Record,
    Seen,
    SieveScript,
    Since,
    UserMeta,
    UserState,
)
from cyrus_sync.common.protocol import codec
from cyrus_sync.common.protocol.connection import ServerConnection
from cyrus_sync.common.protocol.events import (
    DlistCommand,
    MessageChunk,
    MessageData,
    MessageEnd,
    MessageStart,
    RecordBatch,
    Refused,
    SessionCommand,
)
from cyrus_sync.common.wire.pipeline import MAX_CALLS, MAX_STREAMS
from cyrus_sync.common.wire.replica import FEW, WireReplica
from tests.common.wire.pair import ConnectionPair, LateThreads

GUID = hashlib.sha1(b"foo").digest()
BODY = MessageBody("default", GUID, 3, b"foo")
STATE = MailboxState("id1", "user.alice", sync_crc=1, sync_crc_annot=2, last_uid=9, partition="default")
RECORDS = [Record(uid, 5, 6, "\\Seen", False, 7, 8, GUID) for uid in range(1, 8)]
SEEN = Seen("id1", 1, 2, 3, "1:2")
answer = ServerConnection.answer


class Outcome:
    """What a Deferred has come to."""

    def __init__(self, deferred: Deferred[Any]) -> None:
        self.fired = False
        self.value: Any = None
        self.error: Any = None
        deferred.addCallbacks(self._worked, self._failed)

    def _worked(self, value: Any) -> None:
        self.fired, self.value = True, value

    def _failed(self, failure: Failure) -> None:
        self.fired, self.error = True, failure.value


def replica_of(pair: ConnectionPair, **options: Any) -> WireReplica:
    return WireReplica(pair.client, **options)


def ask(said: bytes | None, verb: Callable[[WireReplica], Deferred[Any]]) -> tuple[Outcome, ConnectionPair]:
    """One verb, answered with `said` lines and then OK (None: OK alone)."""
    pair = ConnectionPair(lambda event: said)
    outcome = Outcome(verb(replica_of(pair)))
    pair.run()
    return outcome, pair


OK = b"OK success\r\n"


# -- verbs


CHANGES: list[tuple[Callable[[WireReplica], Deferred[Any]], str]] = [
    (
        lambda r: r.rename("user.a", "user.b", "p", 7),
        "APPLY RENAME %(OLDMBOXNAME user.a NEWMBOXNAME user.b PARTITION p UIDVALIDITY 7)",
    ),
    (
        lambda r: r.rename("user.a", "user.b", "p", local=True),
        "APPLY LOCAL_RENAME %(OLDMBOXNAME user.a NEWMBOXNAME user.b PARTITION p)",
    ),
    (lambda r: r.unmailbox("user.a"), "APPLY UNMAILBOX user.a"),
    (lambda r: r.unmailbox("user.a", local=True), "APPLY LOCAL_UNMAILBOX user.a"),
    (lambda r: r.unuser("alice"), "APPLY UNUSER alice"),
    (lambda r: r.unuser("alice", local=True), "APPLY LOCAL_UNUSER alice"),
    (
        lambda r: r.expunge("user.a", "id1", [3, 5]),
        "APPLY EXPUNGE %(MBOXNAME user.a UNIQUEID id1 UID (3 5))",
    ),
    (
        lambda r: r.quota(Quota("user.a", {"STORAGE": 5}, 8)),
        "APPLY QUOTA %(ROOT user.a LIMIT 5 STORAGE 5 MODSEQ 8)",
    ),
    (lambda r: r.unquota("user.a"), "APPLY UNQUOTA user.a"),
    (lambda r: r.sub("alice", "user.a b"), 'APPLY SUB %(USERID alice MBOXNAME "user.a b")'),
    (lambda r: r.unsub("alice", "user.a"), "APPLY UNSUB %(USERID alice MBOXNAME user.a)"),
    (
        lambda r: r.seen("bob", SEEN),
        "APPLY SEEN %(USERID bob UNIQUEID id1 LASTREAD 1 LASTUID 2 LASTCHANGE 3 SEENUIDS 1:2)",
    ),
    (
        lambda r: r.annotation(MailboxAnnotation("", "/motd", "", b"h%i")),
        'APPLY ANNOTATION %(MBOXNAME "" ENTRY /motd USERID "" VALUE {3+}\r\nh%i)',
    ),
    (
        lambda r: r.unannotation("user.a", "/x", "bob"),
        "APPLY UNANNOTATION %(MBOXNAME user.a ENTRY /x USERID bob)",
    ),
    (
        lambda r: r.sieve("al", "m.script", 4, b"keep;\r\n"),
        "APPLY SIEVE %(USERID al FILENAME m.script LAST_UPDATE 4 CONTENT {7+}\r\nkeep;\r\n)",
    ),
    (lambda r: r.unsieve("al", "m.script"), "APPLY UNSIEVE %(USERID al FILENAME m.script)"),
    (lambda r: r.activate_sieve("al", "m.bc"), "APPLY ACTIVATE_SIEVE %(USERID al FILENAME m.bc)"),
    (lambda r: r.unactivate_sieve("al"), "APPLY UNACTIVATE_SIEVE %(USERID al)"),
    (lambda r: r.force(), "APPLY FORCE %()"),
    (lambda r: r.restart(), "RESTART"),
    (lambda r: r.noop(), "NOOP"),
    (lambda r: r.message([[BODY]]), f"APPLY MESSAGE (%{{default {GUID.hex()} 3}}\r\nfoo)"),
    (
        lambda r: r.mailbox(MailboxUpdate(MailboxState("id", "user.a", "ei", highestmodseq=4))),
        "APPLY MAILBOX %(UNIQUEID id MBOXNAME user.a MBOXTYPE ei HIGHESTMODSEQ 4)",
    ),
]


@pytest.mark.parametrize(("verb", "line"), CHANGES)
def test_a_change_is_one_line_and_fires_with_its_ok(verb: Any, line: str) -> None:
    outcome, pair = ask(None, verb)
    assert b"".join(pair.client.sent) == line.encode() + b"\r\n"
    assert (outcome.fired, outcome.value, outcome.error) == (True, None, None)


@pytest.mark.parametrize(
    ("verb", "line", "said", "value"),
    [
        (lambda r: r.get_user("nobody"), "GET USER nobody", b"", UserState()),
        (
            lambda r: r.get_user("alice"),
            "GET USER alice",
            answer("MAILBOX", codec.encode_mailbox(STATE))
            + answer("QUOTA", codec.encode_quota(Quota("user.alice", {"STORAGE": 1})))
            + answer("SEEN", codec.encode_seen(SEEN))
            + answer("LSUB", ["user.a", "user.b"])
            + answer("SIEVE", codec.encode_sieve_script(SieveScript("a.script", 4)))
            + answer("NEWS", []),
            UserState(
                (STATE,),
                (Quota("user.alice", {"STORAGE": 1}),),
                UserMeta((SEEN,), ("user.a", "user.b"), (SieveScript("a.script", 4),)),
            ),
        ),
        (
            lambda r: r.get_meta("alice"),
            "GET META alice",
            answer("LSUB", ["x"]),
            UserMeta(subscriptions=("x",)),
        ),
        (
            lambda r: r.get_mailboxes(["user.alice", "b"]),
            "GET MAILBOXES (user.alice b)",
            answer("MAILBOX", codec.encode_mailbox(STATE)),
            [STATE],
        ),
        (lambda r: r.get_uniqueids(["id1"]), "GET UNIQUEIDS (id1)", b"", []),
        (lambda r: r.get_quota("user.a"), "GET QUOTA user.a", b"", None),
        (
            lambda r: r.get_quota("user.a"),
            "GET QUOTA user.a",
            answer("QUOTA", {"ROOT": "user.a", "LIMIT": 4}),
            Quota("user.a", {"STORAGE": 4}),
        ),
        (
            lambda r: r.get_annotations(""),
            'GET ANNOTATION ""',
            answer("ANNOTATION", codec.encode_annotation(MailboxAnnotation("", "/motd", "", b"h%i"))),
            [MailboxAnnotation("", "/motd", "", b"h%i")],
        ),
        (
            lambda r: r.fetch("user.a", "default", "id1", GUID, 4),
            f"GET FETCH %(MBOXNAME user.a PARTITION default UNIQUEID id1 GUID {GUID.hex()} UID 4)",
            f"* MESSAGE %{{default {GUID.hex()} 3}}\r\nfoo\r\n".encode(),
            BODY,
        ),
        (
            lambda r: r.fetch("user.a", "default", "id1", GUID, 4),
            f"GET FETCH %(MBOXNAME user.a PARTITION default UNIQUEID id1 GUID {GUID.hex()} UID 4)",
            b"* MESSAGE NIL\r\n",
            None,
        ),
        (
            lambda r: r.fetch_sieve("al", "m.script"),
            "GET FETCH_SIEVE %(USERID al FILENAME m.script)",
            answer("SIEVE", codec.encode_sieve_content("al", "m.script", b"keep;")),
            b"keep;",
        ),
        (
            lambda r: r.reserve("default", ["user.a"], [GUID, bytes(20)]),
            f"APPLY RESERVE %(PARTITION default MBOXNAME (user.a) GUID ({GUID.hex()} {'0' * 40}))",
            answer("MISSING", codec.encode_guids([GUID])),
            [GUID],
        ),
    ],
)
@pytest.mark.parametrize("grain", [1, 65536])
def test_a_question_is_answered_with_values(
    verb: Any, line: str, said: bytes, value: Any, grain: int
) -> None:
    pair = ConnectionPair(lambda event: said + OK, grain)
    outcome = Outcome(verb(replica_of(pair)))
    pair.run()
    assert b"".join(pair.client.sent) == line.encode() + b"\r\n"
    assert outcome.error is None
    assert outcome.value == value


def test_a_mailbox_is_sent_with_its_records_in_batches() -> None:
    update = MailboxUpdate(STATE, [RECORDS[:3], [], RECORDS[3:5], RECORDS[5:]], Since(4, 5, 6))
    outcome, pair = ask(None, lambda r: r.mailbox(update))
    assert outcome.fired
    found = [record for event in pair.server.events[:-1] for record in event.records]  # type: ignore[union-attr]
    assert found == RECORDS
    last = pair.server.events[-1]
    assert isinstance(last, DlistCommand)
    assert codec.decode_mailbox_line(last.value) == (STATE, Since(4, 5, 6), False, True)


@pytest.mark.parametrize("batches", [(), [[]], [[], RECORDS[:1]]])
def test_empty_batches_make_no_difference(batches: Any) -> None:
    _, pair = ask(None, lambda r: r.mailbox(MailboxUpdate(STATE, batches), local=True))
    last = pair.server.events[-1]
    assert isinstance(last, DlistCommand)
    assert (last.local, last.value[b"RECORD"]) == (True, [])
    assert len(pair.server.events) == 1 + bool(any(batches))


def test_a_full_mailbox_is_one_state_and_its_records_again_and_again() -> None:
    head = b"* MAILBOX " + codec.mailbox_head(codec.encode_mailbox(STATE), server=True)
    line = head + codec.encode_records(RECORDS, server=True) + codec.MAILBOX_TAIL + b"\r\n"
    outcome, _ = ask(line + OK, lambda r: r.get_full_mailbox("user.alice"))
    state, records = outcome.value
    assert state == STATE
    for _ in range(2):
        assert [record for batch in records for record in batch] == RECORDS


def test_a_mailbox_beyond_memory_goes_to_a_file_in_a_thread() -> None:
    many = [RECORDS[0]._replace(uid=uid) for uid in range(1, 30_001)]
    head = b"* MAILBOX " + codec.mailbox_head(codec.encode_mailbox(STATE), server=True)
    line = head + codec.encode_records(many, server=True) + codec.MAILBOX_TAIL + b"\r\n"
    threads = LateThreads()
    pair = ConnectionPair(lambda event: line + OK)
    outcome = Outcome(replica_of(pair, threads=threads).get_full_mailbox("user.alice"))
    pair.run()
    steps = 0
    while threads.step():
        steps += 1
        pair.run()
    assert steps > 3
    _, records = outcome.value
    assert [record for batch in records for record in batch] == many
    assert [record for batch in records for record in batch] == many


@pytest.mark.covers("GET, APPLY, RESTORE", "GET FETCH")
def test_a_large_message_is_fetched_in_pieces() -> None:
    data = b"0123456789abcdef" * 200_000
    guid = hashlib.sha1(data).digest()
    line = f"* MESSAGE %{{default {guid.hex()} {len(data)}}}\r\n".encode() + data + b"\r\n"
    outcome, _ = ask(line + OK, lambda r: r.fetch("user.a", "default", "id1", guid, 4))
    body = outcome.value
    assert body[:3] == ("default", guid, len(data))
    assert b"".join(body.data) == b"".join(body.data) == data


# -- messages


def sent_messages(pair: ConnectionPair) -> list[MessageBody]:
    return [m for event in pair.server.events if isinstance(event, MessageData) for m in event.messages]


def test_messages_go_in_commands_of_at_most_1024_files() -> None:
    outcome, pair = ask(None, lambda r: r.message([[BODY] * 700, [BODY] * 700, [BODY] * 700]))
    assert outcome.fired
    assert len([event for event in pair.server.events if isinstance(event, DlistCommand)]) == 3
    assert sent_messages(pair) == [BODY] * 2100


def test_messages_go_in_commands_of_bounded_size() -> None:
    big = MessageBody("default", GUID, 900_000, b"x" * 900_000)
    _, pair = ask(None, lambda r: r.message([[big]] * 40))
    assert len([event for event in pair.server.events if isinstance(event, DlistCommand)]) == 2
    assert len(sent_messages(pair)) == 40


def test_a_large_message_is_streamed_from_its_pieces() -> None:
    pieces = [b"x" * 700_000] * 4
    body = MessageBody("default", GUID, 2_800_000, pieces)
    outcome, pair = ask(None, lambda r: r.message([[BODY, body, BODY]]))
    assert outcome.fired
    kinds = [type(event) for event in pair.server.events]
    assert kinds[0] is MessageData
    assert kinds[1] is MessageStart
    assert kinds[-3:] == [MessageEnd, MessageData, DlistCommand]
    assert b"".join(e.data for e in pair.server.events if isinstance(e, MessageChunk)) == b"".join(pieces)


def test_no_messages_are_no_command() -> None:
    outcome, pair = ask(None, lambda r: r.message([]))
    assert outcome.fired
    assert not pair.client.sent


def test_reserve_and_expunge_go_in_commands_of_bounded_size() -> None:
    guids = [number.to_bytes(20, "big") for number in range(1, 20_001)]
    pair = ConnectionPair(
        lambda event: answer("MISSING", event.value[b"GUID"][:2]) + OK if b"GUID" in event.value else None
    )
    replica = replica_of(pair)
    missing = Outcome(replica.reserve("default", ["user.a"], guids))
    expunged = Outcome(replica.expunge("user.a", "id1", range(1, 120_001)))
    pair.run()
    assert missing.value == [guids[0], guids[1], guids[8192], guids[8193], guids[16384], guids[16385]]
    assert expunged.fired
    assert len(pair.server.events) == 6
    assert Outcome(replica.reserve("default", [], [])).value == []


# -- order


def test_verbs_do_not_wait_for_the_answers_of_those_before() -> None:
    pair = ConnectionPair()
    replica = replica_of(pair)
    outcomes = [Outcome(replica.sub("alice", f"user.{n}")) for n in range(5)]
    assert len(pair.client.sent) == 5
    assert not any(outcome.fired for outcome in outcomes)
    pair.run()
    assert all(outcome.fired for outcome in outcomes)


def test_verbs_take_effect_and_fire_in_the_order_of_the_calls() -> None:
    threads, pair = LateThreads(), ConnectionPair()
    replica = replica_of(pair, threads=threads)
    order: list[str] = []
    for name, deferred in (
        ("message", replica.message([[BODY], [BODY]])),
        ("mailbox", replica.mailbox(MailboxUpdate(STATE, [RECORDS]))),
        ("nothing", replica.message([])),
        ("noop", replica.noop()),
    ):
        deferred.addCallback(lambda _, name=name: order.append(name))
    assert not pair.client.sent
    while threads.step():
        pair.run()
    pair.run()
    assert order == ["message", "mailbox", "nothing", "noop"]
    commands = [e for e in pair.server.events if isinstance(e, DlistCommand | SessionCommand)]
    assert [getattr(event, "name", "NOOP") for event in commands] == ["MESSAGE", "MAILBOX", "NOOP"]


def test_the_next_batch_is_made_while_the_last_is_being_sent() -> None:
    threads, pair = LateThreads(), ConnectionPair()
    made: list[int] = []

    def batches() -> Iterator[Sequence[MessageBody]]:
        for number in range(5):
            made.append(number)
            yield [MessageBody("default", GUID, 1_200_000, b"x" * 1_200_000)]

    pair.client.blocked = True
    replica_of(pair, threads=threads).message(batches())
    while threads.step():
        pass
    assert made == []  # the sender waits for the transport before it begins
    pair.client.unblock()
    pair.client.blocked = True
    while threads.step():
        pass
    assert made == [0, 1]
    assert sum(map(len, pair.client.sent)) < 1_300_000
    pair.client.unblock()
    while threads.step():
        pass
    assert made == [0, 1, 2, 3, 4]


def test_ready_waits_while_too_much_is_under_way() -> None:
    pair = ConnectionPair()
    replica = replica_of(pair)
    for number in range(MAX_CALLS):
        assert Outcome(replica.ready()).fired, number
        replica.noop()
    waiting = Outcome(replica.ready())
    assert not waiting.fired
    pair.run()
    assert waiting.fired


def test_ready_waits_while_the_pieces_of_many_commands_are_still_to_be_made() -> None:
    """Otherwise a mailbox is prepared for sending while those before it wait for the same processor."""
    pair, threads = ConnectionPair(), LateThreads()
    replica = replica_of(pair, threads=threads)
    for number in range(MAX_STREAMS):
        assert Outcome(replica.ready()).fired, number
        replica.message([[BODY]])
    waiting = Outcome(replica.ready())
    assert not waiting.fired
    while threads.step():
        pass
    assert waiting.fired


def test_ready_waits_while_too_many_bytes_are_queued() -> None:
    pair = ConnectionPair()
    replica = replica_of(pair)
    pair.client.blocked = True
    outcomes = [Outcome(replica.sieve("al", "m.script", 1, b"\0" * 1_000_000)) for _ in range(6)]
    waiting = Outcome(replica.ready())
    assert not waiting.fired
    assert sum(map(len, pair.client.sent)) < 1_100_000
    pair.client.unblock()
    pair.far.connection = ServerConnection()
    assert waiting.fired
    assert not any(outcome.fired for outcome in outcomes)


# -- refusals


@pytest.mark.covers("Other errors", "ReplyError")
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"NO IMAP_MAILBOX_LOCKED Mailbox locked\r\n", MailboxLocked),
        (b"NO IMAP_MAILBOX_MOVED x\r\n", MailboxMoved),
        (b"NO IMAP_PROTOCOL_BAD_PARAMETERS \r\n", BadParameters),
        (b"NO Unknown error\r\n", RemoteDenied),
        (b"BAD IMAP_PROTOCOL_ERROR Failed to parse APPLY line\r\n", ProtocolError),
    ],
)
def test_a_refusal_fails_its_verb_alone_and_knows_its_address(reply: bytes, kind: type[Exception]) -> None:
    pair = ConnectionPair(lambda event: reply if event.name == "UNSUB" else None)
    replica = replica_of(pair)
    before = Outcome(replica.sub("alice", "user.a"))
    refused = Outcome(replica.unsub("alice", "user.a"))
    after = Outcome(replica.sub("alice", "user.b"))
    pair.run()
    assert type(refused.error) is kind
    assert refused.error.address == {
        "reply": reply.decode().removesuffix("\r\n"),
        "command": "APPLY UNSUB",
        "user": "alice",
        "mailbox": "user.a",
    }
    assert before.fired
    assert after.fired
    assert before.error is after.error is None


@pytest.mark.covers("Codes after NO", "IMAP_MAILBOX_NONEXISTENT")
def test_unknown_is_empty_where_the_protocol_says_so() -> None:
    no = b"NO IMAP_MAILBOX_NONEXISTENT No Such Mailbox\r\n"
    assert ask(no, lambda r: r.get_user("x"))[0].value == UserState()
    assert ask(no, lambda r: r.get_meta("x"))[0].value == UserMeta()
    assert ask(no, lambda r: r.get_mailboxes(["x"]))[0].value == []
    assert type(ask(no, lambda r: r.get_full_mailbox("x"))[0].error) is MailboxNonexistent
    assert type(ask(no, lambda r: r.unmailbox("x"))[0].error) is MailboxNonexistent


def test_one_refused_command_of_several_fails_the_verb_after_the_last() -> None:
    replies = iter([b"NO IMAP_MAILBOX_LOCKED x\r\n", OK, OK])
    pair = ConnectionPair(lambda event: next(replies))
    replica = replica_of(pair)
    outcome = Outcome(replica.message([[BODY] * 1500]))
    after = Outcome(replica.noop())
    pair.run()
    assert type(outcome.error) is MailboxLocked
    assert after.error is None


@pytest.mark.parametrize(
    "said",
    [
        answer("MAILBOX", {"UNIQUEID": "x"}),
        answer("MAILBOX", []),
        answer("QUOTA", {"ROOT": "user.a", "LIMIT": "many"}),
        answer("SIEVE", {"FILENAME": "../x", "LAST_UPDATE": 1}),
    ],
)
def test_an_answer_that_makes_no_sense_fails_its_verb_alone(said: bytes) -> None:
    pair = ConnectionPair(lambda event: said + OK if event.verb == "GET" else None)
    replica = replica_of(pair)
    outcome, after = Outcome(replica.get_user("alice")), Outcome(replica.sub("alice", "user.a"))
    pair.run()
    assert type(outcome.error) is ProtocolError
    assert outcome.error.address["user"] == "alice"
    assert (after.fired, after.error) == (True, None)


def test_an_ok_without_what_was_asked_for_is_an_error() -> None:
    assert type(ask(OK, lambda r: r.get_full_mailbox("user.a"))[0].error) is ProtocolError
    assert type(ask(OK, lambda r: r.fetch_sieve("al", "a.script"))[0].error) is ProtocolError


# -- sources that fail


def failing(batches: list[Any]) -> Iterator[Any]:
    yield from batches
    raise StoreError("disk on fire")


@pytest.mark.parametrize("batches", [[], [RECORDS[:2]], [RECORDS[:2], RECORDS[2:]]])
def test_records_that_cannot_be_read_leave_the_stream_in_step(batches: list[Any]) -> None:
    pair = ConnectionPair(lambda event: event.reply + b"\r\n" if isinstance(event, Refused) else None)
    replica = replica_of(pair)
    outcome = Outcome(replica.mailbox(MailboxUpdate(STATE, failing(batches))))
    after = Outcome(replica.noop())
    pair.run()
    assert type(outcome.error) is StoreError
    assert outcome.error.address["mailbox"] == "user.alice"
    assert (after.fired, after.error) == (True, None)
    assert not any(isinstance(event, DlistCommand) for event in pair.server.events)


def _short() -> Iterator[bytes]:
    yield b"x" * 1000


def _broken() -> Iterator[bytes]:
    yield b"x" * 1000
    raise StoreError("disk on fire")


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (failing([]), StoreError),
        (failing([[BODY]]), StoreError),
        ([[BODY, MessageBody("default", GUID, 2_000_000, _short())]], ValueError),
        ([[BODY, MessageBody("default", GUID, 2_000_000, _broken())]], StoreError),
        ([[BODY, MessageBody("default", GUID, 2, b"foo")]], ValueError),
        ([[BODY, MessageBody("default", GUID, 4, b"foo")]], ValueError),
        ([[BODY, BODY._replace(encoding="zstd")]], ValueError),
    ],
)
def test_messages_that_cannot_be_read_leave_the_stream_in_step(source: Any, error: type[Exception]) -> None:
    pair = ConnectionPair()
    replica = replica_of(pair)
    outcome, after = Outcome(replica.message(source)), Outcome(replica.noop())
    pair.run()
    assert type(outcome.error) is error
    assert (after.fired, after.error) == (True, None)
    assert pair.server.events[-1] == SessionCommand("NOOP", b"")


class _Pieces:
    """A large frame as a store hands it over."""

    def __init__(self, octets: int) -> None:
        self._octets = octets

    def __len__(self) -> int:
        return self._octets

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(self._octets // 500_000):
            yield b"z" * 500_000


def test_frames_and_messages_go_out_each_with_its_own_command() -> None:
    pair = ConnectionPair()
    replica = replica_of(pair)
    replica.message_encodings = frozenset({"identity", "zstd"})
    frame = MessageBody("default", GUID, 4096, b"frame", "zstd")
    large = MessageBody("default", GUID, 70_000_000, _Pieces(2_000_000), "zstd")
    outcome = Outcome(replica.message([[BODY, frame], [frame, large], [BODY]]))
    pair.run()
    assert (outcome.fired, outcome.error) == (True, None)
    events = [event for event in pair.server.events if not isinstance(event, MessageChunk)]
    assert events == [
        MessageData((BODY,)),
        DlistCommand("APPLY", "MESSAGE", False, []),
        MessageData((frame, frame)),
        MessageStart("default", GUID, 70_000_000, "zstd"),
        MessageEnd(),
        DlistCommand("APPLY", "XFRAME", False, []),
        MessageData((BODY,)),
        DlistCommand("APPLY", "MESSAGE", False, []),
    ]
    chunks = [event.data for event in pair.server.events if isinstance(event, MessageChunk)]
    assert b"".join(chunks) == b"z" * 2_000_000


# -- the end of a connection


@pytest.mark.covers("Other errors", "ConnectionLost")
def test_a_lost_connection_fails_everything_behind() -> None:
    pair = ConnectionPair()
    replica = replica_of(pair, threads=LateThreads())
    lost: list[Exception] = []
    replica.on_lost(lost.append)
    outcomes = [
        Outcome(replica.sub("alice", "user.a")),
        Outcome(replica.message([[BODY]])),
        Outcome(replica.noop()),
    ]
    waiting = [Outcome(replica.ready()) for _ in range(MAX_CALLS)]
    pair.client.cut("no answer")
    assert [type(outcome.error) for outcome in outcomes] == [ConnectionLost] * 3
    assert [outcome.error.address["command"] for outcome in outcomes] == [
        "APPLY SUB",
        "APPLY MESSAGE",
        "NOOP",
    ]
    assert [str(error) for error in lost] == ["no answer"]
    assert all(outcome.fired for outcome in waiting)
    later = Outcome(replica.unsub("bob", "user.b"))
    assert type(later.error) is ConnectionLost
    assert later.error.address == {"command": "APPLY UNSUB", "user": "bob", "mailbox": "user.b"}


@pytest.mark.parametrize("blocked", [False, True])
def test_a_connection_lost_in_the_middle_of_a_stream_lets_the_source_go(blocked: bool) -> None:
    threads, pair, closed = LateThreads(), ConnectionPair(), []

    def batches() -> Iterator[Any]:
        try:
            while True:
                yield [MessageBody("default", GUID, 300_000, b"x" * 300_000)] * 4
        finally:
            closed.append(True)

    outcome = Outcome(replica_of(pair, threads=threads).message(batches()))
    threads.step()
    pair.client.blocked = blocked
    threads.step()
    pair.client.cut()
    while threads.step():
        pass
    assert type(outcome.error) is ConnectionLost
    assert closed == [True]


@pytest.mark.covers("Replies of the session", "BYE shutting down")
@pytest.mark.covers("Other errors", "QuietLogout")
def test_bye_is_a_quiet_logout() -> None:
    pair = ConnectionPair(lambda event: b"BYE shutting down\r\n")
    replica = replica_of(pair)
    outcomes = [Outcome(replica.noop()), Outcome(replica.noop())]
    pair.run()
    assert [type(outcome.error) for outcome in outcomes] == [QuietLogout] * 2
    assert pair.client.gone


@pytest.mark.covers("Replies of the session", "* Fatal error: X")
@pytest.mark.covers("Other errors", "ProtocolViolation")
@pytest.mark.parametrize(
    "said",
    [
        b"WHAT\r\n",
        b"* Fatal error: Internal error\r\n",
        b"* LSUB %x\r\n",
        OK + OK,
        b"+ eA==\r\n",
        OK + b"* LSUB (a)\r\n",
    ],
)
def test_a_server_out_of_step_is_left(said: bytes) -> None:
    pair = ConnectionPair(lambda event: said)
    replica = replica_of(pair)
    lost: list[Exception] = []
    replica.on_lost(lost.append)
    replica.noop().addErrback(lambda _: None)
    pair.run()
    assert [type(error) for error in lost] == [ProtocolViolation]
    assert pair.client.gone
    assert type(Outcome(replica.noop()).error) is ProtocolViolation


@pytest.mark.covers("Commands of the session", "EXIT")
def test_close_says_exit_behind_all_that_is_under_way() -> None:
    pair = ConnectionPair(lambda event: b"OK Finished\r\n")
    replica = replica_of(pair)
    lost: list[Exception] = []
    replica.on_lost(lost.append)
    before, done = Outcome(replica.noop()), Outcome(replica.close())
    assert not done.fired
    pair.run()
    assert before.error is None
    assert done.fired
    assert pair.server.events[-1] == SessionCommand("EXIT", b"")
    assert not lost
    assert Outcome(replica.close()).fired


def test_close_never_fails() -> None:
    pair = ConnectionPair()
    replica = replica_of(pair)
    done = Outcome(replica.close())
    pair.client.cut()
    assert (done.fired, done.error) == (True, None)


def test_answers_are_waited_for_only_so_long() -> None:
    pair = ConnectionPair()
    replica = replica_of(pair, timeout=30.0)
    assert pair.client.timeout is None
    replica.noop()
    replica.noop()
    assert pair.client.timeout == 30.0
    pair.run()
    assert pair.client.timeout is None


# -- the beginning


class Session:
    def __init__(self, pair: ConnectionPair, *capabilities: str) -> None:
        self.proto = pair.client
        self.capabilities = frozenset(capabilities)
        self.banner = "replica.test Cyrus sync server 3.6.1"
        self.within_imap = False


@pytest.mark.covers("GET, APPLY, RESTORE", "APPLY CAPABILITIES")
@pytest.mark.parametrize(
    ("offered", "want", "granted", "agreed"),
    [
        (["SIEVE-MAILBOX", "COMPRESS"], {"SIEVE-MAILBOX"}, ["SIEVE-MAILBOX"], {"SIEVE-MAILBOX"}),
        (["SIEVE-MAILBOX"], {"SIEVE-MAILBOX"}, [], set()),
        (["SIEVE-MAILBOX"], {"SIEVE-MAILBOX"}, ["SIEVE-MAILBOX", "MORE"], {"SIEVE-MAILBOX"}),
        (["SIEVE-MAILBOX"], set(), None, set()),
        (["COMPRESS"], {"SIEVE-MAILBOX"}, None, set()),
        (["X-CYRUS-SYNC-ZSTD"], {"X-CYRUS-SYNC-ZSTD"}, ["X-CYRUS-SYNC-ZSTD"], {"X-CYRUS-SYNC-ZSTD"}),
        (["X-CYRUS-SYNC-ZSTD"], {"SIEVE-MAILBOX"}, None, set()),
    ],
)
def test_what_is_wanted_and_offered_is_agreed_on(
    offered: list[str], want: set[str], granted: list[str] | None, agreed: set[str]
) -> None:
    pair = ConnectionPair(lambda event: answer("ENABLED", granted) + OK)
    outcome = Outcome(Deferred.fromCoroutine(WireReplica.start(Session(pair, *offered), want)))
    pair.run()
    assert outcome.value.capabilities == agreed
    assert ("zstd" in outcome.value.message_encodings) == ("X-CYRUS-SYNC-ZSTD" in agreed)
    assert bool(pair.client.sent) == (granted is not None)


def test_records_reach_the_server_as_they_were() -> None:
    many = [RECORDS[0]._replace(uid=uid) for uid in range(1, 5001)]
    batches = [many[at : at + 1000] for at in range(0, 5000, 1000)]
    _, pair = ask(None, lambda r: r.mailbox(MailboxUpdate(STATE, batches)))
    got = [
        record for event in pair.server.events if isinstance(event, RecordBatch) for record in event.records
    ]
    assert got == many


def test_a_few_records_that_are_here_go_out_at_once() -> None:
    threads = LateThreads()
    pair = ConnectionPair(lambda event: None)
    outcome = Outcome(replica_of(pair, threads=threads).mailbox(MailboxUpdate(STATE, [RECORDS])))
    pair.run()
    assert outcome.fired
    assert not threads.jobs


def test_what_may_have_to_be_read_goes_through_a_thread() -> None:
    threads = LateThreads()
    pair = ConnectionPair(lambda event: None)
    Outcome(replica_of(pair, threads=threads).mailbox(MailboxUpdate(STATE, iter([RECORDS]))))
    Outcome(replica_of(pair, threads=threads).mailbox(MailboxUpdate(STATE, [RECORDS * FEW])))
    pair.run()
    assert len(threads.jobs) == 2
