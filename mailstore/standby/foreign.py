"""What somebody else wrote into a folder: told from what is ours by names, and from what the store has, too.

Ours is a file whose name stands in the ledger, or was meant to. What others did and the store has the same
(the same message under the same UID with the same flags, or none any more) is taken over: it came back by the
pull, or it was there before we were. Everything else is *foreign*.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cyrus_sync.common.model import Record
from cyrus_sync.mailstore.maildir.letters import LetterTable
from cyrus_sync.mailstore.sources.content import to_crlf
from cyrus_sync.mailstore.standby.disk import File, OnDisk
from cyrus_sync.mailstore.standby.ledger import Entry

Wanted = Callable[[], Mapping[int, Record]]
"""The store's live messages of the folder by UID; asked for only where something is not ours."""


@dataclass
class Compared:
    """`there`: messages that may stay as they are, by UID. `foreign`: files of messages that the store has
    not under that UID. `flagged`: messages of the store's whose flags others have changed. `missed`: those
    that others have expunged. `delivered`: files of `there` and `flagged` that are in ``new``. `renumber`:
    the uidlist says something else of what may stay."""

    there: dict[int, Entry] = field(default_factory=dict)
    foreign: list[File] = field(default_factory=list)
    flagged: dict[int, Entry] = field(default_factory=dict)
    missed: list[int] = field(default_factory=list)
    delivered: list[tuple[File, Entry]] = field(default_factory=list)
    renumber: bool = False

    def told(self) -> str:
        """What is foreign, for an administrator; "" if nothing is."""
        parts = (
            (len(self.foreign), "new"),
            (len(self.flagged), "with other flags"),
            (len(self.missed), "expunged"),
        )
        told = ", ".join(f"{count} {what}" for count, what in parts if count)
        return f"messages: {told}" if told else ""


def compare(
    path: Path,
    disk: OnDisk,
    mine: Mapping[int, Entry],
    meant: Mapping[int, Entry],
    wanted: Wanted,
    *,
    uidvalidity: int,
) -> Compared:
    """Sort what is on `disk`, in the folder `path`, where `uidvalidity` should hold."""
    result = Compared()
    listed = disk.uidlist.uids if disk.uidlist.uidvalidity == uidvalidity else {}
    ours = {entry.base: uid for entries in (meant, mine) for uid, entry in entries.items()}
    table = LetterTable(disk.keywords)
    for base, file in disk.files.items():
        uid = ours.get(base)
        if uid is not None:
            known = [e for e in (mine.get(uid), meant.get(uid)) if e is not None and e.base == base]
            same = next((e for e in known if e.letters == file.letters and file.place == "cur"), None)
            if same is not None:
                result.there[uid] = same
                result.renumber |= listed.get(base) != uid
                continue
            entry = known[0]._replace(letters=file.letters)
            record = wanted().get(uid)
        else:
            uid = listed.get(base, 0)
            record = wanted().get(uid)
            if record is None or not _is_message(path / file.place / file.name, record):
                result.foreign.append(file)
                continue
            fields = disk.uidlist.fields.get(base, "")
            date = int((path / file.place / file.name).stat().st_mtime)
            entry = Entry(uid, base, file.letters, date, record.guid, fields)
        if file.place == "new":
            result.delivered.append((file, entry))
        # What the store has expunged we may expunge as well.
        if record is None or table.flags(file.letters) == _flags_of(record):
            result.there[uid] = entry
        else:
            result.flagged[uid] = entry
        result.renumber |= listed.get(base) != uid
    result.foreign += disk.doubled
    known_uids = result.there.keys() | result.flagged.keys()
    for uid, entry in mine.items():
        aim = meant.get(uid)
        ours_to_remove = aim is not None and (aim.letters is None or aim.base != entry.base)
        if uid not in known_uids and not ours_to_remove and uid in wanted():
            result.missed.append(uid)
    return result


def _flags_of(record: Record) -> set[str]:
    return set(record.flags.lower().split())


def _is_message(path: Path, record: Record) -> bool:
    """Whether a file holds the record's message, with whichever line ends."""
    try:
        if path.stat().st_size > record.size:
            return False
        data = path.read_bytes()
    except OSError:
        return False
    return any(hashlib.sha1(raw).digest() == record.guid for raw in (data, to_crlf(data)))
