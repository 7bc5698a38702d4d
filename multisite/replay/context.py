"""`ReplayContext`: what every part of replay works with."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.errors import MessagesMissing
from cyrus_sync.multisite.family import Family
from cyrus_sync.multisite.oplog.clashes import Clash
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.multisite.oplog.operations import LogEntry
from cyrus_sync.multisite.replay.batch_writer import BatchWriter
from cyrus_sync.multisite.replay.packet_messages import PacketMessages


@dataclass(slots=True)
class ReplayContext:
    """The log, the store and the messages of one import. The caller commits `batch`, then the log."""

    log: Log
    batch: BatchWriter
    """Writes to the mail store."""
    messages: PacketMessages
    """Messages that operations need: those of the packet, and those that the log holds."""
    family: Family
    """As it is now: operations on the family replace it, and the caller saves it."""
    partitions: Collection[str]
    """Names of this server's partitions."""
    defaultpartition: str
    warn: Callable[[str], None]
    """Called with what the administrator must see, such as a name conflict."""
    notice: Callable[[str], None]
    """Called with what the administrator may want to know."""
    external: Callable[[str], str]
    """A mailbox's internal name as people read and type it at this server."""
    founding: bool
    """Whether this replica is being made."""
    to_capture: set[Owner]
    """Owners in whose mailboxes there is something that the others are to be told. The caller captures them
    afterwards."""
    forked: bool = False
    """Whether this replica is being restored, and has said other things since than its siblings know."""
    merging: set[Owner] = field(default_factory=set)
    """Owners of whom everything that is said is merged into the store (`multisite.oplog.forks`)."""
    given_up: set[bytes] = field(default_factory=set)
    """Messages that nobody has any more."""
    generated: dict[str, str] = field(default_factory=dict)
    """Uniqueid of a mailbox -> the name that was generated for it, as long as nobody has been warned."""
    foreseen: list[Clash] = field(default_factory=list)
    """Clashes of names that were found and that nobody has been warned of yet."""
    reached: dict[str, int] = field(default_factory=dict)
    """Uniqueid of a mailbox -> seq of the last pending operation that the store has carried out already. A
    process that crashed before it could tell the log leaves such operations."""

    def partition(self, wanted: str) -> str:
        """`wanted` if this server has it, else its default."""
        return wanted if wanted in self.partitions else self.defaultpartition

    def require(self, entry: LogEntry) -> None:
        """Raises `MessagesMissing` if any message of an operation is nowhere here."""
        missing = self.messages.lacking(self.batch.store, self.log.places(entry.owner), entry.guids)
        if missing:
            raise MessagesMissing(tuple(missing))

    def collect(self, entry: LogEntry, target: Owner) -> None:
        """Stage the messages of an operation for `target` where another owner has them. That is so where
        some mailboxes of the operation's owner were renamed to another owner, and some were not."""
        self.messages.take_stored(self.batch.store, self.log.places(entry.owner), target, entry.guids)

    def creator(self, entry: LogEntry) -> str:
        """The replica where the mailbox of an operation was made."""
        return entry.attributes.get("creator") or entry.origin
