"""What a store is for now: who may change it. `replicaonly` of imapd.conf says it, and commands say
otherwise.

``<configdirectory>/role.json`` is written by **cyrus-sync promote** and **demote** and by **sync_client
--drain**, in one step; while it is there, it counts, and not `replicaonly`. It holds one object: ``role``
(replica, draining, master), ``since`` (Unix seconds), ``by`` (the command).

===========  ========================  =========================================
role         changes made here         changes that replication brings
===========  ========================  =========================================
(none)       as `replicaonly` says     taken
replica      refused                   taken
draining     refused                   taken; what this store has goes out
master       taken                     refused: whoever sends them does not know
                                       that this is the master now
===========  ========================  =========================================
"""

from __future__ import annotations

import enum
import json
import threading
from datetime import UTC, datetime
from pathlib import Path

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.files import make_directories, remove, write_over

FILE = "role.json"


class Role(enum.Enum):
    REPLICA = "replica"
    DRAINING = "draining"
    MASTER = "master"


@dataclass(frozen=True, slots=True)
class Standing:
    """A role that a command has given. `since` in Unix seconds."""

    role: Role
    since: float
    by: str

    @property
    def words(self) -> str:
        when = datetime.fromtimestamp(int(self.since), UTC).isoformat().replace("+00:00", "Z")
        return f"since {when} ({self.by})"


class RoleOf:
    """The role of the store with this configuration. Looked up anew for each change: a file's state, no more.
    Safe between threads."""

    def __init__(self, configdirectory: Path, *, replicaonly: bool, conf: str) -> None:
        """`replicaonly`: what `conf`, the name of the file, says."""
        self.path = configdirectory / FILE
        self._replicaonly = replicaonly
        self._conf = conf
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._known: Standing | None = None

    def standing(self) -> Standing | None:
        """What a command has made of the store; None where imapd.conf alone counts. Raises `StoreError` for a
        file that cannot be read: nobody may take a replica for a master because of that."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from error
        stamp = found.st_mtime_ns, found.st_size, found.st_ino
        with self._lock:
            if stamp != self._stamp:
                self._known, self._stamp = self._read(), stamp
            return self._known

    def _read(self) -> Standing:
        try:
            said = json.loads(self.path.read_bytes())
            return Standing(Role(said["role"]), float(said["since"]), str(said["by"]))
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError):
            raise StoreError(f"{self.path} is damaged: cyrus-sync promote or demote writes it anew") from None

    def become(self, role: Role, by: str, now: float) -> None:
        """Durable, in one step. Raises OSError."""
        make_directories(self.path.parent)
        said = {"role": role.value, "since": now, "by": by}
        write_over(self.path, (json.dumps(said) + "\n").encode(), 0o644)

    def forget(self) -> None:
        """imapd.conf alone counts again."""
        remove(self.path)

    @property
    def replica_only(self) -> bool:
        """Whether only replication may write; also while the store is drained."""
        standing = self.standing()
        return self._replicaonly if standing is None else standing.role is not Role.MASTER

    def refuses_changes(self) -> str:
        """Why nothing may be changed here but by replication; "" where it may."""
        standing = self.standing()
        if standing is None:
            return f"{self._conf} says replicaonly: yes: {_REPLICA}" if self._replicaonly else ""
        if standing.role is Role.REPLICA:
            return f"it is a replica {standing.words}: {_REPLICA}"
        if standing.role is Role.DRAINING:
            return f"it is being drained {standing.words}: it takes no changes until cyrus-sync promote"
        return ""

    def refuses_replication(self) -> str:
        """Why changes that replication brings are refused; "" where they are taken."""
        standing = self.standing()
        if standing is None or standing.role is not Role.MASTER:
            return ""
        return f"this server is the master {standing.words}, and takes nothing until cyrus-sync demote"

    def refuses_settling(self) -> str:
        """Why a sync_client that has this store as its master may not settle conflicts in it: a replica is
        changed by its own master alone. "" where it may; while the store is drained, too."""
        standing = self.standing()
        replica = self._replicaonly if standing is None else standing.role is Role.REPLICA
        return f"this store is a replica: {_REPLICA}" if replica else ""


_REPLICA = "only replication may change it (cyrus-sync promote makes it the master)"
