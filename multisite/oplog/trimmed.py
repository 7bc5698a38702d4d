"""What is remembered of operations that have been trimmed (`multisite.scrubbing`).

=============  =======================================================================================
trimmed        up to which number the operations of an origin are gone: whoever lacks one of them cannot
               be sent it
earlier words  what the master of a mailbox had told in trimmed operations: its header, and the flags and
               annotations of messages. What others change is compared with it (`multisite.replay.told`)
=============  =======================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cyrus_sync.common.model import Annotation, MailboxState, Record
from cyrus_sync.common.numbers import number_set
from cyrus_sync.multisite.oplog.database import Database
from cyrus_sync.multisite.oplog.epochs import Row
from cyrus_sync.multisite.oplog.shadows import state_from, state_text


@dataclass(slots=True)
class EarlierWord:
    """What the master of a `reign` had told of a mailbox up to its modseq `modseq`."""

    reign: str
    modseq: int
    state: MailboxState
    flags: dict[int, str] = field(default_factory=dict)
    """UID -> flags, of every live message that was told."""
    annotations: dict[int, tuple[Annotation, ...]] = field(default_factory=dict)

    def take(self, state: MailboxState, records: Iterable[Record]) -> None:
        """A later word of the same reign."""
        self.state, self.modseq = state, max(self.modseq, state.highestmodseq)
        for record in records:
            self.annotations.pop(record.uid, None)
            if record.expunged:
                self.flags.pop(record.uid, None)
                continue
            self.flags[record.uid] = record.flags
            if record.annotations:
                self.annotations[record.uid] = record.annotations

    def base_of(self, uid: int) -> Record | None:
        """A record with the flags and annotations that the master had told of a message, and nothing else;
        None for one that it had not told."""
        flags = self.flags.get(uid)
        if flags is None:
            return None
        return Record(uid, 0, 0, flags, False, 0, 0, b"", annotations=self.annotations.get(uid, ()))

    def text(self) -> str:
        """JSON, which `earlier_word` reads. Messages with the same flags stand together."""
        by_flags: dict[str, list[int]] = {}
        for uid, flags in sorted(self.flags.items()):
            by_flags.setdefault(flags, []).append(uid)
        values = {
            "reign": self.reign,
            "modseq": self.modseq,
            "state": state_text(self.state),
            "flags": {flags: _runs(uids) for flags, uids in by_flags.items()},
            "annotations": {
                str(uid): [[n.entry, n.userid, n.modseq, n.value.decode("latin-1")] for n in notes]
                for uid, notes in self.annotations.items()
            },
        }
        return json.dumps(values, separators=(",", ":"))


def _runs(uids: Iterable[int]) -> str:
    """``1-3,7``: UIDs in ascending order, short."""
    return number_set(uids).decode("ascii").replace(":", "-")


def earlier_word(text: str) -> EarlierWord:
    """What `EarlierWord.text` wrote."""
    values = json.loads(text)
    found = EarlierWord(values["reign"], values["modseq"], state_from(values["state"]))
    for flags, runs in values["flags"].items():
        for run in runs.split(","):
            first, _, last = run.partition("-")
            for uid in range(int(first), int(last or first) + 1):
                found.flags[uid] = flags
    for uid, notes in values["annotations"].items():
        found.annotations[int(uid)] = tuple(
            Annotation(entry, userid, modseq, text.encode("latin-1")) for entry, userid, modseq, text in notes
        )
    return found


class Trimmed:
    """The tables trimmed and earlier."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def row(self) -> Row:
        """Origin -> the number up to which its operations are gone."""
        return dict(self._db.execute("SELECT origin, id FROM trimmed").fetchall())

    def raise_to(self, origin: str, number: int) -> None:
        """The operations of an origin up to this number are gone."""
        self._db.execute(
            "INSERT INTO trimmed (origin, id) VALUES (?, ?)"
            " ON CONFLICT (origin) DO UPDATE SET id = max(id, excluded.id)",
            (origin, number),
        )

    def lower_to(self, row: Mapping[str, int]) -> None:
        """The log has gone back to this epoch row."""
        for origin, number in self.row().items():
            if number > row.get(origin, 0):
                self._db.execute("UPDATE trimmed SET id = ? WHERE origin = ?", (row.get(origin, 0), origin))

    def beyond(self, row: Mapping[str, int]) -> dict[str, int]:
        """Of which origins a replica with this epoch row lacks operations that are gone, and up to which
        number they are."""
        return {origin: number for origin, number in self.row().items() if row.get(origin, 0) < number}

    def earlier(self, uniqueid: str) -> EarlierWord | None:
        """What the master had told of a mailbox in operations that are gone."""
        found = self._db.row("SELECT word FROM earlier WHERE uniqueid = ?", (uniqueid,))
        return earlier_word(found[0]) if found else None

    def put_earlier(self, uniqueid: str, word: EarlierWord) -> None:
        """Replace that."""
        self._db.execute(
            "INSERT OR REPLACE INTO earlier (uniqueid, word) VALUES (?, ?)", (uniqueid, word.text())
        )

    def drop_earlier(self, uniqueid: str) -> None:
        """The mailbox is gone."""
        self._db.execute("DELETE FROM earlier WHERE uniqueid = ?", (uniqueid,))
