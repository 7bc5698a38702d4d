"""A master of some release, spoken by hand, at our server with a real store behind it.

The lines are made here from what is known of each release, not by our own encoder: what is tested is that our
server takes them as they come.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from cyrus_sync.common.stores.replica import StoreReplica
from tests.sync_client.engine.lines import InlineThreads
from tests.sync_client.engine.world import Clock, make_store
from tests.sync_server.conversation import Conversation

TEXT = b"From: a@example.org\r\nSubject: hi\r\n\r\nhi\r\n"
GUID = hashlib.sha1(TEXT).hexdigest()
NOTE = b"note"
TIME = 1_700_000_000
PREFIX = "/vendor/cmu/cyrus-imapd/"


@dataclass(frozen=True)
class Release:
    """What a release writes. `literal` is how it announces one."""

    name: str
    number: tuple[int, int]
    literal: bytes = b"{%d+}"

    def __str__(self) -> str:
        return self.name

    def since(self, major: int, minor: int) -> bool:
        return self.number >= (major, minor)


RELEASES = [
    Release("2.4", (2, 4)),
    Release("2.4 with {N}", (2, 4), b"{%d}"),
    Release("2.5", (2, 5)),
    Release("3.0", (3, 0)),
    Release("3.2", (3, 2)),
    Release("3.4", (3, 4)),
    Release("3.6", (3, 6)),
    Release("3.8", (3, 8)),
    Release("3.10", (3, 10)),
    Release("3.12", (3, 12)),
    Release("3.13", (3, 13)),
]
"""The last is the development branch."""


class Master:
    """One user with one message, as a master of `release` sends him."""

    def __init__(self, tmp_path: Path, release: Release) -> None:
        self.release = release
        self.store = make_store(tmp_path, Clock())
        replica = StoreReplica(
            self.store,
            InlineThreads(),  # type: ignore[arg-type]
            partitions=("default", "ssd"),
            staging_dir=tmp_path / "stage",
            capabilities=frozenset({"SIEVE-MAILBOX"} if release.since(3, 6) else ()),
        )
        self.talk = Conversation(tmp_path, replica=replica)

    def ask(self, line: bytes) -> bytes:
        return self.talk.ask(line)

    def octets(self, value: bytes) -> bytes:
        """A literal, as this release announces it."""
        return self.release.literal % len(value) + b"\r\n" + value

    # -- what is sent

    def message(self) -> bytes:
        return b"APPLY MESSAGE (%%{default %s %d}\r\n%s)" % (GUID.encode(), len(TEXT), TEXT)

    def annotations(self) -> list[tuple[str, str, bytes, bytes]]:
        """Of the message: entry, userid, value on the wire, value in the CRC."""
        found = []
        if self.release.since(2, 5):
            found.append(("/comment", "alice", NOTE, NOTE))
            counted = b"00ab12cd34ef5678" if self.release.since(3, 13) else b"ab12cd34ef5678"
            found.append((PREFIX + "thrid", "", b"00ab12cd34ef5678", counted))
        if self.release.since(3, 2):
            found.append((PREFIX + "savedate", "", b"1700000000", b"1700000000"))
            found.append((PREFIX + "createdmodseq", "", b"5", b"5"))
        if self.release.since(3, 13):
            found.append((PREFIX + "internaldate.nsec", "", b"123456789", b"123456789"))
            found.append((PREFIX + "basethrid", "", b"00000000000000ff", b"00000000000000ff"))
        return found

    def record(self) -> bytes:
        text = b"%%(UID 1 MODSEQ 5 LAST_UPDATED %d FLAGS (\\Seen Work) INTERNALDATE %d SIZE %d GUID %s" % (
            TIME,
            TIME,
            len(TEXT),
            GUID.encode(),
        )
        notes = []
        for entry, userid, wire, _ in self.annotations():
            nobody = b"NIL" if self.release.number == (3, 0) else b'""'
            modseq = b" MODSEQ 0" if self.release.since(3, 2) else b""
            value = self.octets(wire) if wire == NOTE else wire
            notes.append(
                b"%%(ENTRY %s USERID %s%s VALUE %s)"
                % (entry.encode(), userid.encode() or nobody, modseq, value)
            )
        return text + (b" ANNOTATIONS (" + b" ".join(notes) + b")" if notes else b"") + b")"

    def crcs(self) -> tuple[int, int]:
        flags = crc32(b"\\seen") ^ crc32(b"work")
        basic = crc32(b"1 5 %d (%d) %d %s" % (TIME, flags, TIME, GUID.encode()))
        annot = 12345678 if self.release.since(3, 2) else 0
        for entry, userid, _, value in self.annotations():
            annot ^= crc32(b"1 %s %s " % (entry.encode(), userid.encode()) + value)
        return basic, annot

    def mailbox(self, *, records: bool = True, modseq: int = 5) -> bytes:
        """APPLY MAILBOX with the keys of the release, in its order."""
        since = self.release.since
        basic, annot = self.crcs()
        keys: list[tuple[str, str] | None] = [
            ("UNIQUEID", "id1"),
            ("MBOXNAME", "user.alice"),
            ("MBOXTYPE", "e") if since(3, 12) else None,
            ("SYNC_CRC", str(basic)),
            ("SYNC_CRC_ANNOT", str(annot)) if since(2, 5) else None,
            ("LAST_UID", "1"),
            ("HIGHESTMODSEQ", str(modseq)),
            ("RECENTUID", "1"),
            ("RECENTTIME", str(TIME)),
            ("LAST_APPENDDATE", str(TIME)),
            ("POP3_LAST_LOGIN", "0"),
            ("POP3_SHOW_AFTER", "0") if since(2, 5) else None,
            ("XCONVMODSEQ", "5") if since(3, 0) else None,
            ("RACLMODSEQ", "4") if since(3, 2) else None,
            ("USERGROUPS", '"staff\tfriends"') if since(3, 12) else None,
            ("UIDVALIDITY", "7"),
            ("PARTITION", "default"),
            ("ACL", '"alice\tlrswipkxtecda\t"'),
            ("OPTIONS", "P"),
            ("QUOTAROOT", "user.alice"),
            ("CREATEDMODSEQ", "1") if since(3, 2) else None,
            ("FOLDERMODSEQ", "2") if since(3, 2) else None,
            ("USERFLAGS", "(Work Later)") if since(3, 12) else None,
            ("SINCE_MODSEQ", "5") if since(3, 2) and modseq > 5 else None,
            ("SINCE_CRC", str(basic)) if since(3, 2) and modseq > 5 else None,
            ("SINCE_CRC_ANNOT", str(annot)) if since(3, 2) and modseq > 5 else None,
        ]
        head = " ".join(f"{key} {value}" for key, value in filter(None, keys)).encode()
        return b"APPLY MAILBOX %%(%s RECORD (%s))" % (head, self.record() if records else b"")

    def quota(self) -> bytes:
        text = "ROOT user.alice LIMIT 1000"
        if self.release.since(2, 5):
            text += " STORAGE 1000 MESSAGE 50"
        if self.release.since(3, 10):
            text += " ANNOTATION-STORAGE 9 MAILBOX 8"
        if self.release.since(2, 5):
            text += " X-ANNOTATION-STORAGE 9 X-NUM-FOLDERS 8"
        if self.release.since(3, 2):
            text += " MODSEQ 3"
        return f"APPLY QUOTA %({text})".encode()
