"""Put the messages of a source into a store: in batches, and none that is there already.

A message is "there already" if its target mailbox holds a live record of the same GUID; a source that
holds the same message twice gets it twice. So an import that was interrupted can be run again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from common.names import Owner, inbox_of, owner_of, split_domain
from common.newnames import check_new_name, fitting
from common.stores.mailstore import MailReader, MailStore, MailWriter
from mailstore.folders import create_with_parents
from mailstore.selection import records_of
from mailstore.sources.message import Source, SourceMessage

BATCH_MESSAGES = 500
BATCH_BYTES = 8 * 1024 * 1024
_LOCK_TIMEOUT = 60.0


@dataclass
class Imported:
    """What an import did."""

    messages: int = 0
    present: int = 0
    mailboxes: set[str] = field(default_factory=set)
    renamed: dict[str, str] = field(default_factory=dict)
    """Names that no Cyrus would create, and what the mailboxes are called instead."""


class Importer:
    """Imports into `target`, an internal name; folders of the source go below it."""

    def __init__(self, store: MailStore, target: str, progress: Callable[[int], None]) -> None:
        self._store = store
        self._target = target
        self._owner: Owner = owner_of(target)
        self._progress = progress
        self._had: dict[str, Counter[bytes]] = {}
        self._batch: list[SourceMessage] = []
        self._batch_bytes = 0
        self._names: dict[tuple[str, ...], str] = {}
        self.done = Imported()

    def run(self, source: Source) -> Imported:
        """Import everything; raises `StoreError`, and what the source raises."""
        for message in source.messages():
            if self._batch and self._batch[-1].folder != message.folder:
                self._flush()
            self._batch.append(message)
            self._batch_bytes += message.in_memory
            if len(self._batch) >= BATCH_MESSAGES or self._batch_bytes >= BATCH_BYTES:
                self._flush()
        self._flush()
        self._finish(source)
        return self.done

    def _name(self, folder: tuple[str, ...]) -> str:
        """Where a folder goes. Raises `BadName` if nothing can be called so."""
        if folder not in self._names:
            with self._store.read(self._owner) as reader:
                self._names[folder] = self._fitting(reader, folder)
        return self._names[folder]

    def _fitting(self, reader: MailReader, folder: tuple[str, ...]) -> str:
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

    def _flush(self) -> None:
        if not self._batch:
            return
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        name = self._name(batch[0].folder)
        with self._store.write(self._owner, timeout=_LOCK_TIMEOUT) as writer:
            had = self._messages_in(writer, name)
            new = []
            for message in batch:
                guid = message.guid
                if had[guid] > 0:
                    had[guid] -= 1
                    self.done.present += 1
                else:
                    new.append((message.raw, message.internaldate, message.flags))
            if new:
                writer.append(name, new)
        self.done.messages += len(new)
        self.done.mailboxes.add(name)
        self._progress(sum(message.consumed for message in batch))

    def _messages_in(self, writer: MailWriter, name: str) -> Counter[bytes]:
        """How often each message was there before this import; the mailbox is made if it is missing."""
        if name not in self._had:
            mailbox = create_with_parents(writer, name)
            self._had[name] = Counter(
                record.guid for batch in records_of(writer, mailbox) for record in batch
            )
        return self._had[name]

    def _finish(self, source: Source) -> None:
        """Empty folders and subscriptions."""
        empty = {self._name(folder) for folder in source.folders()} - self.done.mailboxes
        wanted = [self._name(folder) for folder in source.subscriptions()]
        if self._owner.kind != "user" or self._target != inbox_of(self._owner.name):
            wanted = []
        if not empty and not wanted:
            return
        with self._store.write(self._owner, timeout=_LOCK_TIMEOUT) as writer:
            for name in sorted(empty):
                create_with_parents(writer, name)
            self.done.mailboxes |= empty
            known = set(writer.meta(with_sieve=False).subscriptions)
            for name in wanted:
                if name not in known and writer.mailbox(name) is not None:
                    writer.subscribe(name)
