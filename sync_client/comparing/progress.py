"""How far a comparison has come, on disk: after it was killed the same command goes on where it was.

A file of JSON lines in the channel's directory. The first says what is asked; each other line is an owner who
is done, with what was counted and, if anything, what was found, or why he could not be compared::

    {"asked": {…}, "begun": 1764500000}
    {"owner": "alice", "counts": {"owners": 1, …}}
    {"owner": "bob", "counts": {…}, "found": {…}}

The last line may be half written. Findings stay on disk until the report is made of them; in memory are the
names of who is done.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from cyrus_sync.common.errors import EX_TEMPFAIL, CyrusSyncError, StoreError
from cyrus_sync.common.files import give_to_owner_of, make_directories, private
from cyrus_sync.common.stores import disk
from cyrus_sync.sync_client.comparing.findings import Counts, OwnerFindings, name_of

TOO_OLD = 24 * 3600
"""Seconds after which what an earlier run has found proves nothing any more."""

SYNC_EVERY = 2.0
"""Seconds between two fsyncs: so much is compared again after a power failure."""


class OtherComparison(CyrusSyncError):
    """Somebody else is at it."""

    exit_status = EX_TEMPFAIL
    text = "another comparison with this server is under way"


def progress_path(directory: Path, server: str) -> Path:
    """The file of one replica in a channel's directory."""
    return directory / f"compare-{quote(server, safe='')}.progress"


class Progress:
    """The file, locked. `done` are the owners that need not be looked at any more. Blocks on a disk."""

    def __init__(
        self,
        path: Path,
        asked: Mapping[str, Any],
        *,
        anew: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`asked`: what the command line asks for; what another question has left is forgotten. Raises
        `OtherComparison`, `StoreError`."""
        self.path = path
        self._now = now
        self.counts = Counts()
        self.done: set[str] = set()
        self.differing = self.failed = 0
        self.begun = now()
        self.went_on = False
        """An earlier run had begun it."""
        self._synced = 0.0
        try:
            make_directories(path.parent)
            self._file: IO[bytes] = open(path, "a+b", opener=private)  # noqa: SIM115 (closed by `close`)
            give_to_owner_of(path.parent, self._file.fileno())
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._take_up(dict(asked), anew)
        except BlockingIOError:
            self._file.close()
            raise OtherComparison().at(file=str(path)) from None
        except OSError as error:
            raise StoreError(disk.why(error, str(path))) from error

    def _take_up(self, asked: dict[str, Any], anew: bool) -> None:
        old = self._now() - os.fstat(self._file.fileno()).st_mtime > TOO_OLD
        end = 0
        if not (anew or old):
            self._file.seek(0)
            head, end = _entry(self._file.readline(), 0)
            if head is not None and head.get("asked") == asked:
                self.begun, self.went_on = float(head["begun"]), True
                for line in self._file:
                    entry, end = _entry(line, end)
                    if entry is None:
                        break
                    self._count(entry)
            else:
                end = 0
        self._file.truncate(end)
        if not end:
            self._write({"asked": asked, "begun": self.begun})

    def _count(self, entry: Mapping[str, Any]) -> None:
        self.done.add(entry["owner"])
        self.counts.add(Counts.of_json(entry["counts"]))
        self.differing += "found" in entry
        self.failed += "error" in entry

    def add(self, findings: OwnerFindings) -> None:
        """An owner was compared."""
        entry: dict[str, Any] = {"owner": name_of(findings.owner), "counts": findings.counts.as_json()}
        if not findings.equal:
            entry["found"] = findings.as_json()
        self._count(entry)
        self._write(entry)

    def fail(self, owner: str, error: str) -> None:
        """An owner could not be compared."""
        entry = {"owner": owner, "counts": Counts(owners=1).as_json(), "error": error}
        self._count(entry)
        self._write(entry)

    def entries(self) -> Iterator[dict[str, Any]]:
        """What was found, and who could not be compared: `found` or `error`, in the order of finding."""
        self._file.flush()
        with self.path.open("rb") as file:
            file.readline()
            for line in file:
                entry, _ = _entry(line, 0)
                if entry is not None and ("found" in entry or "error" in entry):
                    yield entry

    def _write(self, entry: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps(entry, separators=(",", ":")).encode() + b"\n")
            self._file.flush()
            if self._now() - self._synced >= SYNC_EVERY:
                os.fsync(self._file.fileno())
                self._synced = self._now()
        except OSError as error:
            raise StoreError(disk.why(error, str(self.path))) from error

    def finish(self) -> None:
        """The report is made: nothing is left to go on with."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        self._file.close()


def _entry(line: bytes, end: int) -> tuple[dict[str, Any] | None, int]:
    """A line, and where it ends if it began at `end`; None for one that is no whole one."""
    if not line.endswith(b"\n"):
        return None, end
    try:
        entry = json.loads(line)
    except ValueError:
        return None, end
    return (entry, end + len(line)) if isinstance(entry, dict) else (None, end)
