"""`ReplayContext`: what every part of replay works with."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.errors import MessagesMissing
from cyrus_sync.multisite.family import Family
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.multisite.oplog.operations import LogEntry
from cyrus_sync.multisite.replay.batch_writer import BatchWriter
from cyrus_sync.multisite.replay.packet_messages import PacketMessages


@dataclass(slots=True)
class ReplayContext:
    """`warn` hears what the administrator must see (name conflicts), `notice` what he may want to know."""

    log: Log
    batch: BatchWriter
    messages: PacketMessages
    family: Family
    partitions: Collection[str]
    defaultpartition: str
    warn: Callable[[str], None]
    notice: Callable[[str], None]
    founding: bool
    """Whether this replica is being made."""
    to_capture: set[Owner]
    """Owners of whom this replica has something new to tell, or who have mailboxes of which it has: they are
    captured afterwards."""
    generated: dict[str, str] = field(default_factory=dict)
    """By uniqueid: names that were generated and not warned of yet."""
    reached: dict[str, int] = field(default_factory=dict)
    """Of mailboxes by uniqueid: the last pending operation (its seq) that the mail store has carried out
    already, since somebody died before the log knew."""

    def partition(self, wanted: str) -> str:
        """`wanted` if this server has it, else its default."""
        return wanted if wanted in self.partitions else self.defaultpartition

    def require(self, entry: LogEntry) -> None:
        """Raises `MessagesMissing` if any of the messages of an operation is nowhere."""
        missing = self.messages.lacking(self.batch.store, self.log.places(entry.owner), entry.guids)
        if missing:
            raise MessagesMissing(tuple(missing))

    def collect(self, entry: LogEntry, target: Owner) -> None:
        """The messages of an operation that other mailboxes of its owner have, which were renamed to somebody
        else, or were not while this one was: staged for `target`."""
        self.messages.take_stored(self.batch.store, self.log.places(entry.owner), target, entry.guids)

    def creator(self, entry: LogEntry) -> str:
        """The replica where the mailbox of an operation was made."""
        return entry.attributes.get("creator") or entry.origin
