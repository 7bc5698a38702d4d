"""Reading one owner: a snapshot of the index, and message bytes from the packs."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from cyrus_sync.common import script_mail
from cyrus_sync.common.errors import MessageUnavailable, StoreCorrupt, StoreError
from cyrus_sync.common.model import (
    Annotation,
    MailboxAnnotation,
    MailboxState,
    MessageBody,
    MessageSource,
    Quota,
    Record,
    RecordSource,
    Seen,
    SieveScript,
    Tombstone,
    UserMeta,
)
from cyrus_sync.common.names import Owner, sort_key
from cyrus_sync.common.protocol.crc import mailbox_crcs
from cyrus_sync.common.stores.mailstore import QuotaUsage, Tally
from cyrus_sync.common.stores.native import sievebox
from cyrus_sync.common.stores.native.bodies import BodyReader, Unreadable
from cyrus_sync.common.stores.native.rows import (
    RECORD_COLUMNS,
    STATE_COLUMNS,
    annotations_of,
    records_of,
    state_of,
    storable,
    to_unsigned,
)

_FEW = 20_000
"""Up to so many changed records are found through the modseq index and sorted; for more the mailbox is
walked in order of uid, so that memory does not grow with the mailbox."""

_GUIDS_AT_ONCE = 1000


class Records:
    """Records of a mailbox in batches; every iteration asks the index anew, inside the same snapshot."""

    def __init__(
        self, connection: sqlite3.Connection, mailbox: int, since_modseq: int, above_uid: int, batch: int
    ) -> None:
        self._connection = connection
        self._mailbox = mailbox
        self._since = since_modseq
        self._above = above_uid
        self._batch = batch

    def __iter__(self) -> Iterator[Sequence[Record]]:
        cursor = self._connection.execute(*self._query())
        while rows := cursor.fetchmany(self._batch):
            yield records_of(self._connection, self._mailbox, rows)

    def _query(self) -> tuple[str, tuple[int, ...]]:
        select = f"SELECT {RECORD_COLUMNS}, annotations FROM records"
        if self._since <= 0:
            return f"{select} WHERE mailbox = ? AND uid > ? ORDER BY uid", (self._mailbox, self._above)
        counted = self._connection.execute(
            "SELECT count(*) FROM (SELECT 1 FROM records WHERE mailbox = ? AND modseq > ? LIMIT ?)",
            (self._mailbox, self._since, _FEW),
        ).fetchone()[0]
        where = "WHERE mailbox = ? AND modseq > ? AND +uid > ? ORDER BY +uid"
        if counted < _FEW:
            return f"{select} INDEXED BY records_modseq {where}", (self._mailbox, self._since, self._above)
        return (
            f"{select} WHERE mailbox = ? AND uid > ? AND +modseq > ? ORDER BY uid",
            (self._mailbox, self._above, self._since),
        )


class Reader:
    """A snapshot of one owner (`common.stores.mailstore.MailReader`). Valid inside its context only."""

    def __init__(
        self, owner: Owner, connection: sqlite3.Connection, bodies: Callable[[], BodyReader] | None
    ) -> None:
        self.owner = owner
        self._db = connection
        self._bodies_of = bodies

    @property
    def connection(self) -> sqlite3.Connection:
        """The index itself, for the store's own upkeep."""
        return self._db

    # -- mailboxes

    def mailboxes(self) -> list[MailboxState]:
        rows = self._db.execute(
            f"SELECT id, {STATE_COLUMNS} FROM mailboxes WHERE deleted_at = 0 ORDER BY sort"
        ).fetchall()
        notes: dict[int, list[tuple[Any, ...]]] = {}
        for row in self._db.execute(
            "SELECT mailbox, entry, userid, modseq, value FROM annotations"
            " WHERE uid = 0 AND mailbox IN (SELECT id FROM mailboxes WHERE deleted_at = 0)"
            " ORDER BY mailbox, entry, userid"
        ):
            notes.setdefault(row[0], []).append(row[1:])
        return [state_of(row[1:], tuple(Annotation(*note) for note in notes.get(row[0], ()))) for row in rows]

    def mailbox(self, name: str) -> MailboxState | None:
        return self._state("name", name)

    def mailbox_by_id(self, uniqueid: str) -> MailboxState | None:
        return self._state("uniqueid", uniqueid)

    def _state(self, column: str, value: str) -> MailboxState | None:
        if not storable(value):
            return None
        row = self._db.execute(
            f"SELECT id, {STATE_COLUMNS} FROM mailboxes WHERE {column} = ? AND deleted_at = 0", (value,)
        ).fetchone()
        if row is None:
            return None
        return state_of(row[1:], annotations_of(self._db, row[0], [0]).get(0, ()))

    def mailbox_id(self, uniqueid: str) -> int:
        """The row of a mailbox, 0 if there is none."""
        if not storable(uniqueid):
            return 0
        row = self._db.execute(
            "SELECT id FROM mailboxes WHERE uniqueid = ? AND deleted_at = 0", (uniqueid,)
        ).fetchone()
        return row[0] if row else 0

    def is_empty(self) -> bool:
        """True if nothing of this owner is alive: no mailbox, subscription, seen state, quota root or
        server annotation."""
        row = self._db.execute(
            "SELECT EXISTS (SELECT 1 FROM mailboxes WHERE deleted_at = 0)"
            " OR EXISTS (SELECT 1 FROM subscriptions) OR EXISTS (SELECT 1 FROM seen)"
            " OR EXISTS (SELECT 1 FROM quotas) OR EXISTS (SELECT 1 FROM annotations WHERE mailbox = 0)"
        ).fetchone()
        return not row[0]

    def tombstones(self) -> list[Tombstone]:
        rows = self._db.execute("SELECT name, uniqueid, deleted_at, modseq FROM tombstones")
        return sorted(
            (Tombstone(*row) for row in rows), key=lambda stone: (sort_key(stone.name), stone.uniqueid)
        )

    def tombstone(self, uniqueid: str) -> Tombstone | None:
        row = self._db.execute(
            "SELECT name, uniqueid, deleted_at, modseq FROM tombstones WHERE uniqueid = ?"
            " ORDER BY modseq DESC LIMIT 1",
            (uniqueid,),
        ).fetchone()
        return Tombstone(*row) if row else None

    def former_names(self, uniqueid: str) -> list[str]:
        rows = self._db.execute(
            "SELECT name FROM former_names WHERE uniqueid = ? ORDER BY seq DESC", (uniqueid,)
        )
        return [name for (name,) in rows]

    # -- records

    def records(
        self, uniqueid: str, *, since_modseq: int = 0, above_uid: int = 0, batch: int = 2000
    ) -> RecordSource:
        return Records(self._db, self.mailbox_id(uniqueid), since_modseq, above_uid, batch)

    def new_guids(self, uniqueid: str, above_uid: int) -> Iterator[list[tuple[int, bytes]]]:
        cursor = self._db.execute(
            "SELECT uid, guid FROM records WHERE mailbox = ? AND uid > ? AND unlinked = 0"
            " AND EXISTS (SELECT 1 FROM messages WHERE messages.guid = records.guid) ORDER BY uid",
            (self.mailbox_id(uniqueid), above_uid),
        )
        while rows := cursor.fetchmany(2000):
            yield rows

    def live_uids(self, uniqueid: str) -> list[int]:
        rows = self._db.execute(
            "SELECT uid FROM records WHERE mailbox = ? AND expunged = 0 ORDER BY uid",
            (self.mailbox_id(uniqueid),),
        )
        return [uid for (uid,) in rows]

    def tally(self, uniqueid: str, recentuid: int) -> Tally:
        row = self._db.execute(
            "SELECT count(*), total(instr(' ' || flags || ' ', ' \\Seen ') = 0), total(uid > ?), total(size)"
            " FROM records WHERE mailbox = ? AND expunged = 0",
            (recentuid, self.mailbox_id(uniqueid)),
        ).fetchone()
        return Tally(*map(int, row))

    def recalculate_crcs(self, uniqueid: str) -> tuple[int, int]:
        return mailbox_crcs(record for batch in self.records(uniqueid) for record in batch)

    # -- messages

    @property
    def bodies_reader(self) -> BodyReader | None:
        """Where the packs are read; None for an owner that has none."""
        return self._bodies_of() if self._bodies_of else None

    def has_guids(self, guids: Iterable[bytes]) -> set[bytes]:
        found: set[bytes] = set()
        remaining = iter(guids)
        while chunk := list(islice(remaining, _GUIDS_AT_ONCE)):
            marks = ",".join("?" * len(chunk))
            found.update(
                guid
                for (guid,) in self._db.execute(f"SELECT guid FROM messages WHERE guid IN ({marks})", chunk)
            )
        return found

    def bodies(
        self,
        guids: Sequence[bytes],
        partition: str = "",
        encoding: str = "identity",
        *,
        unreadable: Unreadable | None = None,
    ) -> MessageSource:
        reader = self.bodies_reader
        return reader.source(guids, partition, encoding, unreadable) if reader else ()

    def damaged_guids(self) -> set[bytes]:
        reader = self.bodies_reader
        return set(reader.damaged) if reader else set()

    def unsound(self, guids: Iterable[bytes]) -> set[bytes]:
        bad, away = self._examined(guids)
        return bad.union(away)

    def _examined(self, guids: Iterable[bytes]) -> tuple[set[bytes], dict[bytes, MessageUnavailable]]:
        """Those of these messages that are damaged, which is marked, and those that are unavailable."""
        wanted = list(dict.fromkeys(guids))
        bad: set[bytes] = set()
        away: dict[bytes, MessageUnavailable] = {}

        def unreadable(guid: bytes, error: StoreError) -> None:
            if isinstance(error, MessageUnavailable):
                away[guid] = error
            else:
                bad.add(guid)

        for batch in self.bodies(wanted, unreadable=unreadable):
            for body in batch:
                try:
                    if not _is_sound(body):
                        bad.add(body.guid)
                except MessageUnavailable as error:
                    away[body.guid] = error
        reader = self.bodies_reader
        if reader and wanted:
            for guid in bad:
                reader.damaged.add(guid)
            # What is sound again (a pack that came back), or gone, is damaged no more.
            reader.damaged.difference_update(guid for guid in wanted if guid not in bad and guid not in away)
        return bad, away

    def readable(
        self, uniqueid: str, messages: Iterable[tuple[int, bytes]], *, verify: bool = False
    ) -> set[bytes]:
        del uniqueid  # a message is the owner's, whatever mailbox it is in
        stored = self.has_guids({guid for _, guid in messages})
        if not verify or not stored:
            return stored
        bad, away = self._examined(stored)
        if away:
            raise next(iter(away.values()))
        return stored - bad

    def body(self, guid: bytes) -> MessageBody | None:
        for batch in self.bodies([guid]):
            for body in batch:
                return body
        return None

    def note_damaged(self, guid: bytes) -> None:
        reader = self.bodies_reader
        if reader:
            reader.damaged.add(guid)

    # -- sieve

    def sieve_scripts(self) -> list[SieveScript]:
        return script_mail.listing(sievebox.stored_scripts(self))

    def sieve_content(self, filename: str) -> bytes | None:
        return script_mail.content(sievebox.stored_scripts(self), filename)

    # -- quota

    def quotas(self) -> list[Quota]:
        rows = self._db.execute("SELECT root, limits, modseq FROM quotas")
        return sorted(
            (Quota(root, json.loads(limits), modseq) for root, limits, modseq in rows),
            key=lambda quota: sort_key(quota.root),
        )

    def quota(self, root: str) -> Quota | None:
        if not storable(root):
            return None
        row = self._db.execute("SELECT root, limits, modseq FROM quotas WHERE root = ?", (root,)).fetchone()
        return Quota(row[0], json.loads(row[1]), row[2]) if row else None

    def usage(self) -> list[QuotaUsage]:
        used = {
            root: {
                "STORAGE": size,
                "MESSAGE": messages,
                "X-ANNOTATION-STORAGE": annotations,
                "X-NUM-FOLDERS": folders,
            }
            for root, size, messages, annotations, folders in self._db.execute(
                "SELECT quotaroot, sum(bytes), sum(messages), sum(annotation_bytes),"
                " sum(instr(mbtype, 'i') = 0) FROM mailboxes WHERE deleted_at = 0 GROUP BY quotaroot"
            )
        }
        nothing = {"STORAGE": 0, "MESSAGE": 0, "X-ANNOTATION-STORAGE": 0, "X-NUM-FOLDERS": 0}
        return [QuotaUsage(quota.root, used.get(quota.root, dict(nothing))) for quota in self.quotas()]

    # -- the user's own

    def meta(self, *, with_sieve: bool) -> UserMeta:
        return UserMeta(
            seen=tuple(
                seen_of(row)
                for row in self._db.execute(
                    "SELECT uniqueid, lastread, lastuid, lastchange, seenuids FROM seen ORDER BY uniqueid"
                )
            ),
            subscriptions=tuple(
                name for (name,) in self._db.execute("SELECT mailbox FROM subscriptions ORDER BY sort")
            ),
            sieve=tuple(self.sieve_scripts()) if with_sieve else (),
        )

    def seen(self, uniqueid: str) -> Seen | None:
        row = self._db.execute(
            "SELECT uniqueid, lastread, lastuid, lastchange, seenuids FROM seen WHERE uniqueid = ?",
            (uniqueid,),
        ).fetchone()
        return seen_of(row) if row else None

    def annotations(self, mailbox: str) -> list[MailboxAnnotation]:
        number = 0
        if not storable(mailbox):
            return []
        if mailbox:
            row = self._db.execute(
                "SELECT id FROM mailboxes WHERE name = ? AND deleted_at = 0", (mailbox,)
            ).fetchone()
            if row is None:
                return []
            number = row[0]
        rows = self._db.execute(
            "SELECT entry, userid, value FROM annotations WHERE mailbox = ? AND uid = 0"
            " ORDER BY entry, userid",
            (number,),
        )
        return [MailboxAnnotation(mailbox, entry, userid, value) for entry, userid, value in rows]

    def highest_modseq(self) -> int:
        row = self._db.execute("SELECT highestmodseq FROM owner").fetchone()
        return int(row[0]) if row else 0


def _is_sound(body: MessageBody) -> bool:
    digest = hashlib.sha1()
    try:
        for piece in [body.data] if isinstance(body.data, bytes) else body.data:
            digest.update(piece)
    except StoreCorrupt:
        return False
    return digest.digest() == body.guid


def seen_of(row: Sequence[Any]) -> Seen:
    uniqueid, lastread, lastuid, lastchange, seenuids = row
    return Seen(uniqueid, to_unsigned(lastread), lastuid, to_unsigned(lastchange), seenuids)
