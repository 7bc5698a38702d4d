"""What a csync connection reports: one value for everything that the peer can say.

Both sides of the protocol are sans-I/O: bytes go in with ``receive_data``, these events come out of
``next_event`` (see `common.protocol.connection`). Everything large comes in pieces: messages as
`MessageData` / `MessageStart` … `MessageEnd`, records as `RecordBatch`.
"""

from __future__ import annotations

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.model import MessageBody, Record
from cyrus_sync.common.protocol.dlist import Value


@dataclass(frozen=True, slots=True)
class NeedData:
    """Nothing complete is buffered."""


NEED_DATA = NeedData()


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """The peer closed; `clean` if between two commands."""

    clean: bool


# -- what a server reads


@dataclass(frozen=True, slots=True)
class SessionCommand:
    """A command without a dlist: AUTHENTICATE, STARTTLS, NOOP, … `verb` is upper-cased, "" for an
    empty line, whatever word it was for an unknown one. `arguments` is the rest of the line."""

    verb: str
    arguments: bytes


@dataclass(frozen=True, slots=True)
class SaslLine:
    """A client's answer to a ``+`` challenge, asked for with ``expect_sasl_line``."""

    line: bytes


@dataclass(frozen=True, slots=True)
class DlistCommand:
    """A complete GET, APPLY or RESTORE. `name` is upper-cased and without LOCAL_, which is `local`.

    For APPLY MESSAGE and APPLY MAILBOX the bulk has come before, as `MessageData`/`RecordBatch`
    events; `value` then holds the rest (for MAILBOX the kvlist without RECORD's items; RECORD is
    there as an empty list if it was sent)."""

    verb: str
    name: str
    local: bool
    value: Value


@dataclass(frozen=True, slots=True)
class MessageData:
    """Complete small messages, as they came. Bodies are bytes."""

    messages: tuple[MessageBody, ...]


@dataclass(frozen=True, slots=True)
class MessageStart:
    """A message too large to buffer begins; `MessageChunk`s and one `MessageEnd` follow.

    `size` and `encoding` are those of `MessageBody`."""

    partition: str
    guid: bytes
    size: int
    encoding: str = "identity"


@dataclass(frozen=True, slots=True)
class MessageChunk:
    data: bytes


@dataclass(frozen=True, slots=True)
class MessageEnd:
    pass


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Records of the APPLY MAILBOX (or ``* MAILBOX`` answer) that is being read."""

    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """A command that cannot be carried out; all of it, literals included, has been swallowed.
    Events that came before for the same command are void. `reply` is the answer without CRLF."""

    reply: bytes


@dataclass(frozen=True, slots=True)
class Fatal:
    """The stream cannot be kept in step (limits exceeded): answer `reply` if not empty, then close."""

    reply: bytes


# -- what a client reads


@dataclass(frozen=True, slots=True)
class Answer:
    """A ``* NAME value`` line. In the greeting, `value` is the raw rest of the line as bytes."""

    name: str
    value: Value


@dataclass(frozen=True, slots=True)
class Challenge:
    """A ``+ `` line of a SASL exchange, still base64."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """The line that ends a command: `status` is OK, NO, BAD or BYE, `text` the rest."""

    status: str
    text: str


Event = (
    NeedData
    | ConnectionClosed
    | SessionCommand
    | SaslLine
    | DlistCommand
    | MessageData
    | MessageStart
    | MessageChunk
    | MessageEnd
    | RecordBatch
    | Refused
    | Fatal
    | Answer
    | Challenge
    | Reply
)
"""Any of them."""
