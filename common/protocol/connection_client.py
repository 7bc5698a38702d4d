"""The client's side of a csync connection, without I/O.

``receive_data(bytes)`` in, `common.protocol.events` out of ``next_event()``. A connection begins with the
greeting (`Answer` a line, the last one named OK); after that come answers (``* NAME value``), challenges and
the `Reply` that ends each command. What a client sends is encoded by `common.protocol.commands`.

An imapd says the same with tags (``tagged``): the `Reply` to the commands of replication is ``S0 OK …``,
``S1 OK …`` and so on, to those of the session one with a tag of its own, and there may be lines that IMAP
alone knows.

The rules guarded here: a server that breaks the grammar cannot be followed any further. Then there is one
`Fatal`, and nothing after it. And **whatever a server says, it makes us hold a bounded amount**: a line, a
greeting, one answer, and all answers to one command have their limits; records and messages stream.
"""

from __future__ import annotations

import re
from enum import Enum

from cyrus_sync.common.errors import ReplyError
from cyrus_sync.common.protocol import dlist
from cyrus_sync.common.protocol.events import (
    NEED_DATA,
    Answer,
    Challenge,
    Event,
    Fatal,
    Reply,
)
from cyrus_sync.common.protocol.receiving import ReceivingEnd, Rules
from cyrus_sync.common.protocol.value_stream import Bulk, ValueStream

CLIENT_LIMITS = dlist.Limits(max_literal=64 * 1024 * 1024, max_value=128 * 1024 * 1024, max_items=4_000_000)
"""A server that we chose may say more than a stranger: scripts, annotations and lists of any real size."""

MAX_GREETING = 64 * 1024
"""Octets of one greeting. A real one has a few hundred."""
MAX_ANSWERS = 256 * 1024 * 1024
"""Octets of all answers to one command, records and messages apart: half a million mailboxes."""
MAX_ANSWER_ITEMS = 8_000_000
"""And words in them: the shortest take the most memory for an octet."""

_BULK = {b"MAILBOX": Bulk.RECORDS, b"MESSAGE": Bulk.MESSAGES}
_LINE_END = re.compile(rb"\r?\n")
_STATUSES = frozenset(("OK", "NO", "BAD", "BYE"))
_FATAL = b"Fatal"
_BYE = b"BYE"
_BARE = frozenset((_FATAL, _BYE))
"""Answers without a dlist."""
_IMAP_BARE = _BARE | {b"CAPABILITY", b"OK", b"NO", b"BAD", b"PREAUTH"}
_TAGGED = re.compile(rb"(?:[ACNQS]01|S(0|[1-9][0-9]*)) (?=(?:OK|NO|BAD)(?: |$))", re.IGNORECASE)


class ClientState(Enum):
    """What the connection expects next."""

    GREETING = "a line of the greeting"
    LINE = "the beginning of a line"
    NAME = "the name of an answer"
    VALUE = "the dlist of an answer"
    LINE_END = "the end of the line behind it"
    CLOSED = "nothing: the server has closed"
    FAILED = "nothing: the stream is out of step"


class ClientMove(Enum):
    """What happens."""

    GREETED = "the last line of the greeting"
    GREETING_EXPECTED = "a TLS handshake, after which the server greets once more"
    LINE_READ = "a complete line"
    STAR = "``* ``: an answer begins"
    NAME_READ = "the name"
    VALUE_READ = "the whole dlist"
    EOF = "the server's end of stream"
    BROKEN = "something that the grammar does not have there, or too long"


MOVES: dict[tuple[ClientState, ClientMove], ClientState] = {
    (ClientState.GREETING, ClientMove.LINE_READ): ClientState.GREETING,
    (ClientState.GREETING, ClientMove.GREETED): ClientState.LINE,
    (ClientState.GREETING, ClientMove.GREETING_EXPECTED): ClientState.GREETING,
    (ClientState.LINE, ClientMove.GREETING_EXPECTED): ClientState.GREETING,
    (ClientState.LINE, ClientMove.LINE_READ): ClientState.LINE,
    (ClientState.LINE, ClientMove.STAR): ClientState.NAME,
    (ClientState.NAME, ClientMove.NAME_READ): ClientState.VALUE,
    (ClientState.NAME, ClientMove.LINE_READ): ClientState.LINE,
    (ClientState.VALUE, ClientMove.VALUE_READ): ClientState.LINE_END,
    (ClientState.LINE_END, ClientMove.LINE_READ): ClientState.LINE,
    **{
        (state, ClientMove.BROKEN): ClientState.FAILED
        for state in ClientState
        if state is not ClientState.CLOSED
    },
    **{(state, ClientMove.EOF): ClientState.CLOSED for state in ClientState},
}
"""See `Rules.moves`."""


