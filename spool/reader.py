"""`SpoolReader`: one owner of a real Cyrus's spool, as replication reads him.

A mailbox is shown by a look at its header at first; its records are copied only when they are asked for, and
must then be those that the header spoke of. Nothing is held open between but those copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

from cyrus_sync.common import script_mail
from cyrus_sync.common.errors import MailboxLocked, SnapshotLost, StoreCorrupt, StoreError
from cyrus_sync.common.master import Unreadable
from cyrus_sync.common.model import (
    Annotation,
    MailboxAnnotation,
    MailboxState,
    MessageBody,
    MessageSource,
    Quota,
    RecordSource,
    Seen,
    SieveScript,
    Tombstone,
    UserMeta,
)
from cyrus_sync.common.names import Owner, owner_of
from cyrus_sync.common.script_mail import StoredScript
from cyrus_sync.common.stores.mailstore import QuotaUsage
from cyrus_sync.spool import scripts
from cyrus_sync.spool.annotations import read_notes
from cyrus_sync.spool.conversations import ConversationCounts
from cyrus_sync.spool.copying import Peek, peek
from cyrus_sync.spool.db import Database, items_of
from cyrus_sync.spool.entries import Entry
from cyrus_sync.spool.held import HeldMessages
from cyrus_sync.spool.mailbox import MailboxFiles
from cyrus_sync.spool.messages import read_message
from cyrus_sync.spool.seen import read_seen, read_seen_of
from cyrus_sync.spool.server import Server
from cyrus_sync.spool.snapshot import Snapshot, take
from cyrus_sync.spool.subscriptions import read_subscriptions
from cyrus_sync.spool.trouble import Gone, SpoolDamaged
from cyrus_sync.spool.usage import usage_of

T = TypeVar("T")

_ANNOTATION_CRC_CHANGED = 20
"""From this version of the index on the stored CRC of annotations is not the one that replication has."""


class _Shown(NamedTuple):
    """A mailbox as it was shown: what is said of it from then on agrees with this."""

    entry: Entry
    files: MailboxFiles
    seen: Peek
    state: MailboxState


class SpoolReader:
    """A `MasterReader`. `close` it.

    `held`: the owner's messages by GUID, for who asks for them so; without it there are none.
    """

    def __init__(self, server: Server, owner: Owner, held: HeldMessages | None = None) -> None:
        self.owner = owner
        self._held = held
        self._server = server
        self._userid = owner.name if owner.kind == "user" else ""
        self._shown: dict[str, _Shown] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._superseded: list[Snapshot] = []
        self._inbox_id: str | None = None
        self._raclmodseq: int | None = None
        self._conversations: ConversationCounts | None = None

    def close(self) -> None:
        for snapshot in (*self._snapshots.values(), *self._superseded):
            snapshot.close()
        self._snapshots.clear()
        self._superseded.clear()
        if self._conversations is not None:
            self._conversations.close()

    # -- mailboxes

    def mailboxes(self) -> list[MailboxState]:
        found = []
        by_id = self._server.mailboxes.keeps_by_id()
        for entry in self._server.mailboxes.of_owner(self.owner):
            # Before 3.6 a server lists no intermediates, and its client sends only those that are asked for.
            if not entry.live or (entry.intermediate and not by_id):
                continue
            try:
                state = self._state(entry, keep=False)
            except (StoreError, MailboxLocked):
                state = MailboxState(entry.uniqueid, entry.name, _kind(entry), partition=entry.partition)
            found += [state] if state is not None else []
        return found

    def mailbox(self, name: str) -> MailboxState | None:
        entry = self._server.mailboxes.entry(name)
        return self._state(entry) if entry is not None and entry.live and self._is_ours(entry) else None

    def mailbox_by_id(self, uniqueid: str) -> MailboxState | None:
        entry = self._server.mailboxes.by_id(uniqueid)
        if entry is None or not self._is_ours(entry):
            return None
        return self.mailbox(entry.name)

    def tombstones(self) -> list[Tombstone]:
        return [
            Tombstone(entry.name, entry.uniqueid, entry.changed, entry.foldermodseq)
            for entry in self._server.mailboxes.of_owner(self.owner)
            if entry.tombstone and entry.uniqueid
        ]

    def tombstone(self, uniqueid: str) -> Tombstone | None:
        found = [stone for stone in self.tombstones() if stone.uniqueid == uniqueid]
        if found:
            return max(found, key=lambda stone: stone.modseq)
        gone = self._server.mailboxes.gone(uniqueid)
        if gone is None or not self._is_ours(gone):
            return None
        return Tombstone(gone.name, uniqueid, gone.changed, gone.foldermodseq)

    def former_names(self, uniqueid: str) -> list[str]:
        entry = self._server.mailboxes.by_id(uniqueid)
        return list(entry.former) if entry is not None else []

    def _is_ours(self, entry: Entry) -> bool:
        return owner_of(entry.name) == self.owner

    def _state(self, entry: Entry, *, keep: bool = True) -> MailboxState | None:
        """None for a mailbox that went away meanwhile. `keep`: it is to be shown like this from now on."""
        if entry.intermediate:
            modseq = entry.foldermodseq
            kind = _kind(entry)
            return MailboxState(entry.uniqueid, entry.name, kind, highestmodseq=modseq)
        shown = self._shown.get(entry.uniqueid)
        if shown is None or shown.entry.name != entry.name:
            shown = self._show(entry)
            if shown is None:
                return None
            if keep:
                self._shown[entry.uniqueid] = shown
        return shown.state

    def _show(self, entry: Entry) -> _Shown | None:
        """A mailbox as it is now. None for one that went away."""
        for again in (False, True):
            files = self._server.files(entry)
            try:
                seen = peek(files)
                self._check(entry, files, seen)
                return _Shown(entry, files, seen, self._as_state(entry, seen))
            except Gone as gone:
                now = self._server.mailboxes.entry(entry.name)
                if now is None or not now.live or now.uniqueid != entry.uniqueid:
                    return None
                if again:
                    raise SpoolDamaged(files.index, 0, f"mailboxes.db has the mailbox, and {gone}").at(
                        mailbox=entry.name, uniqueid=entry.uniqueid
                    ) from None
                entry = now
            except (StoreError, MailboxLocked) as error:
                raise error.at(mailbox=entry.name, uniqueid=entry.uniqueid) from None
        return None

    def _check(self, entry: Entry, files: MailboxFiles, seen: Peek) -> None:
        theirs = seen.header.uniqueid
        if theirs and theirs != entry.uniqueid:
            what = f"it is of the mailbox {theirs}, and this is {entry.uniqueid} by mailboxes.db"
            raise SpoolDamaged(files.header, 0, what)

    def _as_state(self, entry: Entry, seen: Peek) -> MailboxState:
        index, header = seen.index, seen.header
        has_annotation_crc = index.has_annotation_crc and index.minor_version < _ANNOTATION_CRC_CHANGED
        return MailboxState(
            uniqueid=entry.uniqueid,
            name=entry.name,
            mbtype=_kind(entry),
            sync_crc=index.sync_crc,
            sync_crc_annot=index.sync_crc_annot if has_annotation_crc else 0,
            last_uid=index.last_uid,
            highestmodseq=index.highestmodseq,
            recentuid=index.recentuid,
            recenttime=index.recenttime,
            last_appenddate=index.last_appenddate,
            pop3_last_login=index.pop3_last_login,
            pop3_show_after=index.pop3_show_after,
            uidvalidity=index.uidvalidity,
            partition=entry.partition,
            acl=entry.acl,
            options=index.option_letters,
            quotaroot=header.quotaroot,
            createdmodseq=index.createdmodseq or entry.createdmodseq,
            foldermodseq=entry.foldermodseq,
            raclmodseq=self._rights_changed(),
            xconvmodseq=self._conversations_changed(entry),
            deletedmodseq=index.deletedmodseq,
            userflags=header.userflags,
            annotations=tuple(self._mailbox_annotations(entry)),
        )

    # -- records

    def records(
        self, uniqueid: str, *, since_modseq: int = 0, above_uid: int = 0, batch: int = 2000
    ) -> RecordSource:
        # What the replica then has is compared with the sync CRCs that are sent along, by the replica.
        snapshot = self._snapshot(uniqueid, summed=not since_modseq)
        return snapshot.records(since_modseq, above_uid, batch) if snapshot is not None else []

    def new_guids(self, uniqueid: str, above_uid: int) -> Iterator[list[tuple[int, bytes]]]:
        snapshot = self._snapshot(uniqueid, summed=not above_uid)
        if snapshot is not None:
            for places in snapshot.places(above_uid):
                yield [(place.uid, place.guid) for place in places]

    def recalculate_crcs(self, uniqueid: str) -> tuple[int, int]:
        snapshot = self._snapshot(uniqueid, summed=True)
        return snapshot.crcs if snapshot is not None else (0, 0)

    def has_guids(self, guids: Iterable[bytes]) -> set[bytes]:
        return self._held.among(guids) if self._held is not None else set()

    def bodies(
        self,
        guids: Sequence[bytes],
        partition: str = "",
        encoding: str = "identity",
        *,
        unreadable: Unreadable | None = None,
    ) -> MessageSource:
        """Messages by GUID in the order asked for; those that he does not have are left out."""
        del encoding
        return self._held.bodies(guids, partition, unreadable) if self._held is not None else ()

    def body(self, guid: bytes) -> MessageBody | None:
        """One of them."""
        for batch in self.bodies([guid]):
            return next(iter(batch), None)
        return None

    def damaged_guids(self) -> set[bytes]:
        """None: what is damaged is not remembered, since nothing is written here."""
        return set()

    def note_damaged(self, guid: bytes) -> None:
        """Nothing is written here."""
        del guid

    def readable(
        self, uniqueid: str, messages: Iterable[tuple[int, bytes]], *, verify: bool = False
    ) -> set[bytes]:
        wanted = dict(messages)
        snapshot = self._snapshot(uniqueid, summed=False)
        if not wanted or snapshot is None:
            return set()
        found = set()
        last = max(wanted)
        for places in snapshot.places(min(wanted) - 1):
            for place in places:
                if wanted.get(place.uid) != place.guid:
                    continue
                if not verify or _is_sound(snapshot, place.uid, place.guid):
                    found.add(place.guid)
            if places and places[-1].uid >= last:
                break
        return found

    def _snapshot(self, uniqueid: str, *, summed: bool) -> Snapshot | None:
        """The records that the mailbox had when it was shown, with the sync CRCs that they sum up to if these
        are wanted. None for one that is not here."""
        found = self._snapshots.get(uniqueid)
        if found is not None and (found.summed or not summed):
            return found
        shown = self._shown.get(uniqueid)
        if shown is None:
            entry = self._server.mailboxes.by_id(uniqueid)
            if entry is None or entry.intermediate or not self._is_ours(entry):
                return None
            shown = self._show(replace(entry, former=()))
            if shown is None:
                return None
            self._shown[uniqueid] = shown
        try:
            snapshot = take(shown.files, self._userid, items_of, summed=summed)
        except Gone:
            raise SnapshotLost().at(mailbox=shown.entry.name, uniqueid=uniqueid) from None
        except (StoreError, MailboxLocked) as error:
            raise error.at(mailbox=shown.entry.name, uniqueid=uniqueid) from None
        if snapshot.index != shown.seen.index:
            snapshot.close()
            raise SnapshotLost().at(mailbox=shown.entry.name, uniqueid=uniqueid)
        if found is not None:
            self._superseded.append(found)  # somebody may be reading in it
        self._snapshots[uniqueid] = snapshot
        return snapshot

    # -- all else

    def quotas(self) -> list[Quota]:
        return self._server.quotas.of_owner(self.owner) if self.owner.kind != "server" else []

    def quota(self, root: str) -> Quota | None:
        return self._server.quotas.root(root)

    def usage(self) -> list[QuotaUsage]:
        """What is used of each quota root."""
        return usage_of(self._server, self.owner) if self.owner.kind != "server" else []

    def meta(self, *, with_sieve: bool) -> UserMeta:
        if self.owner.kind != "user":
            return UserMeta()
        return UserMeta(
            seen=tuple(self._user_database("seen", read_seen)),
            subscriptions=tuple(
                self._user_database("sub", lambda database: read_subscriptions(database, self._userid))
            ),
            sieve=tuple(self.sieve_scripts() if with_sieve else self._scripts_left_behind()),
        )

    def seen(self, uniqueid: str) -> Seen | None:
        if self.owner.kind != "user":
            return None
        return self._user_database("seen", lambda database: read_seen_of(database, uniqueid))

    def sieve_scripts(self) -> list[SieveScript]:
        """The lines of the script list."""
        stored = self._stored_scripts()
        if stored is not None:
            return script_mail.listing(stored)
        return scripts.read_scripts(self._server.paths.sieve(self._userid, self._inbox()))

    def _scripts_left_behind(self) -> list[SieveScript]:
        """Scripts that are files although the release keeps them as messages: nobody has migrated them."""
        mailbox = self._server.mailboxes.entry(script_mail.sieve_mailbox(self.owner))
        if not self._server.mailboxes.keeps_by_id() or (mailbox is not None and mailbox.live):
            return []
        return scripts.read_scripts(self._server.paths.sieve(self._userid, self._inbox()))

    def sieve_content(self, filename: str) -> bytes | None:
        stored = self._stored_scripts()
        if stored is not None:
            return script_mail.content(stored, filename)
        return scripts.read_script(self._server.paths.sieve(self._userid, self._inbox()), filename)

    def annotations(self, mailbox: str) -> list[MailboxAnnotation]:
        if not mailbox:
            notes = self._notes("")
        else:
            entry = self._server.mailboxes.entry(mailbox)
            notes = self._mailbox_annotations(entry) if entry is not None and entry.live else []
        return [MailboxAnnotation(mailbox, note.entry, note.userid, note.value) for note in notes]

    # -- inside

    def _mailbox_annotations(self, entry: Entry) -> list[Annotation]:
        by_id = self._server.mailboxes.keeps_by_id()
        return self._notes(entry.uniqueid if by_id else entry.name)

    def _notes(self, scope: str) -> list[Annotation]:
        """Annotations of a mailbox, or of the server (""), sorted by entry and userid."""
        database = self._server.databases.annotations()
        items = database.items(f"{scope}\0".encode())
        notes = read_notes(items, database.path, self._userid)
        found = [note.annotation for note in notes if note.scope == scope]
        return sorted(found, key=lambda note: (note.entry, note.userid))

    def _inbox(self) -> str:
        if self._inbox_id is None:
            self._inbox_id = self._server.inbox_id(self._userid) if self._userid else ""
        return self._inbox_id

    def _rights_changed(self) -> int:
        """RACLMODSEQ, the same for all that this reader shows."""
        if self._raclmodseq is None:
            self._raclmodseq = self._server.raclmodseq(self.owner, self._inbox())
        return self._raclmodseq

    def _conversations_changed(self, entry: Entry) -> int:
        """XCONVMODSEQ."""
        if not (self._userid and self._server.config.conversations):
            return 0
        if self._conversations is None:
            path = self._server.paths.of_user(self._userid, "conversations", self._inbox())
            self._conversations = ConversationCounts(path, self._server.databases.of_user)
        return self._conversations.modseq(entry)

    def _user_database(self, suffix: str, read: Callable[[Database], T]) -> T:
        path = self._server.paths.of_user(self._userid, suffix, self._inbox())
        database = self._server.databases.of_user(path)
        try:
            return read(database)
        finally:
            database.close()

    def _stored_scripts(self) -> dict[str, StoredScript] | None:
        """The scripts that are messages; None where they are files (still)."""
        name = script_mail.sieve_mailbox(self.owner)
        state = self.mailbox(name) if name else None
        if state is None or not script_mail.holds_scripts(state):
            return None
        shown = self._shown[state.uniqueid]
        records = [
            record for batch in self.records(state.uniqueid) for record in batch if not record.expunged
        ]
        bodies = [read_message(shown.files, record.uid, record.guid) for record in records]
        return script_mail.scripts_in(records, bodies)


def _kind(entry: Entry) -> str:
    """The type as replication has it: without what is this server's own affair; e-mail is said by saying
    nothing."""
    letters = entry.mbtype.replace("l", "")
    if letters == "e":
        return ""
    return letters if set(letters) - set("i") else f"e{letters}"


def _is_sound(snapshot: Snapshot, uid: int, guid: bytes) -> bool:
    try:
        read_message(snapshot.files, uid, guid)
    except StoreCorrupt:
        return False
    return True
