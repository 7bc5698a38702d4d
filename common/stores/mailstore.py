"""`MailStore`: where mail lives. The contract; the conformance suite of the tests states it again.

Everything here is synchronous and may block: callers run it in threads. A store is safe to use from
several threads and several processes at once; the unit of locking is the `Owner`.

* `read(owner)` gives one consistent snapshot and takes no lock that a writer waits for.
* `write(owner)` holds the owner's exclusive lock. When the context ends without exception, what was done in
  it becomes visible and durable as a whole: packs and index are synced, **then** the action log is appended.
  When it ends with an exception, nothing of it stays. `savepoint()` nests and undoes a failed part alone, so
  that one `write` can carry a whole group of commands with one sync. One exception does not undo:
  `ChangesKept`.
* A writer never waits for the network inside `write`.
* Names and userids that no store could hold are unknown when read and refused (`BadName`) when written.
* What is deleted by replication or at once (`apply_unmailbox`, `apply_unuser`, `delete`) is gone from every
  answer, and stays restorable until `StoreCare.expire` removes it after the retention time.
* Sources (`RecordSource`, `MessageSource`) that a reader gives are good inside its context only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import MailboxLocked, SyncChecksum
from cyrus_sync.common.master import KnownUser, MasterReader, Unreadable
from cyrus_sync.common.model import (
    Annotation,
    MailboxAnnotation,
    MailboxState,
    MailboxUpdate,
    MessageBody,
    MessageSource,
    Quota,
    Record,
    Seen,
    SieveScript,
)
from cyrus_sync.common.names import Owner


class ChangesKept(SyncChecksum):
    """The CRCs after an APPLY MAILBOX are not the master's, but what was applied stands (step 13).

    This is the one exception that does not undo: `savepoint()` and `write()` keep the changes when it
    passes through them, and pass it on. On the wire it is an ordinary ``IMAP_SYNC_CHECKSUM``.
    """


class StaleOwner(MailboxLocked):
    """Another machine has changed the owner since `write` began. Nothing of this change stays, and it may be
    made again."""


@dataclass(frozen=True, slots=True)
class QuotaUsage:
    """Use of a quota root: bytes for STORAGE and X-ANNOTATION-STORAGE, counts for the others."""

    root: str
    used: dict[str, int]


class Tally(NamedTuple):
    """Live messages of a mailbox: how many, how many of them without ``\\Seen``, how many are recent, and
    their octets in all."""

    messages: int
    unseen: int
    recent: int
    octets: int


class StagedMessages(Protocol):
    """Where a writer finds the bytes of new records: a connection's reserve list."""

    @property
    def checked(self) -> bool:
        """True where messages are compared with their GUIDs as they are staged, and kept as frames: then
        `is_good` is believed. Else the writer looks itself."""

    @property
    def reserved(self) -> Collection[bytes]:
        """GUIDs of messages that came out of the store, where they were read and found sound."""

    def get(self, guid: bytes) -> MessageBody | None:
        """The staged message, None if it was never sent."""

    def is_good(self, guid: bytes) -> bool:
        """Whether the staged bytes are known to be what the GUID says."""

    def __contains__(self, guid: object) -> bool: ...


class OwnerReader(MasterReader, Protocol):
    """One owner with all that people ask of it, wherever the mail is: in a store, or in a Cyrus's spool."""

    def bodies(
        self,
        guids: Sequence[bytes],
        partition: str = "",
        encoding: str = "identity",
        *,
        unreadable: Unreadable | None = None,
    ) -> MessageSource:
        """Messages in the order asked for; missing ones are left out. "zstd" gives stored frames, unread.
        For one that cannot be read `unreadable` is called, and it is left out; without it `StoreCorrupt`, or
        `MessageUnavailable`, is raised (with guid= in its address). `partition` is only passed on."""

    def body(self, guid: bytes) -> MessageBody | None:
        """One message, None if it is not stored; `StoreCorrupt` if it cannot be read, `MessageUnavailable`
        if not now."""

    def usage(self) -> list[QuotaUsage]:
        """What is used of every quota root, in the order of `quotas`."""

    def sieve_scripts(self) -> list[SieveScript]:
        """Scripts as a peer without SIEVE-MAILBOX sees them, in order of file name: ``NAME.script``, and
        ``NAME.bc`` for the active one."""