class ClientConnection(ReceivingEnd[ClientState, ClientMove]):
    """The server's stream."""

    _BREAKING = (dlist.ParseError, ReplyError)

    def __init__(self, limits: dlist.Limits = CLIENT_LIMITS, *, tagged: bool = False) -> None:
        super().__init__(limits, ClientState.GREETING)
        self._tagged = tagged
        self._replies = 0
        self._bare = _IMAP_BARE if tagged else _BARE
        self._name = dlist.AstringReader(limits)
        self._answer = ""
        self._value: ValueStream | None = None
        self._greeted = 0
        """Octets of the greeting so far."""
        self._answered = self._items = 0
        """Octets and words of the answers since the last reply."""

    def expect_greeting(self) -> None:
        """The server will greet again, as after STARTTLS. To be called between two lines."""
        self._greeted = 0
        self._move(ClientMove.GREETING_EXPECTED)

    # -- reading

    def _break(self, why: str) -> Fatal:
        self._move(ClientMove.BROKEN)
        self._value = None
        self._buffer.clear()
        return Fatal(why.encode())

    def _take_line(self) -> bytes | None:
        try:
            line = self._buffer.take_line(self._limits.max_line, self._searched)
        except ValueError as error:
            raise dlist.TooLong(str(error)) from None
        self._searched = len(self._buffer) if line is None else 0
        return line

    def _read_greeting(self) -> Event | None:
        line = self._take_line()
        if line is None:
            return NEED_DATA
        self._greeted += len(line) + 2
        if self._greeted > MAX_GREETING:
            raise dlist.TooLong("greeting too long")
        if not line.startswith(b"* "):
            self._move(ClientMove.LINE_READ)
            return self._status_line(line)
        name, _, rest = line[2:].partition(b" ")
        if name == _FATAL:
            return self._break(line[2:].decode("utf-8", "replace"))
        self._move(ClientMove.GREETED if name.upper() == b"OK" else ClientMove.LINE_READ)
        if name.upper() == _BYE:
            return Reply("BYE", rest.decode("utf-8", "replace"))
        return Answer(name.decode("latin-1").upper(), rest)

    def _read_line(self) -> Event | None:
        buffer = self._buffer
        if len(buffer) < 2 and not buffer.data.endswith(b"\n", buffer.pos):
            return NEED_DATA
        if buffer.data.startswith(b"* ", buffer.pos):
            buffer.pos += 2
            self._name = dlist.AstringReader(self._limits)
            self._move(ClientMove.STAR)
            return None
        line = self._take_line()
        if line is None:
            return NEED_DATA
        self._move(ClientMove.LINE_READ)
        if line == b"+" or line.startswith(b"+ "):
            return Challenge(line[2:])
        return self._status_line(line)

    def _status_line(self, line: bytes) -> Event:
        if self._tagged:
            tag = _TAGGED.match(line)
            if tag is None or (tag[1] and int(tag[1]) != self._replies):
                return self._break(f"not the tagged reply: {line[:200].decode('utf-8', 'replace')}")
            self._replies += tag[1] is not None
            line = line[tag.end() :]
        status, _, text = line.decode("utf-8", "replace").partition(" ")
        self._answered = self._items = 0
        if status.upper() not in _STATUSES:
            return self._break(f"received bad response: {line[:200].decode('utf-8', 'replace')}")
        return Reply(status.upper(), text)

    def _read_name(self) -> Event | None:
        buffer = self._buffer
        start = buffer.pos
        found = self._name.read(buffer.data, start)
        if found is None:
            return NEED_DATA
        name, end = found
        if name in self._bare:
            line = self._take_line()
            if line is None:
                return NEED_DATA
            if name == _FATAL:
                return self._break(line.decode("utf-8", "replace"))
            if name == b"BAD":
                return self._break(f"* {line[:200].decode('utf-8', 'replace')}")
            self._move(ClientMove.LINE_READ)
            if name == b"CAPABILITY":
                return Answer("CAPABILITY", line[len(name) + 1 :])
            if name != _BYE:
                return None  # for people
            return Reply("BYE", line[len(_BYE) + 1 :].decode("utf-8", "replace"))
        buffer.pos = end
        name = name.upper()
        self._answer = name.decode("latin-1")
        self._value = ValueStream(buffer, self._limits, _BULK.get(name, Bulk.NONE), read_past=False)
        self._move(ClientMove.NAME_READ)
        return None

    def _read_value(self) -> Event | None:
        value = self._value
        assert value is not None
        event = value.read()
        if event is None and value.done:
            self._move(ClientMove.VALUE_READ)
            return None
        return event or NEED_DATA

    def _read_line_end(self) -> Event | None:
        buffer = self._buffer
        rest = bytes(buffer.data[buffer.pos : buffer.pos + 2])
        if rest in (b"", b"\r"):
            return NEED_DATA
        end = _LINE_END.match(rest)
        if end is None:
            raise dlist.ParseError("more than one value in an answer")
        buffer.pos += end.end()
        self._move(ClientMove.LINE_READ)
        value, self._value = self._value, None
        assert value is not None
        self._answered += value.octets
        self._items += value.items
        if self._answered > MAX_ANSWERS or self._items > MAX_ANSWER_ITEMS:
            raise dlist.TooLong("too much in the answers to one command")
        return Answer(self._answer, value.value)


_READERS = {
    ClientState.GREETING: ClientConnection._read_greeting,
    ClientState.LINE: ClientConnection._read_line,
    ClientState.NAME: ClientConnection._read_name,
    ClientState.VALUE: ClientConnection._read_value,
    ClientState.LINE_END: ClientConnection._read_line_end,
}
ClientConnection.rules = Rules(
    MOVES, _READERS, ClientState.CLOSED, ClientState.FAILED, ClientMove.EOF, (ClientState.LINE,)
)
