"""Making, naming and removing mailboxes: what replication and local changes have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cyrus_sync.common.errors import MailboxNonexistent
from cyrus_sync.common.model import Annotation, MailboxState
from cyrus_sync.common.names import is_deleted, sort_key
from cyrus_sync.common.stores.native.rows import INSERT_ANNOTATION, annotation_rows, state_values
from cyrus_sync.common.stores.native.tally import weight
from cyrus_sync.common.stores.native.transaction import Box, Transaction


def box_sort(name: str) -> str:
    """Key of the order in which mailboxes are listed: live ones in mailboxes.db order, then deleted."""
    return f"{int(is_deleted(name))}{sort_key(name)}"


class Boxes(Transaction):
    """Mailboxes as rows, with tombstones, former names and quota roots."""

    def insert_box(self, state: MailboxState) -> Box:
        """A new mailbox without messages. Its CRCs are those of an empty one."""
        self.change(state.partition)
        columns: dict[str, Any] = state_values(state)
        del columns["sync_crc"], columns["sync_crc_annot"]
        columns["sort"] = box_sort(state.name)
        columns["quotaroot"] = self.quotaroot_of(state.name)
        columns["annotation_bytes"] = weight(state.annotations)
        names = ", ".join(columns)
        marks = ", ".join("?" * len(columns))
        cursor = self._db.execute(
            f"INSERT INTO mailboxes ({names}) VALUES ({marks})", tuple(columns.values())
        )
        number = cursor.lastrowid or 0
        self._db.executemany(INSERT_ANNOTATION, annotation_rows(number, 0, state.annotations))
        self._db.execute(
            "DELETE FROM tombstones WHERE uniqueid = ? AND name = ?", (state.uniqueid, state.name)
        )
        self.raise_owner(modseq=state.highestmodseq, uidvalidity=state.uidvalidity)
        self.hint(state.uniqueid, self.owner)
        return self.box(state.name)

    def remove_box(self, box: Box, *, modseq: int = 0, tombstone: bool = True) -> None:
        """The mailbox is gone for everybody but `expire` and `undelete`: records and messages stay.

        An intermediate has nothing to restore and goes at once. `modseq` is the tombstone's.
        """
        self.change()
        now = self._around.now()
        if tombstone:
            self.bury(box.state.name, box.state.uniqueid, modseq or box.state.highestmodseq)
        if box.state.intermediate:
            self._db.execute("DELETE FROM annotations WHERE mailbox = ?", (box.id,))
            self._db.execute("DELETE FROM mailboxes WHERE id = ?", (box.id,))
        else:
            self.set_columns(box.id, deleted_at=now, quotaroot="")
        self.hint(box.state.uniqueid, None)

    def purge_box(self, number: int) -> None:
        """Forget a removed mailbox for good; its messages stay in the packs until `expire`."""
        for table in ("annotations", "records"):
            self._db.execute(f"DELETE FROM {table} WHERE mailbox = ?", (number,))
        self._db.execute("DELETE FROM mailboxes WHERE id = ? AND deleted_at > 0", (number,))

    def bury(self, name: str, uniqueid: str, modseq: int) -> None:
        """Leave a tombstone."""
        self._db.execute(
            "INSERT OR REPLACE INTO tombstones (name, uniqueid, deleted_at, modseq) VALUES (?, ?, ?, ?)",
            (name, uniqueid, self._around.now(), modseq),
        )

    def rename_box(self, box: Box, new: str, **columns: Any) -> Box:
        """Give a mailbox another name within the owner; the old one stays as tombstone and history."""
        self.change()
        modseq = columns.get("foldermodseq", box.state.highestmodseq)
        self.remember_name(box.state.uniqueid, box.state.name)
        self.set_columns(box.id, name=new, sort=box_sort(new), quotaroot=self.quotaroot_of(new), **columns)
        self.bury(box.state.name, box.state.uniqueid, modseq)
        self._db.execute("DELETE FROM tombstones WHERE uniqueid = ? AND name = ?", (box.state.uniqueid, new))
        return self.box(new)

    def remember_name(self, uniqueid: str, name: str) -> None:
        """Add to the name history."""
        self._db.execute(
            "INSERT INTO former_names (uniqueid, name, renamed_at) VALUES (?, ?, ?)",
            (uniqueid, name, self._around.now()),
        )

    def replace_box_annotations(self, box: Box, annotations: Iterable[Annotation]) -> None:
        """Make `annotations` the mailbox's own; the caller has no other change of annotations pending."""
        new = tuple(sorted(annotations, key=lambda note: (note.entry, note.userid)))
        if new == box.state.annotations:
            return
        self._db.execute("DELETE FROM annotations WHERE mailbox = ? AND uid = 0", (box.id,))
        self._db.executemany(INSERT_ANNOTATION, annotation_rows(box.id, 0, new))
        self._db.execute(
            "UPDATE mailboxes SET annotation_bytes = annotation_bytes + ? WHERE id = ?",
            (weight(new) - weight(box.state.annotations), box.id),
        )

    # -- quota roots

    def quotaroot_of(self, name: str) -> str:
        """The innermost quota root that is `name` or above it, "" if there is none."""
        roots = {root for (root,) in self._db.execute("SELECT root FROM quotas")}
        while name:
            if name in roots:
                return name
            name = name.rpartition(".")[0]
        return ""

    def assign_quotaroots(self) -> None:
        """After a quota root came or went: which mailbox counts where."""
        for number, name, root in self._db.execute(
            "SELECT id, name, quotaroot FROM mailboxes WHERE deleted_at = 0"
        ).fetchall():
            right = self.quotaroot_of(name)
            if right != root:
                self.set_columns(number, quotaroot=right)

    def require_box(self, name: str, uniqueid: str = "") -> Box:
        """`box`, for callers that may be given an intermediate: that is no mailbox to them."""
        found = self.box(name)
        if found.state.intermediate:
            raise MailboxNonexistent().at(mailbox=name, uniqueid=uniqueid)
        return found
