"""An owner as both sides tell of it: mailboxes with counters and CRCs, quota roots, subscriptions, seen,
scripts.

What is found is what a run of ``-u`` or ``-m`` would act on: counters that only the bookkeeping of a replica
has raised, and records that it lacks because they cannot be read here, make no difference of their own. Reads
only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.master import READ_ERRORS, Master, MasterReader
from cyrus_sync.common.model import MailboxState, Quota, Record, UserMeta
from cyrus_sync.common.names import Owner, is_deleted, owner_of
from cyrus_sync.common.namespace import Namespace
from cyrus_sync.sync_client.comparing.findings import (
    HERE,
    THERE,
    WITHHELD,
    Difference,
    MailboxFindings,
    Message,
    OwnerFindings,
)
from cyrus_sync.sync_client.engine.compare import intermediate_done, mailbox_annotations, told
from cyrus_sync.sync_client.engine.quotas import quota_changes
from cyrus_sync.sync_client.engine.reading import fields_that_differ
from cyrus_sync.sync_client.engine.seen import seen_changes
from cyrus_sync.sync_client.engine.sieve import sieve_changes
from cyrus_sync.sync_client.engine.subscriptions import subscription_changes
from cyrus_sync.sync_client.engine.survey import is_hidden

DELETED_HERE = "deleted here, and not yet there"
ALONE = "never deleted here"
ELSEWHERE = "here it is called "


@dataclass(frozen=True, slots=True)
class Told:
    """What the replica tells of an owner. Without `meta` (a shared mailbox) there is none."""

    mailboxes: Sequence[MailboxState]
    quotas: Sequence[Quota]
    meta: UserMeta | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A mailbox that both sides have, to be looked at closer."""

    found: MailboxFindings
    remote: MailboxState
    withheld: Mapping[int, bytes]


@dataclass(slots=True)
class Compared:
    """`pairs` are the mailboxes that both have; `unreadable` those that cannot be looked at here."""

    findings: OwnerFindings
    pairs: list[Pair] = field(default_factory=list)
    unreadable: list[CyrusSyncError] = field(default_factory=list)


