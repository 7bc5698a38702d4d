"""What a user who has logged in can ask for: one function a command, each returns the tagged line's text."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from twisted.internet.defer import Deferred, DeferredList

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.numbers import number_set
from cyrus_sync.common.stores.mailstore import MailReader
from cyrus_sync.common.utf7 import ascii_name
from cyrus_sync.lifeboat.account import Account, Listed, Visible
from cyrus_sync.lifeboat.answers import Fetch, Found, search
from cyrus_sync.lifeboat.connection import ImapConnection
from cyrus_sync.lifeboat.fetch import Item, parse_items, with_uid
from cyrus_sync.lifeboat.grammar import BadCommand, Cursor, Line, quoted
from cyrus_sync.lifeboat.numbers import parse_set, positions, uid_positions
from cyrus_sync.lifeboat.search import Program, parse_program
from cyrus_sync.lifeboat.selected import Selected

if TYPE_CHECKING:
    from cyrus_sync.lifeboat.service import Lifeboat

T = TypeVar("T")

READ_ONLY = b"NO [READ-ONLY] this is a copy of your mail: it can be read, and not be changed"

LOOK_SECONDS = 5.0
"""While a client idles the mailbox is looked at so often."""


class HalfSaid(Exception):
    """An answer broke off in its middle: what would follow could not be understood."""


class Done(NamedTuple):
    """The end of a command: ``OK …`` or ``NO …``; with `bye` the connection ends with this text."""

    text: bytes
    bye: bool = False


COMPLETED = Done(b"OK Completed")


class User:
    """Who has logged in on a connection, and the mailbox that he has open."""

    def __init__(self, account: Account, connection: ImapConnection, boat: Lifeboat) -> None:
        self.account = account
        self.connection = connection
        self.selected: Selected | None = None
        self.modseqs = False
        self._threads = boat.threads
        self._boat = boat

    def say(self, line: bytes) -> None:
        self.connection.write(line + b"\r\n")

    async def blocking(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call it in a thread."""
        return await self._threads.run(function, *arguments)

    async def reading(self, selected: Selected, function: Callable[[MailReader], T]) -> T:
        """Call it in a thread, with a reader of the mailbox's owner."""

        def work() -> T:
            with self.account.store.read(selected.mailbox.owner) as reader:
                return function(reader)

        return await self._threads.run(work)

    async def send(self, make: Callable[[MailReader], Iterator[bytes]], selected: Selected) -> None:
        """Send what an iterator makes with a reader, as fast as the client takes it. `HalfSaid`."""
        pieces = self._pieces(make, selected)
        began = False
        await self._boat.few.acquire()
        try:
            while (piece := await self._threads.run(next, pieces, None)) is not None:
                began = True
                self.connection.write(piece)
                await self.connection.drained()
        except CyrusSyncError as error:
            if began:
                raise HalfSaid(f"an answer broke off: {error}") from error
            raise
        finally:
            self._boat.few.release()
            await self._threads.run(pieces.close)

    def _pieces(self, make: Callable[[MailReader], Iterator[bytes]], selected: Selected) -> Any:
        with self.account.store.read(selected.mailbox.owner) as reader:
            yield from make(reader)

    def opened(self) -> Selected:
        if self.selected is None:
            raise BadCommand("Please select a mailbox first")
        return self.selected

    async def refresh(self) -> bool:
        """Tell what has changed in the open mailbox; False where it is gone."""
        selected = self.selected
        if selected is None:
            return True
        lines = await self.reading(selected, selected.refresh)
        if lines is None:
            return False
        for line in lines:
            self.say(line)
        return True

    async def until(self, said: Deferred[Any], seconds: float) -> None:
        """Wait for that, but no longer than this."""
        late = self._boat.sleep(seconds)
        await DeferredList([said, late], fireOnOneCallback=True, fireOnOneErrback=True)


Verb = Callable[[User, Cursor], Coroutine[Any, Any, Done]]


# -- folders


def _name(cursor: Cursor) -> str:
    """A mailbox's name as the client wrote it, in modified UTF-7."""
    return _text(cursor.astring())


