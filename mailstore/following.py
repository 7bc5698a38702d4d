"""A later import follows its source: folders that were renamed there, and folders that are gone.

A folder is the same one if the source gives it the same GUID (Dovecot does); where it has none, if most of
the messages are the same. Nothing of what did not come from the source is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import MailReader, MailStore, MailWriter
from cyrus_sync.mailstore.earlier import Earlier, EarlierFolder
from cyrus_sync.mailstore.selection import records_of
from cyrus_sync.mailstore.sources.message import Report, Source

Folder = tuple[str, ...]
_LOCK_TIMEOUT = 60.0


def follow_renames(
    store: MailStore,
    owner: Owner,
    source: Source,
    earlier: Earlier,
    *,
    name_of: Callable[[Folder], str | None],
    notice: Report,
) -> int:
    """Rename mailboxes whose folders have other names now; how many. `earlier` then has the new names."""
    there = source.folders()
    guids = {folder: found.guid for folder in there if (found := source.counters(folder)) and found.guid}
    moved = _by_guid(earlier, guids)
    lost = {
        folder: one
        for folder, one in earlier.folders.items()
        if folder and folder not in there and folder not in moved and not one.guid
    }
    fresh = {
        folder
        for folder in there
        if folder not in earlier.folders and folder not in moved.values() and folder not in guids
    }
    if lost and fresh:
        with store.read(owner) as reader:
            moved.update(_by_contents(reader, source, lost, fresh))
    renames = _renames(store, owner, earlier, moved, name_of=name_of, notice=notice)
    for old, new in in_turn(renames):
        store.rename(old, new, log=True, timeout=_LOCK_TIMEOUT)
    entries = {folder: earlier.folders.pop(folder) for folder in moved}
    for folder, one in entries.items():
        earlier.folders[moved[folder]] = one
    return len(renames)


def _by_guid(earlier: Earlier, guids: dict[Folder, str]) -> dict[Folder, Folder]:
    """New folder by old one."""
    now = {guid: folder for folder, guid in guids.items() if folder}
    return {
        folder: now[one.guid]
        for folder, one in earlier.folders.items()
        if folder and one.guid and now.get(one.guid, folder) != folder
    }


def _by_contents(
    reader: MailReader, source: Source, lost: dict[Folder, EarlierFolder], fresh: set[Folder]
) -> dict[Folder, Folder]:
    """New folder by old one, where more than half of the larger one's messages are in both."""
    contents: dict[Folder, set[bytes]] = {folder: set() for folder in fresh}
    for message in source.messages():
        if message.folder in contents:
            contents[message.folder].add(message.guid)
    found: dict[Folder, Folder] = {}
    for folder, one in lost.items():
        mailbox = reader.mailbox_by_id(one.uniqueid)
        if mailbox is None:
            continue
        had = {
            record.guid for batch in records_of(reader, mailbox) for record in batch if record.uid in one.uids
        }
        best = max(contents, key=lambda new: len(contents[new] & had), default=None)
        if best is not None and 2 * len(contents[best] & had) > max(len(contents[best]), len(had)):
            found[folder] = best
            del contents[best]
    return found


def _renames(
    store: MailStore,
    owner: Owner,
    earlier: Earlier,
    moved: dict[Folder, Folder],
    *,
    name_of: Callable[[Folder], str | None],
    notice: Report,
) -> dict[str, str]:
    """New name by old one; `moved` loses what cannot be done."""
    renames: dict[str, str] = {}
    with store.read(owner) as reader:
        for folder, new in list(moved.items()):
            mailbox = reader.mailbox_by_id(earlier.folders[folder].uniqueid)
            name = name_of(new)
            if mailbox is None or name is None:
                del moved[folder]
            elif mailbox.name != name:
                renames[mailbox.name] = name
        for old, name in list(renames.items()):
            there = reader.mailbox(name)
            if there is not None and not there.intermediate and name not in renames:
                notice(f"{old}: it was renamed in the source, but there is a mailbox {name} already")
                moved.pop(next(f for f, n in moved.items() if name_of(n) == name))
                del renames[old]
    return renames


def in_turn(renames: dict[str, str]) -> Iterable[tuple[str, str]]:
    """Renames in an order in which each new name is free; of names in a circle one goes aside first."""
    waiting = dict(renames)
    while waiting:
        free = [old for old, new in waiting.items() if new not in waiting]
        if free:
            yield free[0], waiting.pop(free[0])
            continue
        old, new = waiting.popitem()
        aside = f"{old}-renaming"
        yield old, aside
        waiting[aside] = new


def follow_gone(
    writer: MailWriter, gone: dict[Folder, EarlierFolder], target: str, notice: Report
) -> tuple[int, int]:
    """Expunge what came from folders that the source has no longer, and delete mailboxes that are empty then
    and have none below them. How many messages and mailboxes."""
    expunged = deleted = 0
    for _, one in sorted(gone.items(), reverse=True):
        mailbox = writer.mailbox_by_id(one.uniqueid)
        if mailbox is None or mailbox.name == target:
            continue
        live = {record.uid for batch in records_of(writer, mailbox) for record in batch}
        lost = live & one.uids
        if live - lost:
            writer.expunge(mailbox.name, lost)
            expunged += len(lost)
            kept = len(live - lost)
            notice(f"{mailbox.name}: gone from the source; {kept} messages that are not from there are kept")
            continue
        below = mailbox.name + "."
        if any(other.name.startswith(below) and not other.intermediate for other in writer.mailboxes()):
            writer.expunge(mailbox.name, lost)
            expunged += len(lost)
            continue
        writer.delete(mailbox.name)
        expunged += len(lost)
        deleted += 1
    return expunged, deleted
