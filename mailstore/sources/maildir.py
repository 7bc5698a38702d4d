"""Maildir++ as Dovecot and Courier keep it: ``cur`` and ``new``, folders as ``.Work.2026`` or nested.

Flags are the letters behind a file's name (`mailstore.maildir.letters`), UIDs and their order those of
``dovecot-uidlist`` or ``courierimapuiddb``; what has no UID there follows in the order of its arrival. The
internal date is the file's time of modification, as Dovecot keeps it; a file that `mailstore export` wrote
has it in its name.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.errors import ReplyError
from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.names import MAX_MAILBOX_NAME
from cyrus_sync.common.numbers import decimal
from cyrus_sync.common.stores.frames import LARGE
from cyrus_sync.mailstore.flags import keyword_of
from cyrus_sync.mailstore.maildir import letters, names
from cyrus_sync.mailstore.maildir.subscriptions import read_courier_subscriptions, read_subscriptions
from cyrus_sync.mailstore.maildir.uidlist import Uidlist, read_uidlist
from cyrus_sync.mailstore.sources.content import Changed, as_body, file_pieces, stored_form, stored_pieces
from cyrus_sync.mailstore.sources.fields import header_of, is_gone, mozilla_flags
from cyrus_sync.mailstore.sources.inside import Inside
from cyrus_sync.mailstore.sources.message import Counters, Report, SourceMessage, record_flags

_PARTS = ("cur", "new")
_MARKS = ("cur", "new", "tmp", "maildirfolder", "dovecot-uidlist", "courierimapuiddb")
_EXPORTED = re.compile(r"(-?[0-9]{1,19})\.U([0-9]{10})\.export")
_NUMBERS = re.compile(r"([0-9]+)")
_THUNDERBIRD = (b"X-Mozilla-", b"X-Account-Key:", b"X-UIDL:")
"""How a message begins that Thunderbird keeps: an MTA writes its fields above those that a sender gave."""

_PENDING = re.compile(r"\.[0-9]+\.(.+)")
"""Courier's newest word on a message's keywords is in ``.<number>.<name>``."""


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


class _File(NamedTuple):
    """A message: its file, its name without flags, its flag letters."""

    part: str
    name: str
    base: str
    letters: str


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
            reading = _Reading(self._inside, self._report, folder, place, self._uidlist(place))
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


class _Reading:
    """The messages of one folder."""

    def __init__(
        self,
        inside: Inside,
        report: Report,
        folder: tuple[str, ...],
        place: tuple[str, ...],
        uidlist: Uidlist,
    ) -> None:
        self._inside = inside
        self._report = report
        self._folder = folder
        self._place = place
        self._uidlist = uidlist
        self._lost: Counter[str] = Counter()
        self.unread = False
        """Whether something could not be read that may have been a message."""

        self._keywords: dict[str, str] = {}
        self._keywords_of: dict[str, list[str]] = {}

    def messages(self) -> Iterator[SourceMessage]:
        self._name_what_is_not_taken()
        self._read_keywords()
        uids = self._uidlist.uids if self._uidlist.uidvalidity else {}
        files = sorted(self._files(), key=lambda file: (uids.get(file.base, 2**32), arrival(file.base)))
        for file in files:
            found = self._message(file, uids.get(file.base, 0))
            if found is not None:
                yield found
        for reason, count in self._lost.items():
            self._report(f"{self._inside.path(self._place)}: {reason} ({count} messages)")

    def _files(self) -> Iterator[_File]:
        for part in _PARTS:
            try:
                entries = self._inside.entries((*self._place, part))
            except FileNotFoundError:
                continue
            except OSError as error:
                self._report(f"{self._inside.path((*self._place, part))}: left out: {error.strerror}")
                self.unread = True
                continue
            for name, kind in entries:
                if kind in ("file", "link") and not name.startswith("."):
                    yield _File(part, name, *letters.split_name(name))
                elif kind not in ("file", "link"):
                    self._report(f"{self._inside.path((*self._place, part, name))}: left out: no file")

    def _message(self, file: _File, uid: int) -> SourceMessage | None:
        try:
            raw, status = self._read(file)
        except FileNotFoundError:
            moved = self._moved(file)
            if moved is not None:
                return self._message(moved, uid)
            self._report(f"{self._path(file)}: left out: it has gone while it was imported")
            return None
        except OSError as error:
            self._report(f"{self._path(file)}: left out: {error.strerror}")
            self.unread = True
            return None
        if not raw:
            self._report(f"{self._path(file)}: left out: it is empty")
            return None
        flags = self._flags(file)
        if isinstance(raw, bytes) and raw.startswith(_THUNDERBIRD):
            header = header_of(raw)
            if is_gone(header):
                self._lost["left out what Thunderbird has marked as deleted"] += 1
                return None
            flags += mozilla_flags(header)
        named = _EXPORTED.match(file.base)
        when = int(named[1]) if named else int(status.st_mtime)
        return SourceMessage(self._folder, raw, when, record_flags(flags), status.st_size, uid)

    def _read(self, file: _File) -> tuple[bytes | MessageBody, os.stat_result]:
        place = (*self._place, file.part, file.name)
        with self._inside.file(place) as opened:
            status = os.fstat(opened.fileno())
            if status.st_size <= LARGE and stat.S_ISREG(status.st_mode):
                return stored_form(opened.read()), status
        return as_body(Changed(_Pieces(self._inside, place), stored_pieces)), status

    def _moved(self, file: _File) -> _File | None:
        """The file under its new name: a server that runs moves and renames it with its flags."""
        for other in self._files():
            if other.base == file.base and (other.part, other.name) != (file.part, file.name):
                return other
        return None

    def _path(self, file: _File) -> str:
        return self._inside.path((*self._place, file.part, file.name))

    # -- flags

    def _read_keywords(self) -> None:
        try:
            found, refused = letters.read_keywords(self._inside.read((*self._place, "dovecot-keywords")))
        except FileNotFoundError:
            found, refused = {}, []
        except OSError as error:
            self._report(f"{self._inside.path(self._place)}/dovecot-keywords: left out: {error.strerror}")
            found, refused = {}, []
        self._keywords = found
        for line in refused:
            self._report(f"{self._inside.path(self._place)}/dovecot-keywords: {line!r} can be no keyword")
        self._read_courier_keywords()
        self._read_more_keywords()

    def _read_courier_keywords(self) -> None:
        place = (*self._place, "courierimapkeywords")
        try:
            entries = [name for name, kind in self._inside.entries(place) if kind == "file"]
        except OSError:
            return
        newest: dict[str, tuple[int, str]] = {}
        for name in entries:
            if name == ":list":
                self._keywords_of.update(letters.read_courier_list(self._inside.read((*place, name))))
                continue
            pending = _PENDING.fullmatch(name)
            base, age = (pending[1], decimal(name.split(".")[1], default=0)) if pending else (name, -1)
            if base not in newest or newest[base][0] < age:
                newest[base] = (age, name)
        for base, (_, name) in newest.items():
            try:
                text = letters.text_of(self._inside.read((*place, name)))
            except OSError as error:
                self._report(f"{self._inside.path((*place, name))}: left out: {error.strerror}")
            else:
                self._keywords_of[base] = text.split("\n")

    def _read_more_keywords(self) -> None:
        """What `mailstore export` had no letters for."""
        try:
            data = self._inside.read((*self._place, letters.MORE_KEYWORDS))
        except OSError:
            return
        for base, keywords in letters.read_more_keywords(data).items():
            self._keywords_of[base] = [*self._keywords_of.get(base, []), *keywords]

    def _flags(self, file: _File) -> list[str]:
        flags = []
        for letter in file.letters:
            known = letters.LETTERS.get(letter) or self._keywords.get(letter)
            if known is not None:
                flags.append(known)
            elif letter.isalpha():
                self._lost[f"the flag '{letter}' is left out: nothing says what it means"] += 1
        for name in self._keywords_of.get(file.base, ()):
            keyword = keyword_of(name)
            if keyword is not None:
                flags.append(keyword)
            elif name:
                self._lost[f"{name!r} is left out: it can be no keyword"] += 1
        return flags

    def _name_what_is_not_taken(self) -> None:
        for name in ("dovecot-acl",):
            try:
                lines = self._inside.read((*self._place, name)).splitlines()
            except OSError:
                continue
            self._report(f"{self._inside.path(self._place)}: {name} is not taken over ({len(lines)} entries)")


class _Pieces:
    """A large file, opened anew each time that it is wanted."""

    def __init__(self, inside: Inside, place: tuple[str, ...]) -> None:
        self._inside = inside
        self._place = place

    def __iter__(self) -> Iterator[bytes]:
        with self._inside.file(self._place) as file:
            yield from file_pieces(file)


def arrival(name: str) -> list[tuple[int, str]]:
    """Key of the order in which files came: unique names begin with the second of delivery, and their
    numbers count as numbers (``M9`` before ``M10``). Exported ones go by their UIDs."""
    exported = _EXPORTED.match(name)
    if exported:
        return [(-1, ""), (int(exported[2]), name)]
    parts = enumerate(_NUMBERS.split(name))
    return [(int(part), "") if number % 2 else (0, part) for number, part in parts]
