"""What settling a conflict does on the master; logged as any local change, so that it is replicated."""

from __future__ import annotations

from collections.abc import Sequence

from cyrus_sync.common.errors import ProtocolError, StoreError
from cyrus_sync.common.model import Annotation, MessageBody, Record, held_date
from cyrus_sync.common.stores.native.flags import keywords_of, with_keywords
from cyrus_sync.common.stores.native.intake import store_bodies
from cyrus_sync.common.stores.native.sieve import SieveChanges
from cyrus_sync.common.stores.native.tally import Tally


class Settling(SieveChanges):
    """The verbs of "Full update = conflict resolution"."""

    def raise_counters(
        self,
        uniqueid: str,
        *,
        uidvalidity: int = 0,
        highestmodseq: int = 0,
        last_uid: int = 0,
        foldermodseq: int = 0,
        raclmodseq: int = 0,
        xconvmodseq: int = 0,
    ) -> None:
        box = self.box_by_id(uniqueid)
        wanted = {
            "uidvalidity": uidvalidity,
            "highestmodseq": highestmodseq,
            "last_uid": last_uid,
            "foldermodseq": foldermodseq,
            "raclmodseq": raclmodseq,
            "xconvmodseq": xconvmodseq,
        }
        higher = {name: value for name, value in wanted.items() if value > getattr(box.state, name)}
        if not higher:
            return
        self.change()
        self.set_columns(box.id, **higher)
        self.raise_owner(
            modseq=max(highestmodseq, foldermodseq, raclmodseq, xconvmodseq), uidvalidity=uidvalidity
        )
        self.log("MAILBOX", box.state.name)

    def rewrite_records(self, uniqueid: str, records: Sequence[Record]) -> None:
        box = self.box_by_id(uniqueid)
        mine = {record.uid: record for record in self.records_by_uid(box.id, [one.uid for one in records])}
        old, new = [], []
        modseq, now = self.next_modseq(), self._around.now()
        for record in records:
            was = mine.get(record.uid)
            if was is None or was.guid != record.guid:
                raise StoreError(f"uid {record.uid} is not the record to rewrite").at(uniqueid=uniqueid)
            old.append(was)
            date = held_date(record.internaldate)
            new.append(record._replace(modseq=modseq, last_updated=now, internaldate=date, size=was.size))
        if not new:
            return
        tally = Tally(box)
        self.update_records(box.id, tally, old, new)
        keywords = with_keywords(box.state.userflags, keywords_of(record.flags for record in new))
        self.set_columns(box.id, **tally.columns_at(modseq), userflags=" ".join(keywords))
        self.log("MAILBOX", box.state.name)

    def heal(self, body: MessageBody) -> None:
        self.change()
        store_bodies(self, [body])
        self.stored_anew([body.guid])

    def adopt(self, uniqueid: str, record: Record, body: MessageBody | None, *, keep_uid: bool) -> int:
        box = self.box_by_id(uniqueid)
        self.change()
        if body is not None and (
            record.guid not in self.has_guids([record.guid]) or self.unsound([record.guid])
        ):
            if body.guid != record.guid:
                raise ProtocolError("message does not match the record").at(uniqueid=uniqueid)
            store_bodies(self, [body])
            self.stored_anew([record.guid])
        size = self.stored_sizes([record.guid]).get(record.guid)
        if size is None:
            raise StoreError("the message to adopt is not stored").at(
                uniqueid=uniqueid, guid=record.guid.hex()
            )
        uid = record.uid if keep_uid else box.state.last_uid + 1
        if keep_uid and self.records_by_uid(box.id, [uid]):
            raise StoreError(f"uid {uid} is taken").at(uniqueid=uniqueid)
        modseq, now = self.next_modseq(), self._around.now()
        new = record._replace(
            uid=uid,
            modseq=modseq,
            last_updated=now,
            internaldate=held_date(record.internaldate),
            size=size,
            createdmodseq=record.createdmodseq or modseq,
        )
        tally = Tally(box)
        self.insert_records(box.id, tally, [new], stored={record.guid})
        keywords = with_keywords(box.state.userflags, keywords_of([new.flags]))
        self.set_columns(
            box.id,
            **tally.columns_at(modseq),
            last_uid=max(box.state.last_uid, uid),
            last_appenddate=now,
            userflags=" ".join(keywords),
        )
        self.log("APPEND", box.state.name)
        self.log("MAILBOX", box.state.name)
        return uid

    def replace_mailbox_annotations(self, uniqueid: str, annotations: Sequence[Annotation]) -> None:
        box = self.box_by_id(uniqueid)
        wanted = tuple(sorted(annotations, key=lambda note: (note.entry, note.userid)))
        if wanted == box.state.annotations:
            return
        self.change()
        self.replace_box_annotations(box, wanted)
        modseq = self.next_modseq()
        self.set_columns(box.id, highestmodseq=modseq, foldermodseq=modseq)
        self.log("MAILBOX", box.state.name)
