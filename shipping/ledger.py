"""The ledger of arrivals: whatever is killed when, a file arrives once.

One file for each order, ``received/<hash of its identifier and data>``, of JSON lines, appended and synced:

    {"do": "arrive", …}    the data is whole and on disk under temporary names, for these destinations
    {"do": "intend", …}    this temporary file is about to be renamed to that path
    {"do": "void"}         instead: the data was gone before anything else was done, nothing has come
    {"do": "done"}         everything is in its place; the sender may be told

A rename never replaces and is one step, so afterwards it is plain what has happened: the temporary file
is there (rename it now) or not (it was). No line says which inode a file has: a host that was restored from
a backup has others, and the content tells as much. The lock on the file is held for the whole of an arrival.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cyrus_sync.common.files import make_directories, named, sync_directory
from cyrus_sync.shipping.errors import Refused
from cyrus_sync.shipping.order import RETURN_TRIP, Order

_NEVER = 366 * 86400


@dataclass(slots=True)
class Arrival:
    """One arrival and how far it came. `record` is its "arrive" line."""

    record: dict[str, Any]
    intents: dict[str, dict[str, Any]] = field(default_factory=dict)
    done: bool = False


def name_of(order: Order, digest: str) -> str:
    """What stands for an order on its way there, or back, with this data: 40 hexadecimal digits."""
    way = "return" if order.returning else "there"
    key = f"{way} {digest} {order.identifier}".encode("utf-8", "surrogateescape")
    return hashlib.sha256(key).hexdigest()[:40]


class Ledger:
    """The open, locked ledger of one order. Use as a context manager."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self.arrivals: list[Arrival] = []
        self._read()

    @classmethod
    def open(cls, directory: Path, order: Order, digest: str) -> Self:
        """`Refused` while another transfer of the same order is under way."""
        make_directories(directory, 0o700)
        return cls.open_path(directory / name_of(order, digest))

    @classmethod
    def open_path(cls, path: Path) -> Self:
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino:
                    return cls(path, descriptor)
            except BlockingIOError:
                os.close(descriptor)
                raise Refused("a transfer of this order is under way already") from None
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.arrivals:
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def accepted(self) -> set[str]:
        """The destinations for which the file is here or has been here."""
        return {one for a in self.arrivals if a.done for one in a.record["destinations"]}

    def arrive(self, record: dict[str, Any]) -> Arrival:
        self._append({"do": "arrive", **record})
        sync_directory(self.path.parent)
        self.arrivals.append(Arrival(record))
        return self.arrivals[-1]

    def intend(self, arrival: Arrival, part: str, temporary: Path, path: Path) -> None:
        intent = {"part": part, "temporary": os.fsdecode(temporary), "path": os.fsdecode(path)}
        self._append({"do": "intend", **intent})
        arrival.intents[part] = intent

    def finish(self, arrival: Arrival) -> None:
        self._append({"do": "done"})
        arrival.done = True

    def void(self, arrival: Arrival) -> None:
        """`arrival` has come to nothing, and is forgotten."""
        self._append({"do": "void", "time": arrival.record["time"]})
        self.arrivals.remove(arrival)

    def outdated(self, now: float) -> bool:
        """True once no sender can come with this order any more."""
        latest = 0
        for arrival in self.arrivals:
            if not arrival.done:
                return False
            expires = int(arrival.record["expires"])
            latest = max(latest, (expires or int(arrival.record["time"]) + _NEVER) + 2 * RETURN_TRIP)
        return now > latest

    def forget(self) -> None:
        self.arrivals = []

    def _append(self, record: dict[str, Any]) -> None:
        data = json.dumps(record).encode("ascii") + b"\n"
        with named(self.path):
            os.lseek(self._descriptor, 0, os.SEEK_END)
            os.write(self._descriptor, data)
            os.fsync(self._descriptor)

    def _read(self) -> None:
        size = os.fstat(self._descriptor).st_size
        data = os.pread(self._descriptor, size, 0)
        whole = data.rfind(b"\n") + 1
        if whole != size:
            # The last line was being written when the machine stopped: it was not said.
            os.ftruncate(self._descriptor, whole)
        for line in data[:whole].splitlines():
            record = json.loads(line)
            what = record.pop("do")
            if what == "arrive":
                self.arrivals.append(Arrival(record))
            elif what == "intend":
                self.arrivals[-1].intents[record["part"]] = record
            elif what == "void":
                self.arrivals.pop()
            else:
                self.arrivals[-1].done = True
