"""`StoreCare`: what daemons at their start, and whoever keeps a store, ask of it besides mail.

The contract beside `MailStore`. All calls block and are safe for several threads. They raise `StoreError` for
trouble with the disk, and `MailboxLocked` where an owner is not had within `PATIENCE`. Only the store itself
knows how its files are laid out; paths here are for a person to read, or to put temporary files in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import field
from pathlib import Path
from typing import NamedTuple, Protocol

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.metrics.sheet import Sheet
from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import MailReader

PATIENCE = 60.0
"""Seconds to wait for an owner to whom somebody is writing."""


@dataclass(slots=True)
class Expired:
    """What `StoreCare.expire` removed."""

    records: int = 0
    mailboxes: int = 0
    messages: int = 0
    packs: int = 0
    bytes: int = 0
    """Bytes by which the packs became smaller."""
    left: list[str] = field(default_factory=list)
    """What could not be done now, in sentences: a pack is in an object store that does not answer."""


@dataclass(frozen=True, slots=True)
class OwnerStats:
    """Figures of one owner; sizes in bytes. `stored` messages are distinct ones; a message in two mailboxes
    counts twice in `messages`."""

    directory: Path
    mailboxes: int
    messages: int
    expunged: int
    bytes: int
    stored: int
    stored_bytes: int
    pack_bytes: int
    """Bytes of the packs on disk."""
    live_pack_bytes: int
    """Bytes of frames that are still needed."""
    packs: int
    index_bytes: int
    removed_mailboxes: int
    far_bytes: int = -1
    """Bytes of packs that are in an object store; -1: not counted."""


class Surveyed(NamedTuple):
    """An owner, as far as that is known without opening his index."""

    owner: Owner
    stats: OwnerStats | None
    """His figures, as they are now; None: only asking him himself tells."""


class Problem(NamedTuple):
    """Something that is wrong: `kind` is one of index, pack, message, crc, usage, header, orphan, quota,
    registry, log, partition, unavailable; `where` the mailbox, file or partition."""

    kind: str
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.text}"


class Registered(NamedTuple):
    """What `StoreCare.rebuild_registry` did: mailboxes that are registered now, owners who could not be asked
    and stay registered as they were, and where a damaged registry was put."""

    mailboxes: int
    unknown: list[Owner]
    aside: Path | None


class Scrubbed(NamedTuple):
    """What `StoreCare.verify_messages` has read. `after`: where to go on, "" if that was all. `octets` are
    those of the frames on the disk."""

    problems: list[Problem]
    after: str
    messages: int
    octets: int


@dataclass
class Reconstructed:
    """What `StoreCare.reconstruct` did, or would do. `doubts`: what could not be had, in sentences."""

    directory: Path
    mailboxes: int = 0
    messages: int = 0
    recovered: int = 0
    """Messages of which no record was left."""
    aside: Path | None = None
    """Where the old index is."""
    doubts: list[str] = field(default_factory=list)


class Removed(NamedTuple):
    """A mailbox that was deleted and can still be brought back. `deleted_at` in Unix seconds."""

    id: int
    state: MailboxState
    deleted_at: int
    messages: int


PackPieces = Callable[[], Iterable[bytes]]
"""A pack of a copy, from its beginning."""


class PackSource(Protocol):
    """The octets of an owner's packs. For one thread at a time."""

    def read(self, pack: int, offset: int, length: int) -> bytes:
        """`length` octets, fewer at the end. FileNotFoundError where there is no such pack (any more);
        OSError; `StoreCorrupt` and `ObjectsUnavailable` for one that is in an object store."""

    def identity(self, pack: int) -> str:
        """What tells this pack from another one that has had its place. The same again is a hint that it is
        the same pack. FileNotFoundError; OSError."""

    def name(self, pack: int) -> str:
        """What the pack is called in an error."""


class Photograph(NamedTuple):
    """An owner at one moment: `taken`, in Unix seconds. `stamp` is what `StoreCare.stamp` said before.
    `lengths`: how many octets of each pack belong to it; they stay what they are."""

    taken: int
    stamp: str
    partition: str
    lengths: Mapping[int, int]
    packs: PackSource


