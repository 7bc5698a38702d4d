"""A replica of some release for our client: our own server, made to answer and to refuse as that one does.

What an older release does not write is taken out of the answers, what it does not know it refuses, and a CRC
that it counts otherwise is counted so.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyrus_sync.common.protocol.connection import ClientConnection
from cyrus_sync.common.protocol.events import NeedData
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.common.stores.replica import StoreReplica
from cyrus_sync.common.wire.replica import WireReplica
from tests.common.wire.pair import Wire
from tests.sync_client.engine.lines import InlineThreads
from tests.sync_client.engine.world import finish
from tests.sync_server.conversation import Conversation

ANNOT_SEED = 12345678
WANTED = {"SIEVE-MAILBOX", "UNMAILBOX-ID"}
KEYS = {
    "MBOXTYPE": (2, 5),
    "SYNC_CRC_ANNOT": (2, 5),
    "POP3_SHOW_AFTER": (2, 5),
    "XCONVMODSEQ": (3, 0),
    "RACLMODSEQ": (3, 2),
    "CREATEDMODSEQ": (3, 2),
    "FOLDERMODSEQ": (3, 2),
    "USERFLAGS": (3, 12),
}
"""Keys of ``* MAILBOX`` and the release that first wrote them."""
COMMANDS = {b"GET UNIQUEIDS": (3, 6), b"APPLY FORCE": (3, 6), b"APPLY CAPABILITIES": (3, 6)}
"""Commands and the release that first knows them, or survives them: 3.2 dies of an id that it has not."""


@dataclass(frozen=True)
class Release:
    number: tuple[int, int]
    banner: str = "replica.example Cyrus sync server %d.%d.4"

    def __str__(self) -> str:
        return ".".join(map(str, self.number))

    def since(self, major: int, minor: int) -> bool:
        return self.number >= (major, minor)

    @property
    def capabilities(self) -> frozenset[str]:
        return frozenset({"SIEVE-MAILBOX"} if self.since(3, 6) else ())


RELEASES = [
    Release((2, 4), "replica.example Cyrus sync server v%d.%d.17-Debian"),
    *(
        Release(number)
        for number in ((2, 5), (3, 0), (3, 2), (3, 4), (3, 6), (3, 8), (3, 10), (3, 12), (3, 13))
    ),
]


class OldReplica:
    """Connections to one store. `sent` is what the client said on the last one."""

    def __init__(self, tmp_path: Path, store: NativeStore, release: Release) -> None:
        self._tmp_path = tmp_path
        self._store = store
        self.release = release
        self.inbox: deque[bytes] = deque()
        self.sent = b""
        self.within_imap = False

    def connect(self) -> WireReplica:
        self.sent = b""
        self._talk = Conversation(
            self._tmp_path,
            replica=StoreReplica(
                self._store,
                InlineThreads(),  # type: ignore[arg-type]
                partitions=("default", "ssd"),
                staging_dir=self._tmp_path / "stage",
            ),
        )
        self.proto = Wire(ClientConnection())
        self.proto.other = self  # type: ignore[assignment]
        self.proto.connection.receive_data(b"* OK ready\r\n")
        while not isinstance(self.proto.connection.next_event(), NeedData):
            pass
        self.capabilities = self.release.capabilities
        self.banner = self.release.banner % self.release.number
        return self.run(WireReplica.start(self, WANTED))

    def run(self, work: Any) -> Any:
        """Let both ends talk until `work` is done; its result."""
        from twisted.internet.defer import Deferred

        done = work if isinstance(work, Deferred) else Deferred.fromCoroutine(work)
        while self.inbox or self.proto.inbox:
            if self.inbox:
                data = b"".join(self.inbox)
                self.inbox.clear()
                self.sent += data
                self.proto.inbox.append(self._said(self._talk.send(self._known(data))))
            self.proto.pump(65536)
        return finish(done)

    def _known(self, data: bytes) -> bytes:
        for command, first in COMMANDS.items():
            if not self.release.since(*first):
                verb = command.split()[0]
                data = re.sub(b"^" + command, verb + b" UNKNOWN", data, flags=re.M)
        return data

    def _said(self, data: bytes) -> bytes:
        for key, first in KEYS.items():
            if not self.release.since(*first):
                value = rb"(?:\([^()]*\)|\"[^\"]*\"|[^ ()\"]+)"
                data = re.sub(rb" " + key.encode() + rb" " + value, b"", data)
        if self.release.number in ((2, 5), (3, 0)):
            data = re.sub(
                rb"SYNC_CRC_ANNOT (\d+)", lambda m: b"SYNC_CRC_ANNOT %d" % (int(m[1]) ^ ANNOT_SEED), data
            )
        if self.release.since(3, 13):
            data = re.sub(rb"SYNC_CRC_ANNOT (\d+)", lambda m: b"SYNC_CRC_ANNOT %d" % (int(m[1]) ^ 1), data)
        return data
