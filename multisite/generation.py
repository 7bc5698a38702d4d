"""Whether log and store are of one moment: what was restored from a backup without the other is older.

Each command that changed the log ends with a new *generation*. Its number and this replica's epoch row are in
the log, and in a stamp in each partition of the store. The log says first that a generation begins, then the
stamps are written, then the log says that they are:

=============  =======================================================================================
stamp older    the partition was restored, the log was not: mail that the log tells of is missing; or a
               process crashed before it had written all stamps, but then the log says so
stamp newer    the log was restored, the store was not: numbers would be given out twice
stamp differs  the log was restored, and has gone on since
=============  =======================================================================================

Nothing is taken in or told then until the administrator has said ``restorereplica``. Where both were restored
to one moment, siblings notice it (`multisite.oplog.forks`).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from cyrus_sync.multisite.errors import WentBack
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.multisite.packet.values import MAX_OPERATION

_GENERATION = "generation"
_BEGUN = "generation begun"
_BEHIND = "behind"


@dataclass(frozen=True, slots=True)
class Stamp:
    """Generation `number` of the replica with the id `replica`, whose mark nobody can guess, and the epoch
    row that its log had then."""

    replica: str
    number: int
    mark: str
    row: Mapping[str, int]

    def text(self) -> str:
        """JSON, which `parse_stamp` reads."""
        values = {"replica": self.replica, "number": self.number, "mark": self.mark, "row": dict(self.row)}
        return json.dumps(values) + "\n"


def parse_stamp(text: str) -> Stamp | None:
    """What `Stamp.text` wrote; None for anything else."""
    try:
        values = json.loads(text)
        row = {str(origin): int(number) for origin, number in values["row"].items()}
        stamp = Stamp(str(values["replica"]), int(values["number"]), str(values["mark"]), row)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return stamp if all(0 <= number <= MAX_OPERATION for number in row.values()) else None


class Stamped(Protocol):
    """Mail that keeps a text in each of its partitions (`common.stores.care.StoreCare`)."""

    def generations(self) -> dict[str, str]: ...

    def put_generation(self, text: str) -> None: ...

    def rebuild_registry(self) -> object: ...


class Generation:
    """The generation of one log and its store."""

    def __init__(self, log: Log, care: Stamped | None) -> None:
        """`care` is None for mail that is another server's: nothing is written there, and only siblings
        notice that it is older than it was."""
        self._log = log
        self._care = care
        self._row = log.epochs.row(log.self_id)

    def check(self) -> None:
        """Raises `WentBack` where log and store are not of one moment, or a sibling knows more of this
        replica than it knows itself."""
        if behind := self._log.notes.get(_BEHIND):
            raise WentBack(behind)
        known = self._known()
        stamps = self._stamps()
        if any(stamp.number > known.number for stamp in stamps):
            raise WentBack("the operations log is older than the mail store")
        same = [stamp for stamp in stamps if stamp.number == known.number]
        if any(stamp.mark != known.mark for stamp in same):
            raise WentBack("the operations log is not the one with which the mail store was changed last")
        begun = self._begun
        if any(stamp.number < known.number - begun for stamp in stamps):
            raise WentBack("the mail store, or a partition of it, is older than the operations log")
        if begun:
            self._stamp(known)
            self._log.notes.drop(_BEGUN)

    def older_row(self) -> dict[str, int] | None:
        """The epoch row of the moment to which the oldest partition was restored; None where the store is not
        older than the log."""
        stamps = self._stamps()
        oldest = min(stamps, key=lambda stamp: stamp.number, default=None)
        if oldest is None or oldest.number >= self._known().number - self._begun:
            return None
        return dict(oldest.row)

    def is_behind(self, reason: str) -> None:
        """Note why this replica must have been restored from a backup: `check` raises it from now on."""
        self._log.notes.put(_BEHIND, reason)

    def renew(self) -> None:
        """Take log and store as they are, whatever was said of them. The registry of mailboxes may have
        been restored with the log, and not with the mail: it is made anew."""
        self._log.notes.drop(_BEHIND)
        if self._care is not None:
            self._care.rebuild_registry()
        self._row = {}
        self.end()

    def end(self) -> None:
        """The command has ended: if it has changed the log, a new generation begins. Raises `StoreError`."""
        row = self._log.epochs.row(self._log.self_id)
        if row == self._row:
            return
        last = max([self._known().number, *(stamp.number for stamp in self._stamps())])
        stamp = Stamp(self._log.self_id, last + 1, secrets.token_hex(8), row)
        with self._log.db.transaction():
            self._log.notes.put(_GENERATION, stamp.text())
            self._log.notes.put(_BEGUN, True)
        self._stamp(stamp)
        self._log.notes.drop(_BEGUN)
        self._row = row

    @property
    def _begun(self) -> bool:
        """Whether the last generation may not be in all stamps."""
        return bool(self._log.notes.get(_BEGUN, False))

    def _stamp(self, stamp: Stamp) -> None:
        if self._care is not None:
            self._care.put_generation(stamp.text())

    def _known(self) -> Stamp:
        return parse_stamp(self._log.notes.get(_GENERATION, "")) or Stamp(self._log.self_id, 0, "", {})

    def _stamps(self) -> list[Stamp]:
        """One for each partition in use. One without a stamp of this replica counts as new: it was not in use
        when the last command ended, or was stamped by nobody yet."""
        found = map(parse_stamp, self._care.generations().values() if self._care is not None else ())
        known = self._known()
        return [known if one is None or one.replica != self._log.self_id else one for one in found]