class Moved(NamedTuple):
    """Octets that were copied, and those of packs that were on the disk already."""

    copied: int
    linked: int


class PastStore(Protocol):
    """The mail of everybody as it was at one time, for reading."""

    @property
    def moment(self) -> int:
        """Unix seconds; what was done in this second counts."""

    def owners(self) -> Iterator[Owner]:
        """Who had anything alive then, and those of whom that cannot be told, in the store's order."""

    def exists(self, owner: Owner) -> bool:
        """Whether anything of the owner was alive then. Raises as `read`."""

    def read(self, owner: Owner) -> AbstractContextManager[MailReader]:
        """A snapshot, as `MailStore.read`. Messages that `expire` has removed since are not stored. Raises
        `NotRemembered` for a time before the owner's history, or before he came."""

    def close(self) -> None:
        """Let go of what is kept for reading."""


class StoreCare(Protocol):
    """A store, as its keeper sees it."""

    # -- of the whole

    def check(self) -> None:
        """Raise `StoreError` unless all that the store is made of is there: a partition that is not mounted
        looks like an empty one. For daemons at their start."""

    def tighten(self) -> int:
        """Take all that the store is made of from everybody but its owner, as an older release may have left
        it open; how many files and directories were."""

    def staging(self) -> Path:
        """The directory for uploads that are part of no mailbox yet, on the disk of the default partition.
        Made if need be; `StoreError` where it cannot be."""

    def scratch(self) -> Path:
        """A directory of the store for temporary files. It is there once anything is stored."""

    def generations(self) -> dict[str, str]:
        """What `put_generation` wrote last, by partition in use; "" for one that has none. `StoreError` for
        one that cannot be read."""

    def put_generation(self, text: str) -> None:
        """Write a text, durably, into each partition in use: whoever restores a partition from a backup
        brings back the text that it had then."""

    def add_figures(self, sheet: Sheet) -> None:
        """What Prometheus is told of the store, besides what its daemons count. Blocks for a second at
        most."""

    def everybody(self) -> list[Owner]:
        """Users in order of userid, then shared top-level mailboxes. An owner counts if anything of it is
        stored, even what `expire` will remove, or if it should be here and is lost."""

    def survey(self) -> Iterator[Surveyed]:
        """Those whom `MailStore.owners` names, in its order, with their figures where these are known."""

    def expirable(self, retention: int, *, compact: bool = True) -> Iterator[Owner]:
        """Those of `everybody` of whom `expire` may have something to remove; all of whom nothing is known
        are among them."""

    def problems(self) -> Iterator[Problem]:
        """What is wrong with the store apart from any owner."""

    def rebuild_registry(self) -> Registered:
        """Make the registry of mailboxes anew from all owners. An owner that is lost or cannot be read stays
        in it: that is the evidence that it was here."""

    def sweep(self, stop: threading.Event | None = None) -> list[Owner]:
        """Write the action-log lines that changes have left behind. Returns the owners of these lines. `stop`
        ends the sweep early, and the next one begins anew. An owner that is being written to is left to that
        writer."""

    def as_of(self, moment: int) -> PastStore:
        """The store as it was at a time (Unix seconds)."""

    def clear_moves(self) -> Iterator[Path]:
        """Remove what moves between partitions have left that were interrupted. What is gone; then
        `StoreError` for all that could not be removed."""

    # -- of one owner

    def is_stored(self, owner: Owner) -> bool:
        """Whether anything of the owner is stored, alive or not. `StoreError` for an owner that is lost."""

    def partition_of(self, owner: Owner) -> str | None:
        """On which partition the owner is, readable or not; None for one that is not stored. `StoreError` for
        an owner that is lost."""

    def stats(self, owner: Owner) -> OwnerStats | None:
        """Figures of the owner; None for an owner that is not stored."""

    def verify(self, owner: Owner, *, messages: bool = True, far: bool = True) -> Iterator[Problem]:
        """Everything that is wrong with the owner, as it is found, and also that the owner is lost. Reads
        every message (unless not `messages`; unless not `far`, those in an object store too), marks those
        that are damaged, and changes nothing else. A pack that is unavailable for now is named."""

    def verify_messages(self, owner: Owner, after: str, octets: int, *, far: bool = True) -> Scrubbed:
        """The same for messages alone, those behind `after`, and no more of them than have about so many
        `octets`: no snapshot stays open while somebody who is in no hurry waits. What cannot be read of the
        owner at all is for `verify` to say, and is no message here."""

    def recount(self, owner: Owner) -> int:
        """Make the CRCs and the usage of every mailbox anew from its records. Returns how many were wrong."""

    def expire(self, owner: Owner, retention: int, *, compact: bool = True) -> Expired:
        """Forget what was expunged or deleted more than `retention` seconds ago, and mailboxes that delayed
        delete has set aside for that long; `compact` = give the space of packs that are mostly waste back."""

    def removed(self, owner: Owner) -> list[Removed]:
        """Deleted mailboxes whose mail is still kept, the latest first."""

    def undelete(self, owner: Owner, number: int, name: str) -> MailboxState:
        """Bring the deleted mailbox with the id `number` back under a free name of its owner; a local change.
        `MailboxNonexistent`; `UnknownFailure` if the name is taken or another's; `MailboxMoved`."""

    def rename_user(self, old: str, new: str) -> None:
        """Make user `old` user `new`, with everything; a local change. What delayed delete has set aside
        stays with `old`. If it was interrupted, doing it again ends it. `MailboxNonexistent` if there is no
        such user, `UnknownFailure` if `new` is taken."""

    def move(self, owner: Owner, partition: str, told: Callable[[int], object]) -> Moved | None:
        """Bring an owner with everything to another partition, and have his mailboxes say so; a local change.
        None if he was there. He is in use meanwhile, and held for the last of it; `told` is called with
        octets that were copied just now, and may wait. If it was interrupted, he is whole where he was or
        where he goes, and doing it again ends it. `PartitionUnknown`; `MailboxNonexistent`; `MailboxLocked`;
        `StoreError` where the partition is away or was never used, has not enough room, or is but a name."""

    # -- copies of an owner

    def stamp(self, owner: Owner) -> str:
        """What is another text after any change to the owner; "" where that cannot be told at the moment."""

    def photograph(self, owner: Owner, index: Path) -> AbstractContextManager[Photograph | None]:
        """Copy the owner's index, as it is at one moment, to the new file `index`: an SQLite database as
        docs/store-format.md describes it, without a log beside it. None for an owner that is not stored.
        Nobody is kept waiting by it."""

    def turn_back(self, index: Path, moment: int) -> None:
        """Make such a copy, which is of a later time, what the owner's index was at the end of the second
        `moment`: by the history in it. `NotRemembered` where that does not go back so far; then the copy is
        as it was. `StoreCorrupt`."""

    def put_back(self, owner: Owner, index: Path, packs: Mapping[int, PackPieces], partition: str) -> None:
        """Make an owner that is not stored, with everything, from such a copy and his packs by number; a
        local change. What is not among `packs` is lost. Raises what reading them raises; then he is not
        made."""

    # -- of one who is damaged or lost

    def is_unusable(self, owner: Owner) -> bool:
        """Whether the owner is lost, or its index damaged, so that nothing of it can be read or written.
        `StoreError` where something else is the matter: a lock, a missing right, a disk that is away."""

    def give_up(self, owner: Owner) -> list[Path]:
        """Let an owner go that `is_unusable`, so that it can be filled anew. Nothing is deleted: what is left
        of it is set aside. Returns where that is."""

    def reconstruct(self, owner: Owner, *, dry_run: bool = False) -> Reconstructed:
        """Give the owner a new index, from its messages and what can be read of the old index. `StoreError`
        where nothing is left to make it from."""
