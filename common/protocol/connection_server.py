"""The server's side of a csync connection, without I/O.

``receive_data(bytes)`` in, `common.protocol.events` out of ``next_event()``, one at a time; `NEED_DATA` when
nothing more can be said. What is answered is encoded by `line`, `greeting` and `answer`. States and moves
are in `MOVES`; `ServerState` says what is expected next.

The rule guarded here: **whatever is sent, the stream stays in step or the connection ends.** A command that
is well-formed and refused is swallowed with all its literals and file literals before `Refused` says so. One
that is malformed is refused if it is a single line without content and without a brace; any other ends the
connection: where content begins or ends is what the sender got wrong, and then the text of a message may look
like a command. Its octets alone decide, not the pieces in which they come. Until `authenticated` is set, a
GET, APPLY or RESTORE is swallowed unread, so that a stranger cannot make us hold more than a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from typing import Any

from cyrus_sync.common.errors import ReplyError
from cyrus_sync.common.protocol import dlist
from cyrus_sync.common.protocol.commands import DLIST_VERBS, Command, find
from cyrus_sync.common.protocol.events import (
    NEED_DATA,
    DlistCommand,
    Event,
    Fatal,
    Refused,
    SaslLine,
    SessionCommand,
)
from cyrus_sync.common.protocol.receiving import ReceivingEnd, Rules
from cyrus_sync.common.protocol.skip import LineSkipper, PlainLine
from cyrus_sync.common.protocol.value_stream import Bulk, ValueStream

LOGIN_FIRST = b"NO Please authenticate first"


def unparsable(verb: str) -> bytes:
    """The answer to a GET, APPLY or RESTORE that is no dlist."""
    return b"BAD IMAP_PROTOCOL_ERROR Failed to parse %s line" % verb.encode("ascii")


_WORD = re.compile(rb'[^ \t\r\n\v\f()"]*+')
_LINE_END = re.compile(rb"\r?\n")
_SPACE = re.compile(rb"[ \t\r\n\v\f]*+")
_MOST_FOR_NOTHING = 256 * 1024
"""Bytes of commands that are passed over for somebody who may not give them; then the connection ends."""
_MAX_VERB = 64
"""No command word is longer; an unknown one is cut off here."""


class ServerState(Enum):
    """What the connection expects next."""

    COMMAND = "the first word of a command"
    LINE = "the rest of a session command's line"
    NAME = "the name behind GET, APPLY or RESTORE"
    VALUE = "the dlist"
    LINE_END = "the end of the line behind the dlist"
    SKIPPING = "the end of a line that is not read"
    SASL = "the answer to a challenge"
    CLOSED = "nothing: the client has closed"
    FAILED = "nothing: the stream is out of step"


class ServerMove(Enum):
    """What happens."""

    SESSION_WORD = "a first word that needs no dlist"
    DLIST_WORD = "GET, APPLY or RESTORE of a client that may"
    DENIED_WORD = "GET, APPLY or RESTORE of one that may not"
    NAME_READ = "the name"
    VALUE_READ = "the whole dlist"
    LINE_READ = "the line's end"
    SYNTAX = "something else than the grammar has there"
    SASL_EXPECTED = "the session has sent a challenge"
    EOF = "the client's end of stream"
    OUT_OF_STEP = "a word, string, literal or line beyond its limit, or doubt about where content ends"


MOVES: dict[tuple[ServerState, ServerMove], ServerState] = {
    (ServerState.COMMAND, ServerMove.SESSION_WORD): ServerState.LINE,
    (ServerState.COMMAND, ServerMove.DLIST_WORD): ServerState.NAME,
    (ServerState.COMMAND, ServerMove.DENIED_WORD): ServerState.SKIPPING,
    (ServerState.COMMAND, ServerMove.SASL_EXPECTED): ServerState.SASL,
    (ServerState.LINE, ServerMove.LINE_READ): ServerState.COMMAND,
    (ServerState.LINE, ServerMove.SYNTAX): ServerState.SKIPPING,
    (ServerState.NAME, ServerMove.NAME_READ): ServerState.VALUE,
    (ServerState.NAME, ServerMove.SYNTAX): ServerState.SKIPPING,
    (ServerState.VALUE, ServerMove.VALUE_READ): ServerState.LINE_END,
    (ServerState.VALUE, ServerMove.SYNTAX): ServerState.SKIPPING,
    (ServerState.LINE_END, ServerMove.LINE_READ): ServerState.COMMAND,
    (ServerState.LINE_END, ServerMove.SYNTAX): ServerState.SKIPPING,
    (ServerState.SKIPPING, ServerMove.LINE_READ): ServerState.COMMAND,
    (ServerState.SASL, ServerMove.LINE_READ): ServerState.COMMAND,
    (ServerState.SASL, ServerMove.SASL_EXPECTED): ServerState.SASL,
    **{
        (state, ServerMove.OUT_OF_STEP): ServerState.FAILED
        for state in ServerState
        if state is not ServerState.CLOSED
    },
    **{(state, ServerMove.EOF): ServerState.CLOSED for state in ServerState},
}
"""See `Rules.moves`."""


class ServerConnection(ReceivingEnd[ServerState, ServerMove]):
    """One client's stream. `authenticated` is the session's to set; `denial` may be set to another reply
    than `LOGIN_FIRST` for a user who is logged in and still may do nothing."""

    _BREAKING = (dlist.OutOfStep,)

    def __init__(self, limits: dlist.Limits = dlist.DEFAULT_LIMITS) -> None:
        super().__init__(limits, ServerState.COMMAND)
        self.denial: bytes | None = LOGIN_FIRST
        """What GET, APPLY and RESTORE are answered, unread; None: they are read."""
        self._verb = ""
        self._name: dlist.AstringReader | None = None
        self._command: tuple[str, bool, Command | None] = ("", False, None)
        self._value: ValueStream | None = None
        self._late = False
        """Whether the value may still begin on another line."""
        self._in_doubt = False
        """Whether a name or what stands behind it may be, or announce, content."""
        self._skipper: LineSkipper | PlainLine = PlainLine()
        self._skipped = 0
        self._after_skip: Event = NEED_DATA

    # -- for the session

    @property
    def authenticated(self) -> bool:
        """Whether GET, APPLY and RESTORE are read."""
        return self.denial is None

    @authenticated.setter
    def authenticated(self, yes: bool) -> None:
        self.denial = None if yes else LOGIN_FIRST

    def expect_sasl_line(self) -> None:
        """The next line answers a challenge. To be called between events, when a command was delivered."""
        self._move(ServerMove.SASL_EXPECTED)

    # -- what is sent

    @staticmethod
    def line(text: str | bytes) -> bytes:
        """A reply such as ``OK success`` with its line end."""
        return (text if isinstance(text, bytes) else text.encode()) + b"\r\n"

    @classmethod
    def ok(cls, text: str = "success") -> bytes:
        return cls.line(f"OK {text}")

    @classmethod
    def no(cls, error: ReplyError) -> bytes:
        """The NO that `error` stands for."""
        return cls.line(f"NO {error.reply}")

    @classmethod
    def bad(cls, text: str) -> bytes:
        return cls.line(f"BAD {text}")

    @classmethod
    def greeting(cls, capabilities: Iterable[str], banner: str) -> bytes:
        """One line a capability (``SASL PLAIN LOGIN``, ``STARTTLS``, …), then ``* OK banner``."""
        return b"".join([*(cls.line(f"* {name}") for name in capabilities), cls.line(f"* OK {banner}")])

    @staticmethod
    def answer(name: str, value: Any) -> bytes:
        """A ``* NAME value`` line. `value` is what a ``codec.encode_…`` gave."""
        return b"* %s %s\r\n" % (name.encode("ascii"), dlist.encode(value, server=True))

    # -- reading

    def _break(self, why: str) -> Fatal:
        self._move(ServerMove.OUT_OF_STEP)
        self._buffer.clear()
        return Fatal(b"* Fatal error: " + why.encode("ascii", "replace"))

    def _read_command(self) -> Event | None:
        buffer = self._buffer
        found = _WORD.match(buffer.data, buffer.pos)
        assert found is not None
        if found.end() == len(buffer.data) and found.end() - buffer.pos <= _MAX_VERB:
            return NEED_DATA
        self._verb = found.group()[:_MAX_VERB].decode("latin-1").upper()
        if self._verb not in DLIST_VERBS:
            self._searched = 0
            self._move(ServerMove.SESSION_WORD)
            return None
        buffer.pos = found.end()
        if self.denial is not None:
            self._skip(ServerMove.DENIED_WORD, LineSkipper(), Refused(self.denial))
            return None
        self._move(ServerMove.DLIST_WORD)
        self._name = None
        self._in_doubt = False
        return None

    def _read_line(self) -> Event | None:
        """A session command. Its line may announce literals: they are swallowed with it."""
        buffer = self._buffer
        end = buffer.data.find(b"\n", buffer.pos + self._searched)
        if (len(buffer.data) if end < 0 else end) - buffer.pos > self._limits.max_line:
            raise dlist.TooLong("line too long")
        if end < 0:
            self._searched = len(buffer)
            return NEED_DATA
        line = bytes(memoryview(buffer.data)[buffer.pos : end]).removesuffix(b"\r")
        command = SessionCommand(self._verb, line[len(self._verb) :].lstrip(b" \t"))
        if b"{" in line or b"}" in line:
            self._skip(ServerMove.SYNTAX, PlainLine(literals=True), command)
            return None
        buffer.pos = end + 1
        self._move(ServerMove.LINE_READ)
        return command

    def _read_name(self) -> Event | None:
        buffer = self._buffer
        if self._name is None:
            if not buffer:
                return NEED_DATA
            if buffer.data[buffer.pos] != b" "[0]:
                self._unparsable()
                return None
            buffer.pos += 1
            self._name = dlist.AstringReader(self._limits)
        try:
            found = self._name.read(buffer.data, buffer.pos)
        except dlist.OutOfStep:
            raise
        except dlist.ParseError:
            self._unparsable()
            return None
        if found is None:
            return NEED_DATA
        name, buffer.pos = found
        self._in_doubt = self._name.content or dlist.has_braces(name)
        self._late = self._verb == "GET"
        self._command = find(self._verb, name.decode("latin-1").upper())
        declared = self._command[2]
        self._value = ValueStream(buffer, self._limits, declared.bulk if declared else Bulk.NONE)
        self._move(ServerMove.NAME_READ)
        return None

    def _read_value(self) -> Event | None:
        value = self._value
        assert value is not None
        if self._late and not self._find_late_value():
            return NEED_DATA
        try:
            event = value.read()
        except dlist.OutOfStep:
            raise
        except dlist.ParseError:
            self._unparsable()
            return None
        if event is None and value.done:
            if self._command[2] is None and dlist.has_braces(value.value):
                raise dlist.OutOfStep()  # what should have been the name may be the GUID of a message
            self._move(ServerMove.VALUE_READ)
            return None
        return event or NEED_DATA

    def _find_late_value(self) -> bool:
        """A GET without its value gets it on the next line, as in Cyrus."""
        buffer = self._buffer
        space = _SPACE.match(buffer.data, buffer.pos)
        assert space is not None
        buffer.pos = space.end()
        self._in_doubt = self._in_doubt or b"\n" in space.group()
        self._late = not buffer
        return not self._late

    def _read_line_end(self) -> Event | None:
        buffer = self._buffer
        rest = bytes(buffer.data[buffer.pos : buffer.pos + 2])
        if rest in (b"", b"\r"):
            return NEED_DATA
        end = _LINE_END.match(rest)
        if end is None:
            self._unparsable()
            return None
        buffer.pos += end.end()
        value, self._value = self._value, None
        assert value is not None
        self._move(ServerMove.LINE_READ)
        name, local, _ = self._command
        if isinstance(value.refusal, ReplyError):
            return Refused(f"NO {value.refusal.reply}".encode())
        if value.refusal is not None:
            return Refused(unparsable(self._verb))
        return DlistCommand(self._verb, name, local, value.value)

    def _read_sasl(self) -> Event | None:
        try:
            line = self._buffer.take_line(self._limits.max_line)
        except ValueError as error:
            raise dlist.TooLong(str(error)) from None
        if line is None:
            return NEED_DATA
        self._move(ServerMove.LINE_READ)
        return SaslLine(line)

    def _read_past(self) -> Event | None:
        held = len(self._buffer)
        done = self._skipper.feed(self._buffer)
        if self.denial is not None:
            self._skipped += held - len(self._buffer)
        if self._skipped > _MOST_FOR_NOTHING:
            raise dlist.TooLong("too much without permission")
        if not done:
            return NEED_DATA
        self._move(ServerMove.LINE_READ)
        return self._after_skip

    def _unparsable(self) -> None:
        """Not a dlist. What is not known to be a line without any content leaves no way on."""
        value, self._value = self._value, None
        if self._in_doubt or (value is not None and value.in_doubt):
            raise dlist.OutOfStep()
        self._skip(ServerMove.SYNTAX, PlainLine(), Refused(unparsable(self._verb)))

    def _skip(self, move: ServerMove, skipper: LineSkipper | PlainLine, then: Event) -> None:
        """Swallow the rest of the line as `skipper` does, then say `then`."""
        self._move(move)
        self._skipper = skipper
        self._after_skip = then


_READERS = {
    ServerState.COMMAND: ServerConnection._read_command,
    ServerState.LINE: ServerConnection._read_line,
    ServerState.NAME: ServerConnection._read_name,
    ServerState.VALUE: ServerConnection._read_value,
    ServerState.LINE_END: ServerConnection._read_line_end,
    ServerState.SASL: ServerConnection._read_sasl,
    ServerState.SKIPPING: ServerConnection._read_past,
}
ServerConnection.rules = Rules(
    MOVES,
    _READERS,
    ServerState.CLOSED,
    ServerState.FAILED,
    ServerMove.EOF,
    (ServerState.COMMAND, ServerState.FAILED),
)
