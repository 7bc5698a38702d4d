"""What only the store's own upkeep does to an owner: forgetting for good, compacting, bringing back."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.errors import MailboxMoved, MailboxNonexistent, StoreCorrupt, UnknownFailure
from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.names import check_mailbox_name, owner_of
from cyrus_sync.common.stores.care import Removed
from cyrus_sync.common.stores.native.bodies import BodyReader, Stored
from cyrus_sync.common.stores.native.boxes import box_sort
from cyrus_sync.common.stores.native.layout import pack_name
from cyrus_sync.common.stores.native.packs import Place
from cyrus_sync.common.stores.native.rows import STATE_COLUMNS, state_of
from cyrus_sync.common.stores.native.settle import Settling

COPY_AT_ONCE = 1024 * 1024


class PackShare(NamedTuple):
    """How much of a pack is still needed, in bytes of frames."""

    pack: int
    length: int
    live: int


class Upkeep(Settling):
    """The verbs of `expire`, `undelete` and `stats`."""

    # -- records and mailboxes

    def drop_expunged(self, before: int) -> int:
        """Forget records that were expunged before `before`; how many. `deletedmodseq` of their
        mailboxes says up to where that has been done, so that no delta misses an expunge."""
        self.change()
        dropped = 0
        where = "mailbox = ? AND expunged = 1 AND last_updated < ? AND last_updated >= 0"
        for number, known in self._db.execute("SELECT id, deletedmodseq FROM mailboxes").fetchall():
            count, highest = self._db.execute(
                f"SELECT count(*), max(modseq) FROM records WHERE {where}", (number, before)
            ).fetchone()
            if not count:
                continue
            self._db.execute(
                "DELETE FROM annotations WHERE mailbox = ? AND uid IN"
                f" (SELECT uid FROM records WHERE {where})",
                (number, number, before),
            )
            self._db.execute(f"DELETE FROM records WHERE {where}", (number, before))
            self.set_columns(number, deletedmodseq=max(known, highest))
            dropped += count
        return dropped

    def removed_boxes(self) -> list[Removed]:
        """Deleted mailboxes whose mail is still kept, the latest first."""
        rows = self._db.execute(
            f"SELECT id, deleted_at, messages, {STATE_COLUMNS} FROM mailboxes WHERE deleted_at > 0"
            " ORDER BY deleted_at DESC, id DESC"
        ).fetchall()
        return [Removed(row[0], state_of(row[3:]), row[1], row[2]) for row in rows]

    def undelete(self, number: int, name: str) -> MailboxState:
        """Bring a deleted mailbox back under a free name of this owner; a local change."""
        box = next((one for one in self.removed_boxes() if one.id == number), None)
        if box is None:
            raise MailboxNonexistent()
        if owner_of(check_mailbox_name(name)) != self.owner:
            raise UnknownFailure(f"{name} does not belong to {self.owner}")
        if self.find_box("name", name):
            raise UnknownFailure("Mailbox already exists").at(mailbox=name)
        uniqueid = box.state.uniqueid
        if self._around.other_holder(uniqueid) or self.find_box("uniqueid", uniqueid):
            raise MailboxMoved("the mailbox is alive elsewhere").at(uniqueid=uniqueid)
        modseq = self.next_modseq()
        self.set_columns(
            number, deleted_at=0, name=name, sort=box_sort(name), highestmodseq=modseq, foldermodseq=modseq
        )
        self.set_columns(number, quotaroot=self.quotaroot_of(name))
        self._db.execute("DELETE FROM tombstones WHERE name = ? AND uniqueid = ?", (name, uniqueid))
        self.hint(uniqueid, self.owner)
        self.log("MAILBOX", name)
        return self.box(name).state

    def forget_tombstones(self, before: int) -> None:
        """Forget tombstones and former names from before `before`."""
        self.change()
        self._db.execute("DELETE FROM tombstones WHERE deleted_at < ?", (before,))
        self._db.execute(
            "DELETE FROM former_names WHERE renamed_at < ?"
            " AND uniqueid NOT IN (SELECT uniqueid FROM mailboxes)",
            (before,),
        )

    @property
    def worth_keeping(self) -> bool:
        """False if nothing at all is left, neither alive nor to be brought back."""
        if not self.is_empty():
            return True
        found = self._db.execute(
            "SELECT EXISTS (SELECT 1 FROM mailboxes) OR EXISTS (SELECT 1 FROM tombstones)"
            " OR EXISTS (SELECT 1 FROM messages)"
        ).fetchone()
        return bool(found[0])

    # -- messages and packs

    def drop_unreferenced(self) -> int:
        """Forget messages that no record needs any more; how many. Their bytes stay in the packs until
        those are compacted."""
        self.change()
        cursor = self._db.execute(
            "DELETE FROM messages WHERE guid NOT IN (SELECT guid FROM records WHERE unlinked = 0)"
        )
        return cursor.rowcount

    def pack_shares(self) -> list[PackShare]:
        """Every pack that has bytes."""
        rows = self._db.execute(
            "SELECT packs.pack, packs.length, coalesce(sum(messages.length), 0) FROM packs"
            " LEFT JOIN messages ON messages.pack = packs.pack WHERE packs.length > 0"
            " GROUP BY packs.pack ORDER BY packs.pack"
        )
        return [PackShare(*row) for row in rows]

    def move_pack(self, number: int) -> None:
        """Write what is needed of a pack into a new one, and forget the old one, whose file may be
        removed once this is committed. Frames that are not there (the pack is lost, or too short) keep their
        places, and the pack its length: it may come back."""
        packs, bodies = self.packs, self.bodies_reader
        assert bodies is not None
        rows = self._db.execute(
            "SELECT guid, pack, offset, length, size FROM messages WHERE pack = ? ORDER BY offset", (number,)
        ).fetchall()
        moved = [Stored(guid, Place(pack, offset, length), size) for guid, pack, offset, length, size in rows]
        if moved:
            packs.next_pack()
        entries = []
        for stored in moved:
            if not _is_there(bodies, stored):
                self.note_damaged(stored.guid)
                continue
            place = packs.append_pieces(bodies.packs.pieces(stored.place, COPY_AT_ONCE))
            entries.append((stored.guid, place.pack, place.offset, place.length, stored.size))
        self.enter_messages(entries)
        if len(entries) == len(moved):
            self._db.execute("UPDATE packs SET length = 0 WHERE pack = ?", (number,))

    def needless_files(self, directory: Path) -> list[Path]:
        """Pack files that hold nothing the index knows of."""
        known = {pack_name(share.pack) for share in self.pack_shares()}
        return [path for path in sorted(directory.glob("pack-*.zst")) if path.name not in known]


def _is_there(bodies: BodyReader, stored: Stored) -> bool:
    try:
        for _ in bodies.packs.pieces(stored.place, COPY_AT_ONCE):
            pass
    except (StoreCorrupt, OSError):
        return False
    return True


def unlink_all(paths: list[Path]) -> None:
    """Remove files; what is gone already is fine."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
