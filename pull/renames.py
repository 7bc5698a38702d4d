"""Folders that are called otherwise since the last pull, and folders that are gone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cyrus_sync.common.errors import ReplyError
from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.names import Owner, is_deleted, is_inbox
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.mailstore.following import in_turn
from cyrus_sync.pull.answers import fetched, seconds
from cyrus_sync.pull.errors import Refused
from cyrus_sync.pull.folders import Folder
from cyrus_sync.pull.memory import Memory, Remembered, note_of
from cyrus_sync.pull.pulled import LOCK_TIMEOUT, Pulled
from cyrus_sync.pull.session import Session

_MAIL = frozenset("ei")


def follow_names(
    session: Session,
    store: MailStore,
    owner: Owner,
    folders: Iterable[Folder],
    *,
    memory: Memory,
    done: Pulled,
    delete: bool,
    delayed: bool,
) -> None:
    """Rename our mailboxes whose folders have other names now, and (`delete`) delete those whose folders are
    gone. A folder is the same one if the server says so (MAILBOXID), else if its messages are."""
    there = {folder.name: folder for folder in folders}
    known = {one.name: one for one in memory.folders().values()}
    with store.read(owner) as reader:
        ours = {
            mailbox.name: mailbox
            for mailbox in reader.mailboxes()
            if set(mailbox.mbtype) <= _MAIL and not mailbox.intermediate and not is_deleted(mailbox.name)
        }
    renamed = _by_identity(ours, there, known)
    lost = [box for name, box in ours.items() if name not in there and name not in renamed]
    fresh = [
        folder
        for name, folder in there.items()
        if (name not in ours or name in renamed) and name not in renamed.values()
    ]
    for box in lost:
        if (found := _by_contents(session, store, owner, box, fresh)) is not None:
            renamed[box.name] = found.name
            fresh.remove(found)
    gone = [
        name
        for name in ours
        if name not in renamed and (name not in there or name in renamed.values()) and not is_inbox(name)
    ]
    if gone and delete:
        with store.write(owner, timeout=LOCK_TIMEOUT) as writer:
            for name in sorted(gone, reverse=True):
                writer.delete(name, delayed=delayed)
        done.folders += len(gone)
    for old, new in in_turn(renamed):
        try:
            store.rename(old, new, log=True, timeout=LOCK_TIMEOUT)
            done.folders += 1
        except ReplyError as error:
            done.troubles.append(f"{old} cannot be renamed to {new}: {error}")
    for old, new in renamed.items():
        was = known.get(old)
        if was is not None and new in there:
            memory.forget([was.shown])
            _remember_as(store, owner, memory, was, there[new])
    memory.forget(one.shown for one in known.values() if one.name not in there and one.name not in renamed)


def _by_identity(
    ours: Mapping[str, MailboxState], there: Mapping[str, Folder], known: Mapping[str, Remembered]
) -> dict[str, str]:
    """New name by old one, of folders that the server knows again. An INBOX is never renamed: what is called
    so then is another folder, and its mail that of the new one."""
    now = {folder.identity: folder.name for folder in there.values() if folder.identity}
    found = {}
    for name, one in known.items():
        new = now.get(one.identity, name) if one.identity else name
        box = ours.get(name)
        if box is None or box.uniqueid != one.uniqueid or new == name or is_inbox(name) or is_inbox(new):
            continue
        found[name] = new
    return found


def _by_contents(
    session: Session, store: MailStore, owner: Owner, box: MailboxState, fresh: Iterable[Folder]
) -> Folder | None:
    """The new folder that has the UIDVALIDITY of ours, and no message below our LAST_UID that is not ours by
    UID, date and size."""
    if is_inbox(box.name) or not box.last_uid:
        return None
    for folder in fresh:
        told = folder.counters
        if told is None or folder.identity or is_inbox(folder.name) or told.uidvalidity != box.uidvalidity:
            continue
        if told.uidnext <= box.last_uid or not told.messages:
            continue
        with store.read(owner) as reader:
            mine = {
                record.uid: (record.internaldate, record.size)
                for batch in reader.records(box.uniqueid)
                for record in batch
                if not record.expunged
            }
        try:
            session.command("EXAMINE", folder.wire)
            answers = session.command(
                "UID", b"FETCH", b"1:%d" % box.last_uid, b"(UID INTERNALDATE RFC822.SIZE)"
            )
        except Refused:
            continue
        theirs = {
            one.uid: (seconds(one.date), one.size)
            for one in fetched(answers.get("FETCH", []))
            if one.uid <= box.last_uid
        }
        if theirs and all(mine.get(uid) == value for uid, value in theirs.items()):
            return folder
    return None


def _remember_as(store: MailStore, owner: Owner, memory: Memory, was: Remembered, folder: Folder) -> None:
    """What was known of a folder is known of it under its new name."""
    with store.read(owner) as reader:
        mailbox = reader.mailbox(folder.name)
    if mailbox is not None:
        memory.put(was._replace(shown=folder.shown, name=folder.name, note=note_of(mailbox)))
