"""What the stream of a packet is made of: messages, then the operations that need them.

    MESSAGES <count> <octets>          and so many octets: APPLY MESSAGE lines, as on the wire
    OPERATION origin=… id=… time=… owner=… <octets>       and so many octets: one line of the protocol
    STATE kind=… owner=… <octets>      in a snapshot, and so many octets: what its maker has

Lines end in CRLF. A section of messages has at most `LARGEST_SECTION` octets, or holds a single message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.protocol import dlist
from cyrus_sync.multisite.packet.errors import PacketDamaged
from cyrus_sync.multisite.packet.values import MAX_ID, MAX_OPERATION

LARGEST_SECTION = 4 << 20
LONGEST_LINE = 64 << 20
"""Octets of an operation's line of the protocol."""
LONGEST_HEAD = 64 << 10
"""Octets of the line that begins an operation."""
BEGIN, BETWEEN, CLOSE = b"APPLY MESSAGE (", b" ", b")\r\n"
LONGEST_MESSAGE_HEAD = 256

MESSAGE_HEAD = re.compile(
    rb'%\{("?)([0-9A-Za-z_-][0-9A-Za-z._-]{0,127})\1 ([0-9a-f]{40}) (0|[1-9][0-9]{0,9})\}\r\n'
)
_SECTION = re.compile(rb"MESSAGES ([1-9][0-9]{0,9}) ([1-9][0-9]{0,10})\r\n")
_OPERATION = re.compile(rb"OPERATION ((?:[a-z][a-z0-9_-]{0,63}=[!-~]* )+)([1-9][0-9]{0,8})\r\n")
_STATE = re.compile(rb"STATE kind=([a-z][a-z0-9_-]{0,63}) owner=([!-~]*) ([1-9][0-9]{0,8})\r\n")
_KEY = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_ESCAPED = re.compile(r"(?:[^%]|%[0-9A-F]{2})*")
_ORIGIN = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")
_PLAIN = "/@:+,"
_OWN = ("origin", "id", "time", "owner")


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages that operations behind them need. Small ones together; a large one alone, its data in pieces
    that can be read while it is the current item."""

    bodies: tuple[MessageBody, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """One change. `line` is the line of the protocol with its CRLF; `id` is its number at the replica
    `origin`; `time` is Unix seconds; `attributes` are more words about it, keys in lower case. ValueError
    for bad ones."""

    origin: str
    id: int
    time: int
    owner: str
    line: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _ORIGIN.fullmatch(self.origin):
            raise ValueError("an operation's origin is not the id of a replica")
        if type(self.id) is not int or not 1 <= self.id <= MAX_OPERATION:
            raise ValueError("an operation's id is out of range")
        if type(self.time) is not int or not 0 <= self.time <= MAX_ID:
            raise ValueError("an operation's time is out of range")
        for key in self.attributes:
            if key in _OWN or not _KEY.fullmatch(key):
                raise ValueError(f"an operation has an attribute of the name {key[:80]!r}")
        if not self.line.endswith(b"\r\n") or len(self.line) > LONGEST_LINE:
            raise ValueError(f"an operation's line has no end, or more than {LONGEST_LINE} octets")

    def head(self) -> bytes:
        """The line that begins it. ValueError if the attributes are too long."""
        words = {"origin": self.origin, "id": str(self.id), "time": str(self.time), "owner": self.owner}
        words.update(self.attributes)
        text = " ".join(f"{key}={quote(value, _PLAIN)}" for key, value in words.items())
        head = f"OPERATION {text} {len(self.line)}\r\n".encode("ascii")
        if len(head) > LONGEST_HEAD:
            raise ValueError(f"an operation's attributes are longer than {LONGEST_HEAD} octets")
        return head


@dataclass(frozen=True, slots=True)
class State:
    """A piece of what the maker of a snapshot has. `kind` says of what, and how `data` is to be read
    (`multisite.snapshot`); `owner` is "" where it is not of one. ValueError for bad ones."""

    kind: str
    data: bytes
    owner: str = ""

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.kind) or not 1 <= len(self.data) <= LONGEST_LINE:
            raise ValueError(f"a state of a bad kind, empty, or of more than {LONGEST_LINE} octets")

    def head(self) -> bytes:
        """The line that begins it."""
        owner = quote(self.owner, _PLAIN)
        return f"STATE kind={self.kind} owner={owner} {len(self.data)}\r\n".encode("ascii")


def parse_state_head(head: bytes) -> tuple[str, str, int]:
    """Kind, owner and octets of what follows. Raises `PacketDamaged`."""
    found = _STATE.fullmatch(head)
    if found is None or int(found[3]) > LONGEST_LINE:
        raise PacketDamaged(f"not a state: {head[:60]!r}")
    try:
        owner = unquote(found[2].decode("ascii"), errors="strict")
    except UnicodeDecodeError:
        raise PacketDamaged("a state whose owner is not text") from None
    return found[1].decode("ascii"), owner, int(found[3])


def parse_operation_head(head: bytes) -> tuple[dict[str, str], int]:
    """Attributes and octets of the line that follows. Raises `PacketDamaged`."""
    found = _OPERATION.fullmatch(head)
    if found is None or int(found[2]) > LONGEST_LINE:
        raise PacketDamaged(f"not an operation: {head[:60]!r}")
    attributes: dict[str, str] = {}
    for word in found[1].decode("ascii").split():
        key, _, value = word.partition("=")
        if key in attributes or not _ESCAPED.fullmatch(value):
            raise PacketDamaged(f"an operation whose {key} makes no sense")
        try:
            attributes[key] = unquote(value, errors="strict")
        except UnicodeDecodeError:
            raise PacketDamaged(f"an operation whose {key} is not text") from None
    return attributes, int(found[2])


def make_operation(attributes: dict[str, str], line: bytes) -> Operation:
    """The operation that was read. Raises `PacketDamaged`."""
    missing = [key for key in _OWN if key not in attributes]
    if missing:
        raise PacketDamaged(f"an operation without {', '.join(missing)}")
    origin, number, time, owner = (attributes.pop(key) for key in _OWN)
    if not _NUMBER.fullmatch(number) or not _NUMBER.fullmatch(time):
        raise PacketDamaged("an operation whose id or time is not a number")
    try:
        return Operation(origin, int(number), int(time), owner, line, attributes)
    except ValueError as error:
        raise PacketDamaged(str(error)) from None


def section_head(count: int, octets: int) -> bytes:
    """The line before a section of so many messages in so many octets."""
    return b"MESSAGES %d %d\r\n" % (count, octets)


def parse_section_head(head: bytes) -> tuple[int, int]:
    """How many messages, in how many octets. Raises `PacketDamaged`."""
    found = _SECTION.fullmatch(head)
    if found is None:
        raise PacketDamaged(f"not a section of messages: {head[:60]!r}")
    return int(found[1]), int(found[2])


def message_head(body: MessageBody) -> bytes:
    """What stands before the octets of a message. ValueError if it cannot be in a packet."""
    head = dlist.file_head(body.partition.encode(), body.guid.hex().encode("ascii"), body.size, server=False)
    if body.encoding != "identity" or body.size > dlist.MAX_FILE or not MESSAGE_HEAD.fullmatch(head):
        raise ValueError(f"the message {body.guid.hex()} cannot be put into a packet")
    return head


def parse_messages(section: bytes) -> list[MessageBody]:
    """All messages of a section that is not large. Raises `PacketDamaged`."""
    bodies: list[MessageBody] = []
    position, more = 0, False
    while position < len(section):
        expected = BETWEEN if more else BEGIN
        head = MESSAGE_HEAD.match(section, position + len(expected))
        if head is None or not section.startswith(expected, position):
            break
        size, start = int(head[4]), head.end()
        position = start + size
        guid = bytes.fromhex(head[3].decode("ascii"))
        bodies.append(MessageBody(head[2].decode("ascii"), guid, size, section[start:position]))
        more = not section.startswith(CLOSE, position)
        if not more:
            position += len(CLOSE)
    if more or position != len(section):
        raise PacketDamaged(f"a section of messages makes no sense behind {len(bodies)} of them")
    return bodies
