"""What restoring one mailbox comes to. Decides only; nothing is changed here.

A mailbox that the target does not have is *created*: with its uniqueid, UIDs, modseqs and expunged records,
so that it is the same mailbox again; under another name, or where its uniqueid lives on at the target (most
often below ``DELETED.``), as a copy with a uniqueid and a UIDVALIDITY of its own.

To one that the target has, only what it lacks is *added*: messages that are not alive there (told by their
GUIDs) and mailbox annotations. Nothing there is changed or removed. A message keeps its UID where the mailbox
is the same one and has not come that far at the target, and gets a new one otherwise.

What was expunged comes back under new UIDs: those who saw it go must see it come.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from cyrus_sync.common.model import Annotation, MailboxState, MailboxUpdate, Record, RecordSource, Since
from cyrus_sync.common.newnames import new_uniqueid
from cyrus_sync.common.protocol.crc import ANNOT_SEED, mailbox_crcs
from cyrus_sync.common.stores.mailstore import OwnerReader
from cyrus_sync.common.stores.queries import is_sieve
from cyrus_sync.mailstore.restoring.wishes import Revive, Wish, find_records
from cyrus_sync.mailstore.source import Source

ACTIVE = "\\Flagged"
"""The flag of the script that is in force."""

ADD_MESSAGES = 5000
ADD_BYTES = 64 << 20
"""Bounds of what is added to a mailbox in one step."""


class Addition(NamedTuple):
    """A message of the source that gets `new_uid` at the target. `size` in octets."""

    uid: int
    new_uid: int
    size: int
    revived: bool


@dataclass(frozen=True, slots=True)
class There:
    """What the target has under a name: the mailbox, the flags of what is alive in it, by GUID (None: of two
    messages that are the same), and its true CRCs."""

    state: MailboxState
    flags: Mapping[bytes, str | None]
    crcs: tuple[int, int]


class Stays(NamedTuple):
    """What a mailbox at the target has otherwise, and keeps: messages with other flags, messages that are not
    wished for, and whether its rights are others."""

    flags: int = 0
    messages: int = 0
    rights: bool = False


NOTHING_STAYS = Stays()


@dataclass(frozen=True, slots=True)
class BoxPlan:
    """One mailbox. Nothing to do if it is not `create` and neither adds messages nor annotations."""

    wish: Wish
    state: MailboxState
    """The mailbox at the target before `additions`: as it is there, or as it is created."""
    create: bool
    messages: int = 0
    """Of a mailbox that is created: live messages that it begins with, and their octets."""
    size: int = 0
    crcs: tuple[int | None, int | None] = (0, ANNOT_SEED)
    """Of `state`, from the records themselves; None where the target counts otherwise."""
    absent: frozenset[int] = frozenset()
    """UIDs of live records whose messages this store does not have (any more)."""
    additions: tuple[Addition, ...] = ()
    annotations: tuple[Annotation, ...] = ()
    elsewhere: str = ""
    """What the target calls the mailbox of which a copy is made."""
    stays: Stays = NOTHING_STAYS
    trouble: str = ""
    """Why this mailbox cannot be restored; then nothing is done."""

    @property
    def idle(self) -> bool:
        return bool(self.trouble) or not (self.create or self.additions or self.annotations)

    @property
    def new_identity(self) -> bool:
        """True if the mailbox is created under another uniqueid than it has here."""
        return self.create and self.state.uniqueid != self.wish.state.uniqueid


# -- a mailbox that the target does not have


def plan_creation(
    reader: OwnerReader, wish: Wish, revive: Revive | None, *, partition: str, elsewhere: str, now: int
) -> BoxPlan:
    """Make the mailbox anew. `elsewhere`: the name under which the target has its uniqueid."""
    state = replace(wish.state, name=wish.target, acl=wish.acl, partition=partition, quotaroot="")
    if wish.renamed or elsewhere:
        state = replace(state, uniqueid=new_uniqueid(), uidvalidity=max(now, state.uidvalidity + 1))
    if state.intermediate:
        return BoxPlan(wish, state, create=True)
    live: set[bytes] = set()
    absent: set[int] = set()
    gone: dict[bytes, Record] = {}
    messages = size = 0
    crcs = (0, ANNOT_SEED)
    for batch in reader.records(wish.state.uniqueid):
        stored = reader.has_guids([record.guid for record in batch])
        kept = []
        for record in batch:
            if record.expunged:
                if revive and revive.wants(record) and record.guid in stored:
                    gone.setdefault(record.guid, record)
            elif record.guid in stored:
                kept.append(record)
                live.add(record.guid)
                size += record.size
            else:
                absent.add(record.uid)
        messages += len(kept)
        crcs = mailbox_crcs(kept, crcs)
    back = [record for guid, record in gone.items() if guid not in live]
    return BoxPlan(
        wish,
        replace(state, sync_crc=crcs[0], sync_crc_annot=crcs[1]),
        create=True,
        messages=messages,
        size=size,
        crcs=crcs,
        absent=frozenset(absent),
        additions=_numbered(back, state.last_uid),
        elsewhere=elsewhere,
    )


def _numbered(records: Iterable[Record], last_uid: int) -> tuple[Addition, ...]:
    return tuple(
        Addition(record.uid, last_uid + at, record.size, record.expunged)
        for at, record in enumerate(sorted(records), start=1)
    )


# -- a mailbox that the target has


def same(wish: Wish, state: MailboxState) -> bool:
    """True if the target's mailbox holds just the same, as far as counters and CRCs tell."""
    fields = ("uniqueid", "highestmodseq", "last_uid", "uidvalidity", "sync_crc")
    return (
        all(getattr(wish.state, name) == getattr(state, name) for name in fields)
        and wish.state.sync_crc_annot == state.sync_crc_annot
        and not lacking_annotations(wish.state.annotations, state.annotations)
    )


