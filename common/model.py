"""The values that replication speaks of: records, mailboxes, quotas, seen state, scripts.

Plain immutable values without behaviour of their own; `common.protocol.codec` knows how they look
on the wire and a store knows how they look on disk. Names (mailboxes, userids, ACLs, flags) are
``str`` and always encodable as UTF-8; message bytes and annotation values are ``bytes``. Times are
whole Unix seconds. Counters (`uid` 32 bit, `modseq` below 2**63) are ``int``. A GUID is the SHA-1 of
the raw message, 20 bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import field
from typing import NamedTuple

from cyrus_sync.common.classes import dataclass

NULL_GUID = bytes(20)
SYSTEM_FLAGS = ("\\Deleted", "\\Answered", "\\Flagged", "\\Draft", "\\Expunged", "\\Seen")
"""The system flags in the order in which a Cyrus peer writes them."""

MAX_KEYWORDS = 128
"""Keywords in one mailbox: a record of a Cyrus has no more bits for them."""

MAX_MODSEQ = 2**63 - 1
MAX_UID = 2**32 - 1
MAX_SIZE = 2**32 - 1
"""Octets of a message: SIZE has 32 bits, on the wire and in cyrus.index."""

FIRST_DATE, LAST_DATE = 1, 2**32 - 1
"""An internaldate that every Cyrus can hold: cyrus.index has 32 bits for it, and 0 becomes the present."""


def held_date(when: int) -> int:
    """The nearest second to `when` that every store can hold."""
    return min(max(when, FIRST_DATE), LAST_DATE)


UNLIMITED = 2**32 - 1
"""A quota LIMIT of -1 as the 32-bit number the wire carries."""

QUOTA_RESOURCES = ("STORAGE", "MESSAGE", "X-ANNOTATION-STORAGE", "X-NUM-FOLDERS")
"""The four resources, by the names that releases up to 3.8 write."""


class Annotation(NamedTuple):
    """One annotation of a mailbox or message. `userid` "" is the shared value."""

    entry: str
    userid: str
    modseq: int
    value: bytes


class Record(NamedTuple):
    """One message's index record.

    `flags` is the space separated flag names *without* ``\\Expunged``: system flags first in Cyrus's
    order and spelling, then keywords in the order in which they came. The virtual annotations of the
    protocol (thrid, savedate, createdmodseq) are fields, 0 = absent; `annotations` has only real ones,
    sorted by (entry, userid).
    """

    uid: int
    modseq: int
    last_updated: int
    flags: str
    expunged: bool
    internaldate: int
    size: int
    guid: bytes
    thrid: int = 0
    savedate: int = 0
    createdmodseq: int = 0
    annotations: tuple[Annotation, ...] = ()


@dataclass(frozen=True, slots=True)
class MailboxState:
    """What a ``* MAILBOX`` answer or an ``APPLY MAILBOX`` says of a mailbox, records apart.

    `sync_crc` 0 and `sync_crc_annot` 0 or None mean "not known"; None is left out on the wire.
    `foldermodseq`, `createdmodseq`, `xconvmodseq`, `raclmodseq` 0 = absent.
    """

    uniqueid: str
    name: str
    mbtype: str = ""
    sync_crc: int = 0
    sync_crc_annot: int | None = None
    last_uid: int = 0
    highestmodseq: int = 0
    recentuid: int = 0
    recenttime: int = 0
    last_appenddate: int = 0
    pop3_last_login: int = 0
    pop3_show_after: int = 0
    xconvmodseq: int = 0
    raclmodseq: int = 0
    usergroups: str = ""
    uidvalidity: int = 0
    partition: str = ""
    acl: str = ""
    options: str = ""
    quotaroot: str = ""
    createdmodseq: int = 0
    foldermodseq: int = 0
    deletedmodseq: int = 0
    """Highest modseq of records that were cleaned up; local knowledge, sent only by newer peers."""
    userflags: tuple[str, ...] = ()
    annotations: tuple[Annotation, ...] = ()

    @property
    def intermediate(self) -> bool:
        """True for a name that exists only because children do (type letter ``i``)."""
        return "i" in self.mbtype

    @property
    def tombstone(self) -> bool:
        """True for the entry that a deleted mailbox leaves (type letter ``d``)."""
        return "d" in self.mbtype


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What a deleted or renamed mailbox leaves behind: the licence to delete it on a replica."""

    name: str
    uniqueid: str
    deleted_at: int
    modseq: int


