"""Making a replica from a snapshot (`multisite.snapshot`): the log and the mail of its maker become its own.

The snapshot is believed, because the packet is signed by a maker whom the administrator knows. Every step can
be repeated: an import that was interrupted begins anew with the first part.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from cyrus_sync.common.names import Owner, is_deleted, sort_key
from cyrus_sync.multisite import snapshot
from cyrus_sync.multisite.errors import BadOperation
from cyrus_sync.multisite.family import Replica, replica_from
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.oplog.apply_command import parse, without_records
from cyrus_sync.multisite.oplog.held import Held
from cyrus_sync.multisite.oplog.operations import LogEntry, OperationState, owner_from
from cyrus_sync.multisite.oplog.shadows import state_from, state_text
from cyrus_sync.multisite.packet import (
    Header,
    Messages,
    Operation,
    PacketDamaged,
    PacketReader,
    State,
)
from cyrus_sync.multisite.replay.batch_writer import BatchWriter
from cyrus_sync.multisite.replay.context import ReplayContext
from cyrus_sync.multisite.replay.metadata import apply_metadata
from cyrus_sync.multisite.replay.packet_messages import PacketMessages
from cyrus_sync.multisite.vetting import read

COMMIT_EVERY = 64 << 20
"""Bytes of messages after which the store is committed."""

_FOUNDING = "founding"


def is_founding(member: Member) -> bool:
    """Whether a snapshot was begun to be read, and not ended."""
    return bool(member.log.notes.get(_FOUNDING))


class Founding:
    """Reads the parts of one snapshot, in their order. `notice` hears what one may want to know."""

    def __init__(self, member: Member, notice: Callable[[str], None]) -> None:
        self._member = member
        self._log = member.log
        self._messages = PacketMessages(member.staging, Held(member.log.db))
        self._consumed: set[bytes] = set()
        """GUIDs of messages that the store will have when it is committed."""
        self._pending: dict[tuple[str, int], tuple[OperationState, str]] = {}
        self._context = ReplayContext(
            log=member.log,
            batch=BatchWriter(member.store),
            messages=self._messages,
            family=member.family,
            partitions=tuple(member.config.partitions),
            defaultpartition=member.config.defaultpartition,
            warn=member.warn,
            notice=notice,
            external=str,
            founding=True,
            to_capture=set(),
        )

    def begin(self, header: Header) -> None:
        """The first part follows."""
        self._log.forks.end()
        self._log.notes.put(_FOUNDING, header.logical)

    def part(self, packet: PacketReader) -> None:
        """Take over one part, which has been verified. Raises `PacketError`, and what the store raises."""
        size = 0
        header, member = packet.header, self._member
        total = sum(there.end - there.start + 1 for there in header.ranges.values())
        try:
            with (
                self._log.db.transaction(),
                member.progress(f"taking over the snapshot of {header.sender_name}", total) as meter,
            ):
                for item in packet.items(member.staging):
                    if isinstance(item, Messages):
                        self._messages.add(item.bodies)
                        size += sum(body.size for body in item.bodies)
                    elif isinstance(item, State):
                        self._state(item)
                    else:
                        self._operation(item)
                        meter.advance()
                    if size > COMMIT_EVERY:
                        size = 0
                        self._commit()
                self._commit()
        except BaseException:
            self._context.batch.roll_back()
            raise

    def end(self, header: Header, told_anew: Iterable[Owner] = ()) -> None:
        """All parts are taken over: this replica has what their maker has. The owners `told_anew` are still
        to be told; if that is interrupted, the next command does it."""
        with self._log.db.transaction():
            for owner in told_anew:
                self._log.forks.merge(owner)
            self._log.epochs.put(self._log.self_id, header.row)
            self._log.epochs.put(header.sender, header.row)
            self._log.heard.note(header.sender, header.sender_incarnation, header.row)
            for owner in self._log.masters.of_replica(header.sender):
                # What the maker has said as their master is in its state, and stands in no vector of its own.
                self._log.masters.note_settled(owner, {header.sender: header.row.get(header.sender, 0)})
            for entry in list(self._log.operations.unheard_own()):
                # It is not in that state, and nobody else is going to answer it.
                self._log.operations.set_state(entry.seq, OperationState.WAITS)
            self._log.regained.begin()
            heard, trimmed = self._log.heard.all(), self._log.trimmed.row()
            for one in self._member.family.living():
                if one.id not in (self._log.self_id, header.sender):
                    # What is trimmed they cannot get from here: who lacks it says so when a packet comes.
                    self._log.epochs.raise_to(one.id, trimmed)
                    if one.id in heard:
                        self._log.epochs.raise_to(one.id, heard[one.id].row)
            self._log.notes.drop(_FOUNDING)
        self._messages.close()

    def _commit(self) -> None:
        self._context.batch.commit()
        self._messages.forget(self._consumed)
        self._consumed.clear()
        self._log.db.commit()

    # -- state

    def _state(self, item: State) -> None:
        try:
            match item.kind:
                case snapshot.REPLICA:
                    self._replica(replica_from(json.loads(item.data)))
                case snapshot.ROWS:
                    for table, rows in json.loads(item.data).items():
                        self._rows(table, rows)
                case snapshot.PENDING:
                    for origin, number, state, reason in json.loads(item.data):
                        self._pending[origin, number] = OperationState(state), str(reason)
                case snapshot.MAIL:
                    self._mail(owner_from(item.owner), item.data)
                case _:
                    raise PacketDamaged(f"a state of a kind that is not known: {item.kind}")
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise PacketDamaged(f"a state that makes no sense: {str(error)[:200]}") from None

    def _replica(self, said: Replica) -> None:
        """Of itself this replica knows its keys."""
        family = self._member.family
        if said.id == self._log.self_id:
            mine = family.myself
            said = replace(said, keys=mine.keys, succession=mine.succession)
            said = replace(said, incarnation=max(said.incarnation, mine.incarnation), signed=mine.signed)
        self._member.set_family(family.with_replica(said))

    def _rows(self, table: str, rows: list[list[Any]]) -> None:
        columns = snapshot.TABLES[table]
        if table == "shadows":
            rows = [[*row[:3], self._shadow(row[3])] for row in rows]
        if table == "wanted":
            rows = [[bytes.fromhex(guid), owner] for guid, owner in rows]
        marks = ", ".join("?" * len(columns))
        self._log.db.executemany(
            f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) VALUES ({marks})",
            [tuple(row) for row in rows],
        )

    def _shadow(self, text: str) -> str:
        state = state_from(text)
        return state_text(replace(state, partition=self._context.partition(state.partition)))

    def _mail(self, owner: Owner, line: bytes) -> None:
        said = parse(line)
        if said.name != "MAILBOX":
            apply_metadata(self._context, owner, said)
            return
        lacking = self._nowhere(owner, list(said.messages))
        if lacking:
            # Its maker cannot read them. What is believed of the owner is told anew, and so they are found.
            said = without_records(said, lacking)
            self._log.forks.merge(owner)
        update = said.update
        state = replace(update.state, partition=self._context.partition(update.state.partition))
        writer = self._context.batch.writer(owner, sum(said.messages.values()))
        writer.apply_mailbox(replace(update, state=state, since=None), self._messages, without_inbox=True)
        self._consumed.update(said.messages)

    def _nowhere(self, owner: Owner, guids: list[bytes]) -> list[bytes]:
        """Those of these messages that the snapshot does not bring."""
        sought = [guid for guid in guids if not self._messages.is_good(guid)]
        if not sought:
            return []
        with self._context.batch.reader(owner) as reader:
            stored = reader.has_guids(sought)
        return [guid for guid in sought if guid not in stored]

    # -- operations

    def _operation(self, item: Operation) -> None:
        """An operation goes into the log as it is. The messages before it were held by its maker, so they are
        held here."""
        operations = self._log.operations
        entry = LogEntry(item.origin, item.id, item.time, owner_from(item.owner), item.line, item.attributes)
        try:
            said = read(entry).command
        except BadOperation:
            said = None
        messages = said.messages if said is not None else {}
        entry = replace(entry, guids=tuple(messages), octets=sum(messages.values()))
        if self._consumed:
            self._commit()
        self._messages.hold(entry.guids)
        self._messages.forget(entry.guids)
        if operations.has(item.origin, item.id):
            return  # an import that was interrupted has put it there
        state, reason = self._pending.get((item.origin, item.id), (OperationState.DONE, ""))
        operations.take_over(replace(entry, reason=reason), state)


def empty(member: Member) -> None:
    """Forget all mail and the whole log of a replica, to make it anew."""
    log, batch = member.log, BatchWriter(member.store)
    for owner in list(member.store.owners()):
        writer = batch.writer(owner)
        names = [state.name for state in writer.mailboxes()]
        for name in sorted(names, key=lambda one: (not is_deleted(one), sort_key(one)), reverse=True):
            writer.apply_unmailbox(name)
        if owner.kind == "user":
            writer.apply_unuser()
        batch.commit()
    with log.db.transaction():
        for table in (
            *snapshot.TABLES,
            *("operations", "epochs", "exports", "introduced", "held", "requests", "followed"),
        ):
            log.db.execute(f"DELETE FROM {table}")
