"""Maildir++ as Dovecot and Courier keep it: ``cur`` and ``new``, folders as ``.Work.2026`` or nested.

UIDs and their order are those of ``dovecot-uidlist`` or ``courierimapuiddb``. What is in a folder, message by
message, is read by `mailstore.sources.maildir_folder`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.errors import ReplyError
from cyrus_sync.common.names import MAX_MAILBOX_NAME
from cyrus_sync.mailstore.maildir import letters, names
from cyrus_sync.mailstore.maildir.subscriptions import read_courier_subscriptions, read_subscriptions
from cyrus_sync.mailstore.maildir.uidlist import Uidlist, read_uidlist
from cyrus_sync.mailstore.sources.inside import Inside
from cyrus_sync.mailstore.sources.maildir_folder import Reading
from cyrus_sync.mailstore.sources.message import Counters, Report, SourceMessage

_PARTS = ("cur", "new")
_MARKS = ("cur", "new", "tmp", "maildirfolder", "dovecot-uidlist", "courierimapuiddb")


def is_maildir(path: Path) -> bool:
    """True for a directory that holds messages itself or in Maildir++ folders; any of them may be lacking
    ``cur``, ``new`` or both, as backups drop empty directories."""
    if (path / "cur").is_dir():
        return True
    if (path / "new").is_dir() and not _is_tree_of_files(path):
        return True
    if any((path / mark).is_file() for mark in _MARKS):
        return True
    return any(
        entry.name.startswith(".") and any((entry / mark).exists() for mark in _MARKS)
        for entry in path.iterdir()
        if entry.is_dir() and not entry.is_symlink()
    )


def _is_tree_of_files(path: Path) -> bool:
    """Whether ``new`` is a folder of .eml files that happens to be called so."""
    marked = any((path / mark).exists() for mark in _MARKS if mark != "new")
    return not marked and any(entry.suffix.lower() == ".eml" for entry in (path / "new").iterdir())


class _Folder(NamedTuple):
    """A folder, and where it is."""

    folder: tuple[str, ...]
    place: tuple[str, ...]


class MaildirSource:
    """A Maildir with its folders: `path`, or what is at `place` in an `inside` that is open already."""

    def __init__(
        self, path: Path, report: Report, inside: Inside | None = None, place: tuple[str, ...] = ()
    ) -> None:
        self.path = path
        self._report = report
        self._inside = inside or Inside(path)
        self._top = place
        self._directories: dict[str, tuple[str, ...]] = {}
        self._unread: set[tuple[str, ...] | None] = set()
        self._lists: dict[tuple[str, ...], Uidlist] = {}
        self._folders = self._distinct(self._find_folders())
        self._places = dict(self._folders)

    def size(self) -> int:
        total = 0
        for _, place in self._folders:
            for part in _PARTS:
                try:
                    with self._inside.directory((*place, part)) as fd, os.scandir(fd) as entries:
                        total += sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
                except OSError:
                    continue  # who reads the folder says so
        return total

    def folders(self) -> list[tuple[str, ...]]:
        return [folder for folder, _ in self._folders]

    def is_whole(self, folder: tuple[str, ...] | None) -> bool:
        return folder not in self._unread

    def counters(self, folder: tuple[str, ...]) -> Counters | None:
        """What Dovecot (or Courier) gave the folder, if it has seen it."""
        place = self._places.get(folder)
        if place is None:
            return None
        found = self._uidlist(place)
        return Counters(found.uidvalidity, found.next_uid, found.guid) if found.uidvalidity else None

    def messages(self) -> Iterator[SourceMessage]:
        for folder, place in self._folders:
            reading = Reading(self._inside, self._report, folder, place, self._uidlist(place))
            yield from reading.messages()
            if reading.unread:
                self._unread.add(folder)

    def subscriptions(self) -> list[tuple[str, ...]]:
        wanted = read_subscriptions(self._small("subscriptions"))
        wanted += read_courier_subscriptions(self._small("courierimapsubscribed"))
        known = set(self.folders())
        found: dict[tuple[str, ...], None] = {}
        for name in wanted:
            try:
                folder = self._subscribed(name, known)
            except ReplyError as error:
                self._report(f"subscription to {name!r} left out: {error}")
            else:
                found[folder] = None
        return list(found)

    def _subscribed(self, name: str, known: set[tuple[str, ...]]) -> tuple[str, ...]:
        if name.upper() == "INBOX":
            return ()
        folder = self._directories.get(f".{name}") or names.folder_of(f".{name}")
        if folder not in known and folder[0].upper() == "INBOX" and folder[1:] in known:
            return folder[1:]  # where a server shows everything below INBOX
        return folder

    def _small(self, *place: str) -> bytes:
        """A file of the Maildir itself; nothing if it is not there."""
        try:
            return self._inside.read((*self._top, *place))
        except FileNotFoundError:
            return b""
        except OSError as error:
            self._report(f"{self._inside.path((*self._top, *place))}: left out: {error.strerror}")
            return b""

    # -- folders

    def _distinct(self, found: Iterable[_Folder]) -> list[_Folder]:
        """No two directories become one folder."""
        folders: dict[tuple[str, ...], tuple[str, ...]] = {}
        for folder, place in found:
            if folder in folders:
                other = self._inside.path(folders[folder])
                self._report(f"{self._inside.path(place)}: folder left out: it has the name of {other}")
            else:
                folders[folder] = place
        return [_Folder(folder, place) for folder, place in folders.items()]

    def _find_folders(self) -> Iterator[_Folder]:
        yield _Folder((), self._top)
        yield from self._dotted()
        yield from self._nested()

    def _entries(self, place: tuple[str, ...]) -> list[str]:
        """The directories in a directory, and links to some within."""
        try:
            entries = self._inside.entries(place)
        except OSError as error:
            self._report(f"{self._inside.path(place)}: left out: {error.strerror}")
            self._unread.add(None)
            return []
        found = []
        for name, kind in entries:
            if kind == "link" and (place or name not in _PARTS):
                kind = self._kind_of_link((*place, name))
            if kind == "directory":
                found.append(name)
        return found

    def _kind_of_link(self, place: tuple[str, ...]) -> str:
        try:
            with self._inside.directory(place):
                return "directory"
        except NotADirectoryError:
            return "file"
        except OSError as error:
            self._report(f"{self._inside.path(place)}: left out: {error.strerror}")
            self._unread.add(None)
            return "other"

    def _dotted(self) -> Iterator[_Folder]:
        for name in self._entries(self._top):
            place = (*self._top, name)
            if not name.startswith(".") or not self._holds(place, _MARKS):
                continue
            whole = self._whole_name(name)
            try:
                folder = names.folder_of(whole)
            except ReplyError as error:
                self._report(f"{self._inside.path(place)}: folder left out: {error}")
                continue
            self._directories[name] = folder
            yield _Folder(folder, place)

    def _whole_name(self, name: str) -> str:
        """A directory's name, or what it was cut from (`mailstore.maildir.names`)."""
        if not names.is_cut(name):
            return name
        whole = letters.text_of(self._small(name, "maildirfolder")).strip("\n")
        if names.is_whole(whole, name):
            return whole
        self._report(
            f"{self._inside.path((*self._top, name))}: its file maildirfolder does not hold its name"
        )
        return name

    def _nested(self) -> Iterator[_Folder]:
        waiting: list[tuple[tuple[str, ...], tuple[str, ...]]] = [((), ())]
        while waiting:
            above, folder = waiting.pop(0)
            for name in self._entries((*self._top, *above)):
                if name.startswith(".") or name in (*_PARTS, "tmp", "courierimapkeywords"):
                    continue
                place = (*self._top, *above, name)
                try:
                    below = (*folder, names.part_of(name))
                except ReplyError as error:
                    self._report(f"{self._inside.path(place)}: folder left out: {error}")
                    continue
                if len(".".join(below)) > MAX_MAILBOX_NAME:
                    self._report(f"{self._inside.path(place)[:200]}…: folder left out: its name is too long")
                    continue
                if self._holds(place, _PARTS):
                    yield _Folder(below, place)
                waiting.append(((*above, name), below))

    def _holds(self, place: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
        """Whether one of these names is in the directory."""
        try:
            return any(name in wanted for name, _ in self._inside.entries(place))
        except OSError as error:
            self._report(f"{self._inside.path(place)}: left out: {error.strerror}")
            self._unread.add(None)
            return False

    def _uidlist(self, place: tuple[str, ...]) -> Uidlist:
        if place not in self._lists:
            self._lists.clear()
            self._lists[place] = self._read_uidlist(place)
        return self._lists[place]

    def _read_uidlist(self, place: tuple[str, ...]) -> Uidlist:
        for name in ("dovecot-uidlist", "courierimapuiddb"):
            try:
                found = read_uidlist(self._inside.read((*place, name)))
            except FileNotFoundError:
                continue
            except OSError as error:
                self._report(f"{self._inside.path((*place, name))}: left out: {error.strerror}")
                continue
            if found.damaged:
                what = f"{found.damaged} lines are damaged" if found.uidvalidity else "its header is damaged"
                self._report(f"{self._inside.path((*place, name))}: {what}: those UIDs are not kept")
            return found
        return Uidlist()
