"""What a master has said of the changes that wait there: known here when it is gone.

A sync_client of this package tells its replica, before each run and after it, how much it knows of that is
not replicated yet, and whose it is (``X-CYRUS-SYNC-WAITING``). The replica keeps the last word of each master
and channel in ``<configdirectory>/sync/masters.json``, for **cyrus-sync promote**. It is a hint: it is
replaced, not synced, for it is written beside every run.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.files import give_to_owner_of, make_directories, private

FILE = "masters.json"
MOST_NAMED = 1000


@dataclass(frozen=True, slots=True)
class Waiting:
    """The word of one master's client. `waiting`: at least so many owners have changes that were not taken;
    `owners` are their names, as far as they are known. `drained`: the master takes no changes any more. `at`
    in Unix seconds of the replica, 0 until it has come there."""

    master: str
    channel: str
    waiting: int
    owners: tuple[str, ...] = ()
    drained: bool = False
    at: int = 0


class WaitingFile:
    """The file. Blocks on a disk. Safe between threads, and, since it is replaced, for who reads it."""

    def __init__(self, directory: Path) -> None:
        """`directory`: ``<configdirectory>/sync``."""
        self.path = directory / FILE
        self._lock = threading.Lock()

    def all(self) -> list[Waiting]:
        """The last words, in order of the masters. Raises `StoreError` for a file that cannot be read."""
        try:
            said = json.loads(self.path.read_bytes())
            found = [
                Waiting(
                    str(one["master"]),
                    str(one["channel"]),
                    int(one["waiting"]),
                    tuple(map(str, one["owners"])),
                    bool(one["drained"]),
                    int(one["at"]),
                )
                for one in said
            ]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError):
            raise StoreError(f"{self.path} is damaged: remove it; nothing is known then") from None
        return sorted(found, key=lambda one: (one.master, one.channel))

    def put(self, word: Waiting) -> None:
        """The last word of this master and channel. Raises OSError."""
        with self._lock:
            try:
                others = [o for o in self.all() if (o.master, o.channel) != (word.master, word.channel)]
            except StoreError:
                others = []
            make_directories(self.path.parent)
            document = [
                {
                    "master": one.master,
                    "channel": one.channel,
                    "waiting": one.waiting,
                    "owners": list(one.owners),
                    "drained": one.drained,
                    "at": one.at,
                }
                for one in (*others, word)
            ]
            new = self.path.with_name(f".{FILE}.{os.getpid()}.new")
            with open(new, "w", encoding="utf-8", opener=private) as file:
                give_to_owner_of(self.path.parent, file.fileno())
                json.dump(document, file)
                if word.drained:
                    file.flush()
                    os.fsync(file.fileno())
            new.replace(self.path)
