"""What earlier imports brought from where: so that a later one can tell what its source has lost since.

One JSON file for each target below ``<configdirectory>/imports``. Without it nothing is harmed: a message of
which nobody knows that it came from the source is never taken for one that the source has lost.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cyrus_sync.common.files import make_directories, write_over
from cyrus_sync.common.model import MAX_UID
from cyrus_sync.common.numbers import decimal

FORMAT = 1


@dataclass
class EarlierFolder:
    """A folder of the source: the mailbox that it became, its GUID at the source ("" if it has none), and
    the UIDs of the messages here that came from it."""

    uniqueid: str
    guid: str = ""
    uids: set[int] = field(default_factory=set)


@dataclass
class Earlier:
    """What came from one source; `subscriptions` are internal names."""

    folders: dict[tuple[str, ...], EarlierFolder] = field(default_factory=dict)
    subscriptions: list[str] = field(default_factory=list)


class EarlierImports:
    """The file of one target (an internal name) and in it the entry of one source."""

    def __init__(self, configdirectory: Path, target: str, source: Path, guid: str) -> None:
        """`guid` is the source's own name for its INBOX, "" if it has none; else it is known by its path."""
        name = quote(target, safe="")
        if len(name) > 200:
            name = hashlib.sha256(name.encode()).hexdigest()
        self.path = configdirectory / "imports" / f"{name}.json"
        self._key = {"guid": guid, "path": "" if guid else str(source.resolve())}

    def load(self) -> Earlier:
        """What is known. Raises ValueError for a file that is damaged; a missing one says nothing."""
        for entry in self._sources():
            if all(entry[name] == value for name, value in self._key.items()):
                return _parsed(entry)
        return Earlier()

    def save(self, earlier: Earlier) -> None:
        """Keep it, durably, beside what is known of other sources."""
        try:
            others = [
                entry
                for entry in self._sources()
                if any(entry[name] != self._key[name] for name in self._key)
            ]
        except ValueError:
            others = []
        entry: dict[str, Any] = {
            **self._key,
            "folders": [
                {"folder": folder, "uniqueid": one.uniqueid, "guid": one.guid, "uids": as_ranges(one.uids)}
                for folder, one in earlier.folders.items()
            ],
            "subscriptions": earlier.subscriptions,
        }
        text = json.dumps({"format": FORMAT, "sources": [*others, entry]}, indent=1)
        make_directories(self.path.parent, 0o700)
        write_over(self.path, text.encode("ascii"))

    def _sources(self) -> list[dict[str, Any]]:
        try:
            found = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return []
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise ValueError("not a file of this release")
        sources = found.get("sources")
        if not isinstance(sources, list) or not all(
            isinstance(entry, dict) and "guid" in entry and "path" in entry for entry in sources
        ):
            raise ValueError("it names no sources")
        return sources


def _parsed(entry: dict[str, Any]) -> Earlier:
    try:
        folders = {
            tuple(map(str, one["folder"])): EarlierFolder(
                str(one["uniqueid"]), str(one["guid"]), of_ranges(one["uids"])
            )
            for one in entry["folders"]
        }
        return Earlier(folders, [str(name) for name in entry["subscriptions"]])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it lacks {error}") from None


def as_ranges(uids: Iterable[int]) -> str:
    """UIDs as IMAP writes a set of them.

    >>> as_ranges([3, 1, 2, 9])
    '1:3,9'
    """
    ranges: list[list[int]] = []
    for uid in sorted(uids):
        if ranges and uid == ranges[-1][1] + 1:
            ranges[-1][1] = uid
        else:
            ranges.append([uid, uid])
    return ",".join(str(first) if first == last else f"{first}:{last}" for first, last in ranges)


def of_ranges(text: str) -> set[int]:
    """What `as_ranges` wrote. Raises ValueError."""
    found: set[int] = set()
    for part in text.split(",") if text else []:
        ends = [decimal(end, MAX_UID) for end in part.split(":")]
        if None in ends or len(ends) > 2:
            raise ValueError(f"{part!r} is no range of UIDs")
        first, last = ends[0] or 0, ends[-1] or 0
        found.update(range(first, last + 1))
    return found
