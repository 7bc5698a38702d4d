"""`CyrusWriter`: the verbs of a replay, carried out by a real Cyrus's own csync server.

Each counts for good when that server has answered. What a master decides of one mailbox (`adopt`,
`rewrite_records`, `raise_counters`) is gathered, and carried out as one settlement before anything else is
asked or done.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TypeVar

from cyrus_sync.common.batches import in_batches
from cyrus_sync.common.errors import MailboxNonexistent, SyncChanged
from cyrus_sync.common.model import (
    Annotation,
    MailboxAnnotation,
    MailboxState,
    MailboxUpdate,
    MessageBody,
    Quota,
    Record,
    Seen,
)
from cyrus_sync.common.names import Owner, is_inbox, owner_of
from cyrus_sync.common.newnames import new_uniqueid
from cyrus_sync.common.stores.mailstore import StagedMessages
from cyrus_sync.csync.line import Session, Work
from cyrus_sync.multisite.bodies import unfolded
from cyrus_sync.multisite.cyrus.draft import Draft
from cyrus_sync.multisite.cyrus.reader import FreshReader
from cyrus_sync.multisite.cyrus.saying import applied, imposed, since_of
from cyrus_sync.multisite.cyrus.server import OwnServer
from cyrus_sync.multisite.errors import CannotBeSaid
from cyrus_sync.multisite.mail import SiteReader

T = TypeVar("T")

ALL_RIGHTS = "lrswipkxtecdan"


class CyrusWriter(FreshReader):
    """A `SiteWriter` for one owner."""

    def __init__(
        self, owner: Owner, opened: Callable[[], AbstractContextManager[SiteReader]], server: OwnServer
    ) -> None:
        super().__init__(owner, opened)
        self._server = server
        self._drafts: dict[str, Draft] = {}

    @property
    def now(self) -> SiteReader:
        self.carry_out()
        return super().now

    def carry_out(self) -> None:
        """Have done what was decided."""
        drafts, self._drafts = self._drafts, {}
        for draft in drafts.values():
            settlement = draft.settlement()
            if settlement.changes_nothing and not settlement.expunge:
                continue
            try:
                self._server.settle(owner_of(draft.base.name), settlement)
            except SyncChanged:
                self._server.busy.add(draft.base.uniqueid)
                raise
            finally:
                self.changed()

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        """Nothing that a server has answered is undone."""
        yield

    # -- words of a master

    def apply_mailbox(
        self, update: MailboxUpdate, staged: StagedMessages, *, without_inbox: bool = False
    ) -> None:
        """Raises `CannotBeSaid`, and what the server refuses. After `SyncChecksum` the changes stand."""
        del without_inbox  # that server does not ask for one
        state = update.state
        if state.intermediate or state.tombstone:
            self._call(lambda server: server.mailbox(update))
            return
        records = [record for batch in update.records for record in batch]
        now = self._there(state.name, state.uniqueid)
        if now is None:
            said = replace(update, records=[records] if records else [], since=None)
        else:
            said = applied(update, records, now, self._mine(state.uniqueid, records))
        self._say(said, now, staged)

    def impose_mailbox(
        self,
        update: MailboxUpdate,
        staged: StagedMessages,
        *,
        drop: Collection[int] = (),
        keep: Sequence[Record] = (),
    ) -> None:
        """Raises `CannotBeSaid`, `MailboxNonexistent`, and what the server refuses."""
        state = update.state
        now = self._there(state.name, state.uniqueid)
        if now is None:
            raise MailboxNonexistent().at(mailbox=state.name, uniqueid=state.uniqueid)
        records = [record for batch in update.records for record in batch]
        mine = self._mine(state.uniqueid, [*records, *keep], drop)
        self._say(imposed(update, records, now, mine, drop=drop, keep=keep), now, staged)

    def _say(self, update: MailboxUpdate, now: MailboxState | None, staged: StagedMessages) -> None:
        """APPLY MAILBOX, with the messages of its new records."""
        last = now.last_uid if now is not None else 0
        new = {
            record.guid
            for batch in update.records
            for record in batch
            if record.uid > last and not record.expunged
        }
        names = self._names() if new else []
        try:
            with self._server.alone() as session:
                self._stage(session, update.state.partition, list(new), names, staged)
                session.call(lambda server: server.mailbox(update))
        finally:
            self.changed()

    def _stage(
        self,
        session: Session,
        partition: str,
        guids: list[bytes],
        names: list[str],
        staged: StagedMessages,
    ) -> None:
        """Have the server hold these messages: those of the packet are sent, others it has in some mailbox
        of the owner, or they are sent out of the spool."""
        given = [guid for guid in guids if guid in staged]
        missing = [guid for guid in guids if guid not in staged]
        if given:
            brought = _Brought(staged, given, partition)
            session.call(lambda server: server.message(brought))
        if missing and names:
            wanted = tuple(missing)
            missing = session.call(lambda server: server.reserve(partition, names, wanted))
        if missing:
            lacking = set(missing) - self.now.has_guids(missing)
            if lacking:
                raise CannotBeSaid(f"the message {next(iter(lacking)).hex()} is not here any more")
            own = self.now.bodies(missing, partition)
            session.call(lambda server: server.message(own))

    def _names(self) -> list[str]:
        return [state.name for state in self.now.mailboxes() if not state.intermediate]

    def _mine(
        self, uniqueid: str, records: Iterable[Record], others: Iterable[int] = ()
    ) -> dict[int, Record]:
        """What is here under the UIDs of `records`, and under `others`."""
        wanted = {*(record.uid for record in records), *others}
        found: dict[int, Record] = {}
        if wanted:
            for batch in self.now.records(uniqueid, above_uid=min(wanted) - 1):
                found.update((record.uid, record) for record in batch if record.uid in wanted)
        return found

    def _there(self, name: str, uniqueid: str) -> MailboxState | None:
        """The mailbox as the server tells it now. None where nobody has the name. Raises `SyncChanged` where
        another one has it, as the server would say."""
        self.carry_out()
        for state in self._call(lambda server: server.get_mailboxes([name])):
            if state.intermediate or state.tombstone:
                continue
            if state.uniqueid != uniqueid:
                raise SyncChanged().at(mailbox=name, uniqueid=uniqueid)
            return state
        return None

    def apply_expunge(self, mailbox: str, uniqueid: str, uids: Sequence[int]) -> None:
        self._call(lambda server: server.expunge(mailbox, uniqueid, uids))

    def apply_unmailbox(self, name: str) -> None:
        """The action log says so, too: some releases keep no trace of what is deleted for good."""
        self._server.log([("UNMAILBOX", name)])
        self._call(lambda server: server.unmailbox(name))
        self._server.log([("UNMAILBOX", name)])

    def apply_unuser(self) -> None:
        self._call(lambda server: server.unuser(self.owner.name))

    def apply_quota(self, quota: Quota) -> None:
        self._call(lambda server: server.quota(quota))

    def apply_unquota(self, root: str) -> None:
        self._call(lambda server: server.unquota(root))

    def apply_sub(self, mailbox: str, subscribed: bool) -> None:
        user = self.owner.name
        self._call(lambda server: server.sub(user, mailbox) if subscribed else server.unsub(user, mailbox))

    def apply_seen(self, seen: Seen) -> None:
        self._call(lambda server: server.seen(self.owner.name, seen))

    def apply_annotation(self, annotation: MailboxAnnotation) -> None:
        self._call(lambda server: server.annotation(annotation))

    def apply_unannotation(self, mailbox: str, entry: str, userid: str) -> None:
        self._call(lambda server: server.unannotation(mailbox, entry, userid))

    def apply_sieve(self, filename: str, last_update: int, content: bytes) -> None:
        self._call(lambda server: server.sieve(self.owner.name, filename, last_update, content))

    def apply_unsieve(self, filename: str) -> None:
        self._call(lambda server: server.unsieve(self.owner.name, filename))

    def apply_active_sieve(self, filename: str | None) -> None:
        user = self.owner.name
        if filename is None:
            self._call(lambda server: server.unactivate_sieve(user))
        else:
            self._call(lambda server: server.activate_sieve(user, filename))

    # -- what a master decides

    def create(self, name: str) -> MailboxState:
        """A new mailbox, of a user with all rights for the user."""
        here = [state for state in self.now.mailboxes() if not state.intermediate]
        modseq = max((state.highestmodseq for state in here), default=0) + 1
        made = MailboxState(
            uniqueid=new_uniqueid(),
            name=name,
            highestmodseq=modseq,
            uidvalidity=self._server.seconds(),
            partition=self._server.partition,
            acl=f"{self.owner.name}\t{ALL_RIGHTS}\t" if is_inbox(name) or self.owner.kind == "user" else "",
            options="P",
            createdmodseq=modseq,
            foldermodseq=modseq,
        )
        self._call(lambda server: server.mailbox(MailboxUpdate(made)))
        return made

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
        self._draft(uniqueid).raise_to(
            {
                "uidvalidity": uidvalidity,
                "highestmodseq": highestmodseq,
                "last_uid": last_uid,
                "foldermodseq": foldermodseq,
                "raclmodseq": raclmodseq,
                "xconvmodseq": xconvmodseq,
            }
        )

    def rewrite_records(self, uniqueid: str, records: Sequence[Record]) -> None:
        self._draft(uniqueid).rewritten.update((record.uid, record) for record in records)

    def adopt(self, uniqueid: str, record: Record, body: MessageBody | None, *, keep_uid: bool) -> int:
        """The UID is the one that the message gets unless other mail comes first."""
        draft = self._draft(uniqueid)
        try:
            if body is None:
                mine = draft.known(record.uid)
                if mine is None or mine.guid != record.guid:
                    body = self._stored(record.guid)
        except BaseException:
            self._drafts.clear()  # half of what was decided is not to be done
            self.changed()
            raise
        # Where mail comes all the time, a UID that was free a moment ago is not.
        keep_uid = keep_uid and uniqueid not in self._server.busy
        draft.adopt(record, body, keep_uid=keep_uid)
        return record.uid if keep_uid else draft.next_uid()

    def _stored(self, guid: bytes) -> MessageBody:
        reader = super().now
        for batch in reader.bodies([guid]):
            for body in batch:
                return body
        raise CannotBeSaid(f"the message {guid.hex()} is not here any more")

    def _draft(self, uniqueid: str) -> Draft:
        draft = self._drafts.get(uniqueid)
        if draft is None:
            self.carry_out()
            reader = super().now
            base = reader.mailbox_by_id(uniqueid)
            if base is None:
                raise MailboxNonexistent().at(uniqueid=uniqueid)
            draft = self._drafts[uniqueid] = Draft(base, reader)
        return draft

    def change_header(
        self,
        uniqueid: str,
        *,
        acl: str | None = None,
        options: str | None = None,
        usergroups: str | None = None,
        annotations: Sequence[Annotation] | None = None,
    ) -> None:
        """Rights and options as they are told; annotations of the mailbox as a whole."""
        shown = self.mailbox_by_id(uniqueid)
        if shown is None:
            raise MailboxNonexistent().at(uniqueid=uniqueid)
        now = self._there(shown.name, uniqueid)
        if now is None:
            raise MailboxNonexistent().at(mailbox=shown.name, uniqueid=uniqueid)
        state = replace(
            now,
            sync_crc=0,
            sync_crc_annot=None,
            highestmodseq=now.highestmodseq + 1,
            acl=now.acl if acl is None else acl,
            options=now.options if options is None else options,
            usergroups=now.usergroups if usergroups is None else usergroups,
            annotations=now.annotations if annotations is None else tuple(annotations),
        )
        self._call(lambda server: server.mailbox(MailboxUpdate(state, (), since_of(now))))

    # -- inside

    def _call(self, work: Work[T]) -> T:
        """One verb; what is read afterwards shows it."""
        self.carry_out()
        try:
            return self._server.call(work)
        finally:
            self.changed()


@dataclass(frozen=True, slots=True)
class _Brought:
    """Messages that a packet has brought (`common.model.MessageSource`)."""

    staged: StagedMessages
    guids: Sequence[bytes]
    partition: str

    def __iter__(self) -> Iterator[list[MessageBody]]:
        return in_batches(self._each())

    def _each(self) -> Iterator[MessageBody]:
        for guid in self.guids:
            body = self.staged.get(guid)
            if body is None:
                raise CannotBeSaid(f"the message {guid.hex()} was brought and is gone")
            yield unfolded(body)._replace(partition=self.partition)
