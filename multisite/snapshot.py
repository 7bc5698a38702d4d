"""A snapshot: what a replica has, written into creation packets instead of all that ever happened.

It begins with the tables of the log that are the same at whoever has the same operations (`TABLES`), and with
the family. Then comes the mail, as the commands that make it where there is none, each behind its messages.
Last come the operations that are still in the log, with such messages as the log itself holds: the new
replica passes them on, and settles what is still open. `multisite.founding` reads it.

=========  ===========================================================================
kind       what it is
=========  ===========================================================================
replica    a JSON object: one replica of the family
rows       a JSON object: the name of a table -> some of its rows
mail       a csync command about an owner, with its CRLF
pending    a JSON list: origin, number, state and reason of operations that are not done
=========  ===========================================================================
"""

from __future__ import annotations

import contextlib
import itertools
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from cyrus_sync.multisite.bodies import Bodies, Places
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.oplog.apply_command import without_messages
from cyrus_sync.multisite.oplog.held import Held
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.multisite.oplog.masters import Base
from cyrus_sync.multisite.oplog.operations import LogEntry, owner_text
from cyrus_sync.multisite.oplog.shadows import INBOXLESS, TOLD_ITEMS, state_from
from cyrus_sync.multisite.packet import State
from cyrus_sync.multisite.vetting import SPECIAL

REPLICA, ROWS, MAIL, PENDING = "replica", "rows", "mail", "pending"

TABLES = {
    "trimmed": ("origin", "id"),
    "given": ("mark",),
    "heard": ("replica", "incarnation", "origin", "id"),
    "masters": ("owner", "version", "replica"),
    "settled": ("owner", "origin", "id"),
    "objects": ("uniqueid", "owner", "creator", "wanted", "local"),
    "bases": ("uniqueid", "modseq", "last_uid", "told_id", "told_modseq"),
    "shadows": ("uniqueid", "owner", "name", "state"),
    "shadow_items": ("owner", "kind", "key", "value"),
    "earlier": ("uniqueid", "word"),
    "wanted": ("guid", "owner"),
}
"""Tables of the log that a new replica takes over, and their columns. GUIDs go as hexadecimal digits."""

_ROWS_A_STATE = 500
_ITEMS = (*TOLD_ITEMS, INBOXLESS)


class SnapshotPacket(Protocol):
    """Where a snapshot is written."""

    def state(self, state: State) -> None: ...

    def messages(
        self, entry: LogEntry, guids: list[bytes], places: Places | None, bodies: Bodies | None = None
    ) -> None: ...

    def operation(self, entry: LogEntry) -> None: ...

    def left_out(self, entry: LogEntry, guid: bytes) -> None: ...


def write_snapshot(member: Member, packet: SnapshotPacket, title: str) -> None:
    """Write all of it. `title`: what is said of it where somebody waits."""
    for state in _head_of(member):
        packet.state(state)
    with _mail_told(member) as told:
        _write_mail(member, packet, told, title)
    operations, held = member.log.operations, Held(member.log.db)
    for entry in operations.lacking({}):
        packet.messages(entry, [guid for guid in operations.introduced_by(entry) if guid in held], None)
        packet.operation(entry)


def _write_mail(member: Member, packet: SnapshotPacket, told: Log, title: str) -> None:
    """All mail, as a log of its own tells it."""
    bodies = Bodies(member.store, told, member.by_place)
    with member.progress(title, told.operations.count()) as meter:
        for entry in told.operations.lacking({}):
            meter.advance()
            if entry.verb in SPECIAL:
                continue
            wanted = told.operations.introduced_by(entry)
            places = bodies.places(entry, wanted)
            missing = bodies.lacking(entry.owner, wanted, places) if wanted else set()
            if missing:
                for guid in sorted(missing):
                    packet.left_out(entry, guid)
                entry = without_messages(entry, missing)
                wanted = [guid for guid in wanted if guid not in missing]
            packet.messages(entry, wanted, places, bodies)
            for guid in sorted(bodies.damaged.intersection(wanted)):
                packet.left_out(entry, guid)
            packet.state(State(MAIL, entry.line, owner_text(entry.owner)))


def _head_of(member: Member) -> Iterator[State]:
    """What stands before the mail: the family, and the tables."""
    for one in member.family.replicas.values():
        yield State(REPLICA, json.dumps(asdict(one)).encode())
    for table in TABLES:
        rows = _bases(member.log) if table == "bases" else _rows(member.log, table)
        while some := list(itertools.islice(rows, _ROWS_A_STATE)):
            yield State(ROWS, json.dumps({table: some}).encode())
    pending = [
        [entry.origin, entry.id, int(member.log.operations.state(entry.seq)), entry.reason]
        for entry in member.log.operations.pending()
    ]
    if pending:
        yield State(PENDING, json.dumps(pending).encode())


def _rows(log: Log, table: str) -> Iterator[list[Any]]:
    columns = TABLES[table]
    for row in log.db.execute(f"SELECT {', '.join(columns)} FROM {table}"):
        values = dict(zip(columns, row, strict=True))
        if table == "shadow_items" and values["kind"] not in _ITEMS:
            continue  # what only this replica has to remember
        yield [value.hex() if isinstance(value, bytes) else value for value in row]


def _bases(log: Log) -> Iterator[list[Any]]:
    """On which state of its master each mailbox is built. Where this replica is the master, that is what it
    has. What it has told itself and the master has not answered is not the new replica's: whatever the master
    says counts."""
    for uniqueid, text in log.db.execute("SELECT uniqueid, state FROM shadows").fetchall():
        state = state_from(text)
        base = log.masters.base(uniqueid)
        if log.is_master(log.home(uniqueid, state.name)):
            base = Base(state.highestmodseq, state.last_uid)
        yield [uniqueid, base.modseq, base.last_uid, 0, state.highestmodseq]


@contextlib.contextmanager
def _mail_told(member: Member) -> Iterator[Log]:
    """A log of its own that tells all the mail, as if it had come into being just now."""
    with (
        tempfile.TemporaryDirectory(dir=member.staging, prefix="snapshot") as directory,
        Log(Path(directory), member.log.self_id, member.log.now) as log,
    ):
        with log.db.transaction():
            for error in member.capture.into(log).everything():
                member.omit(f"not all mail is in the snapshot: {error}")
        yield log
