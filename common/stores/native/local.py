"""What mail daemons do to messages: append, flags, expunge, copy. Each verb is logged for replication.

One verb takes one modseq a mailbox, above all that the owner has used; `last_updated` is now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from cyrus_sync.common.errors import UnknownFailure
from cyrus_sync.common.model import MAX_SIZE, MAX_UID, Annotation, MessageBody, Record, held_date
from cyrus_sync.common.stores.frames import LARGE, compress_all
from cyrus_sync.common.stores.native.changes import RecordChanges, chunks
from cyrus_sync.common.stores.native.flags import changed_flags, flags_text, keywords_of, with_keywords
from cyrus_sync.common.stores.native.intake import store_bodies
from cyrus_sync.common.stores.native.tally import Tally
from cyrus_sync.common.stores.native.transaction import Box

_MESSAGES_AT_ONCE = 500

_Message = tuple[bytes | MessageBody, int, str]
"""What `append` takes: the message, its internaldate, its flags."""


class LocalMessages(RecordChanges):
    """The verbs on messages."""

    def append(self, mailbox: str, messages: Iterable[_Message], *, uids: Iterable[int] = ()) -> list[int]:
        box = self.require_box(mailbox)
        modseq, now = self.next_modseq(), self._around.now()
        wanted = iter(uids)
        taken: list[int] = []
        tally = Tally(box)
        keywords = box.state.userflags
        last = box.state.last_uid
        for group in _groups(messages):
            texts = [flags_text(flags.split()) for _, _, flags in group]
            keywords = with_keywords(keywords, keywords_of(texts))
            bodies = [_body_of(raw) for raw, _, _ in group]
            self._keep(bodies)
            records = []
            for (_, date, _), text, (_, guid, size, *_) in zip(group, texts, bodies, strict=True):
                last = max(last + 1, next(wanted, 0))
                date = held_date(date)
                records.append(Record(last, modseq, now, text, False, date, size, guid, 0, now, modseq))
            self.insert_records(box.id, tally, records, stored={body.guid for body in bodies})
            taken += [record.uid for record in records]
        if taken:
            self._appended(box, tally, modseq, last, keywords)
        return taken

    def number_anew(self, mailbox: str, uidvalidity: int) -> None:
        box = self.require_box(mailbox)
        if box.state.last_uid or not 0 < uidvalidity <= MAX_UID:
            raise UnknownFailure("the mailbox has given out UIDs already").at(mailbox=mailbox)
        if uidvalidity == box.state.uidvalidity:
            return
        modseq = self.next_modseq()
        self.set_columns(box.id, uidvalidity=uidvalidity, highestmodseq=modseq, foldermodseq=modseq)
        self.raise_owner(uidvalidity=uidvalidity)
        self.log("MAILBOX", mailbox)

    def _keep(self, bodies: Sequence[MessageBody]) -> None:
        """Store the messages that are not stored yet."""
        known = self.has_guids({body.guid for body in bodies})
        bad = self.unsound(known)
        known -= bad
        new = {body.guid: body for body in bodies if body.guid not in known}
        small = {
            guid: body.data
            for guid, body in new.items()
            if isinstance(body.data, bytes) and body.size <= LARGE
        }
        frames = zip(small.items(), compress_all(list(small.values())), strict=True)
        store_bodies(
            self,
            (MessageBody("", guid, len(raw), frame, "zstd") for (guid, raw), frame in frames),
            checked=True,
        )
        store_bodies(self, (body for guid, body in new.items() if guid not in small))
        self.stored_anew(bad)

    def _appended(self, box: Box, tally: Tally, modseq: int, last: int, keywords: tuple[str, ...]) -> None:
        """Header and log after new messages."""
        if last > MAX_UID:
            raise UnknownFailure("no UID is left in the mailbox")
        self.set_columns(
            box.id,
            **tally.columns_at(modseq),
            last_uid=last,
            last_appenddate=self._around.now(),
            userflags=" ".join(keywords),
        )
        self.log("APPEND", box.state.name)
        self.log("MAILBOX", box.state.name)

    def set_flags(
        self, mailbox: str, uids: Iterable[int], *, add: Sequence[str] = (), remove: Sequence[str] = ()
    ) -> None:
        box = self.require_box(mailbox)
        self._rewrite(
            box, uids, lambda record: record._replace(flags=changed_flags(record.flags, add, remove))
        )

    def expunge(self, mailbox: str, uids: Iterable[int]) -> None:
        self._rewrite(self.require_box(mailbox), uids, lambda record: record._replace(expunged=True))

    def _rewrite(self, box: Box, uids: Iterable[int], change: Callable[[Record], Record]) -> None:
        """Change live records; those that stay as they are keep their modseq."""
        pairs = []
        for record in self.records_by_uid(box.id, uids):
            if not record.expunged:
                new = change(record)
                if new != record:
                    pairs.append((record, new))
        if not pairs:
            return
        modseq, now = self.next_modseq(), self._around.now()
        old = [was for was, _ in pairs]
        new_records = [
            new._replace(modseq=modseq, last_updated=now, internaldate=held_date(new.internaldate))
            for _, new in pairs
        ]
        keywords = with_keywords(box.state.userflags, keywords_of(new.flags for new in new_records))
        tally = Tally(box)
        self.update_records(box.id, tally, old, new_records)
        self.set_columns(box.id, **tally.columns_at(modseq), userflags=" ".join(keywords))
        self._selected(box)
        self.log("MAILBOX", box.state.name)

    def _selected(self, box: Box) -> None:
        """The owner has the mailbox open, so no message in it is \\Recent any more."""
        if box.state.recentuid < box.state.last_uid:
            self.set_columns(box.id, recentuid=box.state.last_uid, recenttime=self._around.now())

    def unexpunge(self, mailbox: str, uids: Iterable[int]) -> list[int]:
        box = self.require_box(mailbox)
        wanted = [record for record in self.records_by_uid(box.id, uids) if record.expunged]
        linked = {
            uid
            for chunk in chunks([record.uid for record in wanted], 1000)
            for (uid,) in self._db.execute(
                "SELECT uid FROM records WHERE mailbox = ? AND unlinked = 0 AND uid IN"
                f" ({','.join('?' * len(chunk))})",
                (box.id, *chunk),
            )
        }
        stored = self.has_guids({record.guid for record in wanted})
        back = [record for record in wanted if record.uid in linked and record.guid in stored]
        if not back:
            return []
        new = self._copies(box, back, drop="\\Deleted")
        self._db.executemany(
            "UPDATE records SET unlinked = 1 WHERE mailbox = ? AND uid = ?",
            [(box.id, record.uid) for record in back],
        )
        return new

    def copy(self, mailbox: str, uids: Iterable[int], target: str, *, move: bool = False) -> list[int]:
        box, aim = self.require_box(mailbox), self.require_box(target)
        wanted = [record for record in self.records_by_uid(box.id, uids) if not record.expunged]
        if not wanted:
            return []
        new = self._copies(aim, wanted)
        if move:
            self.expunge(mailbox, [record.uid for record in wanted])
        self.log("DOUBLEMAILBOX", mailbox, target)
        return new

    def _copies(self, aim: Box, records: Sequence[Record], drop: str = "") -> list[int]:
        """Append copies of records to `aim`; their UIDs."""
        modseq, now = self.next_modseq(), self._around.now()
        last = aim.state.last_uid
        copies = []
        for record in records:
            last += 1
            copies.append(
                record._replace(
                    uid=last,
                    modseq=modseq,
                    last_updated=now,
                    flags=changed_flags(record.flags, (), [drop]),
                    expunged=False,
                    internaldate=held_date(record.internaldate),
                    savedate=now,
                    createdmodseq=modseq,
                    annotations=tuple(note._replace(modseq=modseq) for note in record.annotations),
                )
            )
        tally = Tally(aim)
        self.insert_records(aim.id, tally, copies, stored={record.guid for record in records})
        keywords = with_keywords(aim.state.userflags, keywords_of(copy.flags for copy in copies))
        self._appended(aim, tally, modseq, last, keywords)
        return [copy.uid for copy in copies]

    def annotate_message(self, box: Box, entry: str, userid: str, value: bytes | None, uid: int) -> None:
        """Set or (None, empty) remove one annotation of a live message."""
        modseq = self.highest_modseq() + 1

        def change(record: Record) -> Record:
            notes = [note for note in record.annotations if (note.entry, note.userid) != (entry, userid)]
            was = [note for note in record.annotations if (note.entry, note.userid) == (entry, userid)]
            if (value or b"") == (was[0].value if was else b""):
                return record
            if value:
                notes.append(Annotation(entry, userid, modseq, value))
            return record._replace(
                annotations=tuple(sorted(notes, key=lambda note: (note.entry, note.userid)))
            )

        self._rewrite(box, [uid], change)


def _body_of(message: bytes | MessageBody) -> MessageBody:
    if isinstance(message, bytes):
        message = MessageBody("", hashlib.sha1(message).digest(), len(message), message)
    if not message.size:
        raise UnknownFailure("an empty message cannot be stored")
    if message.size > MAX_SIZE:
        raise UnknownFailure(f"a message of {message.size} octets cannot be replicated")
    return message


def _groups(messages: Iterable[_Message]) -> Iterator[list[_Message]]:
    """Messages in groups of bounded number and size."""
    group: list[_Message] = []
    size = 0
    for message in messages:
        group.append(message)
        size += len(message[0]) if isinstance(message[0], bytes) else 0
        if len(group) >= _MESSAGES_AT_ONCE or size >= 4 * 1024 * 1024:
            yield group
            group, size = [], 0
    if group:
        yield group
