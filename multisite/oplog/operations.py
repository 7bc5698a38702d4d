"""Operations: appending to the log, and reading ranges of it.

`Operations.append` numbers what this replica does itself, and `Operations.add` takes what came from
elsewhere. The numbers of one origin have no gaps: `add` refuses any number but the next.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import zstandard

from cyrus_sync.common.names import SERVER, Owner
from cyrus_sync.multisite.errors import MultisiteError
from cyrus_sync.multisite.oplog.database import Database
from cyrus_sync.multisite.oplog.given import Given

FAMILY = Owner("family", "")
"""Owner of the operations that change the family itself."""

CHAIN = "chain"
"""The attribute with two links: of the operation before, and its own (`multisite.oplog.forks`)."""

LINK_DIGITS = 12

SIGNATURE = "by"
"""The attribute that holds the signature of an operation's origin (`multisite.signing`)."""


class OperationState(enum.IntEnum):
    """How far an operation has come here."""

    DONE = 0
    """Carried out, or recorded, or only to be passed on."""
    WAITS = 1
    """It cannot be carried out yet: a message is missing, or an earlier operation on its owner waits."""
    BEGUN = 2
    """Its effects may be in the mail store already, while the log does not tell of them."""
    SET_ASIDE = 3
    """It makes no sense, or its origin may not say it; the log has the reason. Each import tries it again,
    until it is dropped (`multitool setaside -drop`)."""


