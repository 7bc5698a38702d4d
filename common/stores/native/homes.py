"""`OwnerHome`: where owners' directories are, and what makes a commit count. The seam below the verbs.

A store works on directories: an index and packs for each owner. Its home says where a directory comes from,
and when what was committed in it is safe. `LocalHome` (`local_home`) has the directories themselves: once
SQLite and the packs are synced, all is done. Another home may have copies of what is kept elsewhere. It
brings a copy up to date when it is asked for the owner. It tells the other place of a commit before anybody
hears of it, and drops a copy of which the other place knows nothing. A change goes through a home so::

    hold       the owner's lock, and its directory as it is now
    publish    runs the commit in the directory, then makes it count; readers see it afterwards
    abandon    where that failed
    close      the owner is free again

A new owner is built apart, where nobody looks, and comes into being with all that he has::

    make       a directory to build in, and its lock
    blank      a connection to the empty index there
    bring_in   when that is committed: syncs everything, enters it in the registry, then shows it; several
               owners share what syncing costs
    abandon    where he is not to be after all

All of it blocks, and is safe for several threads and processes. `StoreError` and OSError are raised for
trouble with a disk, sqlite3.Error for an index; the store puts them into words.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from cyrus_sync.common.metrics.sheet import Sheet
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native.packs import PackOctets, PackWriter


class OwnerDirectory(NamedTuple):
    """An owner's directory as it was found. `version` tells the index there from another that comes into its
    place; only the home knows what it is."""

    owner: Owner
    path: Path
    version: object


class Stamp(NamedTuple):
    """What tells one state of an owner's index from every other, seen from outside."""

    directory: Path
    text: str
    """Changes with every commit."""
    settled: bool
    """The last change is so long ago that another one would have another time."""
    logged: bool
    """There is a write-ahead log with something in it."""
    octets: int
    """Of the index and all that SQLite, and upgrades, have left beside it."""
    packs: int
    """Files of packs that are there, `UNCOUNTED` where the home drops needless ones by itself."""


UNCOUNTED = -1


class Hold(Protocol):
    """An owner held exclusively: no other thread or process changes it."""

    @property
    def directory(self) -> OwnerDirectory: ...

    @property
    def made(self) -> bool:
        """Whether the owner is new."""

    def close(self) -> None:
        """Let go."""


class Arrival(Protocol):
    """A directory on another partition in which a copy of an owner is made. Nobody looks there."""

    path: Path

    def settle(self, old: Path) -> None:
        """The copy is complete. The caller holds the owner, who has been in the directory `old`: he is in the
        new one from here on, and the old one is gone at `close`. Raises OSError."""

    def close(self) -> None:
        """Remove what is needless now: the copy, unless it was settled."""


Grown = Mapping[int, tuple[int, int]]
"""What a commit added to packs: pack number → from which octet to which."""


class Holders(Protocol):
    """Who holds which mailbox, by uniqueid, over the whole store: `registry` says what for. Raises
    `StoreError`, sqlite3.Error."""

    def holders(self, uniqueid: str) -> list[Owner]:
        """Who may hold the mailbox."""

    def held_by(self, owner: Owner) -> list[str]:
        """The uniqueids of the mailboxes that the owner is known to hold."""

    def damage(self) -> str:
        """What is wrong with it as a whole, "" if nothing is."""

    def note(self, hints: Sequence[tuple[str, Owner | None]], by: Owner) -> None:
        """Remember who holds what; None = `by` holds it no more."""

    def forget(self, owner: Owner) -> None:
        """The owner is gone with everything, and rightly so."""

    def replace(self, owner: Owner, uniqueids: Collection[str]) -> None:
        """Make what is known of one owner this."""

    def renew(self) -> Path | None:
        """Begin anew where it is damaged; where the old one is now."""