class StateComparer:
    """Compares what is told. `withheld` gives the messages that the replica lacks, by uniqueid."""

    def __init__(
        self,
        master: Master,
        *,
        partition: str,
        sieve_mailbox: bool,
        names: Namespace,
        withheld: Callable[[str], Mapping[int, bytes]],
    ) -> None:
        self._master = master
        self._partition = partition
        self._sieve_mailbox = sieve_mailbox
        self._names = names
        self._external = names.external
        self._withheld = withheld

    def names(self, owner: Owner) -> tuple[list[str], list[str]]:
        """The names of an owner's mailboxes here, and of his quota roots. Blocks on a disk."""
        with self._master.read(owner) as reader:
            found = [state.name for state in reader.mailboxes() if not is_hidden(state, self._sieve_mailbox)]
            return found, [quota.root for quota in reader.quotas()]

    def compare(self, owner: Owner, remote: Told) -> Compared:
        """Blocks on a disk. A mailbox that cannot be read here is among `Compared.unreadable`."""
        compared = Compared(OwnerFindings(owner, self._names.owner_name(owner)))
        with self._master.read(owner) as reader:
            self._mailboxes(compared, reader, remote)
            others = compared.findings.others
            others += _quotas(reader, remote)
            if remote.meta is not None:
                others += self._meta(reader.meta(with_sieve=not self._sieve_mailbox), remote.meta)
        return compared

    def _mailboxes(self, compared: Compared, reader: MasterReader, remote: Told) -> None:
        theirs = {s.uniqueid: s for s in remote.mailboxes if not is_hidden(s, self._sieve_mailbox)}
        for listed in reader.mailboxes():
            if is_hidden(listed, self._sieve_mailbox):
                continue
            other = theirs.pop(listed.uniqueid, None)
            try:
                ours = listed if listed.intermediate else reader.mailbox_by_id(listed.uniqueid)
                if ours is None:
                    continue  # gone since it was listed
                pair = self._pair(reader, ours, other)
            except READ_ERRORS as error:
                compared.unreadable.append(error.at(mailbox=listed.name, uniqueid=listed.uniqueid))
                continue
            compared.findings.counts.mailboxes += not ours.intermediate
            compared.findings.mailboxes.append(pair.found)
            if other is not None and not ours.intermediate:
                compared.pairs.append(pair)
        for other in theirs.values():
            found = self._only_there(other)
            if found is not None:
                compared.findings.mailboxes.append(found)

    def _pair(self, reader: MasterReader, ours: MailboxState, theirs: MailboxState | None) -> Pair:
        found = MailboxFindings(self._external(ours.name), ours.uniqueid)
        if theirs is None:
            found.where = HERE
            return Pair(found, ours, {})
        if ours.intermediate:
            if not intermediate_done(ours, theirs):
                found.fields["intermediate"] = ours.highestmodseq, theirs.foldermodseq
            return Pair(found, theirs, {})
        if theirs.name != ours.name:
            found.fields["name"] = self._external(ours.name), self._external(theirs.name)
        if theirs.partition != (self._partition or ours.partition):
            found.fields["partition"] = self._partition or ours.partition, theirs.partition
        if self._master.refuses:
            ours = told(ours, theirs)
        withheld = {u: g for u, g in self._withheld(ours.uniqueid).items() if u <= theirs.last_uid}
        lacking = _records(reader, ours.uniqueid, withheld)
        for name in fields_that_differ(reader, ours, theirs, lacking):
            found.fields[name] = _shown(ours, name), _shown(theirs, name)
        for record in lacking:
            found.add(WITHHELD, Message(record.uid, record.guid))
        return Pair(found, theirs, {record.uid: record.guid for record in lacking})

    def _only_there(self, theirs: MailboxState) -> MailboxFindings | None:
        """A mailbox of the replica that the owner has not here; None for what a replica may have alone."""
        if theirs.intermediate or is_deleted(theirs.name):
            return None
        found = MailboxFindings(self._external(theirs.name), theirs.uniqueid, THERE, note=ALONE)
        owner = self._master.owner_of_uniqueid(theirs.uniqueid)
        if owner is not None:
            with self._master.read(owner) as reader:
                ours = reader.mailbox_by_id(theirs.uniqueid)
            if ours is not None:
                found.note = ELSEWHERE + self._external(ours.name)
                return found
        for place in (owner_of(theirs.name), owner):
            if place is not None:
                with self._master.read(place) as reader:
                    stone = reader.tombstone(theirs.uniqueid)
                if stone is not None and not 0 < stone.modseq < theirs.highestmodseq:
                    found.note = DELETED_HERE
        return found

    def _meta(self, ours: UserMeta, theirs: UserMeta) -> list[Difference]:
        subscribe, unsubscribe = subscription_changes(ours.subscriptions, theirs.subscriptions)
        external = self._external
        found = [Difference("subscription", external(name), "is only here") for name in subscribe]
        found += [
            Difference("subscription", external(name), "is only at the replica") for name in unsubscribe
        ]
        found += [
            Difference("seen state of the mailbox", seen.uniqueid, "is missing or different at the replica")
            for seen in seen_changes(ours.seen, theirs.seen)
        ]
        if self._sieve_mailbox:
            return found
        scripts = sieve_changes(ours.sieve, theirs.sieve)
        found += [
            Difference("script", s.filename, "is missing or different at the replica") for s in scripts.upload
        ]
        found += [Difference("script", name, "is only at the replica") for name in scripts.remove]
        if scripts.activate:
            found.append(Difference("script", scripts.activate, "is not active at the replica"))
        if scripts.deactivate:
            found.append(Difference("script", "", "one is active at the replica, none here"))
        return found


def _records(reader: MasterReader, uniqueid: str, wanted: Mapping[int, bytes]) -> list[Record]:
    """The live records of these messages."""
    found: list[Record] = []
    for uid in sorted(wanted):
        batch = next(iter(reader.records(uniqueid, above_uid=uid - 1, batch=1)), ())
        found += [r for r in batch if r.uid == uid and r.guid == wanted[uid] and not r.expunged]
    return found


def _shown(state: MailboxState, name: str) -> Any:
    if name == "annotations":
        return [[e, u, v.decode("utf-8", "backslashreplace")] for e, u, v in mailbox_annotations(state)]
    return getattr(state, name)


def _quotas(reader: MasterReader, remote: Told) -> list[Difference]:
    wanted, surplus = quota_changes(reader.quotas(), remote.quotas)
    theirs = {quota.root: quota.limits for quota in remote.quotas}
    return [
        Difference("quota", quota.root, f"is {quota.limits} here, {theirs.get(quota.root)} at the replica")
        for quota in wanted
    ] + [Difference("quota", root, "is only at the replica") for root in surplus]
