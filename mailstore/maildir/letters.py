"""Flags as letters behind a file's name: ``:2,FSa``, where ``a`` to ``z`` are keywords of the folder.

Where a colon cannot stand in a name (FAT, some backups) it is ``;2,`` or ``!2,``. Which keywords they are
says Dovecot's ``dovecot-keywords`` (lines ``0 name``, 0 is ``a``); Courier keeps keywords by message in the
directory ``courierimapkeywords``.

>>> split_name("1700000000.M1.host,S=9;2,FSa")
('1700000000.M1.host,S=9', 'FSa')
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable

from cyrus_sync.common.model import SYSTEM_FLAGS
from cyrus_sync.common.numbers import decimal
from cyrus_sync.mailstore.flags import keyword_of

LETTERS = {
    "D": "\\Draft",
    "F": "\\Flagged",
    "P": "$Forwarded",
    "R": "\\Answered",
    "S": "\\Seen",
    "T": "\\Deleted",
}
_LETTER = {flag: letter for letter, flag in LETTERS.items() if flag.startswith("\\")}
MAX_KEYWORDS = 26
MORE_KEYWORDS = "cyrus-sync-keywords"
"""Our own file in a folder: keywords for which no letter was left, as lines ``keyword … :name``."""

_INFO = re.compile(r"(.*)[:;!]2,([^,]*)(?:,.*)?", re.DOTALL)
_OTHER_INFO = re.compile(r"(.*?)[:;!]1,.*", re.DOTALL)


def split_name(name: str) -> tuple[str, str]:
    """A message's file name without flags, by which uidlists know it, and its flag letters."""
    found = _INFO.fullmatch(name)
    if found:
        return found[1], found[2]
    other = _OTHER_INFO.fullmatch(name)
    return (other[1] if other else name.partition(":")[0]), ""


def read_keywords(data: bytes) -> tuple[dict[str, str], list[str]]:
    """``dovecot-keywords``: keyword by letter, and what was there that can be no keyword."""
    found: dict[str, str] = {}
    refused = []
    for line in text_of(data).split("\n"):
        number, space, name = line.rstrip("\r").partition(" ")
        if not space:
            continue
        place = decimal(number, MAX_KEYWORDS - 1)
        keyword = keyword_of(name)
        if place is None or keyword is None:
            refused.append(line)
        else:
            found[chr(ord("a") + place)] = keyword
    return found, refused


def write_keywords(keywords: Iterable[str]) -> bytes:
    """``dovecot-keywords`` with these, in the order of their letters."""
    return "".join(f"{place} {name}\n" for place, name in enumerate(keywords) if name).encode()


def read_courier_list(data: bytes) -> dict[str, list[str]]:
    """Courier's ``courierimapkeywords/:list``: keywords, an empty line, then ``name:0 3`` by message."""
    head, _, rest = text_of(data).partition("\n\n")
    names = head.split("\n")
    found = {}
    for line in rest.split("\n"):
        name, colon, places = line.rpartition(":")
        if colon:
            numbers = [decimal(place, len(names) - 1) for place in places.split()]
            found[name] = [names[number] for number in numbers if number is not None]
    return found


def read_more_keywords(data: bytes) -> dict[str, list[str]]:
    """Keywords by message, of our own file."""
    found = {}
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        keywords, colon, name = line.partition(" :")
        if colon:
            found[name] = keywords.split()
    return found


def write_more_keywords(keywords: Iterable[tuple[str, list[str]]]) -> bytes:
    """Our own file of (message, its keywords)."""
    lines = [f"{' '.join(words)} :{name}\n" for name, words in keywords]
    return "".join(lines).encode("utf-8", "surrogateescape")


def text_of(data: bytes) -> str:
    """A file of names: UTF-8, or Latin-1 if it is not."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


class LetterTable:
    """The keywords of one folder on their way into file names: 26 have letters. Dovecot knows no difference
    between upper and lower case in them."""

    def __init__(self, keywords: Iterable[str] = ()) -> None:
        """`keywords` in the order of their letters; "" for a letter that is free."""
        self.keywords = list(keywords)
        self._places = {keyword.lower(): place for place, keyword in enumerate(self.keywords) if keyword}

    def letters(self, flags: str) -> tuple[str, list[str]]:
        """Letters of a record's flags in their order, and keywords for which no letter is left."""
        letters = set()
        left = []
        for flag in flags.split():
            if flag in _LETTER:
                letters.add(_LETTER[flag])
            elif flag in SYSTEM_FLAGS:
                continue
            elif (place := self._place(flag)) is not None:
                letters.add(chr(ord("a") + place))
            else:
                left.append(flag)
        return "".join(sorted(letters)), left

    def flags(self, letters: str) -> set[str]:
        """What those letters say, in lower case."""
        found = set()
        for letter in letters:
            place = ord(letter) - ord("a")
            if letter in LETTERS:
                found.add(LETTERS[letter].lower())
            elif 0 <= place < len(self.keywords) and self.keywords[place]:
                found.add(self.keywords[place].lower())
        return found

    def free(self, used: Container[str]) -> None:
        """Take the letters that are not among `used` from their keywords."""
        for place, keyword in enumerate(self.keywords):
            if keyword and chr(ord("a") + place) not in used:
                del self._places[keyword.lower()]
                self.keywords[place] = ""

    def _place(self, keyword: str) -> int | None:
        place = self._places.get(keyword.lower())
        if place is not None:
            return place
        if "" in self.keywords:
            place = self.keywords.index("")
            self.keywords[place] = keyword
        elif len(self.keywords) < MAX_KEYWORDS:
            place = len(self.keywords)
            self.keywords.append(keyword)
        else:
            return None
        self._places[keyword.lower()] = place
        return place
