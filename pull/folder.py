"""One folder's messages: what has changed at the server since the last pull, brought into our mailbox.

The server's UIDs are kept. Our mailbox never gives out one of its own, and never takes one below its
LAST_UID: what replicates from here would then have to be given another. Where that cannot be helped
(UIDVALIDITY has changed, a message is given late, a server takes a UIDNEXT back) the mailbox begins anew
under its name, out of the messages that are here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from cyrus_sync.common.errors import ProtocolError, ReplyError, StoreError
from cyrus_sync.common.identity import same_flags
from cyrus_sync.common.model import MAX_UID, MailboxState, MessageBody
from cyrus_sync.common.numbers import number_set
from cyrus_sync.common.stores.mailstore import MailStore, MailWriter
from cyrus_sync.pull.answers import Fetched, fetched, seconds
from cyrus_sync.pull.bodies import Batch, Bodies, as_body
from cyrus_sync.pull.errors import ServerTrouble
from cyrus_sync.pull.flags import Keywords
from cyrus_sync.pull.folders import Counters, Folder
from cyrus_sync.pull.memory import Memory, Remembered, note_of
from cyrus_sync.pull.notes import MessageNotes
from cyrus_sync.pull.pulled import LOCK_TIMEOUT, Pulled
from cyrus_sync.pull.session import Session
from cyrus_sync.pull.there import Delta, There


class FolderPull:
    """Pulls one folder. `delayed`: what is deleted is set aside for a while."""

    def __init__(
        self,
        session: Session,
        store: MailStore,
        folder: Folder,
        memory: Memory,
        done: Pulled,
        *,
        delayed: bool,
        check: Callable[[], None],
    ) -> None:
        self._session = session
        self._store = store
        self._folder = folder
        self._memory = memory
        self._done = done
        self._delayed = delayed
        self._check = check
        self._own = folder.owner.kind == "user"
        self._there = There(session, store, folder, check)
        self._notes = MessageNotes(session, store, folder, done, check)
        self._known = memory.folders().get(folder.shown)
        self._missing: dict[int, str] = {}
        self._guids: dict[int, bytes] = {}
        self._expunged: set[int] = set()
        self._keywords = Keywords(())
        self._new: list[int] = []

    def run(self) -> MailboxState:
        """Our mailbox as it is then. Raises what concerns more than this folder: `HungUp`, `StoreError`,
        `MailboxLocked`; `ServerTrouble` for what concerns it alone."""
        mailbox = self._mailbox()
        known = self._known if self._known is not None and self._known.is_of(mailbox) else None
        self._keywords = Keywords(mailbox.userflags, seen=self._own)
        now, said = self._there.open(known)
        self._new = self._there.above(mailbox.last_uid, now)
        delta = self._there.delta(mailbox, known, now, said, len(self._new))
        self._apply(mailbox, delta)
        tried = self._known.missing if self._known is not None else frozenset()
        late = sorted(delta.unknown | self._lacking(mailbox, tried.intersection(self._there.still(tried))))
        distrusted = self._known.distrusted if self._known is not None else False
        if late and self._late(mailbox, late):
            distrusted |= bool(delta.unknown - tried - self._expunged)
            self._new = self._there.above(0, now)
        self._arrive(self._new)
        self._notes.bring(sorted(delta.flags.keys() | set(self._new) - self._missing.keys()))
        return self._end(now, distrusted)

    # -- the mailbox

    def _mailbox(self) -> MailboxState:
        """Ours, with the server's UIDVALIDITY; made, or begun anew, where it has another, or is another
        folder."""
        folder, told = self._folder, self._folder.counters
        assert told is not None
        with self._store.read(folder.owner) as reader:
            there = reader.mailbox(folder.name)
        other = self._known is not None and self._known.is_another(folder)
        if other and (there is None or self._known is None or there.uniqueid != self._known.uniqueid):
            other = False
        if (
            there is not None
            and not there.intermediate
            and there.uidvalidity == told.uidvalidity
            and not other
        ):
            return there
        with self._store.write(folder.owner, timeout=LOCK_TIMEOUT) as writer:
            there = writer.mailbox(folder.name)
            if there is None or there.intermediate:
                made = writer.create(folder.name, uidvalidity=told.uidvalidity)
            elif not there.last_uid and not other:
                writer.number_anew(folder.name, told.uidvalidity)
                made = writer.mailbox(folder.name) or there
            else:
                made = writer.renew(folder.name, told.uidvalidity, delayed=self._delayed)
                self._known = None  # and with it the messages that were not given
        self._done.folders += 1
        return made

    # -- what was not given before

    def _lacking(self, mailbox: MailboxState, uids: frozenset[int]) -> frozenset[int]:
        """Those of them that are not here: one that was not given may have come by another pull."""
        if not uids:
            return uids
        with self._store.read(self._folder.owner) as reader:
            here = (record for batch in reader.records(mailbox.uniqueid) for record in batch)
            return uids.difference(record.uid for record in here if not record.expunged)

    # -- into our mailbox

    def _apply(self, mailbox: MailboxState, delta: Delta) -> None:
        """Flags, and what was expunged."""
        if not delta.flags and not delta.gone:
            return
        with self._store.read(self._folder.owner) as reader:
            changes = [
                record._replace(flags=text)
                for batch in reader.records(mailbox.uniqueid)
                for record in batch
                if not record.expunged and record.uid in delta.flags and record.uid not in delta.gone
                for text in [self._keywords.text(delta.flags[record.uid])]
                if not same_flags(record.flags, text)
            ]
        if not changes and not delta.gone:
            return
        with self._store.write(self._folder.owner, timeout=LOCK_TIMEOUT) as writer:
            if changes:
                writer.rewrite_records(mailbox.uniqueid, changes)
            if delta.gone:
                writer.expunge(mailbox.name, sorted(delta.gone))
        self._done.flags += len(changes)
        self._done.expunged += len(delta.gone)

    def _late(self, mailbox: MailboxState, late: Sequence[int]) -> bool:
        """Messages below our LAST_UID. Where one can be had now, the mailbox begins anew, for all of them:
        True."""
        bodies = Bodies(self._session, self._there.reopen)
        had: list[int] = []
        with closing(bodies.batches(late)) as batches:
            for batch in batches:
                self._missing.update(batch.failed)
                had += [one.uid for one in batch.messages]
        if not had:
            return False
        with self._store.read(self._folder.owner) as reader:
            for records in reader.records(mailbox.uniqueid):
                self._guids.update({record.uid: record.guid for record in records if not record.expunged})
                self._expunged.update(record.uid for record in records if record.expunged)
        with self._store.write(self._folder.owner, timeout=LOCK_TIMEOUT) as writer:
            made = writer.renew(mailbox.name, mailbox.uidvalidity, delayed=self._delayed)
        self._keywords = Keywords(made.userflags, seen=self._own)
        self._done.folders += 1
        return True

    def _arrive(self, uids: Sequence[int]) -> None:
        """New messages, ascending."""
        uids = [uid for uid in uids if uid not in self._missing]
        bodies = Bodies(self._session, self._there.reopen)
        identities = bool(self._session.message_item) and self._memory.knows_contents()
        before = self._session.octets
        with closing(bodies.batches(uids, lambda part: self._here(part, identities))) as batches:
            for batch in batches:
                self._check()
                self._missing.update(batch.failed)
                self._store_batch(batch)
        self._done.octets += self._session.octets - before

    def _here(self, uids: Sequence[int], identities: bool) -> set[int]:
        """Those whose contents we have: they need not be fetched."""
        guids = {uid: self._guids[uid] for uid in uids if uid in self._guids}
        rest = [uid for uid in uids if uid not in guids]
        if identities and rest:
            item = self._session.message_item
            told = self._session.command("UID", b"FETCH", number_set(rest), b"(UID " + item + b")")
            named = {one.uid: one.identity for one in fetched(told.get("FETCH", [])) if one.identity}
            known = self._memory.guids(set(named.values()))
            guids.update({uid: known[name] for uid, name in named.items() if name in known})
        with self._store.read(self._folder.owner) as reader:
            stored = reader.has_guids(set(guids.values()))
        self._guids.update({uid: guid for uid, guid in guids.items() if guid in stored})
        return {uid for uid, guid in guids.items() if guid in stored}

    def _store_batch(self, batch: Batch) -> None:
        if not batch.messages:
            return
        owner = self._folder.owner
        with self._store.read(owner) as reader:
            wanted = [self._guids[one.uid] for one in batch.messages if one.body is None]
            here = {
                body.guid: body
                for part in reader.bodies(list(dict.fromkeys(wanted)), unreadable=_leave_out)
                for body in part
            }
            messages = [
                (one, as_body(one.body) if one.body is not None else here.get(self._guids[one.uid]))
                for one in batch.messages
            ]
            with self._store.write(owner, timeout=LOCK_TIMEOUT) as writer:
                came = list(self._append(writer, messages))
        self._done.messages += sum(one.body is not None for one, _ in came)
        self._done.moved += sum(one.body is None for one, _ in came)
        self._memory.put_guids({one.identity: body.guid for one, body in came if one.identity})

    def _append(
        self, writer: MailWriter, messages: Sequence[tuple[Fetched, MessageBody | None]]
    ) -> Iterator[tuple[Fetched, MessageBody]]:
        """Append; what cannot be is left out by itself, and named."""
        good = []
        for one, body in messages:
            if body is None:
                self._missing[one.uid] = "our copy of it cannot be read"
                self._guids.pop(one.uid, None)
            else:
                good.append((one, body))
        if not good:
            return
        rows = [(body, seconds(one.date), self._keywords.text(one.flags or b"")) for one, body in good]
        wanted = [one.uid for one, _ in good]
        try:
            with writer.savepoint():
                given = writer.append(self._folder.name, rows, uids=wanted)
                if given != wanted:
                    raise _OtherUids()
        except (ReplyError, ProtocolError, _OtherUids) as error:
            if len(good) == 1:
                self._missing[good[0][0].uid] = str(error)
                return
            half = len(good) // 2
            yield from self._append(writer, good[:half])
            yield from self._append(writer, good[half:])
            return
        yield from good

    # -- the end

    def _end(self, now: Counters, distrusted: bool) -> MailboxState:
        """Counters, and what is remembered."""
        folder = self._folder
        with self._store.read(folder.owner) as reader:
            mailbox = reader.mailbox(folder.name)
        if mailbox is None:
            raise ServerTrouble("our mailbox is gone")
        last = now.uidnext - 1
        if not distrusted and mailbox.last_uid < last < MAX_UID:
            with self._store.write(folder.owner, timeout=LOCK_TIMEOUT) as writer:
                writer.raise_counters(mailbox.uniqueid, last_uid=last)
                mailbox = writer.mailbox(folder.name) or mailbox
        for uid, reason in sorted(self._missing.items()):
            self._done.troubles.append(f"{folder.shown}: uid {uid} is left out: {reason}")
        if self._keywords.left_out:
            names = " ".join(sorted(self._keywords.left_out)[:5])
            count = len(self._keywords.left_out)
            text = f"{folder.shown}: {count} keywords are left out, a mailbox cannot hold them: {names}"
            self._done.troubles.append(text)
        self._memory.put(
            Remembered(
                folder.shown,
                folder.name,
                folder.identity,
                mailbox.uniqueid,
                note_of(mailbox),
                now,
                distrusted,
                frozenset(self._missing),
            )
        )
        return mailbox


class _OtherUids(Exception):
    """Our mailbox has used a UID that the server has given."""

    def __str__(self) -> str:
        return "its UID is taken here"


def _leave_out(guid: bytes, error: StoreError) -> None:
    """Who asked notices that the message is not among those that came."""
    del guid, error
