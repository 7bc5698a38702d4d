"""Which owners may have action-log lines that are not written yet. Else every index would have to be opened.

A change and its lines become durable together (table `outbox`); the lines are written to the log after the
commit. A process that is killed between the two, or meets a full disk, leaves them to the owner's next
writer, which may be a long time coming. So a writer notes the owner before the commit, and strikes it out
when the log has the lines::

    <home>/unlogged/4711-9f3c81      one file per process, locked for as long as the process has it
    +["user", "alice"]               noted
    -["user", "alice"]               struck out
    *["user", "alice"] [[false, ["MAILBOX", "user.alice"]]]

Of a new owner the lines themselves are noted, and synced before he is shown: it costs less than emptying his
outbox. Nothing else here is synced: it costs two small writes a change. A file outlives its process but not a
power cut, nor can it be written when the disk is full. Therefore `swept`, with the boot id under which every
owner was last looked at: where that is not the present one, or the file is gone (whoever cannot note an owner
removes it, which needs no space), `sweep` looks at every owner once.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from cyrus_sync.common.files import make_directories, private, sync_directory
from cyrus_sync.common.names import Owner

log = logging.getLogger(__name__)

Line = tuple[bool, tuple[str, ...]]
"""A line for the action log, and whether a replica's change has made it."""

_DECODER = json.JSONDecoder()

SWEPT = "swept"
SWEEPING = "sweeping"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_LONG = 64 * 1024
"""A file as long as this is begun anew once nobody is noted in it."""


class Unlogged:
    """The notes of this process. Safe for several threads; no file exists before the first note."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = threading.Lock()
        self._descriptor = -1
        self._path = directory
        self._length = 0
        self._noted: dict[Owner, int] = {}
        self._is_name_synced = False

    def note(self, owner: Owner) -> None:
        """Called before a commit that leaves lines to write."""
        with self._lock:
            self._noted[owner] = self._noted.get(owner, 0) + 1
            if self._noted[owner] > 1:
                return
            try:
                if self._descriptor < 0:
                    self._create()
                self._write("+", owner)
            except OSError as error:
                log.warning("%s: %s; every owner will be looked at instead", self._path, error.strerror)
                self._look_at_everybody()

    def note_new(self, owner: Owner, lines: Sequence[Line]) -> None:
        """Called before an owner who is new is shown; `sync` comes before that too. Raises OSError."""
        with self._lock:
            self._noted[owner] = self._noted.get(owner, 0) + 1
            if self._descriptor < 0:
                self._create()
            self._append(f"*{json.dumps(owner)} {json.dumps(lines)}\n".encode())

    def sync(self) -> None:
        """Bring what was noted to disk. Raises OSError."""
        os.fsync(self._descriptor)
        if not self._is_name_synced:
            sync_directory(self.directory)
            self._is_name_synced = True

    def strike(self, owner: Owner) -> None:
        """Called when the lines are in the action log."""
        with self._lock:
            # A writer has the owner to himself, and writes what others have left over as well.
            if not self._noted.pop(owner, 0) or self._descriptor < 0:
                return
            with contextlib.suppress(OSError):
                if not self._noted and self._length > _LONG:
                    os.ftruncate(self._descriptor, 0)
                    self._length = 0
                else:
                    self._write("-", owner)

    def close(self) -> None:
        """The process is done; the file stays if somebody is noted in it."""
        with self._lock:
            if self._descriptor < 0:
                return
            if not self._noted:
                self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1

    def _create(self) -> None:
        make_directories(self.directory, 0o700)
        while True:
            path = self.directory / f"{os.getpid()}-{secrets.token_hex(3)}"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if path.exists():
                break
            os.close(
                descriptor
            )  # Between the two calls a sweep took it for one that a killed process has left.
        self._path, self._descriptor, self._length = path, descriptor, 0
        self._is_name_synced = False

    def _write(self, sign: str, owner: Owner) -> None:
        self._append((sign + json.dumps(owner) + "\n").encode())

    def _append(self, data: bytes) -> None:
        os.pwrite(self._descriptor, data, self._length)
        self._length += len(data)

    def _look_at_everybody(self) -> None:
        for name in (SWEPT, SWEEPING):
            (self.directory / name).unlink(missing_ok=True)


def boot_id() -> str:
    """What changes whenever the machine starts; "" where that is not known, which never agrees."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def all_looked_at(directory: Path) -> bool:
    """Whether every owner has been looked at since the machine started."""
    try:
        return bool(found := (directory / SWEPT).read_text().strip()) and found == boot_id()
    except OSError:
        return False


def begin_with_all(directory: Path) -> None:
    """Before every owner is looked at."""
    make_directories(directory, 0o700)
    with open(directory / SWEEPING, "w", encoding="ascii", opener=private) as file:
        file.write(boot_id() + "\n")


def done_with_all(directory: Path) -> None:
    """Every owner has been looked at. Without effect if meanwhile somebody could not be noted."""
    with contextlib.suppress(FileNotFoundError):
        (directory / SWEEPING).rename(directory / SWEPT)
        sync_directory(directory)


class Notes:
    """The file of one process: `owners` noted in it, and `alive` while the process has it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.alive = False
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.alive = True
        noted = _noted_in(path.read_bytes())
        self.owners = [owner for owner, lines in noted.items() if not lines]
        self.new = {owner: lines for owner, lines in noted.items() if lines}
        """The lines of owners who were new, for the log."""

    def remove(self) -> None:
        """Everything noted has been done, and the process will note nothing more."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self._descriptor)


def _noted_in(data: bytes) -> dict[Owner, list[Line]]:
    noted: dict[Owner, list[Line]] = {}
    for line in data.decode(errors="replace").splitlines():
        with contextlib.suppress(ValueError, TypeError):
            named, end = _DECODER.raw_decode(line, 1)
            owner = Owner(*named)
            if line[0] == "-":
                noted.pop(owner, None)
            elif line[0] == "*":
                found = json.loads(line[end:])
                noted[owner] = [(bool(chained), tuple(map(str, words))) for chained, words in found]
            else:
                noted[owner] = []
    return noted


def all_notes(directory: Path) -> Iterator[Notes]:
    """The files of all processes."""
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        if path.name not in (SWEPT, SWEEPING):
            with contextlib.suppress(FileNotFoundError), contextlib.closing(Notes(path)) as notes:
                yield notes