def lacking_annotations(ours: Iterable[Annotation], theirs: Iterable[Annotation]) -> tuple[Annotation, ...]:
    """Annotations of the mailbox for which the target has no value."""
    known = {(a.entry, a.userid) for a in theirs}
    return tuple(a for a in ours if (a.entry, a.userid) not in known)


def plan_addition(
    reader: OwnerReader,
    wish: Wish,
    revive: Revive | None,
    there: There,
    *,
    skip: Collection[bytes] = (),
) -> BoxPlan:
    """Add what is lacking; messages with the GUIDs in `skip` are not wanted."""
    state = there.state
    if _kind(wish.state.mbtype) != _kind(state.mbtype):
        return BoxPlan(wish, state, create=False, trouble="it is a mailbox of another type there")
    same_box = (wish.state.uniqueid, wish.state.uidvalidity) == (state.uniqueid, state.uidvalidity)
    known = {*there.flags, *skip}
    ours: set[bytes] = set()
    other_flags = 0
    kept: list[Record] = []
    renumbered: list[Record] = []
    gone: dict[bytes, Record] = {}
    absent: set[int] = set()
    for batch in reader.records(wish.state.uniqueid):
        live = [record for record in batch if not record.expunged]
        ours.update(record.guid for record in live)
        other_flags += sum(_has_other_flags(record, there.flags.get(record.guid)) for record in live)
        wanted = [
            r for r in batch if r.guid not in known and (not r.expunged or (revive and revive.wants(r)))
        ]
        stored = reader.has_guids([record.guid for record in wanted])
        for record in wanted:
            if record.guid not in stored:
                if not record.expunged:
                    absent.add(record.uid)
            elif record.expunged:
                gone.setdefault(record.guid, record)
            elif record.guid not in known:
                known.add(record.guid)
                (kept if same_box and record.uid > state.last_uid else renumbered).append(record)
    renumbered.extend(record for guid, record in gone.items() if guid not in known)
    last_uid = max(state.last_uid, wish.state.last_uid) if same_box else state.last_uid
    reliable = state.sync_crc in (0, there.crcs[0])
    reliable_annot = state.sync_crc_annot in (0, None, there.crcs[1])
    return BoxPlan(
        wish,
        state,
        create=False,
        crcs=(there.crcs[0] if reliable else None, there.crcs[1] if reliable_annot else None),
        absent=frozenset(absent),
        additions=(
            *(Addition(record.uid, record.uid, record.size, False) for record in kept),
            *_numbered(renumbered, last_uid),
        ),
        annotations=lacking_annotations(wish.state.annotations, state.annotations),
        stays=Stays(other_flags, len(there.flags.keys() - ours), wish.acl != state.acl),
    )