class OwnerHome(Protocol):
    """The directories of a store's owners."""

    @property
    def readonly(self) -> bool:
        """True where nothing is to be changed."""

    @property
    def notes(self) -> Path:
        """A directory of this machine for hints that may be lost. It may not be there yet."""

    @property
    def registry(self) -> Holders: ...

    @property
    def partitions_are_places(self) -> bool:
        """Whether an owner's files are on his partition; else it is but a name, which replication is told."""

    # -- the whole

    def check(self) -> None:
        """Raise `StoreError` unless every place is there that owners may be in."""

    def away(self) -> Mapping[str, str]:
        """The partitions that are not there, and why one must think so."""

    def check_partition(self, partition: str) -> str:
        """`partition` if it is configured, the default for ""; raises `PartitionUnknown`."""

    def tighten(self) -> int:
        """Take all of this machine's files from everybody but their owner; how many were open to others."""

    def staging(self) -> Path:
        """A directory for uploads, on the disk of the default partition, made if need be."""

    def generations(self) -> Mapping[str, str]:
        """`StoreCare.generations`."""

    def put_generation(self, text: str) -> None:
        """`StoreCare.put_generation`."""

    def everybody(self) -> list[Owner]:
        """Users in order of userid, then shared top-level mailboxes: everybody of whom anything is stored,
        sound or not, or whom the registry names. Never fails for one of them."""

    def userids(self) -> list[str]:
        """Everybody of whom files are stored, in order. Costs no look into anybody."""

    def add_figures(self, sheet: Sheet) -> None:
        """What Prometheus is told of the home, if there is anything. Blocks for a second at most."""

    def close(self) -> None: ...

    # -- an owner's directory

    def find(self, owner: Owner, known: OwnerDirectory | None = None) -> OwnerDirectory | None:
        """The owner's directory with its index as it is now; None for an owner that is not stored. `known` is
        what was found before: it is given back itself as long as it is right, which costs little."""

    def stamps(self) -> Mapping[Owner, Stamp]:
        """Of everybody who has an index, without a look into it. Who is not there has to be asked himself;
        that may be all."""

    def stamp(self, directory: OwnerDirectory) -> Stamp | None:
        """As the index there is now; None where that cannot be told from outside."""

    def mark(self, directory: OwnerDirectory) -> Stamp | None:
        """The caller holds the owner, and has closed the index: a stamp that only this state has. None where
        somebody else has it open."""

    def glance(self, directory: OwnerDirectory, *, unlocked: bool) -> sqlite3.Connection:
        """A connection for a short look, to an index of the present format. `unlocked`: without SQLite's
        locks, and its log; the stamp tells afterwards whether what was read is true."""

    def check_unknown(self, owner: Owner) -> bool:
        """Raise `StoreError` if an owner that was not found may be lost, and has not just never been here.
        While another process makes the owner, this tells what was a moment ago. True: a crash had kept the
        owner from coming in, and there he is now."""

    def open_index(self, directory: OwnerDirectory, *, held: bool = False) -> sqlite3.Connection:
        """A connection to the index. An older format is brought up to date before, under the owner's lock
        unless the caller has that (`held`)."""

    def reading(self, directory: OwnerDirectory) -> AbstractContextManager[object]:
        """While a snapshot is begun in this context, no commit is seen that is not published. Raises
        `StaleOwner` where the owner is in another directory by now: look again."""

    def packs(self, directory: OwnerDirectory) -> PackOctets:
        """Frames of the owner's packs, read by range. For one thread at a time."""

    def pack_writer(
        self, directory: OwnerDirectory, lengths: Mapping[int, int], *, new: bool = False
    ) -> PackWriter:
        """Appends to the owner's packs, of which the index says that they have these `lengths`. `new`: the
        owner is being made; `bring_in` syncs his packs."""

    # -- changing an owner

    def hold(self, owner: Owner, timeout: float, known: OwnerDirectory | None = None) -> Hold | None:
        """Hold an owner; None for an owner that is not stored. `MailboxLocked` after `timeout` seconds."""

    def make(self, owner: Owner, partition: str, *, large: bool = False) -> Hold:
        """Begin to make a new owner, and hold it. `large`: much is known to follow. `MailboxLocked` if
        another process was faster; `StoreError` if the owner may be on a disk that is away."""

    def blank(self, hold: Hold) -> sqlite3.Connection:
        """A connection to the empty index of an owner that is being made. The caller closes it before
        `bring_in`."""

    def bring_in(self, made: Sequence[tuple[Hold, Grown]], note: Callable[[], None]) -> None:
        """Make owners last and seen whose indexes are committed and closed, all or, after a crash, some.
        `note` enters them in the registry: it is called when all is on disk and nothing is seen. Raises what
        `note` raises, `StaleOwner`, `StoreError`, OSError."""

    def publish(self, hold: Hold, commit: Callable[[], Grown | None]) -> None:
        """Call `commit`, which commits in the directory and says what it added to packs (None: nothing was
        changed), and make it last. Raises what `commit` raises, `StaleOwner`, `StoreError`.

        Afterwards the table `outbox` is emptied in the directory, once the action log has the lines. That
        is not published: whoever finds them there writes them again, which does no harm."""

    def abandon(self, hold: Hold) -> None:
        """Drop what was done in the directory and not published; an owner that was made is gone again. Raises
        OSError."""

    def remove(self, directory: OwnerDirectory) -> None:
        """Let an owner go of which nothing is left. The caller holds it."""

    def drop_packs(self, directory: OwnerDirectory, keep: Collection[int]) -> None:
        """Remove all packs but these, which the index does not know any more. The caller holds the owner."""

    # -- from one partition to another, where they are places

    def begin_move(self, owner: Owner, partition: str, index: int, packs: int, *, to_new: bool) -> Arrival:
        """Begin to move an owner who is stored to another partition. His index and his packs have so many
        octets; the packs need room only on another disk. `to_new`: even to a partition on which nobody ever
        was, which may be a disk that is not mounted. Raises `MailboxLocked` where somebody else moves him;
        `StoreError` where the partition is not there, has not enough room or has something in his place;
        OSError."""

    def moves_left(self) -> Iterable[Path]:
        """What moves have left that were interrupted."""

    def clear_moves(self) -> Iterator[Path]:
        """Remove what interrupted moves have left: what is gone; then `StoreError` for the rest. OSError."""

    def clear_moves_of(self, owner: Owner) -> bool:
        """The same for one owner; whether there was anything. Raises `StoreError`, OSError, sqlite3.Error."""

    # -- one whose index cannot be used

    def hold_remains(self, owner: Owner, timeout: float) -> Hold:
        """Hold what is left of an owner, with or without an index. `StoreError` where nothing is."""

    def partition_of(self, directory: OwnerDirectory) -> str:
        """On which partition the directory is."""

    def set_aside(self, owner: Owner, timeout: float) -> Iterable[Path]:
        """Put all that is left of an owner out of the way, so that it can be made anew, and strike it out of
        the registry. Nothing is deleted. Returns where it is now."""