class MailReader(OwnerReader, Protocol):
    """A snapshot of one owner: all that it says is of one moment."""

    def note_damaged(self, guid: bytes) -> None:
        """Mark the stored copy of this message: it is not what its GUID says. The next writer that is given
        the message stores it anew."""

    def live_uids(self, uniqueid: str) -> list[int]:
        """The UIDs of a mailbox's messages that are not expunged, ascending."""

    def tally(self, uniqueid: str, recentuid: int) -> Tally:
        """Counts of those messages; recent are those above the UID `recentuid`."""

    def unsound(self, guids: Iterable[bytes]) -> set[bytes]:
        """Read these messages, as far as they are stored. Returns, and marks as damaged, those that cannot be
        read or are not what their GUIDs say. Returns, unmarked, those that are unavailable for now."""

    def highest_modseq(self) -> int:
        """The highest modseq that the owner has used, 0 for an owner that is not stored."""


class MailWriter(MailReader, Protocol):
    """The exclusive hold on one owner. Raises `common.errors.ReplyError` subclasses as a replica must
    answer them, `StoreError` for trouble with the disk. Its reads show its own changes."""

    def savepoint(self) -> AbstractContextManager[None]:
        """Undoes what is done in it if it ends with an exception other than `ChangesKept`."""

    # -- what replication does (no action log, unless sync_log_chain)

    def apply_mailbox(
        self,
        update: MailboxUpdate,
        staged: StagedMessages,
        *,
        force: bool = False,
        sieve_mailbox: bool = True,
        without_inbox: bool = False,
    ) -> None:
        """ "APPLY MAILBOX, step by step", 1-13. `force` skips the checks that it relaxes; without
        `sieve_mailbox` a mailbox of type ``f`` is refused with `BadParameters`; `without_inbox` allows a
        user's mailbox to be made without an INBOX.

        On a CRC mismatch in step 13 `ChangesKept` (a `SyncChecksum`) is raised and the changes stay. Any
        other error leaves everything as it was: `MailboxMoved`, `SyncChanged`, `SyncChecksum`,
        `PartitionUnknown`; `UnknownFailure` (a NO without a code) where the INBOX is missing or the type
        differs; `ProtocolError` for records out of order, beyond the counters, or whose message is
        missing, damaged, or of another size. Message bytes are checked against their GUIDs here, however
        they were staged, at the latest."""

    def apply_expunge(self, mailbox: str, uniqueid: str, uids: Sequence[int]) -> None:
        """Modseq and last_updated stay. `MailboxMoved` for another uniqueid; unknown UIDs are skipped."""

    def apply_unmailbox(self, name: str) -> None:
        """Delete at once, leaving a tombstone; `MailboxNonexistent`."""

    def drop_childless(self, name: str) -> None:
        """Delete the intermediates at and above `name` that have nothing below them (any more)."""

    def apply_unuser(self) -> None:
        """Delete mailboxes, subscriptions, seen state and quota roots of the owner, if there are any.
        Intermediates and DELETED. mailboxes stay."""

    def apply_quota(self, quota: Quota) -> None:
        """Write a quota root; its modseq is the master's. `BadName`."""

    def apply_unquota(self, root: str) -> None:
        """Remove a quota root, if it is there."""

    def apply_sub(self, mailbox: str, subscribed: bool) -> None:
        """Subscribe or unsubscribe; the mailbox need not exist. `BadName`."""

    def apply_seen(self, seen: Seen) -> None:
        """Replace seen state. `BadParameters` without a uniqueid."""

    def apply_annotation(self, annotation: MailboxAnnotation) -> None:
        """Set an annotation of a mailbox, or ("") of the server; modseqs stay. `MailboxNonexistent`;
        `BadParameters` for an entry that does not begin with a slash."""

    def apply_unannotation(self, mailbox: str, entry: str, userid: str) -> None:
        """Remove an annotation; errors as for `apply_annotation`."""

    def apply_sieve(self, filename: str, last_update: int, content: bytes) -> None:
        """Store ``NAME.script``, with `last_update` in Unix seconds; other names are ignored. `BadName`,
        `SyncBadSieve`; `InvalidUser` for a user without INBOX."""

    def apply_unsieve(self, filename: str) -> None:
        """Remove ``NAME.script``. Given ``NAME.bc`` of the active script, make no script active."""

    def apply_active_sieve(self, filename: str | None) -> None:
        """Make the script active whose bytecode is `filename` (``NAME.bc``); None for no active script."""

    # -- what mail daemons do (each writes the action log, as Cyrus's daemons do, each line once a write)

    def create(
        self,
        name: str,
        *,
        partition: str = "",
        acl: str | None = None,
        mbtype: str = "",
        uidvalidity: int = 0,
    ) -> MailboxState:
        """Make a mailbox; what is not given comes from the nearest one above. `BadName`, `PartitionUnknown`;
        `UnknownFailure` for a name that is taken, or where a user has no INBOX."""

    def append(
        self,
        mailbox: str,
        messages: Iterable[tuple[bytes | MessageBody, int, str]],
        *,
        uids: Iterable[int] = (),
    ) -> list[int]:
        """Append (raw message, internaldate, flags); the new UIDs. A large message may come as a body in
        pieces, which are read only here; `ProtocolError` where they are not what its GUID says. A date that
        no other server could hold becomes the nearest that it can (`FIRST_DATE`, `LAST_DATE`); a message of
        more than `MAX_SIZE` octets is refused (`UnknownFailure`).

        `uids` are UIDs that the messages bring along, in the same order. One that is above all that the
        mailbox has used is taken; for others, 0 for instance, the next one is."""

    def number_anew(self, mailbox: str, uidvalidity: int) -> None:
        """Give a mailbox that never held a message another UIDVALIDITY, a lower one too; `UnknownFailure`
        for one that did."""

    def renew(self, name: str, uidvalidity: int, *, delayed: bool = True) -> MailboxState:
        """Put a new, empty mailbox in the place of one: another uniqueid, this UIDVALIDITY, and the same
        rights, options and annotations. What was there goes as `delete` lets it go; of an INBOX too, and then
        nothing else of the user does. `MailboxNonexistent`."""

    def set_flags(
        self, mailbox: str, uids: Iterable[int], *, add: Sequence[str] = (), remove: Sequence[str] = ()
    ) -> None:
        """Add and remove system flags or keywords of live messages; other UIDs are skipped. `UnknownFailure`
        for what is no flag, or for one keyword too many."""

    def expunge(self, mailbox: str, uids: Iterable[int]) -> None:
        """Expunge messages. Those that are not there, or are expunged already, are skipped."""

    def unexpunge(self, mailbox: str, uids: Iterable[int]) -> list[int]:
        """Bring those expunged messages back whose bytes are still stored. Returns their new UIDs."""

    def copy(self, mailbox: str, uids: Iterable[int], target: str, *, move: bool = False) -> list[int]:
        """Copy messages within one owner. Returns the new UIDs. `move` expunges what was copied."""

    def delete(self, name: str, *, delayed: bool = True) -> None:
        """Delete a mailbox: at once, or (`delayed`) by a name below DELETED, until it expires. Deleting an
        INBOX deletes the user with all that is below it."""

    def set_acl(self, name: str, identifier: str, rights: str) -> None:
        """Give an identifier rights to a mailbox; empty `rights` remove its entry."""

    def set_quota(self, root: str, limits: dict[str, int] | None) -> None:
        """Limits by resource, STORAGE in KiB; None removes the root. `UnknownFailure` for an unknown
        resource or a limit that cannot be."""

    def annotate(self, mailbox: str, entry: str, userid: str, value: bytes | None, uid: int = 0) -> None:
        """Set an annotation of a message, or of the mailbox itself (`uid` 0). A `value` of None or b""
        removes it."""

    def subscribe(self, mailbox: str, subscribed: bool = True) -> None:
        """Subscribe or unsubscribe the owner; the mailbox need not exist. `BadName`."""

    def set_seen(self, seen: Seen) -> None:
        """Replace the owner's seen state of another owner's mailbox."""

    def put_script(self, name: str, content: bytes) -> None:
        """Store a script, which stays active if it was. `BadName`, `SyncBadSieve`, `InvalidUser`."""

    def activate_script(self, name: str | None) -> None:
        """Make a script active, or none (None). `MailboxNonexistent`."""

    def delete_script(self, name: str) -> None:
        """Remove a script. `MailboxNonexistent`."""

    # -- what settling a conflict does on the master (logged like any local change)

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
        """Raise the counters of a mailbox that are lower than these. None is ever lowered."""

    def rewrite_records(self, uniqueid: str, records: Sequence[Record]) -> None:
        """Replace the records of these UIDs; each gets a new modseq, last_updated = now. `StoreError` for a
        UID that is not there, or is another message."""

    def heal(self, body: MessageBody) -> None:
        """Store a message anew whose stored copy is damaged or missing. `ProtocolError` if it is not what its
        GUID says. The mailboxes that hold it are logged."""

    def adopt(self, uniqueid: str, record: Record, body: MessageBody | None, *, keep_uid: bool) -> int:
        """Append a message that came from the replica, or (body None) one that is stored already. Returns its
        UID. Its flags, internaldate, savedate and annotations are kept; its modseq is new."""

    def replace_mailbox_annotations(self, uniqueid: str, annotations: Sequence[Annotation]) -> None:
        """Make these the mailbox's own annotations. `MailboxNonexistent`."""

    # -- what the import of a packet does

    def impose_mailbox(
        self,
        update: MailboxUpdate,
        staged: StagedMessages,
        *,
        drop: Collection[int] = (),
        keep: Sequence[Record] = (),
    ) -> None:
        """Make the mailbox ``update.state.uniqueid`` (under the name that it has) what `update` says,
        whatever stands under the UIDs of its records. The records of the UIDs in `drop` are forgotten
        before, those in `keep` are put in their places afterwards, with counters that cover them;
        LAST_UID, HIGHESTMODSEQ and UIDVALIDITY never fall. `ProtocolError` for a live record without
        message."""

    def change_header(
        self,
        uniqueid: str,
        *,
        acl: str | None = None,
        options: str | None = None,
        usergroups: str | None = None,
        annotations: Sequence[Annotation] | None = None,
    ) -> None:
        """Take over header fields that were changed elsewhere: a local change, logged."""


