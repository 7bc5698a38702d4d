"""`Member`: this server as a replica of its family, with configuration, store, log, keys and the lock on
them.

Every command that changes something opens it, one command at a time (`SiteLock`).
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from cyrus_sync.common.commands import reason
from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import CyrusSyncError, StoreError
from cyrus_sync.common.files import make_directories
from cyrus_sync.common.metrics.sheet import Sheet, plain_text
from cyrus_sync.common.metrics.textfile import write_text_file
from cyrus_sync.common.progress import Meter, progress
from cyrus_sync.common.synclog.log import SyncLog
from cyrus_sync.common.synclog.writer import log_path
from cyrus_sync.multisite import keyring
from cyrus_sync.multisite.capture import Capture
from cyrus_sync.multisite.errors import SiteSealed
from cyrus_sync.multisite.family import Family, Replica, check_is_there
from cyrus_sync.multisite.figures import add_packets, packets_file
from cyrus_sync.multisite.generation import Generation
from cyrus_sync.multisite.opening import OpenedMail, check_same_mail, open_mail
from cyrus_sync.multisite.oplog.database import SiteLock
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.multisite.packet import SecretKeys
from cyrus_sync.multisite.signing import sign
from cyrus_sync.multisite.standing import standing_of, write_standing

_log = logging.getLogger(__name__)

DIRECTORY = "multisite"
STAGING = "staging"


def directory_of(config: Config) -> Path:
    """The directory that holds the family file, the log and the keys of this server."""
    return config.configdirectory / DIRECTORY


class Member:
    """A family's replica on this server. `warn` gets warnings for people, line by line."""

    def __init__(
        self,
        config: Config,
        mail: OpenedMail,
        log: Log,
        family: Family,
        *,
        warn: Callable[[str], None] = _log.warning,
    ) -> None:
        self.config = config
        self.directory = directory_of(config)
        self.store = mail.mail
        self.by_place = mail.by_place
        self.log = log
        self.family = family
        self.warn = warn
        self.tell: Callable[[str], object] = _log.info
        """Told once a minute how far long work has come, where no terminal shows it. May be replaced."""
        self.omissions = 0
        """How much could not be recorded or told, so far."""
        self.generation: Generation | None = None
        channel = config.string("multisite_channel") or "multisite"
        self.capture = Capture(mail.master, log, SyncLog(log_path(config, channel)))
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
        went_back: bool = False,
    ) -> Iterator[Self]:
        """The member, locked. `clock` gives Unix seconds. Raises `NoFamily`, `SiteLocked` after `wait`
        seconds, `StoreError`, and `WentBack` unless that is what the caller wants to mend (`went_back`)."""
        directory = directory_of(config)
        check_is_there(directory)
        with contextlib.ExitStack() as opened:
            opened.enter_context(SiteLock(directory, wait=wait))
            family = Family.load(directory)
            log = opened.enter_context(Log(directory, family.self_id, clock))
            mail = opened.enter_context(contextlib.closing(open_mail(config)))
            check_same_mail(config, family)
            mail.check()
            member = cls(config, mail, log, family, warn=warn)
            member.generation = Generation(log, mail.stamped)
            if not went_back:
                member.generation.check()
            if member.signs:
                member.sign_operations()
            try:
                with member.ended():
                    yield member
            except sqlite3.Error as error:
                raise StoreError(f"cannot use the operations log {log.db.path}: {error}") from error

    @contextlib.contextmanager
    def ended(self) -> Iterator[None]:
        """What a command leaves behind for others, whatever became of it. Where it failed, nothing that fails
        here, too (as on a full disk), takes the place of the reason."""
        try:
            yield
        except BaseException:
            self.publish()
            if self.generation is not None:
                with contextlib.suppress(sqlite3.Error, CyrusSyncError, OSError):
                    self.generation.end()
            raise
        self.publish()
        if self.generation is not None:
            self.generation.end()

    def progress(self, title: str, total: int) -> contextlib.AbstractContextManager[Meter]:
        """How far long work on `total` operations has come."""
        return progress(title, stream=sys.stderr, log=self.tell, total=total, unit="operations")

    def omit(self, text: str) -> None:
        """Warn of something that is left out, and count it: the command's exit status says so, too."""
        self.omissions += 1
        self.warn(text)

    @property
    def myself(self) -> Replica:
        """This replica, as the family knows it."""
        return self.family.myself

    @property
    def staging(self) -> Path:
        """The directory for temporary files of an import; made if it is missing."""
        path = self.directory / STAGING
        make_directories(path)
        return path

    @property
    def storage(self) -> Path:
        """The directory of the default partition, which people know as the place of the mail."""
        return self.config.partitions[self.config.defaultpartition]

    def set_family(self, family: Family) -> None:
        """Take over a changed family, and write its file durably."""
        if family != self.family:
            family.save(self.directory)
            self.family = family
            self.capture.sealed = self.sealed

    def record(self) -> list[CyrusSyncError]:
        """Bring the log up to date with the store. Returns what failed and will be tried again."""
        return self.capture.changed()

    def publish(self) -> None:
        """Write down what this replica has, for siblings that ask (`multisite.standing`)."""
        try:
            row = self.log.epochs.row(self.family.self_id)
            write_standing(self.directory, standing_of(self.family, row))
        except (OSError, sqlite3.Error) as error:
            _log.warning("cannot say what this replica has: %s", reason(error))
        self._tell_figures()

    def _tell_figures(self) -> None:
        """To whoever watches, if imapd.conf says so."""
        path = packets_file(self.config)
        if path is None:
            return
        sheet = Sheet("multitool")
        add_packets(sheet, self.directory)
        try:
            write_text_file(path, plain_text(sheet))
        except OSError as error:
            self.warn(f"sync_metrics_file: cannot write {path}: {error.strerror}")

    @property
    def sealed(self) -> bool:
        """Whether this replica is being restored from a backup: it takes operations in, and tells none."""
        return bool(self.family.restoring)

    def check_unsealed(self) -> None:
        """Raises `SiteSealed` while this replica is being restored."""
        if self.sealed:
            raise SiteSealed()

    # -- keys

    @property
    def is_being_made(self) -> bool:
        """Whether this replica still has the keys of its birth: its creation packets are being imported."""
        history = self.myself.key_history
        return history is not None and len(history.links) == 1 and self.myself.creator != self.myself.id

    @property
    def signs(self) -> bool:
        """Whether this replica signs each operation."""
        return self.myself.signed > 0

    def sign_operations(self) -> None:
        """Have each operation of this replica signed from now on."""
        secret = self.secret()
        if secret is not None:
            self.log.operations.sign = lambda entry: sign(self.family.id, entry, secret)

    def secret(self) -> SecretKeys | None:
        """This replica's secret keys, None if it has none."""
        return keyring.present(self.directory, self.myself.keys)

    def secrets(self) -> list[SecretKeys]:
        """This replica's secret keys, present and earlier: packets may be under way that were sealed for the
        earlier ones."""
        return keyring.all_of(self.directory, self.myself.keys)