def _text(name: bytes) -> str:
    try:
        return ascii_name(name.decode())
    except UnicodeDecodeError:
        raise BadCommand("Invalid mailbox name") from None


async def _list(user: User, cursor: Cursor) -> Done:
    return await _listing(user, cursor, b"LIST", user.account.listed)


async def _lsub(user: User, cursor: Cursor) -> Done:
    return await _listing(user, cursor, b"LSUB", user.account.subscribed)


async def _listing(user: User, cursor: Cursor, name: bytes, find: Callable[[str], list[Listed]]) -> Done:
    cursor.space()
    reference = _name(cursor)
    cursor.space()
    pattern = _text(cursor.pattern())
    cursor.end()
    separator = quoted(user.account.names.separator)
    if not pattern and name == b"LIST":
        user.say(b'* LIST (\\Noselect) %b ""' % separator)
        return COMPLETED
    for one in await user.blocking(find, reference + pattern):
        attributes = " ".join(one.attributes).encode()
        user.say(b"* %b (%b) %b %b" % (name, attributes, separator, quoted(one.shown)))
    return COMPLETED


async def _namespace(user: User, cursor: Cursor) -> Done:
    cursor.end()
    separator = quoted(user.account.names.separator)
    parts = [b"((%b %b))" % (quoted(prefix), separator) for prefix in user.account.names.prefixes]
    user.say(b"* NAMESPACE " + b" ".join(parts))
    return COMPLETED