_COLUMNS = "seq, origin, id, time, owner, attributes, line, guids, octets, reason"
_ON_MAILBOX = "json_extract(attributes, '$.uniqueid') = ?"
"""Word for word what stands in the index."""
_MOST_LINE = 128 << 20
_GUIDS_A_QUERY = 500


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An operation of the log.

    It is number `id` of the replica `origin`, made at `time` (Unix seconds). `line` is a csync command with
    its CRLF. `guids` are the messages that new records in it need, `octets` bytes together. `seq` is its
    place in this log, 0 before it is there."""

    origin: str
    id: int
    time: int
    owner: Owner
    line: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)
    guids: tuple[bytes, ...] = ()
    octets: int = 0
    seq: int = 0
    reason: str = ""
    """Why it is set aside."""

    @property
    def verb(self) -> str:
        """``MAILBOX``, ``RENAME``, …"""
        return verb_of(self.line)


def verb_of(line: bytes) -> str:
    """The name of the command in a line, "" if there is none."""
    words = line.split(None, 2)
    return words[1].decode("ascii", "replace") if len(words) > 1 else ""


def owner_text(owner: Owner) -> str:
    """An owner as it stands in the log: ``user:alice``."""
    return f"{owner.kind}:{owner.name}"


def owner_from(text: str) -> Owner:
    """The owner that `owner_text` wrote."""
    kind, _, name = text.partition(":")
    return SERVER if kind == "server" else Owner(kind, name)


class Operations:
    """The table of operations. `origin` is this replica's id."""

    def __init__(self, database: Database, origin: str) -> None:
        self._db = database
        self._given = Given(database)
        self.origin = origin
        self.sign: Callable[[LogEntry], str] | None = None
        """Makes the signature of an operation of this replica; None if this replica does not sign."""
        self._pack = zstandard.ZstdCompressor(level=1)
        self._unpack = zstandard.ZstdDecompressor()
        self._links: dict[str, tuple[int, str]] = {}
        """Origin -> number and link of the operation that was written last. It is believed only for the last
        number of the origin, which a transaction that was undone takes back."""

    def append(
        self,
        owner: Owner,
        line: bytes,
        *,
        time: int,
        attributes: Mapping[str, str] | None = None,
        guids: Iterable[bytes] = (),
        octets: int = 0,
    ) -> LogEntry:
        """Append an operation of this replica, with the next number. `line` has its CRLF, `time` is Unix
        seconds; `guids` are the messages that it needs, `octets` bytes together."""
        number = self.last(self.origin) + 1
        before = self.link(self.origin, number - 1) or "0" * LINK_DIGITS
        said = f"{before} {self.origin} {number} {time} {owner_text(owner)} ".encode() + line
        link = hashlib.sha256(said).hexdigest()[:LINK_DIGITS]
        chained = {**(attributes or {}), CHAIN: f"{before}:{link}"}
        entry = LogEntry(self.origin, number, time, owner, line, chained, tuple(guids), octets)
        if self.sign is not None:
            entry = replace(entry, attributes={**entry.attributes, SIGNATURE: self.sign(entry)})
        return self._insert(entry, OperationState.DONE)

    def add(self, entry: LogEntry) -> LogEntry:
        """Add an operation from elsewhere: as begun, or as set aside if it has a `reason`. Raises
        `MultisiteError` if it is not the next of its origin."""
        if entry.id != self.last(entry.origin) + 1:
            raise MultisiteError(f"operation {entry.id} of {entry.origin} is out of order")
        return self._insert(entry, OperationState.SET_ASIDE if entry.reason else OperationState.BEGUN)

    def take_over(self, entry: LogEntry, state: OperationState) -> None:
        """Put an operation into the log of a replica that is made from a snapshot."""
        self._insert(entry, state)

    def has(self, origin: str, number: int) -> bool:
        """Whether an operation is in the log."""
        found = self._db.row("SELECT 1 FROM operations WHERE origin = ? AND id = ?", (origin, number))
        return bool(found)

    def _insert(self, entry: LogEntry, state: OperationState) -> LogEntry:
        owner = owner_text(entry.owner)
        with self._db.transaction():
            seq = self._db.execute(
                "INSERT INTO operations"
                " (origin, id, time, owner, attributes, line, guids, octets, state, reason)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    entry.origin,
                    entry.id,
                    entry.time,
                    owner,
                    json.dumps(dict(entry.attributes), separators=(",", ":")),
                    self._pack.compress(entry.line),
                    b"".join(entry.guids),
                    entry.octets,
                    state,
                    entry.reason,
                ),
            ).lastrowid
            given = self._given.among(owner, entry.guids)
            self._db.executemany(
                "INSERT OR IGNORE INTO introduced (owner, guid, seq) VALUES (?, ?, ?)",
                [(owner, guid, seq) for guid in sorted(entry.guids) if guid not in given],
            )
            self._db.execute(
                "INSERT INTO epochs (replica, origin, id) VALUES (?, ?, ?)"
                " ON CONFLICT (replica, origin) DO UPDATE SET id = excluded.id",
                (self.origin, entry.origin, entry.id),
            )
        self._links[entry.origin] = entry.id, entry.attributes.get(CHAIN, "").partition(":")[2]
        return replace(entry, seq=int(seq or 0))

    def link(self, origin: str, number: int) -> str:
        """The own link of an operation; "" if it is not here, or has none."""
        known = self._links.get(origin)
        if known is not None and known[0] == number:
            return known[1]
        found = self._db.row(
            "SELECT attributes FROM operations WHERE origin = ? AND id = ?", (origin, number)
        )
        chain: str = json.loads(found[0]).get(CHAIN, "") if found else ""
        return chain.partition(":")[2]

    def attributes(self, origin: str, number: int) -> Mapping[str, str]:
        """Those of an operation; none if it is not here."""
        found = self._db.row(
            "SELECT attributes FROM operations WHERE origin = ? AND id = ?", (origin, number)
        )
        return json.loads(found[0]) if found else {}

    def owners_since(self, number: int) -> set[Owner]:
        """The owners of whom this replica has told anything from its operation `number` on."""
        rows = self._db.execute(
            "SELECT DISTINCT owner FROM operations WHERE origin = ? AND id >= ?", (self.origin, number)
        )
        return {owner_from(text) for (text,) in rows.fetchall()}

    def forget_introduced(self, number: int) -> None:
        """The messages of this replica's operations from `number` on count as not brought into the log: they
        are brought again by whatever tells of them next."""
        self._db.execute(
            "DELETE FROM introduced WHERE seq IN (SELECT seq FROM operations WHERE origin = ? AND id >= ?)",
            (self.origin, number),
        )

    def roll_back(self, row: Mapping[str, int]) -> set[Owner]:
        """Forget all operations beyond an epoch row, as if they had never come. Returns their owners."""
        self._links.clear()
        beyond = " id > coalesce((SELECT value FROM json_each(?) WHERE key = operations.origin), 0)"
        known = json.dumps(dict(row))
        rows = self._db.execute(f"SELECT DISTINCT owner FROM operations WHERE {beyond}", (known,))
        owners = {owner_from(text) for (text,) in rows.fetchall()}
        with self._db.transaction():
            self._db.execute(
                f"DELETE FROM introduced WHERE seq IN (SELECT seq FROM operations WHERE {beyond})", (known,)
            )
            self._db.execute(f"DELETE FROM operations WHERE {beyond}", (known,))
            self._db.execute(
                "UPDATE epochs SET id = min(id, coalesce((SELECT value FROM json_each(?)"
                " WHERE key = epochs.origin), 0)) WHERE replica = ?",
                (known, self.origin),
            )
        return owners

    def last(self, origin: str) -> int:
        """The number of the last operation of `origin` that is in this log."""
        found = self._db.row("SELECT id FROM epochs WHERE replica = ? AND origin = ?", (self.origin, origin))
        return int(found[0]) if found else 0

    def lacking(self, row: Mapping[str, int]) -> Iterator[LogEntry]:
        """The operations that a replica with this epoch row lacks, in causal order. Streams."""
        known = json.dumps(dict(row))
        yield from self._select(
            "WHERE id > coalesce((SELECT value FROM json_each(?) WHERE key = operations.origin), 0)"
            " ORDER BY seq",
            (known,),
        )

    def last_before(self, origin: str, time: int, most: int) -> int:
        """The number up to which all operations of an origin were made before `time` (Unix seconds), `most`
        at most; 0 if there is none."""
        found = self._db.row(
            "SELECT id FROM operations WHERE origin = ? AND id <= ? AND time >= ? ORDER BY id LIMIT 1",
            (origin, most, time),
        )
        return int(found[0]) - 1 if found else most

    def done_up_to(self, origin: str, number: int) -> Iterator[LogEntry]:
        """The operations of an origin up to a number that are done, in their order. Streams."""
        yield from self._select(
            "WHERE origin = ? AND id <= ? AND state = ? ORDER BY id", (origin, number, OperationState.DONE)
        )

    def remove(self, entries: Iterable[LogEntry]) -> None:
        """Forget operations, and which messages they have brought. Their numbers stay given away."""
        for entry in entries:
            owner = owner_text(entry.owner)
            self._db.executemany(
                "DELETE FROM introduced WHERE owner = ? AND guid = ? AND seq = ?",
                [(owner, guid, entry.seq) for guid in entry.guids],
            )
            self._db.execute("DELETE FROM operations WHERE seq = ?", (entry.seq,))

    def of_owner(self, owner: Owner) -> Iterator[LogEntry]:
        """All operations of the log on an owner, in causal order. Streams."""
        yield from self._select("WHERE owner = ? ORDER BY seq", (owner_text(owner),))

    def on_mailbox(self, owner: Owner, origin: str, uniqueid: str) -> Iterator[LogEntry]:
        """The operations of one origin on one mailbox, the last one first. Streams."""
        yield from self._select(
            f"WHERE {_ON_MAILBOX} AND owner = ? AND origin = ? ORDER BY seq DESC",
            (uniqueid, owner_text(owner), origin),
        )

    def unsettled(self) -> Iterator[LogEntry]:
        """What others have said of owners whose master this replica is, and it has not taken in. Streams."""
        yield from self._select(
            "WHERE origin <> ?1 AND owner IN (SELECT owner FROM masters WHERE replica = ?1)"
            " AND id > coalesce((SELECT s.id FROM settled s"
            " WHERE s.owner = operations.owner AND s.origin = operations.origin), 0) ORDER BY seq",
            (self.origin,),
        )

    def unheard_own(self) -> Iterator[LogEntry]:
        """What this replica has said of owners before it became their master, and the master before has not
        taken in; also as a master whose claim has not prevailed. Streams."""
        yield from self._select(
            "WHERE origin = ?1 AND owner IN (SELECT owner FROM masters WHERE replica = ?1)"
            """ AND instr(attributes, '"reign"')"""
            " AND json_extract(attributes, '$.reign') <> (SELECT m.version || ':' || m.replica FROM masters m"
            " WHERE m.owner = operations.owner)"
            " AND id > coalesce((SELECT s.id FROM settled s"
            " WHERE s.owner = operations.owner AND s.origin = operations.origin), 0) ORDER BY seq",
            (self.origin,),
        )

    def about(self, uniqueid: str) -> Iterator[LogEntry]:
        """All operations of the log on one mailbox, in causal order. Streams."""
        yield from self._select(f"WHERE {_ON_MAILBOX} ORDER BY seq", (uniqueid,))

    def history(
        self,
        *,
        owner: Owner | None = None,
        origin: str = "",
        since: int | None = None,
        until: int | None = None,
        newest_first: bool = False,
    ) -> Iterator[LogEntry]:
        """Operations on an owner, of an origin, made from `since` to `until` (Unix seconds); whatever is not
        given is not asked for. In the order of the log, or against it. Streams."""
        asked = {
            "owner = ?": owner_text(owner) if owner is not None else None,
            "origin = ?": origin or None,
            "time >= ?": since,
            "time <= ?": until,
        }
        given = {condition: value for condition, value in asked.items() if value is not None}
        condition = " AND ".join(given) or "1"
        order = "DESC" if newest_first else "ASC"
        yield from self._select(f"WHERE {condition} ORDER BY seq {order}", tuple(given.values()))

    def pending(self) -> Iterator[LogEntry]:
        """Operations that wait, were begun or are set aside."""
        yield from self._select("WHERE state ORDER BY seq", ())

    def count_pending(self) -> dict[OperationState, int]:
        """How many operations wait, were begun and are set aside."""
        rows = self._db.execute("SELECT state, count(*) FROM operations WHERE state GROUP BY state")
        return {OperationState(state): count for state, count in rows.fetchall()}

    def set_aside(self) -> Iterator[LogEntry]:
        """Operations that are set aside."""
        yield from self._select("WHERE state AND state = ? ORDER BY seq", (OperationState.SET_ASIDE,))

    def set_state(self, seq: int, state: OperationState, reason: str = "") -> None:
        """`reason` goes with `OperationState.SET_ASIDE`."""
        self._db.execute("UPDATE operations SET state = ?, reason = ? WHERE seq = ?", (state, reason, seq))

    def state(self, seq: int) -> OperationState:
        """How far an operation has come here."""
        return OperationState(self._db.row("SELECT state FROM operations WHERE seq = ?", (seq,))[0])

    def is_pending(self, entry: LogEntry) -> bool:
        """Whether the operation waits, was begun or is set aside."""
        return bool(self._db.row("SELECT 1 FROM operations WHERE state AND seq = ?", (entry.seq,)))

    def has_pending(self, owner: Owner) -> bool:
        """Whether an operation on the owner waits, was begun or is set aside."""
        return bool(self._db.row("SELECT 1 FROM operations WHERE state AND owner = ?", (owner_text(owner),)))

    def begun(self, owner: Owner | None = None) -> bool:
        """Whether an operation on the owner, or on anybody (None), was begun and not ended."""
        wanted = owner_text(owner) if owner is not None else ""
        return bool(
            self._db.row(
                "SELECT 1 FROM operations WHERE state = ? AND (owner = ? OR ? = '')",
                (OperationState.BEGUN, wanted, wanted),
            )
        )

    def waits(self, entry: LogEntry) -> bool:
        """Whether an earlier operation on the same owner is pending."""
        return bool(
            self._db.row(
                "SELECT 1 FROM operations WHERE state AND owner = ? AND seq < ?",
                (owner_text(entry.owner), entry.seq),
            )
        )

    def introduced(self, owner: Owner, guid: bytes) -> bool:
        """Whether an operation has brought the message into the log."""
        text = owner_text(owner)
        found = self._db.row("SELECT 1 FROM introduced WHERE owner = ? AND guid = ?", (text, guid))
        return bool(found) or bool(self._given.among(text, [guid]))

    def introduced_by(self, entry: LogEntry) -> list[bytes]:
        """Those messages of an operation that it brought into the log, in its order."""
        owner = owner_text(entry.owner)
        found: set[bytes] = set()
        for begin in range(0, len(entry.guids), _GUIDS_A_QUERY):
            part = entry.guids[begin : begin + _GUIDS_A_QUERY]
            marks = ",".join("?" * len(part))
            rows = self._db.execute(
                f"SELECT guid FROM introduced WHERE owner = ? AND seq = ? AND guid IN ({marks})",
                (owner, entry.seq, *part),
            )
            found.update(guid for (guid,) in rows)
        return [guid for guid in entry.guids if guid in found]

    def introducers(self, guid: bytes) -> list[Owner]:
        """The owners on whom an operation has brought the message into the log, trimmed or not."""
        rows = self._db.execute("SELECT owner FROM introduced WHERE guid = ?", (guid,))
        found = [text for (text,) in rows.fetchall()]
        if not found and self._given:
            everybody = self._db.execute("SELECT DISTINCT owner FROM shadows").fetchall()
            found = [text for (text,) in everybody if self._given.among(text, [guid])]
        return [owner_from(text) for text in found]

    def introducers_of_held(self) -> dict[Owner, dict[bytes, tuple[str, int]]]:
        """Owner -> the held messages that an operation on that owner has brought into the log, each with the
        origin and the number of that operation."""
        rows = self._db.execute(
            "SELECT i.owner, h.guid, o.origin, o.id FROM held h JOIN introduced i ON i.guid = h.guid"
            " JOIN operations o ON o.seq = i.seq"
        )
        found: dict[Owner, dict[bytes, tuple[str, int]]] = {}
        for text, guid, origin, number in rows.fetchall():
            found.setdefault(owner_from(text), {})[guid] = origin, number
        return found

    def known_to(self, owner: Owner, guid: bytes, row: Mapping[str, int]) -> bool:
        """Whether a replica with this epoch row has been given the message: that is so if it knows the
        operation that brought the message into the log."""
        found = self._db.row(
            "SELECT o.origin, o.id FROM introduced i JOIN operations o USING (seq)"
            " WHERE i.owner = ? AND i.guid = ?",
            (owner_text(owner), guid),
        )
        return bool(found) and row.get(found[0], 0) >= found[1]

    def oldest_lacking(self, row: Mapping[str, int]) -> int | None:
        """When the oldest operation was made that `lacking` would give, in Unix seconds; None if there is
        none. The first of each origin is looked at: later ones are younger."""
        mine = self._db.execute("SELECT origin, id FROM epochs WHERE replica = ?", (self.origin,)).fetchall()
        times = []
        for origin, last in mine:
            if last > row.get(origin, 0):
                first = row.get(origin, 0) + 1
                found = self._db.row(
                    "SELECT time FROM operations WHERE origin = ? AND id >= ? ORDER BY id LIMIT 1",
                    (origin, first),
                )
                times += [int(found[0])] if found else []
        return min(times, default=None)

    def count(self) -> int:
        """How many operations are in the log."""
        return int(self._db.row("SELECT count(*) FROM operations")[0])

    def count_lacking(self, row: Mapping[str, int]) -> int:
        """How many operations `lacking` would give."""
        mine = self._db.execute("SELECT origin, id FROM epochs WHERE replica = ?", (self.origin,))
        return sum(max(0, last - row.get(origin, 0)) for origin, last in mine.fetchall())

    def _select(self, condition: str, values: tuple[Any, ...]) -> Iterator[LogEntry]:
        # By key and in portions: other statements run on the connection while this is read.
        seqs = [row[0] for row in self._db.execute(f"SELECT seq FROM operations {condition}", values)]
        for seq in seqs:
            row = self._db.row(f"SELECT {_COLUMNS} FROM operations WHERE seq = ?", (seq,))
            if row is not None:
                yield self._entry(row)

    def _entry(self, row: tuple[Any, ...]) -> LogEntry:
        seq, origin, number, time, owner, attributes, line, guids, octets, reason = row
        return LogEntry(
            origin,
            number,
            time,
            owner_from(owner),
            self._unpack.decompress(line, max_output_size=_MOST_LINE),
            json.loads(attributes),
            tuple(guids[n : n + 20] for n in range(0, len(guids), 20)),
            octets,
            seq,
            reason,
        )