@dataclass(frozen=True, slots=True)
class Since:
    """The replica's state that a delta starts from (SINCE_* of APPLY MAILBOX)."""

    modseq: int
    crc: int
    crc_annot: int


RecordSource = Iterable[Sequence[Record]]
"""Records in ascending UID order, in batches of bounded size; may be iterated more than once.
Iterating may block on a disk and therefore happens in a thread."""


@dataclass(frozen=True, slots=True)
class MailboxUpdate:
    """One APPLY MAILBOX: the header, the base of the delta if it is one, and the records."""

    state: MailboxState
    records: RecordSource = ()
    since: Since | None = None
    partial: bool = False
    """A batch that is not the last: no CRCs are sent (reference 5.6)."""


class MessageBody(NamedTuple):
    """A message on its way: `data` is its bytes, or for a large one an iterable of pieces.

    `size` is the length of the raw message in bytes, whatever the `encoding` ("identity", or "zstd"
    for the frame in which the native store keeps it). Pieces of a frame have a length in bytes (`octets`)
    where they are to go over a wire.
    """

    partition: str
    guid: bytes
    size: int
    data: bytes | Iterable[bytes]
    encoding: str = "identity"

    @property
    def octets(self) -> int:
        """How many bytes `data` holds. Raises TypeError for pieces of a frame that have no length."""
        return self.size if self.encoding == "identity" else len(self.data)  # type: ignore[arg-type] # TypeError, as promised


MessageSource = Iterable[Sequence[MessageBody]]
"""Messages in batches of bounded size (about a MiB); iterating may block on a disk (use a thread)."""


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits of a quota root; a resource that is not in `limits` is unlimited.

    Units: KiB for STORAGE and X-ANNOTATION-STORAGE, counts for the others.
    """

    root: str
    limits: dict[str, int] = field(default_factory=dict)
    modseq: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """What `userid` has seen in a mailbox that is not his. `seenuids` is an IMAP sequence set."""

    uniqueid: str
    lastread: int
    lastuid: int
    lastchange: int
    seenuids: str


@dataclass(frozen=True, slots=True)
class SieveScript:
    """A line of the script list: `filename` is ``NAME.script``, or ``NAME.bc`` for the active one."""

    filename: str
    last_update: int
    guid: bytes = NULL_GUID
    active: bool = False


@dataclass(frozen=True, slots=True)
class MailboxAnnotation:
    """One answer line of GET ANNOTATION; `mailbox` "" is the server."""

    mailbox: str
    entry: str
    userid: str
    value: bytes


class Verified(NamedTuple):
    """What a replica found when it read its stored messages of a mailbox again (GET XVERIFY)."""

    upto: int
    """The last UID that it has looked at; the rest is to be asked for."""
    messages: int
    """Live ones that it has read."""
    octets: int
    bad: tuple[bytes, ...] = ()
    """GUIDs of those that are not stored, or are not what their GUIDs say."""


@dataclass(frozen=True, slots=True)
class UserMeta:
    """The answer of GET META. `sieve` is empty where SIEVE-MAILBOX was agreed."""

    seen: tuple[Seen, ...] = ()
    subscriptions: tuple[str, ...] = ()
    sieve: tuple[SieveScript, ...] = ()


@dataclass(frozen=True, slots=True)
class UserState:
    """The answer of GET USER."""

    mailboxes: tuple[MailboxState, ...] = ()
    quotas: tuple[Quota, ...] = ()
    meta: UserMeta = UserMeta()
