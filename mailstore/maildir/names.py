r"""Folders as directories of a Maildir++: ``.Work.2026``, one to one and back.

A component of an internal name stands as it is. What a Maildir++ cannot say so is written as Dovecot's
plugin ``listescape`` (2.4: ``mailbox_list_storage_escape_char = "\"``) does, a backslash and two hexadecimal
digits: a dot inside a name, a slash, a backslash, a ``~`` in front, an ``&`` that begins no modified UTF-7.
Without that plugin Dovecot shows the escapes, and the mail all the same. A top-level folder that would be
taken for the INBOX has a wide letter, ``&,yk-NBOX``. A name over the limit of a file name is cut; its
directory then ends in a digest, and its file ``maildirfolder`` holds the name.

>>> directory_name(("Work", "a^b"))
'.Work.a\\2eb'
>>> folder_of(".Work.a\\2eb")
('Work', 'a^b')
"""

from __future__ import annotations

import hashlib
import re

from cyrus_sync.common.names import check_mailbox_name
from cyrus_sync.common.utf7 import ascii_name, decode, encode

MAX_FILE_NAME = 255
"""Octets of a directory's name (NAME_MAX of Linux)."""

_MUST = re.compile(r"[\\/^]|^~")
_ESCAPE = re.compile(r"\\([0-9A-Fa-f]{2})")
_CUT = re.compile(r"\\#([0-9a-f]{16})")
_UNFINISHED = re.compile(r"(?:&[^-]*|\\[0-9a-f]?)\Z")
_WIDE = {"^": encode("\uff3e"), "/": encode("\uff0f")}
"""What Dovecot may have in a name and we have not, in full width."""

_WIDE_I = {"I": encode("\uff29"), "i": encode("\uff49")}
_OLD_DOT = "&AC4-"
"""How `mailstore export` wrote a dot inside a name before."""


def directory_name(folder: tuple[str, ...]) -> str:
    """The directory of a folder below the Maildir, "" for the INBOX; at most `MAX_FILE_NAME` octets."""
    name = full_name(folder)
    if len(name) <= MAX_FILE_NAME:
        return name
    digest = f"\\#{_digest(name)}"
    return _UNFINISHED.sub("", name[: MAX_FILE_NAME - len(digest)]) + digest


def full_name(folder: tuple[str, ...]) -> str:
    """As `directory_name`, however long; for `folder_of` it means the same."""
    parts = [_escape(part) for part in folder]
    if folder and folder[0].upper() == "INBOX" and (len(folder) == 1 or folder[0] != "INBOX"):
        parts[0] = _WIDE_I[folder[0][0]] + folder[0][1:]
    elif parts and _inbox(parts[0]):
        parts[0] = parts[0].replace("&", "\\26")
    return "".join(f".{part}" for part in parts)


def is_cut(name: str) -> bool:
    """True for a directory whose whole name stands in its file ``maildirfolder``."""
    return len(name) > 19 and _CUT.fullmatch(name[-18:]) is not None


def is_whole(name: str, cut: str) -> bool:
    """Whether `name` is what the directory `cut` should be called."""
    return cut.endswith(f"\\#{_digest(name)}")


def folder_of(name: str) -> tuple[str, ...]:
    """The folder of a directory ``.Work.2026``. Raises `BadName` for what no store keeps."""
    parts = name[1:].split(".")
    return tuple(part_of(part) for part in (_inbox(parts[0]) or parts[0], *parts[1:])) if name else ()


def part_of(part: str) -> str:
    """A part of a directory's name as a component of an internal name. Raises `BadName`."""
    text = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), part.replace(_OLD_DOT, "\\2e"))
    for letter, wide in _WIDE.items():
        text = text.replace(letter, wide)
    found = ascii_name(text).replace(".", "^")
    check_mailbox_name(f"x.{found}")
    return found


def _inbox(part: str) -> str:
    """The name of the INBOX that a top-level folder has which `full_name` wrote with a wide letter, or ""."""
    for letter, wide in _WIDE_I.items():
        if part.startswith(wide) and (letter + part.removeprefix(wide)).upper() == "INBOX":
            return letter + part.removeprefix(wide)
    return ""


def _escape(part: str) -> str:
    text = _MUST.sub(lambda found: "\\2e" if found[0] == "^" else f"\\{ord(found[0]):02x}", part)
    return text if encode(decode(text)) == text else text.replace("&", "\\26")


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
