"""`verify`: reads everything that an owner has and says what does not agree. Changes nothing.

Memory does not grow with the mailboxes: records and messages go by in batches.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterator, Sequence
from functools import cached_property

from cyrus_sync.common.commands import reason
from cyrus_sync.common.errors import CyrusSyncError, ObjectsUnavailable, StoreCorrupt, StoreError
from cyrus_sync.common.model import NULL_GUID
from cyrus_sync.common.names import Owner
from cyrus_sync.common.protocol.crc import ANNOT_SEED, mailbox_crcs
from cyrus_sync.common.stores.care import PATIENCE, Problem, Registered, Scrubbed
from cyrus_sync.common.stores.frames import content_pieces, contents
from cyrus_sync.common.stores.native.care.sweep import waiting
from cyrus_sync.common.stores.native.history import unreadable
from cyrus_sync.common.stores.native.layout import pack_name
from cyrus_sync.common.stores.native.packs import PackReader, Place
from cyrus_sync.common.stores.native.reader import Records
from cyrus_sync.common.stores.native.rows import STATE_COLUMNS, state_of
from cyrus_sync.common.stores.native.schema import WITH_HISTORY, stored_version
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.common.stores.native.tables.boxes import box_sort, get_box_by_id, set_columns
from cyrus_sync.common.stores.native.tables.quotas import assign_quotaroots
from cyrus_sync.common.stores.native.tables.tally import Tally, weight
from cyrus_sync.common.stores.native.transaction import Transaction
from cyrus_sync.common.stores.trouble import store_trouble

_MESSAGES_AT_ONCE = 500
_SMALL = 256 * 1024
_LOOKS, _PAUSE = 10, 0.1


def verify_store(store: NativeStore) -> Iterator[Problem]:
    """What is wrong with the store apart from any owner: partitions that are away, a damaged registry."""
    try:
        for name, text in store.home.away().items():
            yield Problem("partition", name, text)
        for path in store.home.moves_left():
            text = "is left of a move that was interrupted: mailstore expire removes it"
            yield Problem("partition", str(path), text)
        if damage := store.home.registry.damage():
            yield Problem("registry", "registry.sqlite", damage)
    except (sqlite3.Error, StoreError) as error:
        yield Problem("registry", "registry.sqlite", str(error))


def verify(store: NativeStore, owner: Owner, *, messages: bool = True, far: bool = True) -> Iterator[Problem]:
    """Everything that is wrong with one owner, as it is found, and also that the owner is lost; `messages`:
    their octets, too; `far`: also of those in an object store."""
    try:
        directory = store.find(owner)
    except CyrusSyncError as error:
        yield Problem("index", str(owner), error.message)
        return
    if directory is None:
        return
    try:
        with store.read(owner) as reader:
            check = _Check(store, owner, reader.connection, PackReader(store.home.packs(directory)))
            try:
                yield from check.everything(messages=messages, far=far)
            finally:
                check.packs.close()
    except (sqlite3.Error, OSError) as error:
        yield Problem("index", str(directory.path), store_trouble(error, owner).args[0])
    except CyrusSyncError as error:
        yield Problem("index", str(directory.path), error.message)


def verify_messages(
    store: NativeStore, owner: Owner, after: str, octets: int, *, far: bool = True
) -> Scrubbed:
    """The messages behind the place `after` (``pack:offset``, "" for the beginning), about so many
    `octets`; `far`: also those in an object store."""
    nothing = Scrubbed([], "", 0, 0)
    try:
        directory = store.find(owner)
        if directory is None:
            return nothing
        with store.read(owner) as reader:
            check = _Check(store, owner, reader.connection, PackReader(store.home.packs(directory)))
            try:
                return check.some_messages(after, octets, far=far)
            finally:
                check.packs.close()
    except (sqlite3.Error, OSError, CyrusSyncError):
        return nothing


class _Check:
    """One run over one snapshot."""

    def __init__(
        self, store: NativeStore, owner: Owner, connection: sqlite3.Connection, packs: PackReader
    ) -> None:
        self.store = store
        self.owner = owner
        self.db = connection
        self.packs = packs
        self._left_out: set[int] = set()
        """Packs whose messages are not read."""

    def everything(self, *, messages: bool, far: bool) -> Iterator[Problem]:
        damaged = False
        for (text,) in self.db.execute("PRAGMA integrity_check"):
            if text != "ok":
                damaged = True
                yield Problem("index", "index.sqlite", text)
        if damaged:
            return
        yield from self.orphans()
        yield from self.mailboxes()
        yield from self.history()
        yield from self.pack_files()
        if messages:
            yield from self.messages(far=far)
        yield from self.registry()
        yield from self.action_log()

    def history(self) -> Iterator[Problem]:
        for seq, why in unreadable(self.db) if stored_version(self.db) >= WITH_HISTORY else ():
            text = f"row {seq} of the history cannot be read ({why}): mailstore reconstruct begins a new one"
            yield Problem("index", "index.sqlite", text)

    def orphans(self) -> Iterator[Problem]:
        queries = {
            "records of no mailbox": "SELECT count(*) FROM records"
            " WHERE mailbox NOT IN (SELECT id FROM mailboxes)",
            "annotations of no mailbox": "SELECT count(*) FROM annotations WHERE mailbox > 0"
            " AND mailbox NOT IN (SELECT id FROM mailboxes)",
            "annotations of no message": "SELECT count(*) FROM annotations WHERE uid > 0 AND NOT EXISTS"
            " (SELECT 1 FROM records WHERE records.mailbox = annotations.mailbox"
            " AND records.uid = annotations.uid)",
        }
        for what, query in queries.items():
            (count,) = self.db.execute(query).fetchone()
            if count:
                yield Problem("orphan", "index.sqlite", f"{count} {what}")

    def mailboxes(self) -> Iterator[Problem]:
        highest = 0
        rows = self.db.execute(
            f"SELECT id, deleted_at, sort, messages, bytes, annotation_bytes, {STATE_COLUMNS} FROM mailboxes"
        ).fetchall()
        for row in rows:
            state = state_of(row[6:])
            highest = max(highest, state.highestmodseq)
            if not state.intermediate:
                yield from self._records(row[0], state.name, row)
            if row[1]:
                continue
            if row[2] != box_sort(state.name):
                yield Problem("header", state.name, "sort key is not that of the name")
            root = self._quotaroot(state.name)
            if state.quotaroot != root:
                yield Problem(
                    "quota", state.name, f"quota root is {root!r}, the mailbox says {state.quotaroot!r}"
                )
        found = self.db.execute("SELECT highestmodseq FROM owner").fetchone()
        if found is None or found[0] < highest:
            yield Problem("header", str(self.owner), "the owner's highestmodseq is below a mailbox's")

    def _records(self, number: int, name: str, row: tuple[object, ...]) -> Iterator[Problem]:
        crc, crc_annot, count, size = 0, ANNOT_SEED, 0, 0
        notes = self.db.execute(
            "SELECT coalesce(sum(length(value)), 0) FROM annotations WHERE mailbox = ? AND uid = 0", (number,)
        ).fetchone()[0]
        last = highest = 0
        for batch in Records(self.db, number, 0, 0, 2000):
            one, other = mailbox_crcs(batch)
            crc, crc_annot = crc ^ one, crc_annot ^ other ^ ANNOT_SEED
            live = [record for record in batch if not record.expunged]
            count += len(live)
            size += sum(record.size for record in live)
            notes += sum(weight(record.annotations) for record in live)
            last = batch[-1].uid
            highest = max(highest, *(record.modseq for record in batch))
            for record in batch:
                if record.guid == NULL_GUID or len(record.guid) != len(NULL_GUID) or not record.size:
                    yield Problem("header", name, f"uid {record.uid} has no GUID or no size")
            yield from self._missing(number, name, batch[0].uid, last)
        state = state_of(row[6:])
        if state.sync_crc != crc or state.sync_crc_annot not in (0, crc_annot):
            wrong = f"SYNC_CRC {state.sync_crc} SYNC_CRC_ANNOT {state.sync_crc_annot}"
            yield Problem("crc", name, f"stored {wrong}, the records give {crc} and {crc_annot}")
        for what, stored, found in zip(
            ("messages", "bytes", "annotation bytes"), row[3:6], (count, size, notes), strict=True
        ):
            if stored != found:
                yield Problem("usage", name, f"{what}: stored {stored}, found {found}")
        if last > state.last_uid:
            yield Problem("header", name, f"LAST_UID {state.last_uid} is below uid {last}")
        if highest > state.highestmodseq:
            yield Problem("header", name, f"HIGHESTMODSEQ {state.highestmodseq} is below {highest}")

    def _missing(self, number: int, name: str, first: int, last: int) -> Iterator[Problem]:
        for uid, guid in self.db.execute(
            "SELECT uid, guid FROM records WHERE mailbox = ? AND uid BETWEEN ? AND ?"
            " AND (expunged = 0 OR unlinked = 0)"
            " AND NOT EXISTS (SELECT 1 FROM messages WHERE messages.guid = records.guid)",
            (number, first, last),
        ):
            yield Problem("message", name, f"uid {uid}: message {guid.hex()} is not stored")
        for uid, size, stored in self.db.execute(
            "SELECT uid, records.size, messages.size FROM records JOIN messages USING (guid)"
            " WHERE mailbox = ? AND uid BETWEEN ? AND ? AND records.size <> messages.size",
            (number, first, last),
        ):
            yield Problem("message", name, f"uid {uid}: SIZE is {size}, the message has {stored} octets")

    def _quotaroot(self, name: str) -> str:
        roots = {root for (root,) in self.db.execute("SELECT root FROM quotas")}
        while name and name not in roots:
            name = name.rpartition(".")[0]
        return name

    def pack_files(self) -> Iterator[Problem]:
        for pack, length in self.db.execute("SELECT pack, length FROM packs WHERE length > 0").fetchall():
            try:
                found = self.packs.size(pack)
            except FileNotFoundError:
                yield Problem("pack", pack_name(pack), "is missing")
                continue
            except StoreCorrupt as error:
                yield Problem("pack", pack_name(pack), error.message)
                continue
            except OSError:
                continue  # The messages in it are named.
            if found < length:
                yield Problem("pack", pack_name(pack), f"has {found} octets, should have {length}")

    def messages(self, *, far: bool) -> Iterator[Problem]:
        self._leave_out(far=far)
        place = Place(0, -1, 0)
        while rows := self._stored(place):
            yield from self._read_all(rows)
            place = rows[-1][1]

    def _leave_out(self, *, far: bool) -> None:
        if not far:
            self._left_out.update(pack for pack in self._lengths if not self.packs.is_near(pack))

    def some_messages(self, after: str, octets: int, *, far: bool) -> Scrubbed:
        """Until about so many `octets` are read."""
        self._leave_out(far=far)
        pack, _, offset = after.partition(":")
        place = Place(int(pack or 0), int(offset or -1), 0)
        problems: list[Problem] = []
        messages = read = 0
        while rows := self._stored(place):
            for row in rows:
                place = row[1]
                if place.pack in self._left_out:
                    continue
                problems += self._read_all([row])
                messages += 1
                read += place.length
                if read >= octets:
                    return Scrubbed(problems, f"{place.pack}:{place.offset}", messages, read)
        return Scrubbed(problems, "", messages, read)

    def _stored(self, after: Place) -> list[tuple[bytes, Place, int]]:
        """The next messages in the order of the packs: GUID, place, size."""
        return [
            (guid, Place(pack, offset, length), size)
            for guid, pack, offset, length, size in self.db.execute(
                "SELECT guid, pack, offset, length, size FROM messages WHERE (pack, offset) > (?, ?)"
                " ORDER BY pack, offset LIMIT ?",
                (after.pack, after.offset, _MESSAGES_AT_ONCE),
            )
        ]

    def _read_all(self, rows: Sequence[tuple[bytes, Place, int]]) -> Iterator[Problem]:
        marks = self.store.marks.of(self.owner)
        for guid, place, size in rows:
            if place.pack in self._left_out:
                continue
            where = f"{pack_name(place.pack)} at {place.offset}"
            if place.offset + place.length > self._lengths.get(place.pack, 0):
                marks.add(guid)
                yield Problem("pack", where, f"message {guid.hex()} lies outside the pack")
                continue
            try:
                problem = self._message(guid, place, size)
            except ObjectsUnavailable as error:
                self._left_out.add(place.pack)
                yield Problem("unavailable", pack_name(place.pack), f"cannot be read now: {error}")
                continue
            if problem:
                marks.add(guid)
                yield Problem("message", where, problem)
            elif guid in self._marked:
                marks.discard(guid)

    @cached_property
    def _lengths(self) -> dict[int, int]:
        return dict(self.db.execute("SELECT pack, length FROM packs"))

    @cached_property
    def _marked(self) -> set[bytes]:
        return set(self.store.marks.of(self.owner))

    def _message(self, guid: bytes, place: Place, size: int) -> str:
        """What is wrong with one message, "" if nothing is."""
        digest = hashlib.sha1()
        try:
            if size <= _SMALL:
                digest.update(contents([self.packs.read(place)], [size])[0])
            else:
                for piece in content_pieces(self.packs.pieces(place)):
                    digest.update(piece)
        except (StoreCorrupt, OSError) as error:
            return f"message {guid.hex()} cannot be read: {reason(error)}"
        found = digest.digest()
        return "" if found == guid else f"message {guid.hex()} has the SHA-1 {found.hex()}"

    def registry(self) -> Iterator[Problem]:
        for uniqueid, name in self.db.execute("SELECT uniqueid, name FROM mailboxes WHERE deleted_at = 0"):
            if self.owner not in self.store.home.registry.holders(uniqueid):
                yield Problem("registry", name, f"uniqueid {uniqueid} is not registered")

    def action_log(self) -> Iterator[Problem]:
        """Lines that wait. Of a change that is being made right now they are gone the next moment."""
        for _ in range(_LOOKS):
            count = waiting(self.store, self.owner)
            if not count:
                return
            time.sleep(_PAUSE)
        text = f"{count} lines are not written yet: the owner's next change or the start of a rolling"
        yield Problem("log", "action log", f"{text} sync_client does it")


def recount(store: NativeStore, owner: Owner, timeout: float = PATIENCE) -> int:
    """Make the CRCs and the usage of every mailbox anew from its records; how many were wrong. For sums
    that `verify` found wrong: the records are the truth."""
    wrong = 0
    with store.transaction(owner, create=False, timeout=timeout) as transaction:
        for state in transaction.reader.mailboxes():
            wrong += _recount_box(transaction, state.uniqueid)
        transaction.change()
        assign_quotaroots(transaction)
    return wrong


def _recount_box(transaction: Transaction, uniqueid: str) -> bool:
    """Make a mailbox's sums anew from its records; whether they were wrong. A `change` if so."""
    box = get_box_by_id(transaction, uniqueid)
    tally = Tally.anew(weight(box.state.annotations))
    for batch in transaction.reader.records(uniqueid):
        tally.add(batch)
    wrong = tally.columns() != Tally(box).columns()
    if wrong:
        transaction.change()
        set_columns(transaction, box.id, **tally.columns())
    return wrong


def rebuild_registry(store: NativeStore) -> Registered:
    """Make the registry of mailboxes anew from all indexes. Who is lost, or cannot be read, stays in it: that
    is the evidence that the owner was here."""
    aside = store.home.registry.renew()
    mailboxes, unknown = 0, []
    for owner in store.home.everybody():
        try:
            with store.read(owner) as reader:
                held = [state.uniqueid for state in reader.mailboxes()]
            store.home.registry.replace(owner, held)
        except (CyrusSyncError, sqlite3.Error):
            held = store.home.registry.held_by(owner)
            unknown.append(owner)
        mailboxes += len(held)
    return Registered(mailboxes, unknown, aside)
