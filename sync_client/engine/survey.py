"""Master and replica side by side: which mailboxes are to be updated, renamed, deleted, left alone.

Mailboxes are matched by UNIQUEID only. A mailbox that only the replica has is looked up by its id on the
master: if it lives under another name, it is renamed; if it has left a tombstone, it may be deleted; if
the master knows nothing of it, it is left alone. Runs in a thread, reads only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.master import READ_ERRORS, Master, MasterReader
from cyrus_sync.common.model import MailboxState, Tombstone
from cyrus_sync.common.names import Owner, owner_of
from cyrus_sync.sync_client.engine.compare import counters_to_adopt, told
from cyrus_sync.sync_client.engine.reading import Item, needs_update
from cyrus_sync.sync_client.engine.renames import Rename
from cyrus_sync.sync_client.engine.withheld import Withheld

_FEW = 20
"""Up to so many names are looked up singly."""


@dataclass(slots=True)
class Survey:
    """What is to be done, and what not."""

    updates: list[Item] = field(default_factory=list)
    agreeing: list[MailboxState] = field(default_factory=list)
    """The replica's states of mailboxes that need nothing."""
    renames: list[Rename] = field(default_factory=list)
    deletes: list[MailboxState] = field(default_factory=list)
    alone: list[tuple[MailboxState, str]] = field(default_factory=list)
    """Mailboxes that only the replica has and that may not be deleted there, with the reason."""
    unreadable: list[tuple[str, str, CyrusSyncError]] = field(default_factory=list)
    """Name and uniqueid of mailboxes that cannot be looked at here, with the error."""
    replica_names: list[str] = field(default_factory=list)
    """Where RESERVE may look."""


def is_hidden(state: MailboxState, sieve_mailbox: bool) -> bool:
    """True for ``#sieve`` where it is not replicated as a mailbox."""
    return not sieve_mailbox and ("f" in state.mbtype or state.name.endswith(".#sieve"))


def _misplaced(local: MailboxState, theirs: MailboxState, target: str) -> bool:
    if local.intermediate or theirs.intermediate:
        return False
    return theirs.name != local.name or theirs.partition != target


class Surveyor:
    """Compares what `wanted` names with what the replica reported."""

    def __init__(
        self,
        master: Master,
        *,
        partition: str,
        sieve_mailbox: bool,
        may_settle: bool,
        withheld: Withheld | None = None,
    ) -> None:
        self._withheld = withheld
        self._master = master
        self._partition = partition
        self._sieve_mailbox = sieve_mailbox
        self._may_settle = may_settle
        self._unmoved: frozenset[str] = frozenset()
        self._doubles: dict[str, MailboxState] = {}
        """By uniqueid: what a rename from one owner to another left behind when the replica was killed.
        To be renamed once more, which ends it."""

    def survey(
        self,
        wanted: Mapping[Owner, Sequence[str] | None],
        remote: Sequence[MailboxState],
        given_up: Collection[str] = (),
        cached: Collection[str] = (),
        unmoved: Collection[str] = (),
    ) -> Survey:
        """`wanted` names mailboxes by owner, None = all of the owner's. `given_up` are uniqueids that
        are left as they are, `cached` names whose remote state was not asked for just now, `unmoved`
        uniqueids that stay on the partition where the replica has them."""
        self._unmoved = frozenset(unmoved)
        found = Survey(replica_names=[state.name for state in remote])
        by_id: dict[str, MailboxState] = {}
        for state in remote:
            if not is_hidden(state, self._sieve_mailbox) and by_id.setdefault(state.uniqueid, state) != state:
                self._doubles[state.uniqueid] = state
        unmatched = dict(by_id)
        for owner, names in wanted.items():
            with self._master.read(owner) as reader:
                for local in self._local_states(found, reader, names):
                    theirs = unmatched.pop(local.uniqueid, None)
                    if local.uniqueid not in given_up:
                        self._compare(found, reader, local, theirs, local.name in cached)
        for theirs in unmatched.values():
            if theirs.uniqueid not in given_up:
                self._look_up(found, theirs)
        return found

    def _local_states(
        self, found: Survey, reader: MasterReader, names: Sequence[str] | None
    ) -> list[MailboxState]:
        if names is not None and len(names) <= _FEW:
            states = []
            for name in names:
                try:
                    state = reader.mailbox(name)
                except READ_ERRORS as error:
                    found.unreadable.append((name, "", error))
                    continue
                if state is not None:
                    states.append(state)
        else:
            states = reader.mailboxes()
            if names is not None:
                by_name = {state.name: state for state in states}
                states = [by_name[name] for name in names if name in by_name]
        return [s for s in states if not s.tombstone and not is_hidden(s, self._sieve_mailbox)]

    def _compare(
        self,
        found: Survey,
        reader: MasterReader,
        local: MailboxState,
        theirs: MailboxState | None,
        cached: bool,
    ) -> None:
        target = self._partition or local.partition
        if theirs is not None and local.uniqueid in self._unmoved:
            target = theirs.partition
        if theirs is not None and theirs.name == local.name:
            theirs = self._doubles.get(local.uniqueid, theirs)
        if theirs is not None and _misplaced(local, theirs, target):
            found.renames.append(Rename(local.uniqueid, theirs.name, local.name, target, local.uidvalidity))
        if theirs is not None and self._master.refuses:
            local = told(local, theirs)
        withheld = self._withheld is not None and bool(self._withheld.of(local.uniqueid))
        if withheld or self._needs_update(reader, local, theirs):
            item = Item(reader.owner, local.name, local.uniqueid, local.partition, target, theirs)
            item.last_uid, item.cached = local.last_uid, cached
            item.raise_counters = theirs is not None and bool(counters_to_adopt(local, theirs))
            found.updates.append(item)
        elif theirs is not None:
            found.agreeing.append(theirs)

    def _needs_update(self, reader: MasterReader, local: MailboxState, theirs: MailboxState | None) -> bool:
        try:
            return needs_update(reader, local, theirs, self._may_settle)
        except READ_ERRORS:
            return True  # it fails alone, in its turn

    def _look_up(self, found: Survey, theirs: MailboxState) -> None:
        """What becomes of a mailbox of the replica that `wanted` does not name."""
        owner = self._master.owner_of_uniqueid(theirs.uniqueid)
        if owner is not None:
            with self._master.read(owner) as reader:
                try:
                    local = reader.mailbox_by_id(theirs.uniqueid)
                except READ_ERRORS as error:
                    found.unreadable.append((theirs.name, theirs.uniqueid, error))
                    return
                if local is not None:
                    self._compare(found, reader, local, theirs, cached=False)
                    return
        tombstone = self._tombstone(theirs, owner)
        if tombstone is None:
            if not theirs.intermediate:
                found.alone.append((theirs, "it was never deleted here"))
        elif 0 < tombstone.modseq < theirs.highestmodseq:
            found.alone.append((theirs, "it was deleted here but changed on the replica since"))
        else:
            found.deletes.append(theirs)

    def _tombstone(self, theirs: MailboxState, owner: Owner | None) -> Tombstone | None:
        for place in (owner_of(theirs.name), owner):
            if place is None:
                continue
            with self._master.read(place) as reader:
                stone = reader.tombstone(theirs.uniqueid)
            if stone is not None:
                return stone
        return None
