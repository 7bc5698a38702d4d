"""A new index for one owner, from sound messages and what was salvaged; `reconstruct` says by which rules."""

from __future__ import annotations

import contextlib
import email.utils
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from cyrus_sync.common.files import make_private, sync_file
from cyrus_sync.common.names import is_inbox, root_of
from cyrus_sync.common.newnames import new_uniqueid
from cyrus_sync.common.stores.care import Reconstructed
from cyrus_sync.common.stores.frames import content_pieces
from cyrus_sync.common.stores.native import schema
from cyrus_sync.common.stores.native.care.packscan import PackScan
from cyrus_sync.common.stores.native.care.salvage import Salvage
from cyrus_sync.common.stores.native.homes import OwnerDirectory
from cyrus_sync.common.stores.native.packs import PackReader, Place
from cyrus_sync.common.stores.native.reader import Records
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.common.stores.native.tables.boxes import box_sort
from cyrus_sync.common.stores.native.tables.tally import Tally

RECOVERED = "Recovered"
_HEAD = 64 * 1024
_ALIKE = 4
"""A GUID that differs from another in so few octets is the same, with damage."""
_MOST_MENDED = 1000
_FAR = 1_000_000
"""A UID so far above LAST_UID was never given out."""

_UNCLAIMED = """
SELECT {} FROM temp.sound WHERE guid NOT IN (SELECT guid FROM records WHERE unlinked = 0 OR expunged = 1)
"""
"""Sound messages that no record speaks of."""


