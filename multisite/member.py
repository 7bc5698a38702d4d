"""`Member`: this server as a replica of its family: configuration, store, log, keys, and the lock on them.

Opened by every command that changes something; one at a time (`SiteLock`).
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from cyrus_sync.common.commands import reason
from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import CyrusSyncError, StoreError
from cyrus_sync.common.files import make_directories
from cyrus_sync.common.stores import open_kept
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.common.synclog.log import SyncLog
from cyrus_sync.common.synclog.writer import log_path
from cyrus_sync.multisite import keyring
from cyrus_sync.multisite.capture import Capture
from cyrus_sync.multisite.errors import SiteSealed
from cyrus_sync.multisite.family import Family, Replica
from cyrus_sync.multisite.oplog.database import SiteLock
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.multisite.packet import SecretKeys
from cyrus_sync.multisite.signing import sign
from cyrus_sync.multisite.standing import standing_of, write_standing

_log = logging.getLogger(__name__)

DIRECTORY = "multisite"
STAGING = "staging"


def directory_of(config: Config) -> Path:
    """Where family, log and keys of this server are."""
    return config.configdirectory / DIRECTORY


class Member:
    """A family's replica on this server. `warn` gets warnings for people, line by line."""

    def __init__(
        self,
        config: Config,
        store: MailStore,
        log: Log,
        family: Family,
        *,
        warn: Callable[[str], None] = _log.warning,
    ) -> None:
        self.config = config
        self.directory = directory_of(config)
        self.store = store
        self.log = log
        self.family = family
        self.warn = warn
        self.omissions = 0
        """What could not be recorded or told, so far."""
        channel = config.string("multisite_channel") or "multisite"
        self.capture = Capture(store, log, SyncLog(log_path(config, channel)))
        self.capture.sealed = self.sealed

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        config: Config,
        *,
        wait: float = 10.0,
        clock: Callable[[], float] = time.time,
        warn: Callable[[str], None] = _log.warning,
    ) -> Iterator[Self]:
        """The member, locked. Raises `NoFamily`, `SiteLocked` after `wait` seconds, `StoreError`."""
        directory = directory_of(config)
        family = Family.load(directory)
        with (
            SiteLock(directory, wait=wait),
            Log(directory, family.self_id, clock) as log,
            contextlib.closing(open_kept(config)) as kept,
        ):
            kept.care.check()
            member = cls(config, kept.mail, log, Family.load(directory), warn=warn)
            if member.signs:
                member.sign_operations()
            try:
                yield member
            except sqlite3.Error as error:
                raise StoreError(f"cannot use the operations log {log.db.path}: {error}") from error
            finally:
                member.publish()

    def omit(self, text: str) -> None:
        """Warn of something that is left out, so that the command does not end as if all were done."""
        self.omissions += 1
        self.warn(text)

    @property
    def myself(self) -> Replica:
        return self.family.myself

    @property
    def staging(self) -> Path:
        """For temporary files of an import."""
        path = self.directory / STAGING
        make_directories(path)
        return path

    @property
    def storage(self) -> Path:
        """What people know as the place of the mail: the directory of the default partition."""
        return self.config.partitions[self.config.defaultpartition]

    def set_family(self, family: Family) -> None:
        """Write a changed family file."""
        if family != self.family:
            family.save(self.directory)
            self.family = family
            self.capture.sealed = self.sealed

    def record(self) -> list[CyrusSyncError]:
        """Bring the log up to date with the store; what failed, which is tried again the next time."""
        return self.capture.changed()

    def publish(self) -> None:
        """Put down for siblings who ask what this replica has."""
        try:
            row = self.log.epochs.row(self.family.self_id)
            write_standing(self.directory, standing_of(self.family, row))
        except (OSError, sqlite3.Error) as error:
            _log.warning("cannot say what this replica has: %s", reason(error))

    @property
    def sealed(self) -> bool:
        """Whether this replica is being restored from a backup: it takes in, and tells nothing."""
        return bool(self.family.restoring)

    def check_unsealed(self) -> None:
        """Raises `SiteSealed` while this replica is being restored."""
        if self.sealed:
            raise SiteSealed()

    # -- keys

    @property
    def is_being_made(self) -> bool:
        """Whether it has the keys of its birth still: its creation packets are being imported."""
        history = self.myself.key_history
        return history is not None and len(history.links) == 1 and self.myself.creator != self.myself.id

    @property
    def signs(self) -> bool:
        """Whether this replica signs each operation."""
        return self.myself.signed > 0

    def sign_operations(self) -> None:
        """From now on, have each operation of this replica signed."""
        secret = self.secret()
        if secret is not None:
            self.log.operations.sign = lambda entry: sign(self.family.id, entry, secret)

    def secret(self) -> SecretKeys | None:
        """This replica's secret keys, None if it has none."""
        return keyring.present(self.directory, self.myself.keys)

    def secrets(self) -> list[SecretKeys]:
        """Those, and the earlier ones: packets may be under way that were sealed for them."""
        return keyring.all_of(self.directory, self.myself.keys)
