"""`MessageNotes`: annotations of messages (RFC 5257), where the server tells them.

A Cyrus does. It raises the modseq of a message whose annotations change, so only those are asked for that are
new or have changed. What it computes or keeps for itself among them is left there. Values of the user's own
(``value.priv``) are told of his own folders alone: of a shared one each would see others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from cyrus_sync.common.errors import ReplyError
from cyrus_sync.common.model import Record
from cyrus_sync.common.names import login_of
from cyrus_sync.common.numbers import number_set
from cyrus_sync.common.stores.mailstore import MailReader, MailStore
from cyrus_sync.pull.answers import octets, pairs, parsed
from cyrus_sync.pull.connection import Large, Line
from cyrus_sync.pull.folders import Folder
from cyrus_sync.pull.pulled import LOCK_TIMEOUT, Pulled
from cyrus_sync.pull.session import Session

_AT_ONCE = 2000
"""Messages that are asked for at once: a Cyrus names each entry that there could be, a kilobyte in all."""

_KEPT_THERE = re.compile(r"/vendor/cmu/cyrus-imapd/(?:basethrid|thrid|savedate|createdmodseq)")
_ENTRY = re.compile(r"/[ -~]{1,1000}")
_UID = re.compile(rb"\bUID (\d{1,10})\b")

Notes = dict[tuple[str, str], bytes]
"""Values by entry and user; "" for everybody."""


class MessageNotes:
    """Of `folder`, which is open. `check` raises where the pull is to stop."""

    def __init__(
        self, session: Session, store: MailStore, folder: Folder, done: Pulled, check: Callable[[], None]
    ) -> None:
        self._session = session
        self._store = store
        self._folder = folder
        self._done = done
        self._check = check
        self._mine = login_of(folder.owner.name) if folder.owner.kind == "user" else ""

    def bring(self, uids: Sequence[int]) -> None:
        """What these messages have there, they have here then, if the server tells any."""
        if not self._session.offers("ANNOTATE-EXPERIMENT-1"):
            return
        for at in range(0, len(uids), _AT_ONCE):
            self._check()
            self._keep(self._asked(uids[at : at + _AT_ONCE]))

    def _asked(self, uids: Sequence[int]) -> dict[int, Notes]:
        wanted = b"(value.priv value.shared)" if self._mine else b"(value.shared)"
        items = b'(UID ANNOTATION ("*" ' + wanted + b"))"
        lines = self._session.command("UID", b"FETCH", number_set(uids), items).get("FETCH", [])
        return dict(annotated(lines, self._mine))

    def _keep(self, told: Mapping[int, Notes]) -> None:
        if not told:
            return
        with self._store.read(self._folder.owner) as reader:
            mailbox = reader.mailbox(self._folder.name)
            if mailbox is None:
                return
            changes = [
                (record.uid, *change)
                for record in self._between(reader, mailbox.uniqueid, min(told), max(told))
                if record.uid in told and not record.expunged
                for change in self._changes(record, told[record.uid])
            ]
        if not changes:
            return
        with self._store.write(self._folder.owner, timeout=LOCK_TIMEOUT) as writer:
            for uid, entry, user, value in changes:
                try:
                    writer.annotate(self._folder.name, entry, user, value, uid)
                except ReplyError as error:
                    self._done.troubles.append(
                        f"{self._folder.shown}: uid {uid}: annotation {entry} is left out: {error}"
                    )
        self._done.besides += 1

    def _between(self, reader: MailReader, uniqueid: str, first: int, last: int) -> Iterator[Record]:
        """Records of ours; no others are read than these, as this is done for each part of the folder."""
        for batch in reader.records(uniqueid, above_uid=first - 1):
            for record in batch:
                if record.uid <= last:
                    yield record
                if record.uid >= last:
                    return

    def _changes(self, record: Record, told: Notes) -> Iterator[tuple[str, str, bytes | None]]:
        """Entry, user and the value as it shall be, None for none. Values of others stay."""
        here = {
            (note.entry, note.userid): note.value
            for note in record.annotations
            if note.userid in ("", self._mine) and not _KEPT_THERE.fullmatch(note.entry)
        }
        for entry, user in here.keys() | told.keys():
            value = told.get((entry, user))
            if value != here.get((entry, user)):
                yield entry, user, value


def annotated(lines: Iterable[Line], mine: str) -> Iterator[tuple[int, Notes]]:
    """UIDs and annotations out of FETCH answers; what is private is of the user `mine`. An entry may come in
    several pieces, and with NIL for what it has not. Raises `ServerTrouble`.

    >>> list(annotated([b'1 (UID 7 ANNOTATION (/comment (value.priv "x" value.shared NIL)))'], "alice"))
    [(7, {('/comment', 'alice'): b'x'})]
    """
    answer: list[Line] = []
    for line in lines:
        answer.append(line)
        if isinstance(line, tuple):
            continue
        uid = _UID.search(line) if len(answer) == 1 and b'"' not in line else None
        if uid is not None and b"ANNOTATION (" in line:
            yield int(uid[1]), {}  # most have none, and looking closer costs
        else:
            for words in parsed(answer):
                told = pairs(words[1])
                if isinstance(told.get("UID"), int) and isinstance(told.get("ANNOTATION"), tuple):
                    yield told["UID"], _notes(told["ANNOTATION"], mine)
        answer = []


def _notes(words: Sequence[object], mine: str) -> Notes:
    found: Notes = {}
    for word, values in zip(words[::2], words[1::2], strict=False):
        entry = octets(word).decode("utf-8", "replace")
        if _KEPT_THERE.fullmatch(entry) or not _ENTRY.fullmatch(entry) or not isinstance(values, tuple):
            continue
        for kind, value in pairs(values).items():
            user = {"VALUE.SHARED": "", "VALUE.PRIV": mine}.get(kind)
            content = (
                b"".join(value) if isinstance(value, Large) else octets(value) if value is not None else b""
            )
            if content and user is not None and (mine or kind == "VALUE.SHARED"):
                found[entry, user] = content
    return found