class NewIndex:
    """One new index."""

    def __init__(self, store: NativeStore, found: OwnerDirectory, scratch: Path, done: Reconstructed) -> None:
        self.store = store
        self.found = found
        self.owner, self.directory, _ = found
        self.done = done
        self.salvage = Salvage(self.owner, self.directory, scratch)
        self._octets = store.home.packs(found)
        self.scan = PackScan(self.directory, self._octets, scratch)
        self.top = root_of(self.owner)
        self.made: set[int] = set()
        """Mailboxes that are new: nobody's sums can be wrong."""

    def doubt(self, text: str) -> None:
        self.done.doubts.append(text)

    def build(self, path: Path) -> list[str]:
        """Write the index to `path`, whole and synced; the uniqueids of its mailboxes."""
        make_private(path)
        with (
            contextlib.closing(self._octets),
            contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db,
        ):
            self.db = db
            db.execute("PRAGMA synchronous = OFF")
            db.execute("PRAGMA temp_store = FILE")
            db.executescript(f"BEGIN;\n{schema.schema_sql()}")
            self._read_everything()
            self._mailboxes()
            self._messages_of_records()
            self._recover()
            self._enter_messages()
            self._annotations()
            self._sums()
            held = [row[0] for row in db.execute("SELECT uniqueid FROM mailboxes WHERE deleted_at = 0")]
            (self.done.messages,) = db.execute("SELECT count(*) FROM messages").fetchone()
            self.done.mailboxes = len(held)
            db.execute("COMMIT")
            db.execute("PRAGMA journal_mode = WAL")
        sync_file(path)
        return held

    def _read_everything(self) -> None:
        if not self.salvage.is_there:
            self.doubt("there was no index")
        elif not self.salvage.is_whole:
            self.doubt("the index was damaged; what could be read of it was taken over")
        held = set(self.store.home.registry.held_by(self.owner))
        self.salvage.pour(self.db, held)
        self.db.execute(
            "CREATE TEMP TABLE sound (guid BLOB PRIMARY KEY, pack INTEGER NOT NULL, offset INTEGER NOT NULL,"
            " length INTEGER NOT NULL, size INTEGER NOT NULL) WITHOUT ROWID"
        )
        self.db.executemany(
            "INSERT OR IGNORE INTO temp.sound VALUES (?, ?, ?, ?, ?)",
            ((frame.guid, *frame.place, frame.size) for frame in self.scan.frames()),
        )
        for text in self.scan.damaged:
            self.doubt(text)
        if self.db.execute("SELECT 1 FROM owner").fetchone() is None:
            self.db.execute("INSERT INTO owner (one, kind, name) VALUES (1, ?, ?)", self.owner)
        self.db.execute("UPDATE owner SET known_since = ?", (self.store.now(),))
        self.db.execute(
            "UPDATE owner SET highestmodseq = max(highestmodseq,"
            " (SELECT coalesce(max(max(highestmodseq, foldermodseq)), 0) FROM mailboxes),"
            " (SELECT coalesce(max(modseq), 0) FROM records)),"
            " uidvalidity = max(uidvalidity, (SELECT coalesce(max(uidvalidity), 0) FROM mailboxes))"
        )

    @property
    def packs_are_sound(self) -> bool:
        """Whether every byte that should be in a pack was read."""
        lengths = dict(self.db.execute("SELECT pack, length FROM packs WHERE length > 0"))
        return (
            not any(self.scan.unreadable.values())
            and not self.scan.damaged
            and all(self.scan.sizes.get(pack, 0) >= length for pack, length in lengths.items())
        )

    # -- mailboxes

    def _mailboxes(self) -> None:
        """Give every record a mailbox, and a user an INBOX."""
        numbers = [
            number
            for (number,) in self.db.execute(
                "SELECT DISTINCT mailbox FROM records WHERE mailbox NOT IN (SELECT id FROM mailboxes)"
                " ORDER BY mailbox"
            )
        ]
        known = {uniqueid for (uniqueid,) in self.db.execute("SELECT uniqueid FROM mailboxes")}
        lost = sorted(set(self.store.home.registry.held_by(self.owner)) - known)
        headless = not self._has(self.top)
        missing = len(numbers) + (headless and 1 not in numbers)
        spare = lost[0] if len(lost) == 1 == missing else ""
        if headless:
            # The first mailbox of an owner is the one at the top.
            number = 1 if 1 in numbers else 0
            self._make(self.top, number, spare)
            if self.salvage.is_there or numbers:
                self.doubt(f"{self.top}: the mailbox itself could not be read, and is made anew")
        for number in numbers:
            if not (headless and number == 1):
                name = self._free_name()
                self._make(name, number, "" if headless else spare)
                self.doubt(f"a mailbox whose name could not be read is {name} now")
        gone = set(lost) - {row[0] for row in self.db.execute("SELECT uniqueid FROM mailboxes")}
        if gone:
            self.doubt(f"{len(gone)} mailboxes that the registry knows could not be found by name")
        self.one_mailbox = headless and len(lost) <= 1 and not numbers and not known

    def _has(self, name: str) -> bool:
        query = "SELECT 1 FROM mailboxes WHERE name = ? AND deleted_at = 0"
        return self.db.execute(query, (name,)).fetchone() is not None

    def _free_name(self) -> str:
        number, name = 1, f"{self.top}.{RECOVERED}"
        while self._has(name):
            number += 1
            name = f"{self.top}.{RECOVERED}-{number}"
        return name

    def _make(self, name: str, number: int, uniqueid: str) -> int:
        """A mailbox of which nothing is known; its number (a new one for 0)."""
        modseq, uidvalidity = self._next_modseq(), self._next_uidvalidity()
        above = self.db.execute(
            "SELECT partition, acl FROM mailboxes WHERE name = ? AND deleted_at = 0", (self.top,)
        ).fetchone()
        partition, acl = above or (self.store.home.partition_of(self.found), self._acl())
        cursor = self.db.execute(
            "INSERT INTO mailboxes (id, uniqueid, name, sort, highestmodseq, uidvalidity, partition, acl,"
            " options, createdmodseq, foldermodseq) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'P', ?, ?)",
            (
                number or None, uniqueid or new_uniqueid(), name, box_sort(name), modseq, uidvalidity,
                partition, acl, modseq, modseq,
            ),
        )  # fmt: skip
        made = cursor.lastrowid or 0
        self.made.add(made)
        self._log(name)
        return made

    def _acl(self) -> str:
        return f"{self.owner.name}\tlrswipkxtecdan\t" if is_inbox(self.top) else "anyone\tlrs\t"

    def _next_modseq(self) -> int:
        row = self.db.execute(
            "UPDATE owner SET highestmodseq = highestmodseq + 1 RETURNING highestmodseq"
        ).fetchone()
        return int(row[0])

    def _next_uidvalidity(self) -> int:
        row = self.db.execute(
            "UPDATE owner SET uidvalidity = max(uidvalidity + 1, ?) RETURNING uidvalidity",
            (self.store.now(),),
        ).fetchone()
        return int(row[0])

    def _log(self, name: str) -> None:
        """What was made up is told to a replica, where anything is."""
        if not self.store.keeps_lines:
            return
        line = json.dumps(["MAILBOX", name])
        if self.db.execute("SELECT 1 FROM outbox WHERE line = ?", (line,)).fetchone() is None:
            self.db.execute("INSERT INTO outbox (chained, line) VALUES (0, ?)", (line,))

    # -- records and their messages

    def _messages_of_records(self) -> None:
        self._mend_guids()
        missing = "FROM records WHERE NOT EXISTS (SELECT 1 FROM temp.sound WHERE sound.guid = records.guid)"
        self.db.execute(
            "UPDATE records SET unlinked = 1 WHERE expunged = 1 AND unlinked = 0"
            " AND NOT EXISTS (SELECT 1 FROM temp.sound WHERE sound.guid = records.guid)"
        )
        (count,) = self.db.execute(f"SELECT count(*) {missing} AND expunged = 0").fetchone()
        if count and not self.salvage.is_whole and self.packs_are_sound:
            # Every message is here, so these rows speak of none: they are remains of what was removed.
            self.db.execute(f"DELETE {missing} AND expunged = 0")
            self.doubt(f"{count} records whose message was never here, or removed long ago, were dropped")
        elif count:
            self.doubt(f"{count} messages cannot be read: their records stay, the messages may be elsewhere")
        self.db.execute(
            "UPDATE records SET size = (SELECT size FROM temp.sound WHERE sound.guid = records.guid)"
            " WHERE size <> (SELECT size FROM temp.sound WHERE sound.guid = records.guid)"
        )

    def _mend_guids(self) -> None:
        """A record whose GUID has a few damaged octets still means the message that has the others."""
        lost = self.db.execute(
            "SELECT mailbox, uid, guid FROM records WHERE expunged = 0"
            " AND guid NOT IN (SELECT guid FROM temp.sound) LIMIT ?",
            (_MOST_MENDED + 1,),
        ).fetchall()
        if len(lost) > _MOST_MENDED:
            return
        parts = range(1, 21, _ALIKE)
        alike = " OR ".join(f"substr(guid, {part}, {_ALIKE}) = ?" for part in parts)
        for mailbox, uid, guid in lost:
            pieces = [guid[part - 1 : part - 1 + _ALIKE] for part in parts]
            found = self.db.execute(f"SELECT guid FROM temp.sound WHERE {alike}", pieces).fetchall()
            same = [one for (one,) in found if sum(map(int.__ne__, one, guid)) <= _ALIKE]
            if len(same) == 1:
                self.db.execute(
                    "UPDATE records SET guid = ? WHERE mailbox = ? AND uid = ?", (same[0], mailbox, uid)
                )

    def _recover(self) -> None:
        """Give a record to the messages that have none and should have one."""
        (listed,) = self.db.execute("SELECT count(*) FROM messages").fetchone()
        if self.salvage.is_whole:
            # All that the index knows; the rest of a pack was removed and waits for expire.
            query = (
                _UNCLAIMED.format("guid, pack, offset, length") + " AND guid IN (SELECT guid FROM messages)"
            )
        else:
            query = _UNCLAIMED.format("guid, pack, offset, length")
        found = self.db.execute(f"{query} ORDER BY pack, offset").fetchall()
        if not found:
            return
        if self.one_mailbox:
            name = self.top
        else:
            name = f"{self.top}.{RECOVERED}"
        row = self.db.execute(
            "SELECT id FROM mailboxes WHERE name = ? AND deleted_at = 0", (name,)
        ).fetchone()
        number = row[0] if row else self._make(name, 0, "")
        self.made.add(number)
        self._log(name)
        uid = self.db.execute(
            "SELECT max(last_uid, (SELECT coalesce(max(uid), 0) FROM records WHERE mailbox = id))"
            " FROM mailboxes WHERE id = ?",
            (number,),
        ).fetchone()[0]
        modseq, now = self._next_modseq(), self.store.now()
        with contextlib.closing(PackReader(self._octets.again())) as packs:
            for guid, *place in found:
                uid += 1
                date = _date_of(packs, Place(*place)) or self.scan.modified[place[0]]
                self.db.execute(
                    "INSERT INTO records (mailbox, uid, modseq, last_updated, flags, expunged, internaldate,"
                    " size, guid, thrid, savedate, createdmodseq) SELECT ?, ?, ?, ?, '', 0, ?, size, guid, 0,"
                    " ?, ? FROM temp.sound WHERE guid = ?",
                    (number, uid, modseq, now, date, now, modseq, guid),
                )
        self.done.recovered = len(found)
        self.doubt(
            f"{len(found)} messages had no record that could be read: they are in {name}, without flags"
            + ("" if listed else "; among them may be some that were removed long ago")
        )

    def _enter_messages(self) -> None:
        """The table of messages, and that of packs, as the packs themselves say."""
        self.db.execute("DELETE FROM messages")
        self.db.execute(
            "INSERT INTO messages (guid, pack, offset, length, size) SELECT guid, pack, offset, length, size"
            " FROM temp.sound WHERE guid IN (SELECT guid FROM records WHERE unlinked = 0)"
        )
        self.db.execute("UPDATE packs SET length = 0")
        self.db.executemany(
            "INSERT OR REPLACE INTO packs (pack, length) VALUES (?, ?)", self.scan.sizes.items()
        )

    def _annotations(self) -> None:
        cursor = self.db.execute(
            "DELETE FROM annotations WHERE (mailbox > 0 AND mailbox NOT IN (SELECT id FROM mailboxes))"
            " OR (uid > 0 AND NOT EXISTS (SELECT 1 FROM records WHERE records.mailbox = annotations.mailbox"
            " AND records.uid = annotations.uid))"
        )
        if cursor.rowcount > 0:
            self.doubt(f"{cursor.rowcount} annotations of what could not be read were dropped")
        self.db.execute(
            "UPDATE records SET annotations = (SELECT count(*) FROM annotations"
            " WHERE annotations.mailbox = records.mailbox AND annotations.uid = records.uid)"
        )

    # -- sums

    def _sums(self) -> None:
        roots = {root for (root,) in self.db.execute("SELECT root FROM quotas")}
        rows = self.db.execute(
            "SELECT id, name, deleted_at, mbtype, last_uid, sync_crc, sync_crc_annot, messages FROM mailboxes"
        ).fetchall()
        for number, name, deleted, mbtype, last, *said in rows:
            self._renumber(number, last)
            if "i" not in mbtype:
                exact = self._sums_of(number, said)
                if not exact and number not in self.made:
                    self._distrust(number, name, alive=not deleted)
            root = name
            while root and root not in roots:
                root = root.rpartition(".")[0]
            self.db.execute(
                "UPDATE mailboxes SET sort = ?, quotaroot = ?,"
                " last_uid = max(last_uid, (SELECT coalesce(max(uid), 0) FROM records WHERE mailbox = id)),"
                " highestmodseq = max(highestmodseq,"
                " (SELECT coalesce(max(modseq), 0) FROM records WHERE mailbox = id))"
                " WHERE id = ?",
                (box_sort(name), "" if deleted else root, number),
            )
        self.db.execute(
            "UPDATE owner SET highestmodseq = max(highestmodseq,"
            " (SELECT coalesce(max(highestmodseq), 0) FROM mailboxes))"
        )

    def _renumber(self, number: int, last: int) -> None:
        """UIDs that cannot have been given out."""
        if self.salvage.is_whole:
            return
        for (uid,) in self.db.execute(
            "SELECT uid FROM records WHERE mailbox = ? AND uid > ? ORDER BY uid", (number, last + _FAR)
        ).fetchall():
            (highest,) = self.db.execute(
                "SELECT max(?, coalesce(max(uid), 0)) FROM records WHERE mailbox = ? AND uid <= ?",
                (last, number, last + _FAR),
            ).fetchone()
            for table in ("records", "annotations"):
                self.db.execute(
                    f"UPDATE {table} SET uid = ? WHERE mailbox = ? AND uid = ?", (highest + 1, number, uid)
                )

    def _sums_of(self, number: int, said: list[int]) -> bool:
        """Write what the records add up to; whether that is what the mailbox says."""
        (notes,) = self.db.execute(
            "SELECT coalesce(sum(length(value)), 0) FROM annotations WHERE mailbox = ? AND uid = 0", (number,)
        ).fetchone()
        tally = Tally.anew(notes)
        for batch in Records(self.db, number, 0, 0, 2000):
            tally.add(batch)
        known = said[1]
        self.db.execute(
            "UPDATE mailboxes SET sync_crc = ?, sync_crc_annot = ?, messages = ?, bytes = ?,"
            " annotation_bytes = ? WHERE id = ?",
            (
                tally.crc,
                tally.crc_annot if known else 0,
                tally.messages,
                tally.bytes,
                tally.annotation_bytes,
                number,
            ),
        )
        return said[0] == tally.crc and known in (0, tally.crc_annot) and said[2] == tally.messages

    def _distrust(self, number: int, name: str, *, alive: bool) -> None:
        """The mailbox is not what it was. A replica is asked what it has, and nothing of that counts as
        cleaned up here."""
        modseq = self._next_modseq()
        self.db.execute(
            "UPDATE mailboxes SET highestmodseq = ?, deletedmodseq = 0 WHERE id = ?", (modseq, number)
        )
        if alive:
            self._log(name)
            self.doubt(f"{name}: is not all that it was, by its own sums")


def _date_of(packs: PackReader, place: Place) -> int:
    """The date in the header of a message, in Unix seconds; 0 where there is none that makes sense."""
    head = b""
    for piece in _first_pieces(packs, place):
        head += piece
        if len(head) >= _HEAD or b"\r\n\r\n" in head:
            break
    header = head.partition(b"\r\n\r\n")[0].replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ")
    for line in header.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"date":
            with contextlib.suppress(ValueError, TypeError, IndexError, OverflowError):
                moment = int(email.utils.parsedate_to_datetime(value.decode("ascii", "replace")).timestamp())
                return moment if 0 < moment < 1 << 32 else 0
    return 0


def _first_pieces(packs: PackReader, place: Place) -> Iterator[bytes]:
    return content_pieces(packs.pieces(place))