class Together(Protocol):
    """Changes to several owners that are made durable together. `commit` or `undo` ends them, and others may
    follow. For one thread at a time."""

    def __bool__(self) -> bool:
        """Whether any owner is held."""

    def writer(self, owner: Owner, timeout: float) -> MailWriter:
        """The writer of an owner, who is held until the end; always the same one. Raises what
        `MailStore.write` does at its beginning. Who holds others already should not wait long."""

    @property
    def may_grow(self) -> bool:
        """Whether the end is cheaper for more owners: all that are held come into being with it."""

    def commit(self) -> None:
        """Make all changes durable. Raises what `MailStore.write` does at its end; then none of those that
        were not durable before is."""

    def undo(self) -> None:
        """Leave no trace."""


class MailStore(Protocol):
    """A whole store."""

    def owners(self) -> Iterator[Owner]:
        """Users in order of userid, then shared top-level mailboxes. SERVER is left out, and so is an owner
        of whom nothing is alive. An owner that cannot be read, or that is known and lost, is among them:
        reading it says why."""

    def userids(self) -> list[str]:
        """All users of whom anything is stored, in order, deleted ones too. No owner is opened for it."""

    def known_users(self) -> Mapping[str, KnownUser]:
        """What is known of users without opening them, by userid. Who is not among them has to be asked
        himself."""

    def digests(self, after: str = "", most: int = 2**62) -> list[tuple[str, bytes]]:
        """Of at most `most` of `userids` that come after `after`, in order: the digest of all that a
        replication compares (`common.summary`); b"" of one who has to be asked himself."""

    def damaged_owners(self) -> list[Owner]:
        """All owners of whom a message was found damaged and has not been replaced yet."""

    def exists(self, owner: Owner) -> bool:
        """Whether anything of the owner is alive: a mailbox, a subscription, seen state, a quota root.
        `StoreError` where that cannot be told."""

    def read(self, owner: Owner) -> AbstractContextManager[MailReader]:
        """A snapshot; an unknown owner reads as empty. `StoreError` for one that is damaged, or lost:
        known to the store and not there."""

    def write(
        self, owner: Owner, *, create: bool = True, timeout: float = 5.0
    ) -> AbstractContextManager[MailWriter]:
        """The owner's exclusive lock; `MailboxLocked` if not had within `timeout` seconds. Of a store on
        several machines the lock is that of one, and `StaleOwner` may come at the end.

        An owner that does not exist comes into being with the first change that stays, on the partition
        that its first mailbox names; without `create` such a change raises `MailboxNonexistent`.
        `StoreError` where the store may only be read, is damaged, or cannot be written."""

    def together(self) -> Together:
        """Changes to several owners that share what syncing costs."""

    def owner_of_uniqueid(self, uniqueid: str) -> Owner | None:
        """The owner of the live mailbox with this uniqueid; None if there is none."""

    def rename(
        self,
        old: str,
        new: str,
        *,
        partition: str = "",
        uidvalidity: int = 0,
        log: bool,
        timeout: float = 5.0,
        without_inbox: bool = False,
    ) -> None:
        """Rename one mailbox (not its children) and/or move it to `partition`, within an owner or
        from one to another; leaves a tombstone under the old name. `log` = a local change, with a new
        highestmodseq and foldermodseq; else only name, partition and (if given) uidvalidity change.

        What is done already, or was interrupted, may be asked for again. Subscriptions, seen state and
        quota roots stay where they are. `MailboxNonexistent`; `UnknownFailure` if `new` is taken or, but
        for `without_inbox`, its owner has no INBOX; `PartitionUnknown`; `MailboxLocked`."""

    def close(self) -> None:
        """Close all files. The store is of no use afterwards."""
