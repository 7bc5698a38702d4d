"""A folder's files as they are on the disk: what is there, how it looked, and files that are replaced
whole."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.files import sync_directory
from cyrus_sync.mailstore.maildir.letters import read_keywords, split_name
from cyrus_sync.mailstore.maildir.uidlist import Uidlist, read_uidlist

UIDLIST, KEYWORDS = "dovecot-uidlist", "dovecot-keywords"
INDEXES = (
    *("dovecot.index", "dovecot.index.backup", "dovecot.index.cache"),
    *("dovecot.index.log", "dovecot.index.log.2"),
)
"""What Dovecot makes anew from a folder's files."""

LIST_INDEXES = ("dovecot.list.index", "dovecot.list.index.log", "dovecot.list.index.log.2")
"""What it makes anew from the directories of a tree. Otherwise it goes on showing a folder that is gone, if
there are some below it."""

_COARSE = getattr(time, "CLOCK_REALTIME_COARSE", time.CLOCK_REALTIME)


class File(NamedTuple):
    """A message's file: `place` is ``cur`` or ``new``."""

    place: str
    name: str
    letters: str


@dataclass
class OnDisk:
    """All of a folder: its uidlist, files by name without flags, files of which there are two, and keywords
    in the order of their letters."""

    uidlist: Uidlist
    files: dict[str, File] = field(default_factory=dict)
    doubled: list[File] = field(default_factory=list)
    keywords: list[str] = field(default_factory=list)
    listed: bool = False
    """There is a uidlist."""


@dataclass(frozen=True)
class Ways:
    """With which rights files and directories are made, and (for root) whose they are: as Dovecot does, those
    of the directory above."""

    mode: int
    owner: tuple[int, int] | None

    @classmethod
    def of(cls, directory: Path) -> Ways:
        about = directory.stat()
        owner = (about.st_uid, about.st_gid) if os.geteuid() == 0 else None
        return cls(about.st_mode & 0o777, owner)

    def make(self, directory: Path) -> None:
        """mkdir; one that is there is fine."""
        try:
            directory.mkdir(mode=self.mode)
        except FileExistsError:
            return
        directory.chmod(self.mode)
        if self.owner:
            os.chown(directory, *self.owner)

    def open(self, path: Path, flags: int = os.O_WRONLY | os.O_CREAT | os.O_TRUNC) -> int:
        """A descriptor of a file, made if need be."""
        mode = self.mode & 0o666
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        os.fchmod(descriptor, mode)
        if self.owner:
            os.fchown(descriptor, *self.owner)
        return descriptor

    def replace(self, path: Path, data: bytes) -> None:
        """Make `path` hold `data`, on disk; its time of modification grows by a second at least."""
        temporary = path.with_name(path.name + ".tmp")
        before = int(path.stat().st_mtime) if path.exists() else 0
        descriptor = self.open(temporary)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            if before >= int(time.time()):
                os.utime(descriptor, (before + 1, before + 1))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
        sync_directory(path.parent)


def append(path: Path, data: bytes) -> None:
    """Add to a file, on disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.write(descriptor, data)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def stamp_of(folder: Path) -> str:
    """How a folder looks from outside: whatever is changed in it, by anybody, changes this."""
    found = []
    for name in ("cur", "new"):
        try:
            found.append(str((folder / name).stat().st_mtime_ns))
        except FileNotFoundError:
            found.append("-")
    with contextlib.suppress(FileNotFoundError):
        about = (folder / UIDLIST).stat()
        found += [str(about.st_ino), str(about.st_size), str(about.st_mtime_ns)]
    return " ".join(found)


def let_time_pass(folder: Path) -> None:
    """Until what is changed in the folder from now on gets another time than what was."""
    newest = max((folder / name).stat().st_mtime_ns for name in ("cur", UIDLIST))
    while time.clock_gettime_ns(_COARSE) <= newest < time.time_ns() + 10**9:
        time.sleep(0.001)


def look(folder: Path) -> OnDisk:
    """Read all of a folder; the caller holds its lock."""
    try:
        found = OnDisk(read_uidlist((folder / UIDLIST).read_bytes()), listed=True)
    except FileNotFoundError:
        found = OnDisk(Uidlist())
    for place in ("new", "cur"):
        for name in _names(folder / place):
            base, letters = split_name(name)
            if base in found.files:
                found.doubled.append(found.files[base])
            found.files[base] = File(place, name, letters)
    try:
        by_letter, _ = read_keywords((folder / KEYWORDS).read_bytes())
    except FileNotFoundError:
        by_letter = {}
    last = max(by_letter, default="`")
    found.keywords = [by_letter.get(chr(place), "") for place in range(ord("a"), ord(last) + 1)]
    return found


def _names(directory: Path) -> Iterable[str]:
    try:
        return [name for name in os.listdir(directory) if not name.startswith(".")]  # noqa: PTH208 (100,000)
    except FileNotFoundError:
        return []
