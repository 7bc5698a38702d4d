"""A user's whole tree: which folders there are and how they are called, and what is in them.

All of it is looked at before anything is changed: a tree that somebody else has written to stays as it is.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cyrus_sync.common.errors import EX_FAILURE, CyrusSyncError, MailboxLocked, StoreError
from cyrus_sync.common.files import sync_directory
from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.stores.mailstore import MailReader
from cyrus_sync.mailstore.maildir import names
from cyrus_sync.mailstore.maildir.uidlist import mailbox_guid, write_uidlist
from cyrus_sync.mailstore.standby.aside import put_folder_aside, put_tree_aside, tree_aside
from cyrus_sync.mailstore.standby.disk import LIST_INDEXES, UIDLIST, Ways, look, stamp_of
from cyrus_sync.mailstore.standby.dotlock import dot_locked
from cyrus_sync.mailstore.standby.folder import Disturbed, Step
from cyrus_sync.mailstore.standby.ledger import NAME, Folder, Ledger
from cyrus_sync.mailstore.standby.whole import note_highest, other_subscriptions, subscribe
from cyrus_sync.mailstore.targets.walk import folders_of

_LOCK = "cyrus-sync-standby.lock"
_MAKING = "cyrus-sync-making"
_RENAMING = "cyrus-sync-renaming"
_ATTEMPTS = 5


_Wanted = dict[str, tuple[MailboxState, tuple[str, ...]]]
"""Mailboxes, and which folders they are, by uniqueid."""


class WrittenTo(CyrusSyncError):
    """Somebody else has written to the tree: nothing of it was changed."""

    exit_status = EX_FAILURE
    text = "the standby was written to"


class NotAll(CyrusSyncError):
    """Some folders or messages could not be brought in step; all others were."""

    exit_status = EX_FAILURE
    text = "not all of it is in step"


@dataclass
class Tree:
    """The tree at `root`. `tell` hears of what Dovecot will not show."""

    root: Path
    tell: Callable[[str], None]
    clock: Callable[[], float] = time.time

    def bring(self, reader: MailReader, *, anew: bool = False) -> None:
        """Bring it in step with the owner that is read; who has no mail any more has none here, and his tree
        is put aside. Raises `WrittenTo`, or (`anew`) puts aside what the store has not; `NotAll` for what
        could not be done; `StoreError`, `MailboxLocked`."""
        wanted = {mailbox.uniqueid: (mailbox, folder) for mailbox, folder in folders_of(reader)}
        if not wanted:
            self._remove(reader)
            return
        _make_root(self.root)
        with self._alone(), closing(Ledger(self.root)) as ledger:
            for attempt in range(_ATTEMPTS):
                visit = _Visit(self.root, ledger, reader, wanted, self.tell, self.clock)
                try:
                    visit.bring(anew=anew)
                except Disturbed:
                    if attempt == _ATTEMPTS - 1:
                        raise
                else:
                    break
        if visit.problems:
            raise NotAll("; ".join(visit.problems))

    def _remove(self, reader: MailReader) -> None:
        if (self.root / NAME).exists():
            with self._alone(), closing(Ledger(self.root)) as ledger:
                _Visit(self.root, ledger, reader, {}, self.tell, self.clock).look()
            put_tree_aside(self.root, self.clock())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time works on a tree."""
        ways = Ways.of(self.root)
        descriptor = ways.open(self.root / _LOCK, os.O_RDWR | os.O_CREAT)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise MailboxLocked(f"another process works on {self.root}") from None
            yield
        finally:
            os.close(descriptor)


