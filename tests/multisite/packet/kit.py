"""What tests of packets are made with: headers, messages, keys, packets that no writer would write."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cyrus_sync.common.model import MessageBody
from cyrus_sync.multisite.packet import (
    Header,
    Messages,
    Operation,
    PacketReader,
    PacketWriter,
    Range,
    SecretKeys,
    Target,
    signature,
)
from cyrus_sync.multisite.packet.frames import FRAME, Frames, Octets, end_line, fold, unfold
from cyrus_sync.multisite.packet.prologue import fill, room_for
from cyrus_sync.multisite.packet.prologue import read as read_prologue
from cyrus_sync.multisite.packet.sealing import ContentKey

BOSTON, BANGALORE, PARIS = "b0570" + "0" * 27, "ba6a1" + "0" * 27, "9a215" + "0" * 27
BOSTON_KEYS, BANGALORE_KEYS, OTHER_KEYS = (
    SecretKeys(bytes([n]) * 32, bytes([n + 1]) * 32) for n in (1, 3, 5)
)


def header(**values: Any) -> Header:
    """The header of an update from Boston to Bangalore."""
    return Header(**{
        "kind": "update", "family": "fa" * 16, "family_name": "mail",
        "sender": BOSTON, "sender_name": "boston_hub", "sender_incarnation": 0,
        "targets": (Target(BANGALORE, "bangalore", 1_700_000_000),),
        "logical": "10" * 16, "number": 1, "last": True, "created": 1_750_000_000,
        "ranges": {BOSTON: Range(1, 70), PARIS: Range(4, 4)}, "row": {BOSTON: 70, PARIS: 4, BANGALORE: 12},
        "names": {BOSTON: "boston_hub", PARIS: "paris"},
    } | values)  # fmt: skip


def body(data: bytes, partition: str = "default") -> MessageBody:
    return MessageBody(partition, hashlib.sha1(data).digest(), len(data), data)


def operation(
    number: int = 1, line: bytes = b"APPLY SUB %(USERID alice MBOXNAME user.alice)\r\n"
) -> Operation:
    return Operation(BOSTON, number, 1_750_000_000, "alice", line)


def write(path: Path, *items: Messages | Operation, head: Header | None = None, **options: Any) -> Path:
    head = head or header()
    with PacketWriter(path, head, **options) as packet:
        for item in items:
            if isinstance(item, Messages):
                packet.messages(item.bodies)
            else:
                packet.operation(item)
        return packet.close(head)


def mail(*messages: bytes) -> Messages:
    return Messages(tuple(body(data) for data in messages))


def read(path: Path, secret: SecretKeys | None = None) -> tuple[list[tuple[str, bytes]], list[Operation]]:
    """All messages as (partition, octets), and all operations. GUIDs and sizes are compared."""
    messages: list[tuple[str, bytes]] = []
    operations: list[Operation] = []
    with PacketReader(path, secrets=[secret] if secret else []) as packet:
        for item in packet.items(path.parent):
            if isinstance(item, Operation):
                operations.append(item)
                continue
            for one in item.bodies:
                data = one.data if isinstance(one.data, bytes) else b"".join(one.data)
                assert one.size == len(data) and one.guid == hashlib.sha1(data).digest()
                messages.append((one.partition, data))
    return messages, operations


def forge(
    path: Path, contents: Iterable[bytes], *, stream: int | None = None, frames: int | None = None
) -> Path:
    """A packet whose hashes are all right, whatever is in its stream."""
    contents = list(contents)
    folded = [fold(one, n, n == len(contents), None) for n, one in enumerate(contents, 1)]
    return forge_frames(path, folded, sum(map(len, contents)) if stream is None else stream, frames)


def forge_frames(path: Path, folded: list[bytes], stream: int, frames: int | None = None) -> Path:
    head = header()
    data = fill(head, room_for(head)) + b"".join(folded) + end_line(frames or len(folded), stream)
    path.write_bytes(data + hashlib.sha256(data).hexdigest().encode() + b"\n")
    return path


def taken_apart(path: Path) -> tuple[bytes, bytes]:
    """What stands in front of the frames of an unsealed packet, and the stream that they hold."""
    with path.open("rb") as file:
        front = read_prologue(file.fileno())[1]
        return front, b"".join(unfold(frame, None) for frame in Frames(Octets(file.fileno(), len(front))))


def put_together(path: Path, front: bytes, stream: bytes, sender: str, keys: SecretKeys) -> Path:
    """The packet that `taken_apart` would give these two for, whatever they are: its hashes are right, and
    `keys` have signed it for `sender`."""
    pieces = [stream[at : at + FRAME] for at in range(0, len(stream), FRAME)] or [b""]
    folded = [fold(one, n, n == len(pieces), None) for n, one in enumerate(pieces, 1)]
    data = front + b"".join(folded) + end_line(len(folded), len(stream))
    data += hashlib.sha256(data).hexdigest().encode() + b"\n"
    path.write_bytes(data + signature.make(sender, hashlib.sha256(data).digest(), keys))
    return path


def sealed_frames(path: Path) -> tuple[ContentKey, list[bytes]]:
    """The key of a sealed packet, and its frames with their lines."""
    with PacketReader(path) as packet:
        key = ContentKey.open(packet.header.sealed, [BANGALORE_KEYS])
    _, _, rest = path.read_bytes().partition(b"\n---\n")
    frames = []
    while rest.startswith(b"frame "):
        line, _, _ = rest.partition(b"\n")
        length = len(line) + 1 + int(line.split()[2]) + 1
        frames.append(rest[:length])
        rest = rest[length:]
    return key, frames
