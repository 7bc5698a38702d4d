"""The messages of one folder of a Maildir++, with flags, keywords, UIDs and dates.

Flags are the letters behind a file's name (`mailstore.maildir.letters`); what has no UID in the list of UIDs
follows in the order of its arrival. The internal date is the file's time of modification, as Dovecot keeps
it; a file that `mailstore export` wrote has it in its name.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.numbers import decimal
from cyrus_sync.common.stores.frames import LARGE
from cyrus_sync.mailstore.flags import keyword_of
from cyrus_sync.mailstore.maildir import letters
from cyrus_sync.mailstore.maildir.uidlist import Uidlist
from cyrus_sync.mailstore.sources.content import Changed, as_body, file_pieces, stored_form, stored_pieces
from cyrus_sync.mailstore.sources.fields import header_of, is_gone, mozilla_flags
from cyrus_sync.mailstore.sources.inside import Inside
from cyrus_sync.mailstore.sources.message import Report, SourceMessage, record_flags

_PARTS = ("cur", "new")
_EXPORTED = re.compile(r"(-?[0-9]{1,19})\.U([0-9]{10})\.export")
_NUMBERS = re.compile(r"([0-9]+)")
_THUNDERBIRD = (b"X-Mozilla-", b"X-Account-Key:", b"X-UIDL:")
"""How a message begins that Thunderbird keeps: an MTA writes its fields above those that a sender gave."""

_PENDING = re.compile(r"\.[0-9]+\.(.+)")
"""Courier's newest word on a message's keywords is in ``.<number>.<name>``."""


class _File(NamedTuple):
    """A message: its file, its name without flags, its flag letters."""

    part: str
    name: str
    base: str
    letters: str


class Reading:
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
