"""Recorded conversations of a real pair as a script: what the client said, what the server answered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed

from cyrus_sync.common.model import MailboxUpdate, MessageBody, Record
from cyrus_sync.common.protocol import codec
from cyrus_sync.common.protocol.commands import COMMANDS
from cyrus_sync.common.protocol.connection import ClientConnection, ServerConnection
from cyrus_sync.common.protocol.events import DlistCommand, MessageData, NeedData, RecordBatch
from cyrus_sync.common.protocol.mailboxes import decode_mailbox
from cyrus_sync.common.stores.replica import StoreReplica

DATA = Path(__file__).parents[2] / "data" / "transcripts"
_LITERAL = re.compile(rb"\{(?:\S+ \S+ )?(\d+)\+?\}\r\n$")
_END = re.compile(rb"(OK|NO|BAD)\b")


def _units(stream: bytes) -> Iterator[bytes]:
    """Logical lines: a line with the octets of its literals and what follows them."""
    at = 0
    while at < len(stream):
        begin = at
        while True:
            at = stream.index(b"\r\n", at) + 2
            found = _LITERAL.search(stream, begin, at)
            if not found:
                break
            at += int(found[1])
        yield stream[begin:at]


def commands(name: str) -> list[bytes]:
    """What the client said after it had logged in and agreed on capabilities, without EXIT."""
    stream = (DATA / f"{name}.c2s.bin").read_bytes()
    said = list(_units(stream))
    begin = next(i for i, unit in enumerate(said) if unit.startswith(b"APPLY CAPABILITIES")) + 1
    return [unit for unit in said[begin:] if not unit.startswith(b"EXIT")]


def replies(name: str) -> list[bytes]:
    """The server's answers to those, each up to its last line."""
    stream = (DATA / f"{name}.s2c.bin").read_bytes()
    units = list(_units(stream))
    begin = next(i for i, unit in enumerate(units) if unit.startswith(b"* ENABLED")) + 2
    found: list[bytes] = []
    answer = b""
    for unit in units[begin:]:
        answer += unit
        if _END.match(unit):
            found.append(answer)
            answer = b""
    return found


def act_out(said: list[bytes], replica: StoreReplica) -> None:
    """Do what the client said to the store behind `replica`, which becomes a copy of that client's."""
    connection = ServerConnection()
    connection.authenticated = True
    connection.receive_data(b"".join(said))
    messages: list[MessageBody] = []
    records: list[Record] = []
    while not isinstance(event := connection.next_event(), NeedData):
        match event:
            case MessageData():
                messages += event.messages
            case RecordBatch():
                records += event.records
            case DlistCommand():
                done = _do(event, messages, records, replica)
                failed: list[Any] = []
                done.addErrback(failed.append)
                assert not failed, f"{event.name}: {failed}"
                messages, records = [], []


def _do(
    event: DlistCommand, messages: list[MessageBody], records: list[Record], replica: StoreReplica
) -> Deferred[Any]:
    if event.name == "MESSAGE":
        return replica.message([messages])
    if event.name == "MAILBOX":
        return replica.mailbox(MailboxUpdate(decode_mailbox(event.value), [records]))
    if event.verb == "GET" or event.name == "RESERVE":
        return succeed(None)
    argument = COMMANDS[event.verb, event.name].decode(event.value)
    match event.name:
        case "QUOTA":
            return replica.quota(argument)
        case "SUB" | "UNSUB":
            assert isinstance(argument, codec.Subscription)
            verb = replica.sub if event.name == "SUB" else replica.unsub
            return verb(argument.userid, argument.mailbox)
        case "SEEN":
            return replica.seen(*argument)
    raise AssertionError(f"no way to act out {event.name}")


class RecordedServer:
    """The transport of a client whose server has been recorded: it answers the n-th command with the
    n-th recorded answer, whatever was asked."""

    def __init__(self, answers: list[bytes]) -> None:
        self._answers = list(answers)
        self._pending = b""
        self._connection = ClientConnection()
        self._connection.receive_data(b"* OK replica.lab\r\n")
        while not isinstance(self._connection.next_event(), NeedData):
            pass
        self._handler: Any = None
        self.heard: list[bytes] = []

    def set_event_handler(self, handler: Any) -> None:
        self._handler = handler

    def drained(self) -> Deferred[None]:
        return succeed(None)

    def set_timeout(self, seconds: float | None, *, progress_due: bool = False) -> None:
        """Nobody is late here."""

    def progress(self) -> None:
        """Answers are never slow here."""

    def lose(self) -> None:
        """Nothing to do."""

    def write(self, data: bytes, *, packed: bool = False) -> None:
        """The client sends; every complete command is answered before it goes on."""
        self._pending += data
        while True:
            try:
                unit = next(_units(self._pending), b"")
            except ValueError:
                return
            if not unit or len(unit) > len(self._pending):
                return
            self._pending = self._pending[len(unit) :]
            self.heard.append(unit)
            assert self._answers, f"nobody asked this of the real server: {unit[:200]!r}"
            self._connection.receive_data(self._answers.pop(0))
            while not isinstance(event := self._connection.next_event(), NeedData):
                self._handler.event(event)
