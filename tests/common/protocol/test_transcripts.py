"""Conversations of a real Cyrus 3.6.1 pair: each direction is read as values of the model, printed again
from them, and comes out as the same octets, in whatever pieces it came."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from cyrus_sync.common.model import MailboxState, Record
from cyrus_sync.common.protocol import codec, dlist
from cyrus_sync.common.protocol.commands import COMMANDS
from cyrus_sync.common.protocol.connection import ClientConnection
from cyrus_sync.common.protocol.crc import mailbox_crcs
from cyrus_sync.common.protocol.events import (
    Answer,
    DlistCommand,
    Event,
    MessageData,
    RecordBatch,
    Reply,
    SessionCommand,
)
from tests.common.protocol.kit import events, inflate, merged, server
from tests.common.protocol.values import chunks, cut_lists

TRANSCRIPTS = Path(__file__).parents[2] / "data" / "transcripts"
NAMES = sorted(path.name.removesuffix(".c2s.bin") for path in TRANSCRIPTS.glob("*.c2s.bin"))


def client_half(name: str) -> bytes:
    return inflate((TRANSCRIPTS / f"{name}.c2s.bin").read_bytes(), b"COMPRESS DEFLATE\r\n")


def server_halves(name: str) -> list[bytes]:
    """One per connection."""
    data = inflate((TRANSCRIPTS / f"{name}.s2c.bin").read_bytes(), b"OK DEFLATE active\r\n")
    greeting = data[: data.index(b"\r\n") + 2]
    return [greeting + rest for rest in data.split(greeting)[1:]]


def bulk_of(found: list[Event]) -> list[Any]:
    """The messages or records ahead of the last event."""
    return [
        item
        for event in found
        for item in (event.messages if isinstance(event, MessageData) else event.records)  # type: ignore[union-attr]
    ]


def print_command(event: Event, bulk: list[Any]) -> bytes:
    """The line of a client, from what was understood of it."""
    if isinstance(event, SessionCommand):
        return f"{event.verb} ".encode() * bool(event.verb) + event.arguments
    assert isinstance(event, DlistCommand)
    command = COMMANDS[event.verb, event.name]
    if event.name == "MESSAGE":
        files = [dlist.File(m.partition.encode(), m.guid.hex().encode(), m.size, m.data) for m in bulk]
        return command.head() + dlist.encode(files, server=False)
    decoded = command.decode(event.value)
    if event.name == "MAILBOX":
        head = codec.mailbox_head(codec.encode_mailbox(decoded.state, since=decoded.since), server=False)
        return command.head() + head + codec.encode_records(bulk, server=False) + codec.MAILBOX_TAIL
    arguments = decoded if type(decoded) is not str and isinstance(decoded, tuple) else (decoded,)
    if event.name in ("QUOTA", "ANNOTATION"):
        arguments = (decoded,)
    return command.line(*arguments, local=event.local).removesuffix(b"\r\n")


@pytest.mark.parametrize("name", NAMES)
def test_what_the_real_client_sent_is_understood_and_printed_again(name: str) -> None:
    data = client_half(name)
    printed, bulk = b"", []
    for event in events(server(), [data]):
        if isinstance(event, MessageData | RecordBatch):
            bulk += bulk_of([event])
            continue
        printed += print_command(event, bulk).rstrip(b" ") + b"\r\n"
        bulk = []
    assert printed == data


ANSWERS: dict[str, tuple[Any, Any]] = {
    "MAILBOX": (lambda value: codec.decode_mailbox(value, answer=True), codec.encode_mailbox),
    "QUOTA": (codec.decode_quota, codec.encode_quota),
    "LSUB": (codec.decode_subscriptions, codec.encode_names),
    "SEEN": (codec.decode_seen, codec.encode_seen),
    "ENABLED": (codec.decode_capabilities, codec.encode_names),
    "MISSING": (codec.decode_guids, codec.encode_guids),
}


def print_answer(event: Event) -> bytes:
    if isinstance(event, Reply):
        return f"{event.status} {event.text}\r\n".encode()
    assert isinstance(event, Answer)
    if isinstance(event.value, bytes):
        return b"* " + event.name.encode() + b" " * bool(event.value) + event.value + b"\r\n"
    decode, encode = ANSWERS[event.name]
    return server().answer(event.name, encode(decode(event.value)))


@pytest.mark.parametrize("name", NAMES)
def test_what_the_real_server_sent_is_understood_and_printed_again(name: str) -> None:
    for data in server_halves(name):
        printed = b"".join(print_answer(event) for event in events(ClientConnection(), [data]))
        assert printed == data


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10)
@given(cuts=cut_lists)
def test_the_pieces_make_no_difference(name: str, cuts: list[int]) -> None:
    data = client_half(name)
    assert merged(events(server(), chunks(data, cuts))) == merged(events(server(), [data]))
    for data in server_halves(name):
        assert merged(events(ClientConnection(), chunks(data, cuts))) == events(ClientConnection(), [data])


def test_one_byte_at_a_time_makes_no_difference() -> None:
    data = client_half("02-first-user")
    pieces = [data[at : at + 1] for at in range(len(data))]
    assert merged(events(server(), pieces)) == merged(events(server(), [data]))


def test_the_crcs_that_cyrus_sent_are_those_of_its_records() -> None:
    """Where every record of the mailbox went over."""
    checked = 0
    for name in NAMES:
        records: list[Record] = []
        for event in events(server(), [client_half(name)]):
            if isinstance(event, RecordBatch):
                records += event.records
            elif isinstance(event, DlistCommand) and event.name == "MAILBOX":
                line = codec.decode_mailbox_line(event.value)
                if line.since is None:
                    state: MailboxState = line.state
                    assert mailbox_crcs(records) == (state.sync_crc, state.sync_crc_annot)
                    checked += 1
                records = []
    assert checked > 10