@dataclass
class _Visit:
    """One look at a tree, and what is to be done there."""

    root: Path
    ledger: Ledger
    reader: MailReader
    wanted: _Wanted
    tell: Callable[[str], None]
    clock: Callable[[], float]
    problems: list[str] = field(default_factory=list)
    _steps: dict[str, Step] = field(default_factory=dict)
    """By uniqueid."""

    def __post_init__(self) -> None:
        self._ways = Ways.of(self.root)

    def bring(self, *, anew: bool) -> None:
        shutil.rmtree(self.root / _MAKING, ignore_errors=True)
        self.look(tree_aside(self.root, "written", self.clock()) if anew else None)
        for uniqueid in self._steps.keys() - self.wanted.keys():
            self._put_aside(self._steps.pop(uniqueid).folder)
        self._rename()
        for uniqueid, (mailbox, folder) in self.wanted.items():
            if uniqueid not in self._steps:
                self._steps[uniqueid] = self._make(mailbox, folder)
        for step in self._steps.values():
            self._one(step)
        subscribe(self.root, self.ledger, self.reader, self._ways)
        note_highest(self.root, self._ways, (step.folder.uidvalidity for step in self._steps.values()))

    # -- what others did

    def look(self, aside: Path | None = None) -> None:
        """At all of it. Raises `WrittenTo`; with `aside` what the store has not is put there."""
        self._end_renaming()
        written = []
        for uniqueid, folder in self.ledger.folders().items():
            if not (self.root / folder.directory / "cur").is_dir():
                if uniqueid in self.wanted and aside is None and self.ledger.count(folder):
                    written.append(f"{folder.directory or 'INBOX'}: it is gone")
                    continue
                with self.ledger.change():
                    self.ledger.forget_folder(folder)
            else:
                mailbox = self.wanted[uniqueid][0] if uniqueid in self.wanted else _no_mailbox(folder)
                self._steps[uniqueid] = self._step(folder, mailbox)
        fresh = {
            names.directory_name(folder): mailbox
            for uniqueid, (mailbox, folder) in self.wanted.items()
            if uniqueid not in self._steps
        }
        for directory in self._unknown({step.folder.directory for step in self._steps.values()}):
            if directory in fresh:
                self._adopt(fresh[directory], directory)
            elif told := self._in_the_way(directory, aside):
                written.append(f"{directory or 'INBOX'}: {told}")
        for step in self._steps.values():
            if told := step.check(aside):
                written.append(f"{step.folder.directory or 'INBOX'}: {told}")
        if aside is None and other_subscriptions(self.root, self.ledger, self.reader):
            written.append("other subscriptions")
        if written:
            raise WrittenTo("; ".join(written))

    def _unknown(self, known: set[str]) -> list[str]:
        """Directories that may be folders of somebody else, "" for the INBOX."""
        found = [] if "" in known or not (self.root / "cur").is_dir() else [""]
        for entry in os.scandir(self.root):
            name = entry.name
            if name.startswith(".") and name not in known and (self.root / name / "cur").is_dir():
                found.append(name)
        return found

    def _adopt(self, mailbox: MailboxState, directory: str) -> None:
        """A directory that is there already, for a mailbox that we have not written."""
        for part in ("cur", "new", "tmp"):
            self._ways.make(self.root / directory / part)
        with self.ledger.change():
            folder = self.ledger.add_folder(mailbox.uniqueid, directory, mailbox.uidvalidity)
        self._steps[mailbox.uniqueid] = self._step(folder, mailbox)

    def _in_the_way(self, directory: str, aside: Path | None) -> str:
        """What is in a folder that the store has not; empty ones are Dovecot's own (Drafts, Sent …)."""
        path = self.root / directory
        count = len(look(path).files)
        if aside is None or not directory:
            return f"a folder that the store has not, messages: {count}" if count else ""
        if count:
            self._ways.make(aside)
            path.rename(aside / directory)
        else:
            shutil.rmtree(path)
        self._forget_list()
        return ""

    # -- what the store did

    def _one(self, step: Step) -> None:
        """A folder; what is wrong with it keeps no other from being done."""
        try:
            self.problems += step.bring()
        except Disturbed:
            raise
        except (StoreError, MailboxLocked) as error:
            self.problems.append(f"{step.mailbox.name}: {error}")
        except OSError as error:
            self.problems.append(f"{step.mailbox.name}: {error.filename or step.path}: {error.strerror}")

    def _make(self, mailbox: MailboxState, folder: tuple[str, ...]) -> Step:
        """A folder without messages: made aside, and renamed when it is whole, so that Dovecot gives it no
        UIDVALIDITY of its own."""
        uidlist = write_uidlist(mailbox.uidvalidity, 1, mailbox_guid(mailbox.uniqueid), ())
        directory, whole = names.directory_name(folder), names.full_name(folder)
        path = self.root / directory
        if directory:
            making = self.root / _MAKING
            for one in (making, *(making / part for part in ("cur", "new", "tmp"))):
                self._ways.make(one)
            text = "" if whole == directory else f"{whole}\n"
            self._ways.replace(making / "maildirfolder", text.encode("ascii"))
            self._ways.replace(making / UIDLIST, uidlist)
            shutil.rmtree(path, ignore_errors=True)  # empty, or without messages: `look` has seen it
            making.rename(path)
            if text:
                self.tell(f"{mailbox.name}: its name is too long for a directory, it is {directory}")
        else:
            with dot_locked(path / UIDLIST):
                for part in ("cur", "new", "tmp"):
                    self._ways.make(path / part)
                self._ways.replace(path / UIDLIST, uidlist)
        sync_directory(self.root)
        with self.ledger.change():
            made = self.ledger.add_folder(mailbox.uniqueid, directory, mailbox.uidvalidity)
            made.stamp = stamp_of(path)
            self.ledger.save_folder(made)
        return self._step(made, mailbox)

    def _rename(self) -> None:
        """Folders whose mailboxes have other names now; of names in a circle one goes aside first."""
        target = {uniqueid: names.directory_name(self.wanted[uniqueid][1]) for uniqueid in self._steps}
        waiting = [
            step for uniqueid, step in self._steps.items() if target[uniqueid] != step.folder.directory
        ]
        if any(not step.folder.directory or not target[step.folder.uniqueid] for step in waiting):
            raise NotAll("another mailbox is the INBOX now: move the tree away, and it is made anew")
        taken = {step.folder.directory for step in self._steps.values()}
        while waiting:
            step = next((one for one in waiting if target[one.folder.uniqueid] not in taken), None)
            taken.discard((step or waiting[0]).folder.directory)
            if step is None:
                self._move(waiting[0], f"{_RENAMING}-{len(waiting)}")
                continue
            waiting.remove(step)
            self._move(step, target[step.folder.uniqueid])
            taken.add(step.folder.directory)

    def _move(self, step: Step, target: str) -> None:
        """The ledger says what is about to be, so that a folder is never taken for gone."""
        old, step.path = step.path, self.root / target
        if step.path.is_dir():
            shutil.rmtree(step.path)  # without messages: `look` has seen it
        with self.ledger.change():
            self.ledger.put("renaming", f"{step.folder.uniqueid} {target}")
        old.rename(step.path)
        sync_directory(self.root)
        self._forget_list()
        step.folder.directory = target
        with self.ledger.change():
            self.ledger.save_folder(step.folder)
            self.ledger.put("renaming", "")

    def _end_renaming(self) -> None:
        """A rename that was interrupted: was it done?"""
        uniqueid, _, target = self.ledger.get("renaming").partition(" ")
        folder = self.ledger.folders().get(uniqueid)
        if folder is not None:
            with self.ledger.change():
                if not (self.root / folder.directory).is_dir() and (self.root / target).is_dir():
                    folder.directory = target
                    self.ledger.save_folder(folder)
                self.ledger.put("renaming", "")

    def _forget_list(self) -> None:
        """Have Dovecot look which folders there are."""
        for name in LIST_INDEXES:
            (self.root / name).unlink(missing_ok=True)

    def _put_aside(self, folder: Folder) -> None:
        if not folder.directory:
            raise NotAll("another mailbox is the INBOX now: move the tree away, and it is made anew")
        put_folder_aside(self.root, folder.directory, self.clock())
        self._forget_list()
        with self.ledger.change():
            self.ledger.forget_folder(folder)

    def _step(self, folder: Folder, mailbox: MailboxState) -> Step:
        path = self.root / folder.directory
        return Step(path, self._ways, self.ledger, folder, mailbox, self.reader, self.tell)


def _make_root(root: Path) -> None:
    """With all that is above it; each belongs to whom the one above does."""
    if root.is_dir():
        return
    _make_root(root.parent)
    above = Ways.of(root.parent)
    Ways(0o770 if above.mode & 0o020 else 0o700, above.owner).make(root)
    sync_directory(root.parent)


def _no_mailbox(folder: Folder) -> MailboxState:
    """In place of one that the store has no longer: it has no messages."""
    return MailboxState(folder.uniqueid, "", uidvalidity=folder.uidvalidity)
