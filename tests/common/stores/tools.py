"""What the tests of stores share: messages and records, a log and a clock that tests hold, an open store."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from cyrus_sync.common.model import MailboxState, MailboxUpdate, MessageBody, Record
from cyrus_sync.common.names import Owner, owner_of
from cyrus_sync.common.protocol.crc import mailbox_crcs
from cyrus_sync.common.stores.mailstore import MailReader, MailStore
from cyrus_sync.common.stores.native.layout import Layout
from cyrus_sync.common.stores.native.local_home import LocalHome
from cyrus_sync.common.stores.native.store import NativeStore

ALICE = Owner("user", "alice")
BOB = Owner("user", "bob")
INBOX = "user.alice"
START = 1_700_000_000


class Log(list[tuple[str, ...]]):
    """An action log that a test can look at."""

    def write(self, lines: Iterable[Sequence[str]]) -> None:
        self.extend(tuple(line) for line in lines)

    def __bool__(self) -> bool:
        return True

    def take(self) -> list[tuple[str, ...]]:
        """The lines since the last time."""
        lines = list(self)
        self.clear()
        return lines


class Clock:
    """Time moves only when a test says so."""

    def __init__(self) -> None:
        self.now = float(START)

    def __call__(self) -> float:
        return self.now


def native_store(
    path: Path,
    *,
    log: Log | None = None,
    clock: Clock | None = None,
    readonly: bool = False,
    **more: object,
) -> NativeStore:
    """A native store with the partitions ``default`` and ``other`` below `path`."""
    home = LocalHome(layout_in(path), readonly=readonly)
    return NativeStore(home, action_log=log, clock=clock or Clock(), **more)  # type: ignore[arg-type]


def layout_in(path: Path) -> Layout:
    return Layout({"default": path / "default", "other": path / "other"}, "default", path / "conf")


def message(number: int, size: int = 0) -> bytes:
    """A message that no other number gives."""
    text = b"Subject: %d\r\n\r\nThis is message %d.\r\n" % (number, number)
    return text + b"x" * max(size - len(text), 0)


def random_message(number: int, size: int) -> bytes:
    """The same, and no compression makes it smaller than `size`."""
    return message(number) + base64.encodebytes(random.Random(number).randbytes(size))


def guid_of(raw: bytes) -> bytes:
    return hashlib.sha1(raw).digest()


class Stage(dict[bytes, MessageBody]):
    """Staged messages as a plain mapping; nothing has been verified."""

    checked = False
    reserved = frozenset[bytes]()

    def is_good(self, guid: bytes) -> bool:
        return False

    def __init__(self, *messages: bytes) -> None:
        super().__init__()
        for raw in messages:
            self[guid_of(raw)] = MessageBody("default", guid_of(raw), len(raw), raw)


def record_of(raw: bytes, uid: int, **more: object) -> Record:
    """A record as a master sends it: modseq 10 + uid."""
    made = Record(
        uid=uid, modseq=10 + uid, last_updated=START, flags="", expunged=False, internaldate=1_600_000_000,
        size=len(raw), guid=guid_of(raw), savedate=START, createdmodseq=10 + uid,
    )  # fmt: skip
    return made._replace(**more)  # type: ignore[arg-type]


def state_of(
    name: str, records: Sequence[Record], all_records: Sequence[Record] | None = None, **more: object
) -> MailboxState:
    """The header for a mailbox that holds `all_records` (default: `records`)."""
    held = records if all_records is None else all_records
    crc, crc_annot = mailbox_crcs(held)
    made = MailboxState(
        uniqueid="id-" + name, name=name, sync_crc=crc, sync_crc_annot=crc_annot,
        last_uid=max((record.uid for record in held), default=0),
        highestmodseq=max((record.modseq for record in held), default=1),
        uidvalidity=1_700_000_001, partition="default", acl="alice\tlrswipkxtecdan\t", options="P",
        createdmodseq=1, foldermodseq=1, last_appenddate=START,
    )  # fmt: skip
    return replace(made, **more)  # type: ignore[arg-type]


def update_of(
    name: str, records: Sequence[Record], all_records: Sequence[Record] | None = None, **more: object
) -> MailboxUpdate:
    return MailboxUpdate(state_of(name, records, all_records, **more), [list(records)])


def apply(store: MailStore, update: MailboxUpdate, stage: Stage | None = None, **more: bool) -> None:
    """One APPLY MAILBOX, committed."""
    with store.write(owner_of(update.state.name)) as writer:
        writer.apply_mailbox(update, stage if stage is not None else Stage(), **more)


def all_records(reader: MailReader, name: str = INBOX) -> list[Record]:
    state = reader.mailbox(name)
    assert state is not None
    return [record for batch in reader.records(state.uniqueid) for record in batch]


def records_in(store: MailStore, name: str = INBOX) -> list[Record]:
    with store.read(owner_of(name)) as reader:
        return all_records(reader, name)


def mailbox_in(store: MailStore, name: str = INBOX) -> MailboxState:
    with store.read(owner_of(name)) as reader:
        state = reader.mailbox(name)
    assert state is not None
    return state


def text_of(body: MessageBody) -> bytes:
    return body.data if isinstance(body.data, bytes) else b"".join(body.data)


def bodies_in(store: MailStore, name: str = INBOX) -> list[bytes]:
    """The messages of a mailbox, in order of UID, each compared with its GUID."""
    with store.read(owner_of(name)) as reader:
        guids = [record.guid for record in all_records(reader, name) if not record.expunged]
        texts = [text_of(body) for batch in reader.bodies(guids) for body in batch]
    assert [guid_of(text) for text in texts] == guids
    return texts


def sums_agree(store: MailStore, owner: Owner) -> bool:
    """Whether the kept CRCs are those of the records."""
    with store.read(owner) as reader:
        return all(
            reader.recalculate_crcs(state.uniqueid) == (state.sync_crc, state.sync_crc_annot)
            for state in reader.mailboxes()
            if not state.intermediate
        )
