"""`Master`: the mail that a replication goes out from, as the engine sees it.

The native store is one (`common.stores.master.NativeMaster`). A spool of another mail server can be one, or a
server that is asked over the network: the engine, and all of `sync_client`, knows of its master what stands
here and nothing else.

**Calls.** All methods block; they are called in threads, several at once, for one owner too. A reader is
used by one thread at a time, but not always by the one that opened it.

**Owners.** Mail is replicated by owner (`common.names.Owner`): a user, or a top-level shared mailbox with
what is below it. Names are internal ones (``user.alice.Work``); values and units are those of `common.model`.

**Snapshots.** What a reader says of *one* mailbox is of one moment, from the first question that names it
until the reader's context ends: header, counters, CRCs, records and their annotations agree. Nothing more is
promised. Two mailboxes may be of two moments, a mailbox and the user's subscriptions as well, and
`MasterReader.mailboxes` may look at each when its turn comes and hold none: who is asked for it by name
afterwards may find it newer. A store that can show a whole owner at one moment may do so. A reader must make
no daemon wait, however long it stays open: one from which a large change streams is open until the replica
has answered.

**Trouble.** Each of these concerns the mailbox, or the owner, that was asked for, and no other:

===================  =======================================================================================
nothing, None        there is no such thing, or no more: deleted or renamed since it was listed. No error
`MailboxLocked`      a lock of the master was not had in time: the work goes back to the log, without blame
`SnapshotLost`       the mailbox is changed so often that it cannot be shown at one moment. Raised, by
                     iterations too, after the master's own attempts; the engine reads anew, a few times
`StoreCorrupt`       what is stored is damaged, or of a kind or version that we do not know; the message
                     names the file and the place in it. The mailbox fails until it is repaired
`StoreError`         the disk, the permissions, or the server that is asked, failed: it says which and why
===================  =======================================================================================

No other `PeerError` comes from a master, whatever connection it has of its own: to the engine that would be
the replica's. One mailbox that cannot be read does not hide the others: `MasterReader.mailboxes` shows it
with what is known of it (name, uniqueid, partition) and zeros; the question for it alone raises the error.

**The action log** is not the master's affair. Whoever changes mail writes a line after the change can be
read here, and the line only says where to look. What `Master.settle` changes may be logged like any change:
the next run finds nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import field
from typing import NamedTuple, Protocol

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import MailboxLocked, StoreError
from cyrus_sync.common.model import (
    Annotation,
    MailboxAnnotation,
    MailboxState,
    MessageBody,
    MessageSource,
    Quota,
    Record,
    RecordSource,
    Seen,
    Tombstone,
    UserMeta,
)
from cyrus_sync.common.names import Owner

READ_ERRORS = (StoreError, MailboxLocked)
"""What a reader raises when one mailbox cannot be shown."""

Unreadable = Callable[[bytes, StoreError], None]
"""Is told the GUID of a message that cannot be given, and why."""


class MasterReader(Protocol):
    """A snapshot; see above of what. Unknown names give None or nothing, never an error.

    Sources that it gives are good inside its context only, and may be iterated more than once: each time they
    give the same, or raise `SnapshotLost`. They are read in batches of bounded size; a mailbox of any size
    takes bounded memory.
    """

    owner: Owner

    def mailboxes(self) -> list[MailboxState]:
        """Live mailboxes, then the owner's DELETED. ones, each in mailboxes.db order. Intermediates are
        among them, as a server lists them (type ``ei``, zeros, partition ""); tombstones are not."""

    def mailbox(self, name: str) -> MailboxState | None:
        """`sync_crc` and `sync_crc_annot` as they are stored; 0 where none are: the engine then counts
        them itself (`recalculate_crcs`), which costs a walk through the records."""

    def mailbox_by_id(self, uniqueid: str) -> MailboxState | None: ...

    def tombstones(self) -> list[Tombstone]:
        """Without one nothing is deleted on the replica. May be empty where the master keeps none."""

    def tombstone(self, uniqueid: str) -> Tombstone | None:
        """The last of one mailbox, whatever name it is for; None where nothing tells that it was deleted."""

    def former_names(self, uniqueid: str) -> list[str]:
        """Names that the mailbox had before, newest first. May be empty: a renamed mailbox is then found
        by its uniqueid when its user is compared as a whole."""

    def records(
        self, uniqueid: str, *, since_modseq: int = 0, above_uid: int = 0, batch: int = 2000
    ) -> RecordSource:
        """Records with modseq > `since_modseq` and uid > `above_uid`, ascending by uid; expunged ones
        among them, as long as the master has them."""

    def new_guids(self, uniqueid: str, above_uid: int) -> Iterator[list[tuple[int, bytes]]]:
        """(uid, guid) of records with uid > `above_uid` whose message is still stored, in batches. A hint
        (RESERVE asks the replica for these): a record's word for it is enough."""

    def recalculate_crcs(self, uniqueid: str) -> tuple[int, int]:
        """Both CRCs from the records themselves ("Sync CRCs"), whatever sums are kept."""

    def has_guids(self, guids: Iterable[bytes]) -> set[bytes]:
        """Which of these messages the owner has anywhere: they need not be fetched from the replica when they
        are adopted. May be empty."""

    def readable(
        self, uniqueid: str, messages: Iterable[tuple[int, bytes]], *, verify: bool = False
    ) -> set[bytes]:
        """The GUIDs of those of these messages, (uid, guid) of records of the mailbox, that are stored. A
        record's word is enough; with `verify` each message is read, and compared with its GUID
        (`MessageUnavailable` where that is not possible now)."""

    def damaged_guids(self) -> set[bytes]:
        """Messages whose stored copy was found damaged, by anybody, and has not been replaced yet. May always
        be empty."""

    def quotas(self) -> list[Quota]:
        """Every quota root of the owner. May be empty."""

    def quota(self, root: str) -> Quota | None: ...

    def meta(self, *, with_sieve: bool) -> UserMeta:
        """Without `with_sieve` no scripts that are messages of ``#sieve``: they travel as those then."""

    def seen(self, uniqueid: str) -> Seen | None:
        """What the owner has seen in a mailbox that is not his."""

    def sieve_content(self, filename: str) -> bytes | None:
        """A script of those that `meta` lists, by its file name."""

    def annotations(self, mailbox: str) -> list[MailboxAnnotation]:
        """Mailbox-level annotations sorted by (entry, userid); server ones for the SERVER owner and ""."""


