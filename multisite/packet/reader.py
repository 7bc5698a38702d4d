"""Reading a packet: `verify` the whole file first, then take its `items` one after the other.

>>> with PacketReader(path) as packet:
...     packet.verify(keys_of_the_sender)
...     for item in packet.items(spool_directory):
...         ...

The rule guarded here: **whatever is in the file, the worst that happens is `PacketDamaged`**: no other
exception, and no more memory than a few frames and one operation.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.nameless import NamelessFile
from cyrus_sync.common.protocol.dlist import MAX_FILE
from cyrus_sync.multisite.packet import prologue, signature
from cyrus_sync.multisite.packet.ahead import ahead
from cyrus_sync.multisite.packet.errors import PacketDamaged, PacketError
from cyrus_sync.multisite.packet.frames import Frames, Octets, unfold
from cyrus_sync.multisite.packet.items import (
    BEGIN,
    CLOSE,
    LARGEST_SECTION,
    LONGEST_HEAD,
    LONGEST_MESSAGE_HEAD,
    MESSAGE_HEAD,
    Messages,
    Operation,
    State,
    make_operation,
    parse_messages,
    parse_operation_head,
    parse_section_head,
    parse_state_head,
)
from cyrus_sync.multisite.packet.keys import PublicKeys, SecretKeys
from cyrus_sync.multisite.packet.sealing import ContentKey
from cyrus_sync.multisite.packet.stream import Stream

_FRAMES_AHEAD = 2
"""Frames that a thread reads, opens and decompresses while the ones before are worked at."""


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


class PacketReader:
    """An open packet. `header` is what it says of itself; `verify` has not looked at it yet."""

    def __init__(self, path: Path, *, secrets: Sequence[SecretKeys] = ()) -> None:
        """`secrets`: one of them opens a sealed packet. Raises `NotAPacket`, `PacketTooNew`, `PacketDamaged`
        for a header that cannot be read; OSError."""
        self.path = path
        self._secrets = secrets
        # A pipe in the place of a packet must not make anybody wait.
        self._file = open(path, "rb", buffering=0, opener=_without_waiting)  # noqa: SIM115 (closed by `close`)
        try:
            with self._named():
                self.header, self._prologue = prologue.read(self._file.fileno())
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def verify(self, verify_key: PublicKeys | None = None) -> None:
        """Read the whole file and compare every hash; with a `verify_key` it has to be signed with that.

        A sealed packet is verified without being opened. Raises `PacketDamaged`, `PacketForged`."""
        with self._named():
            self._verify(verify_key)

    def _verify(self, verify_key: PublicKeys | None) -> None:
        digest = hashlib.sha256(self._prologue)
        octets = self._behind_the_header()
        frames = Frames(octets, digest.update)
        for _ in frames:
            pass
        end = frames.end
        assert end is not None
        digest.update(end.hashed)
        if digest.hexdigest() != end.sha256:
            raise PacketDamaged("the SHA-256 of the packet is not the one that its end states")
        digest.update(end.line[len(end.hashed) :])
        line = None if octets.at_end() else octets.line("the signature")
        signature.check(line, self.header.sender, digest.digest(), verify_key)
        if not octets.at_end():
            raise PacketDamaged(f"the packet ends at octet {octets.position}, and the file does not")

    def items(self, spool_dir: Path) -> Iterator[Messages | Operation | State]:
        """What is in it, in its order. A large message is spooled to a nameless file in `spool_dir` and can
        be read, any number of times, until the next item is asked for.

        Raises `PacketSealed` if none of `secrets` opens the packet, `PacketDamaged`, and OSError when the
        spool's disk is full."""
        with self._named():
            key = ContentKey.open(self.header.sealed, self._secrets) if self.header.sealed else None
            stream = Stream(self._contents(key))
            while not stream.at_end():
                head = stream.line(LONGEST_HEAD)
                if head.startswith(b"MESSAGES "):
                    yield from self._messages(stream, *parse_section_head(head), spool_dir)
                elif head.startswith(b"STATE "):
                    kind, owner, octets = parse_state_head(head)
                    yield State(kind, stream.exactly(octets), owner)
                else:
                    attributes, octets = parse_operation_head(head)
                    yield make_operation(attributes, stream.exactly(octets))

    def _contents(self, key: ContentKey | None) -> Iterator[bytes]:
        frames, total = Frames(self._behind_the_header()), 0
        for content in ahead((unfold(frame, key) for frame in frames), _FRAMES_AHEAD):
            total += len(content)
            yield content
        if frames.end is None or frames.end.stream != total:
            raise PacketDamaged(f"the packet holds {total} octets, which is not what its end states")

    def _messages(self, stream: Stream, count: int, octets: int, spool_dir: Path) -> Iterator[Messages]:
        if octets <= LARGEST_SECTION:
            bodies = parse_messages(stream.exactly(octets))
            if len(bodies) != count:
                raise PacketDamaged(f"a section of {count} messages holds {len(bodies)}")
            yield Messages(tuple(bodies))
            return
        line = stream.line(LONGEST_MESSAGE_HEAD)
        head = MESSAGE_HEAD.fullmatch(line, len(BEGIN)) if line.startswith(BEGIN) else None
        if head is None or count != 1 or len(line) + int(head[4]) + len(CLOSE) != octets:
            raise PacketDamaged("a large section of messages that is not one message")
        size = int(head[4])
        if size > MAX_FILE:
            raise PacketDamaged(f"a message of {size} octets")
        with contextlib.closing(NamelessFile.filled(spool_dir, stream.pieces(size))) as data:
            if stream.exactly(len(CLOSE)) != CLOSE:
                raise PacketDamaged("a large message that is longer than it says")
            guid = bytes.fromhex(head[3].decode("ascii"))
            yield Messages((MessageBody(head[2].decode("ascii"), guid, size, data),))

    def _behind_the_header(self) -> Octets:
        return Octets(self._file.fileno(), len(self._prologue))

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Errors within say which packet they are about."""
        try:
            yield
        except PacketError as error:
            raise error.at(packet=str(self.path)) from None
