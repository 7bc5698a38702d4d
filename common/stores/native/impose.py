"""What the import of a packet does to a mailbox that has been changed here as well.

The master's records are taken as they are, whatever stands under their UIDs; changes of this replica that the
master does not know yet are kept on top of them. Which those are decides the caller (`multisite.replay`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from cyrus_sync.common.model import Annotation, MailboxUpdate, Record
from cyrus_sync.common.stores.mailstore import StagedMessages
from cyrus_sync.common.stores.native.apply import ApplyMailbox
from cyrus_sync.common.stores.native.intake import Intake
from cyrus_sync.common.stores.native.rows import to_signed
from cyrus_sync.common.stores.native.tally import Tally
from cyrus_sync.common.stores.native.transaction import Box

_COUNTERS = ("raclmodseq", "xconvmodseq", "foldermodseq", "createdmodseq")
_DATES = ("recenttime", "last_appenddate", "pop3_last_login", "pop3_show_after")


class Imposing(ApplyMailbox):
    """The verbs of `multisite.replay`."""

    def impose_mailbox(
        self,
        update: MailboxUpdate,
        staged: StagedMessages,
        *,
        drop: Collection[int] = (),
        keep: Sequence[Record] = (),
    ) -> None:
        """Make the mailbox ``update.state.uniqueid`` what `update` says: its header, and its records just
        as they are. Before that the records of the UIDs in `drop` are forgotten; after it those in `keep`
        are put in their places, with counters that cover them. LAST_UID, HIGHESTMODSEQ and UIDVALIDITY
        never fall. Live records need their messages, staged or stored: `ProtocolError`."""
        box = self.box_by_id(update.state.uniqueid)
        with self.savepoint():
            self.change()
            tally = Tally(box)
            intake = Intake(self, staged)
            self._forget_records(box, tally, drop)
            for batch in update.records:
                self._put_records(box, tally, batch, intake)
            self._put_records(box, tally, keep, intake)
            self._impose_header(box, update, tally, keep)
            if update.records:
                self.log("APPEND", box.state.name, chained=True)
            self.log("MAILBOX", box.state.name, chained=True)

    def _forget_records(self, box: Box, tally: Tally, uids: Collection[int]) -> None:
        """Remove records; their messages stay in the packs until `expire`."""
        if not uids:
            return
        gone = self.records_by_uid(box.id, uids)
        tally.remove([record for record in gone if not record.expunged])
        chosen = json.dumps([record.uid for record in gone])
        for table in ("records", "annotations"):
            self._db.execute(
                f"DELETE FROM {table} WHERE mailbox = ? AND uid IN (SELECT value FROM json_each(?))"
                + (" AND uid > 0" if table == "annotations" else ""),
                (box.id, chosen),
            )

    def _put_records(self, box: Box, tally: Tally, records: Sequence[Record], intake: Intake) -> None:
        """Write records as they are, over those of the same UIDs."""
        if not records:
            return
        there = {mine.uid: mine for mine in self.records_by_uid(box.id, [one.uid for one in records])}
        old, new, fresh, replaced = [], [], [], []
        for record in records:
            mine = there.get(record.uid)
            if mine is None or mine.guid != record.guid or (mine.expunged and not record.expunged):
                # An expunged record may have lost its message: the live one is a new row with one.
                fresh.append(record)
                replaced += [mine.uid] if mine is not None else []
            elif mine != record:
                old.append(mine)
                new.append(record._replace(size=mine.size))
        self._forget_records(box, tally, replaced)
        if fresh:
            self.insert_records(box.id, tally, fresh, stored=intake.take(fresh))
        self.update_records(box.id, tally, old, new)

    def _impose_header(self, box: Box, update: MailboxUpdate, tally: Tally, keep: Sequence[Record]) -> None:
        sent, local = update.state, box.state
        highest = max([sent.highestmodseq, local.highestmodseq, *(one.modseq for one in keep)])
        columns = dict(tally.columns())
        columns.update(
            last_uid=max([sent.last_uid, local.last_uid, *(one.uid for one in keep)]),
            highestmodseq=highest,
            uidvalidity=max(sent.uidvalidity, local.uidvalidity),
            recentuid=sent.recentuid,
        )
        columns.update({name: getattr(sent, name) for name in _COUNTERS if getattr(sent, name)})
        columns.update({name: to_signed(getattr(sent, name)) for name in _DATES})
        texts = {"acl": sent.acl, "options": sent.options, "usergroups": sent.usergroups}
        if sent.userflags:
            texts["userflags"] = " ".join(sent.userflags)
        self.set_columns(box.id, **columns, **texts)
        self.replace_box_annotations(box, sent.annotations)
        self.raise_owner(modseq=highest, uidvalidity=columns["uidvalidity"])

    def change_header(
        self,
        uniqueid: str,
        *,
        acl: str | None = None,
        options: str | None = None,
        usergroups: str | None = None,
        annotations: Sequence[Annotation] | None = None,
    ) -> None:
        """Take over what was changed of a mailbox elsewhere: a local change, logged, with a new modseq."""
        box = self.box_by_id(uniqueid)
        given = {"acl": acl, "options": options, "usergroups": usergroups}
        texts = {
            name: value
            for name, value in given.items()
            if value is not None and value != getattr(box.state, name)
        }
        notes = None
        if annotations is not None:
            notes = tuple(sorted(annotations, key=lambda note: (note.entry, note.userid)))
            if _values(notes) == _values(box.state.annotations):
                notes = None
        if not texts and notes is None:
            return
        self.change()
        if notes is not None:
            self.replace_box_annotations(box, notes)
        modseq = self.next_modseq()
        self.set_columns(box.id, **texts, highestmodseq=modseq, foldermodseq=modseq)
        self.log("MAILBOX", box.state.name)


def _values(notes: Sequence[Annotation]) -> list[tuple[str, str, bytes]]:
    return [(note.entry, note.userid, note.value) for note in notes]