class Fetched(Protocol):
    """Messages that were fetched from the replica. Their octets are what their GUIDs say."""

    def get(self, guid: bytes) -> MessageBody | None:
        """The message, None where it was not fetched: the master has it then."""


class Renumbered(NamedTuple):
    """A message that gets a new UID. `adopted`: it is the replica's, else the master's own."""

    record: Record
    adopted: bool


class _Nothing:
    def get(self, guid: bytes) -> MessageBody | None:
        del guid
        return None


@dataclass(frozen=True, slots=True)
class Settlement:
    """What has to be changed in one mailbox of the master, after both sides changed it. Made by the engine
    from a snapshot; carried out by `Master.settle`, in the order of the fields.

    Every record keeps what it says (flags, internaldate, save date, annotations); modseq and last_updated are
    new, above all that either side has.
    """

    base: MailboxState
    """The master's mailbox that all this was decided on. An optimistic lock compares its HIGHESTMODSEQ and
    CRCs; `still_holds` says more."""
    replica: MailboxState
    """The replica's mailbox that it was compared with."""
    counters: Mapping[str, int] = field(default_factory=dict)
    """The least values, by field of `MailboxState`: of uidvalidity, highestmodseq, last_uid, foldermodseq,
    raclmodseq, xconvmodseq. Nothing is lowered. What follows gets its modseqs and new UIDs above them;
    last_uid covers `adopt`."""
    adopt: tuple[Record, ...] = ()
    """The replica's messages that come to the master under their own UIDs, all above `base.last_uid`."""
    renumber: tuple[Renumbered, ...] = ()
    """Messages that get the next UIDs, in this order. The master's own stay where they are as well, and are
    among `rewrite` as expunged."""
    rewrite: tuple[Record, ...] = ()
    """The master's records of these UIDs become these."""
    annotations: tuple[Annotation, ...] | None = None
    """Those of the mailbox itself, all of them; None = they stay."""
    expunge: tuple[int, ...] = ()
    """UIDs that the replica may drop when all this is durable."""
    bodies: Fetched = field(default_factory=_Nothing)
    """Messages of `adopt` and `renumber` that the master may lack."""

    @property
    def uniqueid(self) -> str:
        return self.base.uniqueid

    @property
    def name(self) -> str:
        return self.base.name

    @property
    def raised(self) -> dict[str, int]:
        """The counters that rise above the base's."""
        return {name: value for name, value in self.counters.items() if value > getattr(self.base, name)}

    @property
    def changes_nothing(self) -> bool:
        """True if the master is right as it is, and only the replica has to drop something."""
        return not (self.raised or self._speaks_of_messages or self.annotations is not None)

    @property
    def _speaks_of_messages(self) -> bool:
        return bool(self.adopt or self.renumber or self.rewrite)

    def still_holds(self, now: MailboxState, changed: Iterable[Record]) -> bool:
        """Whether this is right for the master's mailbox as it is `now`; `changed`: its records with a modseq
        above the base's.

        New mail, and changes to messages that are not spoken of here, do no harm if the replica is going to
        be sent them: their modseqs and UIDs are above all that it has.
        """
        base, replica = self.base, self.replica
        if not (self._speaks_of_messages or self.expunge or self.annotations is not None):
            return True  # counters only rise, whatever happened
        if now.uidvalidity != base.uidvalidity or now.deletedmodseq != base.deletedmodseq:
            return False
        if self.annotations is not None and now.annotations != base.annotations:
            return False
        if now.highestmodseq == base.highestmodseq:
            return (now.sync_crc, now.sync_crc_annot) == (base.sync_crc, base.sync_crc_annot)
        spoken_of = {record.uid for record in (*self.adopt, *self.rewrite)}
        spoken_of.update(one.record.uid for one in self.renumber if not one.adopted)
        return all(
            record.uid not in spoken_of
            and record.modseq > replica.highestmodseq
            and (record.uid <= base.last_uid or record.uid > replica.last_uid)
            for record in changed
        )

    def describe(self) -> str:
        """What differs, in the words of an administrator."""
        own = sum(not one.adopted for one in self.renumber)
        theirs = len(self.adopt) + len(self.renumber) - own
        moved = {one.record.uid for one in self.renumber if not one.adopted}
        changed = sum(record.uid not in moved for record in self.rewrite)
        parts = [
            _counted(theirs, "that only the replica has"),
            _counted(own, "whose UID means another message, or none, there"),
            _counted(changed, "whose flags, state or annotations differ"),
        ]
        if self.annotations is not None:
            parts.append("annotations of the mailbox")
        parts += [f"{name.upper()} is {value} there" for name, value in self.raised.items()]
        return ", ".join(part for part in parts if part)