def _has_other_flags(record: Record, theirs: str | None) -> bool:
    return theirs not in (None, record.flags) and set(str(theirs).split()) != set(record.flags.split())


def _kind(mbtype: str) -> str:
    """The kind of a mailbox; plain mail is "", the letter of the storage layout does not count."""
    return mbtype.replace("e", "").replace("l", "")


# -- what is sent


class CreatedRecords:
    """The records that a mailbox is created with (a `RecordSource`): all of them, or, for a copy, those that
    are alive."""

    def __init__(self, store: Source, plan: BoxPlan) -> None:
        self._store = store
        self._plan = plan

    def __iter__(self) -> Iterator[Sequence[Record]]:
        plan = self._plan
        with self._store.read(plan.wish.owner) as reader:
            for batch in reader.records(plan.wish.state.uniqueid):
                yield [
                    record
                    for record in batch
                    if record.uid not in plan.absent and not (plan.new_identity and record.expunged)
                ]


def creation(store: Source, plan: BoxPlan) -> MailboxUpdate:
    """The update that makes the mailbox, without its additions."""
    records: RecordSource = () if plan.state.intermediate else CreatedRecords(store, plan)
    return MailboxUpdate(plan.state, records)


def steps(additions: Sequence[Addition]) -> Iterator[tuple[Addition, ...]]:
    """`additions` in parts of bounded size."""
    begin = size = 0
    for at, one in enumerate(additions):
        if at > begin and (at - begin >= ADD_MESSAGES or size + one.size > ADD_BYTES):
            yield tuple(additions[begin:at])
            begin, size = at, 0
        size += one.size
    if begin < len(additions):
        yield tuple(additions[begin:])


def addition(
    reader: OwnerReader, plan: BoxPlan, part: Sequence[Addition], *, now: int, modseq: int
) -> MailboxUpdate:
    """The update that adds `part` (perhaps nothing) and the annotations to `plan.state`. Only a target that
    is still in that state takes it. Messages that are gone meanwhile are left out."""
    found = find_records(reader, plan.wish.state.uniqueid, [one.uid for one in part])
    stored = reader.has_guids([record.guid for record in found.values()])
    records = [
        record._replace(
            uid=one.new_uid,
            modseq=modseq,
            flags=_inactive(record.flags) if is_sieve(plan.state) else record.flags,
            last_updated=now,
            expunged=False,
            savedate=now,
            createdmodseq=modseq,
            annotations=tuple(a._replace(modseq=modseq) for a in record.annotations),
        )
        for one in part
        if (record := found.get(one.uid)) is not None and record.guid in stored
    ]
    state = plan.state
    basic, annot = mailbox_crcs(records, (plan.crcs[0] or 0, plan.crcs[1] or 0))
    after = replace(
        state,
        sync_crc=0 if plan.crcs[0] is None else basic,
        sync_crc_annot=None if plan.crcs[1] is None else annot,
        highestmodseq=modseq,
        last_uid=max([state.last_uid, *(record.uid for record in records)]),
        last_appenddate=max(now, state.last_appenddate) if records else state.last_appenddate,
        annotations=tuple(sorted((*state.annotations, *plan.annotations))),
        quotaroot="",
        userflags=(),
        deletedmodseq=0,
    )
    since = Since(state.highestmodseq, state.sync_crc, state.sync_crc_annot or 0)
    return MailboxUpdate(after, [records], since if state.highestmodseq else None)


def _inactive(flags: str) -> str:
    """A script that joins others is not made the active one in their place."""
    return " ".join(flag for flag in flags.split() if flag != ACTIVE)


def advanced(plan: BoxPlan, update: MailboxUpdate) -> BoxPlan:
    """`plan` when the target has taken `update`."""
    state = update.state
    basic = None if plan.crcs[0] is None else state.sync_crc
    return replace(plan, state=state, create=False, crcs=(basic, state.sync_crc_annot), annotations=())
