"""Messages of an open folder, whole, in batches of bounded size; one that the server cannot give holds up no
other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.numbers import number_set
from cyrus_sync.pull.answers import Fetched, fetched, octets, pairs, parsed, uids_of
from cyrus_sync.pull.connection import Large
from cyrus_sync.pull.errors import HungUp, ServerTrouble
from cyrus_sync.pull.session import Session

BATCH = 500
"""Messages that are asked for at once, and stored with one sync."""

_BODY = b"BODY.PEEK[]"


@dataclass
class Batch:
    """Messages as the server gave them, ascending by UID, and why others could not be had."""

    messages: list[Fetched] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)


class Bodies:
    """Fetches from the folder that is open in `session`. `reopen` opens it after the line was cut."""

    def __init__(self, session: Session, reopen: Callable[[], None]) -> None:
        self._session = session
        self._reopen = reopen

    def batches(
        self, uids: Sequence[int], known: Callable[[Sequence[int]], set[int]] = lambda uids: set()
    ) -> Generator[Batch, None, None]:
        """All of `uids`, ascending; those that `known` names come without their bodies. The next batch is
        on its way while one is used; whoever ends before has to close it. What is gone by now is in no
        batch."""
        if len(uids) <= BATCH:
            if uids:
                yield self._batch(uids, known)
            return
        parts = [uids[at : at + BATCH] for at in range(0, len(uids), BATCH)]
        with ThreadPoolExecutor(1, "pull") as ahead:
            waiting: Future[Batch] | None = ahead.submit(self._batch, parts[0], known)
            for part in [*parts[1:], None]:
                assert waiting is not None
                batch = waiting.result()
                waiting = ahead.submit(self._batch, part, known) if part else None
                yield batch

    def _batch(self, uids: Sequence[int], known: Callable[[Sequence[int]], set[int]]) -> Batch:
        batch = Batch()
        try:
            have = known(uids)
        except HungUp:
            self._resume()
            have = known(uids)
        self._fetch([uid for uid in uids if uid not in have], _BODY, batch)
        self._fetch([uid for uid in uids if uid in have], b"RFC822.SIZE", batch)
        batch.messages.sort()
        return batch

    def _fetch(self, uids: Sequence[int], what: bytes, batch: Batch) -> None:
        """What is asked for together fails together: then the halves are asked for."""
        if not uids:
            return
        try:
            found = self._ask(uids, what)
        except (HungUp, ServerTrouble) as error:
            if isinstance(error, HungUp):
                self._resume()
            if len(uids) > 1:
                half = len(uids) // 2
                self._fetch(uids[:half], what, batch)
                self._fetch(uids[half:], what, batch)
            elif isinstance(error, HungUp):
                self._once_more(uids, what, batch)
            else:
                self._give_up(uids, error, batch)
            return
        self._take(uids, found, batch)

    def _take(self, uids: Sequence[int], found: Sequence[Fetched], batch: Batch) -> None:
        """What came of `uids` that were asked for; why the others did not is found out."""
        batch.messages += (one for one in found if one.body is None or len(one.body))
        batch.failed.update(
            {
                one.uid: "an empty message cannot be kept"
                for one in found
                if one.body is not None and not len(one.body)
            }
        )
        lacking = set(uids).difference(one.uid for one in found)
        if lacking:
            self._tell_apart(sorted(lacking), batch)

    def _resume(self) -> None:
        self._session.again()
        self._reopen()

    def _once_more(self, uids: Sequence[int], what: bytes, batch: Batch) -> None:
        """The line may have been cut for another reason."""
        try:
            self._take(uids, self._ask(uids, what), batch)
        except HungUp as error:
            self._resume()
            self._give_up(uids, error, batch)
        except ServerTrouble as error:
            self._give_up(uids, error, batch)

    def _give_up(self, uids: Sequence[int], error: Exception, batch: Batch) -> None:
        """A message that is gone is no trouble."""
        for uid in self._still_there(uids):
            batch.failed[uid] = getattr(error, "message", str(error))

    def _tell_apart(self, uids: Sequence[int], batch: Batch) -> None:
        """Messages that OK did not bring: gone, or there and not given."""
        for uid in self._still_there(uids):
            batch.failed[uid] = "the server says OK and does not give it"

    def _still_there(self, uids: Sequence[int]) -> list[int]:
        return search(self._session, b"UID " + number_set(uids), set(uids))

    def _ask(self, uids: Sequence[int], what: bytes) -> list[Fetched]:
        item = self._session.message_item
        items = b" ".join(word for word in (b"UID FLAGS INTERNALDATE", item, what) if word)
        answers = self._session.command("UID", b"FETCH", number_set(uids), b"(" + items + b")")
        wanted = set(uids)
        whole: dict[int, Fetched] = {}
        for one in fetched(answers.get("FETCH", [])):
            complete = one.body is not None if what == _BODY else one.size >= 0
            if complete and one.uid in wanted and one.flags is not None and one.date:
                whole[one.uid] = one
        return [whole[uid] for uid in uids if uid in whole]


def search(session: Session, criteria: bytes, within: set[int] | None = None) -> list[int]:
    """UIDs of the open folder, ascending; only those `within`, if that is given."""
    found: set[int] = set()
    if session.offers("ESEARCH"):
        for answer in parsed(session.command("UID", b"SEARCH", b"RETURN (ALL)", criteria).get("ESEARCH", [])):
            words = [word for word in answer if not isinstance(word, tuple)]
            told = pairs(words[1:] if words and octets(words[0]).upper() == b"UID" else words)
            for run in uids_of(octets(told["ALL"]) if "ALL" in told else b""):
                found.update(run)
    else:
        for line in session.command("UID", b"SEARCH", criteria).get("SEARCH", []):
            if isinstance(line, bytes):
                found.update(int(word) for word in line.split() if word.isdigit())
    return sorted(found if within is None else found & within)


def as_body(body: bytes | Large) -> MessageBody:
    """A message with its GUID."""
    if isinstance(body, bytes):
        return MessageBody("", hashlib.sha1(body).digest(), len(body), body)
    digest = hashlib.sha1()
    for piece in body:
        digest.update(piece)
    return MessageBody("", digest.digest(), len(body), body)