_STATUS = ("MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "HIGHESTMODSEQ")


async def _status(user: User, cursor: Cursor) -> Done:
    cursor.space()
    name = _name(cursor)
    cursor.space()
    items = [word.decode("latin-1").upper() for word in cursor.string_list()]
    cursor.end()
    if any(item not in _STATUS for item in items):
        raise BadCommand("Invalid Status attributes")
    mailbox = await user.blocking(user.account.find, name)
    if mailbox is None or not mailbox.selectable:
        return Done(b"NO [NONEXISTENT] Mailbox does not exist")
    figures = await user.blocking(_figures, user.account, mailbox)
    said = " ".join(f"{item} {figures[item]}" for item in items).encode()
    user.say(b"* STATUS %b (%b)" % (quoted(name), said))
    return COMPLETED


def _figures(account: Account, mailbox: Visible) -> dict[str, int]:
    state = mailbox.state
    seen = account.seen_of(mailbox)
    with account.store.read(mailbox.owner) as reader:
        tally = reader.tally(state.uniqueid, state.recentuid)
        unseen, recent = tally.unseen, tally.recent
        if seen is not None:
            selected = Selected.open(reader, mailbox, seen)
            unseen, recent = selected.unseen(), selected.recent()
    return {
        "MESSAGES": tally.messages,
        "RECENT": recent,
        "UIDNEXT": state.last_uid + 1,
        "UIDVALIDITY": state.uidvalidity,
        "UNSEEN": unseen,
        "HIGHESTMODSEQ": state.highestmodseq,
    }


async def _select(user: User, cursor: Cursor) -> Done:
    cursor.space()
    name = _name(cursor)
    if cursor.skip(b" "):
        user.modseqs = _condstore(cursor) or user.modseqs
    cursor.end()
    user.selected = None
    mailbox = await user.blocking(user.account.find, name)
    if mailbox is None:
        return Done(b"NO [NONEXISTENT] Mailbox does not exist")
    if not mailbox.selectable:
        return Done(b"NO [NOPERM] Permission denied")
    seen = await user.blocking(user.account.seen_of, mailbox)

    def open_it() -> Selected:
        with user.account.store.read(mailbox.owner) as reader:
            now = reader.mailbox_by_id(mailbox.state.uniqueid)
            return Selected.open(reader, mailbox if now is None else mailbox.at(now), seen)

    selected = await user.blocking(open_it)
    selected.modseqs = user.modseqs
    for line in selected.greeting():
        user.say(line)
    user.selected = selected
    return Done(b"OK [READ-ONLY] Completed")


def _condstore(cursor: Cursor) -> bool:
    words = {word.upper() for word in cursor.string_list()}
    if words != {b"CONDSTORE"}:
        raise BadCommand("Invalid modifier")
    return True


async def _close(user: User, cursor: Cursor) -> Done:
    cursor.end()
    user.opened()
    user.selected = None
    return COMPLETED


async def _enable(user: User, cursor: Cursor) -> Done:
    enabled = []
    while cursor.skip(b" "):
        if cursor.atom() == b"CONDSTORE":
            user.modseqs = True
            if user.selected is not None:
                user.selected.modseqs = True
            enabled.append(b" CONDSTORE")
    cursor.end()
    user.say(b"* ENABLED" + b"".join(enabled))
    return COMPLETED


async def _idle(user: User, cursor: Cursor) -> Done:
    cursor.end()
    user.say(b"+ idling")
    said = user.connection.next()
    while not said.called:
        await user.until(said, LOOK_SECONDS)
        if not await user.refresh():
            return Done(b"the mailbox is gone", bye=True)
    event = await said
    if not isinstance(event, Line) or event.data.upper() != b"DONE":
        return Done(b"BAD Expected DONE")
    return COMPLETED


# -- messages


async def _fetch(user: User, cursor: Cursor, *, uid: bool = False) -> Done:
    selected = user.opened()
    cursor.space()
    text = cursor.sequence_set()
    cursor.space()
    items = parse_items(cursor)
    since = 0
    if cursor.skip(b" ("):
        cursor.expect(b"CHANGEDSINCE ")
        since = cursor.number()
        cursor.expect(b")")
        if not any(item.kind == "MODSEQ" for item in items):
            items.append(Item("MODSEQ", b"MODSEQ"))
    cursor.end()
    if any(item.kind == "MODSEQ" for item in items):
        user.modseqs = selected.modseqs = True
    runs = _runs(selected, text, uid=uid)
    unread: list[int] = []

    def make(reader: MailReader) -> Iterator[bytes]:
        fetch = Fetch(reader, selected, runs, with_uid(items) if uid else items, since)
        yield from fetch
        unread.extend(fetch.unread)

    await user.send(make, selected)
    if unread:
        return Done(b"NO [UNAVAILABLE] these messages cannot be read: UID " + number_set(unread))
    return COMPLETED


def _runs(selected: Selected, text: bytes, *, uid: bool) -> Sequence[range]:
    ranges = parse_set(text)
    return uid_positions(ranges, selected.uids) if uid else positions(ranges, selected.uids)


async def _search(user: User, cursor: Cursor, *, uid: bool = False) -> Done:
    selected = user.opened()
    cursor.space()
    program: Program = parse_program(cursor, selected.uids)
    found: Found = await user.reading(selected, lambda reader: search(reader, selected, program))
    numbers = [selected.uids[index] if uid else index + 1 for index in found.indexes]
    words = b"".join(b" %d" % number for number in numbers)
    modseq = b" (MODSEQ %d)" % found.modseq if program.modseq and numbers else b""
    user.say(b"* SEARCH" + words + modseq)
    return COMPLETED


async def _uid(user: User, cursor: Cursor) -> Done:
    cursor.space()
    name = cursor.atom().decode()
    if name in ("STORE", "COPY", "EXPUNGE", "MOVE"):
        user.opened()
        return Done(READ_ONLY)
    if name == "FETCH":
        return await _fetch(user, cursor, uid=True)
    if name == "SEARCH":
        return await _search(user, cursor, uid=True)
    raise BadCommand("Unrecognized UID command")


CHANGES = frozenset(
    {
        *("APPEND", "COPY", "MOVE", "STORE", "EXPUNGE"),
        *("CREATE", "DELETE", "RENAME", "SUBSCRIBE", "UNSUBSCRIBE"),
        *("SETACL", "DELETEACL", "SETQUOTA", "SETMETADATA", "SETANNOTATION"),
    }
)
"""Commands that would change something."""

VERBS: dict[str, Verb] = {
    "CLOSE": _close,
    "ENABLE": _enable,
    "EXAMINE": _select,
    "FETCH": _fetch,
    "IDLE": _idle,
    "LIST": _list,
    "LSUB": _lsub,
    "NAMESPACE": _namespace,
    "SEARCH": _search,
    "SELECT": _select,
    "STATUS": _status,
    "UID": _uid,
    "UNSELECT": _close,
}