def _counted(count: int, what: str) -> str:
    return f"{count} message{'s' if count > 1 else ''} {what}" if count else ""


class KnownUser(NamedTuple):
    """What is known of a user without reading him."""

    inbox: bool
    """Whether he has one."""
    digest: bytes
    """Of all that a replication compares (`common.summary`)."""


class Master(Protocol):
    """What the engine replicates from."""

    @property
    def refuses(self) -> str:
        """Why nothing can be changed on this master, and what to configure so that it can; "" if it can.

        With a reason `settle` and `heal` are not called where they would have to change something: the
        mailbox is reported with what differs and with this text, all others go on.
        """

    @property
    def scripts_are_mail(self) -> bool:
        """Whether Sieve scripts are messages of ``#sieve``, as which they travel where the replica agrees.
        Else they are files, and travel as those, whatever the replica could do."""

    def owners(self) -> Iterator[Owner]:
        """Users in order of userid, then shared top-level mailboxes; without SERVER, and without those
        of whom nothing is alive. Who cannot be read is among them: whoever reads him is told why."""

    def known_users(self) -> Mapping[str, KnownUser]:
        """By userid, as they are now. Who is not among them has to be read; that may be all."""

    def exists(self, owner: Owner) -> bool:
        """Whether anything of the owner is alive: a mailbox, a subscription, seen state, a quota root."""

    def owner_of_uniqueid(self, uniqueid: str) -> Owner | None:
        """Who holds the live mailbox with this uniqueid, whatever it is called. On "nobody" rests that a
        mailbox with a tombstone may be deleted on the replica."""

    def read(self, owner: Owner) -> AbstractContextManager[MasterReader]:
        """A snapshot; an unknown owner reads as empty."""

    def messages(
        self,
        owner: Owner,
        uniqueid: str,
        wanted: Sequence[tuple[int, bytes]],
        partition: str = "",
        encoding: str = "identity",
        *,
        unreadable: Unreadable | None = None,
    ) -> MessageSource:
        """Messages, (uid, guid) of records of the mailbox, in the order asked for; needs no reader.

        Nothing is opened before the source is iterated. The engine iterates it in a thread while the replica
        takes what comes, up to 1024 messages a source, and again if it must send them again. It gives batches
        of about a MiB; a large message comes in pieces. `partition` is only passed on. `encoding` is the best
        that the replica takes; "identity" may be given instead.

        For a message that cannot be read, or that is gone by then, `unreadable` is called and it is left out:
        its record is not sent either, and everything else is. Without `unreadable`, `StoreCorrupt` is raised
        with guid= in its address. A message that is `MessageUnavailable` can be had later. The octets of
        others are what their GUIDs say, as far as the master can tell: the replica compares them.
        """

    def settle(self, owner: Owner, settlement: Settlement) -> Sequence[int]:
        """Carry a settlement out. Returns the UIDs that may be expunged on the replica now, once everything
        that they depend on is durable here: all of ``settlement.expunge`` if all was done.

        Interrupted anywhere, no message may be lost: whatever is expunged here was stored under its new UID
        before. What an interrupted settlement has adopted is found again by the next one.

        Raises `SyncChanged` where the mailbox has changed so that the settlement does not hold any more (the
        engine compares anew), `MailboxNonexistent` where it is gone, `SettlementRefused` where the master
        does not take it, with what to do; `MailboxLocked` and `StoreError` as above.
        """

    def damaged_owners(self) -> list[Owner]:
        """Of whom a message was found damaged and has not been replaced yet. May always be empty."""

    def damaged(self, owner: Owner) -> set[bytes]:
        """GUIDs of messages that were found damaged and still cannot be read. May always be empty."""

    def heal(self, owner: Owner, body: MessageBody) -> None:
        """Replace the stored copy of a message that is damaged. `ProtocolError` if `body` is not what its
        GUID says. Never called for what `damaged` does not name."""

    def close(self) -> None: ...
