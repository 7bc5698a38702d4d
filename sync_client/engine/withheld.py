"""Messages that cannot be read here and that the replica therefore lacks: withheld, by replica and mailbox.

A mailbox with such a message is replicated without it: its record is left out, and the CRCs that are told,
and compared, are those of the other records. So both ends agree, and the next run finds nothing to do. When
the message can be read again, the mailbox is settled like any whose replica lacks a record below its
LAST_UID: the message gets a new UID, and goes over under that.

The list is kept in a file beside the channel's log, so that it outlives the process. It is only believed for
UIDs that the replica's LAST_UID covers; a full update corrects it.
"""

from __future__ import annotations

import fcntl
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.files import make_directories, private, write_over
from cyrus_sync.common.stores import disk


class WithheldMessages(NamedTuple):
    """The messages of one mailbox: GUID by UID."""

    uniqueid: str
    mailbox: str
    messages: dict[int, bytes]


class Withheld:
    """What one replica lacks. Safe for threads, and for processes where there is a file."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._entries: dict[str, WithheldMessages] = {}
        self._stamp: tuple[int, int] | None = None

    def of(self, uniqueid: str) -> dict[int, bytes]:
        """GUID by UID of the mailbox's messages that the replica lacks."""
        with self._lock:
            self._read()
            found = self._entries.get(uniqueid)
        return dict(found.messages) if found else {}

    def entries(self) -> list[WithheldMessages]:
        with self._lock:
            self._read()
            return sorted(self._entries.values(), key=lambda entry: entry.mailbox)

    def put(self, uniqueid: str, mailbox: str, messages: Mapping[int, bytes]) -> None:
        """These are the mailbox's messages that the replica lacks, and no others. Raises `StoreError`."""
        with self._lock:
            self._read()
            known = self._entries.get(uniqueid)
            if dict(known.messages if known else {}) == dict(messages):
                return
            with self._locked():
                self._stamp = None
                self._read()
                self._entries.pop(uniqueid, None)
                if messages:
                    self._entries[uniqueid] = WithheldMessages(uniqueid, mailbox, dict(messages))
                self._write()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self._path is None:
            yield
            return
        try:
            make_directories(self._path.parent)
            with open(self._path.with_suffix(".lock"), "a", opener=private) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise StoreError(disk.why(error)) from error

    def _read(self) -> None:
        if self._path is None:
            return
        try:
            found = self._path.stat()
            stamp = found.st_mtime_ns, found.st_size
            if stamp == self._stamp:
                return
            document: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
            self._entries = {
                uniqueid: WithheldMessages(
                    uniqueid, one["mailbox"], {int(u): bytes.fromhex(g) for u, g in one["messages"].items()}
                )
                for uniqueid, one in document.items()
            }
            self._stamp = stamp
        except FileNotFoundError:
            self._entries, self._stamp = {}, None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self._entries = {}  # a full update finds the truth

    def _write(self) -> None:
        if self._path is None:
            return
        if not self._entries:
            self._path.unlink(missing_ok=True)
            return
        document = {
            entry.uniqueid: {
                "mailbox": entry.mailbox,
                "messages": {str(uid): guid.hex() for uid, guid in sorted(entry.messages.items())},
            }
            for entry in self._entries.values()
        }
        write_over(self._path, (json.dumps(document, indent=1) + "\n").encode(), 0o600)


def withheld_path(directory: Path, server: str) -> Path:
    """The file of one replica in a channel's directory."""
    return directory / f"withheld-{quote(server, safe='')}.json"
