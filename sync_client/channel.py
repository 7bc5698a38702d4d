"""A channel: its directory, its log, and the lock that keeps it to one rolling client.

Two clients that work through one log would take each other's lines and put them back in turn. So a
rolling client holds ``sync_client.lock`` in the channel's directory, with its process id in it, and a
second one is refused with that id. The lock is flock(2): it survives fork and ends with the process.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
from pathlib import Path

from cyrus_sync.common.config import Config
from cyrus_sync.common.config.options import OPTIONS
from cyrus_sync.common.errors import EX_TEMPFAIL, CyrusSyncError, StoreError, UsageError
from cyrus_sync.common.files import give_to_owner_of, make_directories
from cyrus_sync.common.numbers import decimal

_log = logging.getLogger(__name__)

_CHANNEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


PULL = "pull"
"""The channel whose directory has the log, the quarantine and the status of a rolling pull
(``sync_source: imap``). No daemon writes that log."""


class ChannelBusy(CyrusSyncError):
    """Another rolling client works on this channel."""

    exit_status = EX_TEMPFAIL
    text = "another sync_client works on this channel"


def check_channel(name: str) -> str:
    """`name` if it can be a directory and the prefix of an option; raises `UsageError`. "" is the
    default channel."""
    if name and not _CHANNEL.fullmatch(name):
        raise UsageError(f"'{name}' is not a channel's name: letters, digits, '-' and '_'")
    return name


def channel_directory(cfg: Config, channel: str) -> Path:
    """``<configdirectory>/sync[/<channel>]``, made if need be."""
    directory = cfg.configdirectory / "sync" / channel
    try:
        make_directories(directory)
    except OSError as error:
        raise StoreError(f"cannot make {directory}: {error.strerror}") from error
    return directory


def channel_warnings(cfg: Config, channel: str) -> list[str]:
    """What makes a rolling client wait in vain: a log that nobody writes."""
    if channel == PULL and cfg.string("sync_source") == "imap":
        return []
    if not cfg.switch("sync_log"):
        return [f"{cfg.path}: sync_log is off: what goes by this file logs nothing to replicate"]
    channels = cfg.words("sync_log_channels")
    if channel in channels:
        return []
    which = f"the channel {channel}" if channel else 'the default channel (written "")'
    return [f"{cfg.where('sync_log_channels')}{which} is not among them: nothing is logged for it"]


def check_known(cfg: Config, channel: str) -> None:
    """Raises `UsageError` for a channel that nothing in imapd.conf speaks of: mistyped, it would quietly be
    the default one."""
    if channel in cfg.words("sync_log_channels") or (cfg.configdirectory / "sync" / channel).is_dir():
        return
    if not any(cfg.is_channel_set(name, channel) for name in OPTIONS):
        raise UsageError(
            f"there is no channel '{channel}': {cfg.path} names it neither in sync_log_channels nor in an"
            f" option ({channel}_sync_host)"
        )


class ChannelLock:
    """The hold on one channel. Keep the object as long as the channel is used."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "sync_client.lock"
        self._fd = -1

    def acquire(self) -> ChannelLock:
        """Take the lock; raises `ChannelBusy` with the process id of who has it."""
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            why = error.strerror
            if isinstance(error, PermissionError):
                why = f"{why}: run this as the user who owns it"
            raise StoreError(f"cannot open {self.path}: {why}") from error
        give_to_owner_of(self.path.parent, fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(fd, 32).decode("ascii", "replace").strip()
            os.close(fd)
            raise ChannelBusy(
                f"another sync_client (process {holder or 'unknown'}) works on this channel, "
                f"as {self.path} says; stop it, or give -n another channel"
            ) from None
        self._fd = fd
        self.write_pid()
        return self

    def write_pid(self) -> None:
        """Put our process id into the file; again after a fork. The id is for people: on a full disk the
        lock holds without it."""
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)
        except OSError as error:
            _log.warning("cannot write the process id into %s: %s", self.path, error.strerror)

    def release(self) -> None:
        """Let the next one in. The file stays."""
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1


def lock_holder(directory: Path) -> int | None:
    """Process id of the rolling client that has the channel, 0 if it is not known, None for nobody."""
    try:
        fd = os.open(directory / "sync_client.lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return decimal(os.read(fd, 32).strip(), default=0)
    finally:
        os.close(fd)
    return None
