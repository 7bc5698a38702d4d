"""Put the messages of a source into a store: in batches, and none that is there already.

A message is "there already" if its target mailbox holds a live record of the same GUID; a source that
holds the same message twice gets it twice. So an import that was interrupted can be run again.

Where the source has UIDs, a mailbox that holds nothing yet takes its UIDVALIDITY, UIDs and next UID over, so
that clients notice nothing. What an earlier import brought is remembered (`mailstore.earlier`): a later one
says what differs, or with `update` follows: flags, messages that are gone, folders that are renamed or gone
(`mailstore.following`). What did not come from the source is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cyrus_sync.common.errors import ReplyError
from cyrus_sync.common.identity import same_flags
from cyrus_sync.common.model import MailboxState, MessageBody, held_date
from cyrus_sync.common.names import Owner, inbox_of, owner_of, split_domain
from cyrus_sync.common.newnames import check_new_name, fitting
from cyrus_sync.common.stores.mailstore import MailReader, MailStore, MailWriter
from cyrus_sync.mailstore.earlier import Earlier, EarlierFolder
from cyrus_sync.mailstore.folders import create_with_parents
from cyrus_sync.mailstore.following import follow_gone, follow_renames
from cyrus_sync.mailstore.selection import records_of
from cyrus_sync.mailstore.sources.message import Report, Source, SourceMessage

BATCH_MESSAGES = 500
BATCH_BYTES = 8 * 1024 * 1024
_LOCK_TIMEOUT = 60.0

Folder = tuple[str, ...]


@dataclass
class Imported:
    """What an import did."""

    messages: int = 0
    present: int = 0
    redated: int = 0
    """Messages whose date no other server could hold."""
    mailboxes: set[str] = field(default_factory=set)
    renamed: dict[str, str] = field(default_factory=dict)
    """Names that no Cyrus would create, and what the mailboxes are called instead."""
    changed: int = 0
    expunged: int = 0
    moved: int = 0
    deleted: int = 0


@dataclass
class _Aim:
    """A mailbox that a folder goes to. `waiting` has its live records (UID, flags) by GUID, those apart that
    were found in the source; `linked` says that its UIDs are those of the source, up to `known_to` already
    before this import; `came` are the UIDs of all that the source has."""

    name: str
    uniqueid: str
    guid: str
    linked: bool
    known_to: int
    next_uid: int
    waiting: dict[bytes, list[tuple[int, str]]]
    came: set[int] = field(default_factory=set)
    renumbered: int = 0
    differ: int = 0
    own_uids: bool = False


class Importer:
    """Imports into `target`, an internal name; folders of the source go below it.

    `report` hears of what is left out, `notice` of what else is worth knowing. `earlier` is what is known of
    earlier imports of this source, and afterwards what is known of this one.
    """

    def __init__(
        self,
        store: MailStore,
        target: str,
        progress: Callable[[int], None],
        *,
        report: Report = lambda problem: None,
        notice: Report = lambda text: None,
        earlier: Earlier | None = None,
        update: bool = False,
    ) -> None:
        self._store = store
        self._target = target
        self._owner: Owner = owner_of(target)
        self._progress = progress
        self._report = report
        self._notice = notice
        self._earlier = Earlier() if earlier is None else earlier
        self._update = update
        self._names: dict[Folder, str | None] = {}
        self._taken: dict[str, Folder] = {}
        self._aims: dict[Folder, _Aim] = {}
        self._batch: list[SourceMessage] = []
        self._batch_bytes = 0
        self.done = Imported()

    def run(self, source: Source) -> Imported:
        """Import everything; raises `StoreError`, and what the source raises."""
        if self._update:
            self.done.moved = follow_renames(
                self._store, self._owner, source, self._earlier, name_of=self._name, notice=self._notice
            )
        for message in source.messages():
            if self._batch and self._batch[-1].folder != message.folder:
                self._flush(source)
            self._batch.append(message)
            self._batch_bytes += message.in_memory
            if len(self._batch) >= BATCH_MESSAGES or self._batch_bytes >= BATCH_BYTES:
                self._flush(source)
        self._flush(source)
        self._finish(source)
        return self.done

    # -- folders

    def _name(self, folder: Folder) -> str | None:
        """Where a folder goes; None for one that can go nowhere, which is reported once."""
        if folder not in self._names:
            try:
                with self._store.read(self._owner) as reader:
                    name = self._fitting(reader, folder)
                self._check_name(name, folder)
            except ReplyError as error:
                self._report(f"{'/'.join(folder)}: folder left out: {error}")
                self._names[folder] = None
            else:
                self._names[folder] = name
        return self._names[folder]

    def _fitting(self, reader: MailReader, folder: Folder) -> str:
        """A mailbox that is there keeps its name; a new one gets one that a Cyrus would create."""
        name, domain = self._target, bool(split_domain(self._target)[0])
        for level in folder:
            wanted = f"{name}.{level}"
            if reader.mailbox(wanted) is None:
                name = check_new_name(f"{name}.{fitting(level, domain=domain)}")
                if name != wanted:
                    self.done.renamed[wanted] = name
            else:
                name = wanted
        return name

    def _check_name(self, name: str, folder: Folder) -> None:
        if owner_of(name) != self._owner:
            raise ReplyError(f"{name} would be another's")
        other = self._taken.setdefault(name, folder)
        if other != folder:
            raise ReplyError(f"it would be the same mailbox as {'/'.join(other)}")

    def _aim(self, writer: MailWriter, folder: Folder, source: Source) -> _Aim | None:
        """The mailbox of a folder, made if it is missing; None if it cannot be made, which is reported."""
        name = self._name(folder)
        if name is None or folder in self._aims:
            return self._aims.get(folder)
        counters = source.counters(folder)
        try:
            with writer.savepoint():
                mailbox = create_with_parents(
                    writer, name, uidvalidity=counters.uidvalidity if counters else 0
                )
                if counters and not mailbox.last_uid:
                    writer.number_anew(name, counters.uidvalidity)
                    mailbox = writer.mailbox(name) or mailbox
        except ReplyError as error:
            self._report(f"{name}: folder left out: {error}")
            self._names[folder] = None
            return None
        aim = _Aim(
            name,
            mailbox.uniqueid,
            counters.guid if counters else "",
            linked=counters is not None and counters.uidvalidity == mailbox.uidvalidity,
            known_to=mailbox.last_uid,
            next_uid=counters.next_uid if counters else 0,
            waiting=_waiting(writer, mailbox),
        )
        aim.own_uids = counters is not None and not aim.linked
        self._aims[folder] = aim
        return aim

    # -- messages

    def _flush(self, source: Source) -> None:
        if not self._batch:
            return
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        folder = batch[0].folder
        self._name(folder)  # before the lock is taken
        with self._store.write(self._owner, timeout=_LOCK_TIMEOUT) as writer:
            aim = self._aim(writer, folder, source)
            if aim is not None:
                self._put(writer, aim, batch)
        if aim is not None:
            self.done.mailboxes.add(aim.name)
        self._progress(sum(message.consumed for message in batch))

    def _put(self, writer: MailWriter, aim: _Aim, batch: list[SourceMessage]) -> None:
        new = []
        flags: dict[int, str] = {}
        for message in batch:
            there = self._match(aim, message)
            if there is None:
                new.append(message)
                continue
            uid, has = there
            aim.came.add(uid)
            self.done.present += 1
            if not same_flags(has, message.flags):
                flags[uid] = message.flags
        if new:
            self._append(writer, aim, new)
        if flags and self._update:
            _rewrite(writer, aim.uniqueid, flags)
            self.done.changed += len(flags)
        elif flags:
            aim.differ += len(flags)

    def _match(self, aim: _Aim, message: SourceMessage) -> tuple[int, str] | None:
        """The record that the message is here, if it is."""
        candidates = aim.waiting.get(message.guid)
        if not candidates:
            return None
        chosen = 0
        if aim.linked and message.uid:
            exact = [number for number, (uid, _) in enumerate(candidates) if uid == message.uid]
            if exact:
                chosen = exact[0]
            elif self._update and message.uid > aim.known_to:
                return None  # it was brought back at the source, and clients know it by its new UID
        found = candidates.pop(chosen)
        if not candidates:
            del aim.waiting[message.guid]
        return found

    def _append(self, writer: MailWriter, aim: _Aim, new: list[SourceMessage]) -> None:
        wanted = [message.uid if aim.linked else 0 for message in new]
        try:
            with writer.savepoint():
                uids = writer.append(aim.name, map(_appended, new), uids=wanted)
        except ReplyError as error:
            if len(new) == 1:
                self._report(f"{aim.name}: a message of {new[0].consumed} octets is left out: {error}")
                return
            for message in new:
                self._append(writer, aim, [message])
            return
        aim.came.update(uids)
        aim.renumbered += sum(uid != want for uid, want in zip(uids, wanted, strict=True) if want)
        self.done.messages += len(new)
        self.done.redated += sum(held_date(one.internaldate) != one.internaldate for one in new)

    # -- the end

    def _finish(self, source: Source) -> None:
        """Empty folders, counters, what the source has lost, subscriptions."""
        for folder in (*source.folders(), *source.subscriptions()):
            self._name(folder)
        with self._store.write(self._owner, timeout=_LOCK_TIMEOUT) as writer:
            for folder in sorted(source.folders()):
                aim = self._aim(writer, folder, source)
                if aim is not None:
                    self.done.mailboxes.add(aim.name)
            for folder, aim in self._aims.items():
                if aim.linked:
                    writer.raise_counters(aim.uniqueid, last_uid=aim.next_uid - 1)
                self._reconcile(writer, folder, aim, source.is_whole(folder))
            self._gone(writer, source)
            self._subscribe(writer, source)

    def _reconcile(self, writer: MailWriter, folder: Folder, aim: _Aim, whole: bool) -> None:
        """What differs between a folder and its mailbox; remember what came from it."""
        before = self._earlier.folders.get(folder)
        known = before.uids if before is not None and before.uniqueid == aim.uniqueid else set()
        left = {uid for records in aim.waiting.values() for uid, _ in records}
        lost = known & left
        if lost and self._update and whole:
            writer.expunge(aim.name, lost)
            self.done.expunged += len(lost)
            lost = set()
        elif lost and self._update:
            self._report(
                f"{aim.name}: {len(lost)} messages are kept: not all of the folder could be read, so nobody "
                "knows that it has lost them"
            )
        self._say(aim, 0 if self._update else len(lost))
        self._earlier.folders[folder] = EarlierFolder(aim.uniqueid, aim.guid, aim.came | lost)

    def _say(self, aim: _Aim, lost: int) -> None:
        differences = []
        if aim.differ:
            differences.append(f"{aim.differ} messages have other flags in the source")
        if lost:
            differences.append(f"{lost} messages are no longer in the source")
        if differences:
            self._report(f"{aim.name}: {', '.join(differences)} (import --update follows)")
        if aim.own_uids and aim.came:
            self._notice(f"{aim.name}: the UIDs of the source are not kept: the mailbox has its own")
        elif aim.renumbered:
            self._notice(f"{aim.name}: {aim.renumbered} messages have new UIDs: theirs were taken")

    def _gone(self, writer: MailWriter, source: Source) -> None:
        """Folders that the source had before."""
        there = set(source.folders())
        gone = {
            folder: one
            for folder, one in self._earlier.folders.items()
            if folder not in there and folder not in self._aims
        }
        if not self._update:
            for folder in gone:
                self._report(
                    f"{'/'.join(folder)}: the folder is no longer in the source (import --update follows)"
                )
        elif gone and not source.is_whole(None):
            self._report(
                f"{len(gone)} folders are kept: not all of the source could be read, so nobody knows that it "
                "has lost them"
            )
        else:
            expunged, self.done.deleted = follow_gone(writer, gone, self._target, self._notice)
            self.done.expunged += expunged
            for folder in gone:
                del self._earlier.folders[folder]

    def _subscribe(self, writer: MailWriter, source: Source) -> None:
        if self._owner.kind != "user" or self._target != inbox_of(self._owner.name):
            return
        known = set(writer.meta(with_sieve=False).subscriptions)
        wanted = []
        for folder in source.subscriptions():
            name = self._name(folder)
            if name is None:
                continue
            if writer.mailbox(name) is None:
                self._notice(f"subscription to {'/'.join(folder)} left out: there is no such folder")
                continue
            wanted.append(name)
            if name not in known:
                writer.subscribe(name)
        if self._update:
            for name in set(self._earlier.subscriptions) & known - set(wanted):
                writer.subscribe(name, False)
        self._earlier.subscriptions = wanted


def _appended(message: SourceMessage) -> tuple[bytes | MessageBody, int, str]:
    return message.raw, message.internaldate, message.flags


def _waiting(writer: MailWriter, mailbox: MailboxState) -> dict[bytes, list[tuple[int, str]]]:
    found: dict[bytes, list[tuple[int, str]]] = {}
    for batch in records_of(writer, mailbox):
        for record in batch:
            found.setdefault(record.guid, []).append((record.uid, record.flags))
    return found


def _rewrite(writer: MailWriter, uniqueid: str, flags: dict[int, str]) -> None:
    """Give records other flags: exactly these."""
    records = []
    for batch in writer.records(uniqueid, above_uid=min(flags) - 1):
        records += [record._replace(flags=flags[record.uid]) for record in batch if record.uid in flags]
        if batch[-1].uid >= max(flags):
            break
    writer.rewrite_records(uniqueid, records)
